"""Suggestions: where money could be saved, and the calls that say so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue
from ai_ledger.pricing import PriceTable
from ai_ledger.records import CallRecord
from ai_ledger.redaction import FAILED
from ai_ledger.sinks import Store
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.stats import Stats, Suggestions
from ai_ledger.stats import suggestions as suggestions_module

NOW = datetime(2026, 3, 19, 12, 0, tzinfo=UTC)
_numbers = count(1)

PRICES = PriceTable()
PRICES.add("big", input=10, output=30, cache_read=1)
PRICES.add("small", input=1, output=3)
PRICES.add("tiny", input="0.1", output="0.3")
PRICES.add("yuan", input="0.001", output="0.001", currency="CNY")
PRICES.add("vectors", input="0.01")
PRICES.add("long", input=2, output=2, tiers=[{"above_input_tokens": 1000, "input": 90}])


def call(function: str | None, model: str, **fields) -> CallRecord:
    number = next(_numbers)
    record = CallRecord(
        **{
            "id": f"call-{number:06}",
            "started_at": NOW - timedelta(minutes=number % 700),
            "request_model": model,
            "provider": "p",
            "function": function,
            "input_tokens": 1000,
            "output_tokens": 100,
            "usage_source": "reported",
            **fields,
        }
    )
    return record if "cost" in fields else PRICES.priced(record)


def calls(many: int, function: str | None, model: str, **fields) -> list[CallRecord]:
    return [call(function, model, **fields) for _ in range(many)]


def ask(store: Store, records: Iterable[CallRecord], *options, **named) -> Suggestions:
    store.write(list(records))
    return Stats(store, clock=lambda: NOW).suggestions(*options, prices=PRICES, **named)


def test_a_cheaper_model(store: Store):
    """
    A function's calls are priced on the cheapest model in use elsewhere: exact, and provable.
    """
    mine = calls(3, "match", "big")
    found = ask(store, [*mine, *calls(12, "chat", "small")])

    (advice,) = found.models
    assert advice.model_dump(exclude={"basis"}) == {
        "function": "match",
        "operation": "chat",
        "provider": "p",
        "model": "big",
        "currency": "USD",
        "paid": {"USD": Decimal("0.039")},
        "cost": Decimal("0.039"),
        "other_provider": "p",
        "other_model": "small",
        "other_calls": 12,
        "other_cost": Decimal("0.0039"),
        "saves": Decimal("0.0351"),
    }
    basis = advice.basis
    assert (basis.calls, set(basis.ids)) == (3, {record.id for record in mine})
    page = Stats(store).calls(basis.where, since=found.since, until=found.until)
    assert {record.id for record in page.calls} == {record.id for record in mine}


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(calls(9, "chat", "small"), id="tried but not in use"),
        pytest.param(calls(12, "chat", "small", operation="embeddings"), id="another operation"),
        pytest.param(calls(12, "chat", "yuan"), id="another currency"),
        pytest.param(calls(12, "chat", "house"), id="a model without a price"),
        pytest.param(calls(12, "chat", "vectors", output_tokens=0), id="no price for answers"),
        pytest.param(calls(12, "chat", "small", status="failed"), id="failures alone"),
    ],
)
def test_what_is_not_suggested(others: list[CallRecord]):
    """
    A model is suggested only if it is in use, answers the same kind of call, and can be compared.
    """
    found = ask(MemorySink(), [*calls(3, "match", "big"), *others])

    assert found.models == ()


def test_the_prices_of_now():
    """
    Calls that were paid at an old price are compared at the prices of now.
    """
    old = calls(3, "match", "big", cost=Decimal(5), currency="USD")

    (advice,) = ask(MemorySink(), [*old, *calls(12, "chat", "small")]).models

    assert (advice.paid, advice.cost) == ({"USD": Decimal(15)}, Decimal("0.039"))


def test_tiers_are_those_of_each_call():
    """
    Many short prompts are not charged as one long one.
    """
    short = calls(30, "match", "big")
    long = calls(30, "sum", "big", input_tokens=2000)

    found = ask(MemorySink(), [*short, *long, *calls(12, "chat", "long", input_tokens=1)])

    assert [(each.function, each.other_cost) for each in found.models] == [
        ("match", Decimal("0.066"))
    ]


def test_currencies_take_turns():
    """
    Savings in different currencies are not compared: the largest of each comes in turn.
    """
    prices = PriceTable()
    for code in ("USD", "CNY"):
        prices.add(f"dear-{code}", input=10, output=10, currency=code)
        prices.add(f"cheap-{code}", input=1, output=1, currency=code)
    store = MemorySink()
    for code, many in (("USD", 40), ("CNY", 5)):
        store.write(calls(many, "a", f"dear-{code}", cost=Decimal(1), currency=code))
        store.write(calls(many - 2, "b", f"dear-{code}", cost=Decimal(1), currency=code))
        store.write(calls(12, "c", f"cheap-{code}", cost=Decimal(1), currency=code))
    stats = Stats(store, clock=lambda: NOW)

    found = stats.suggestions(prices=prices)

    assert [(each.currency, each.function) for each in found.models] == [
        ("CNY", "a"),
        ("USD", "a"),
        ("CNY", "b"),
        ("USD", "b"),
    ]
    assert len(stats.suggestions(prices=prices, limit=3).models) == 3


def test_repeated_calls(store: Store):
    """
    What was asked before is what a cache would have saved; the first asking is not.
    """
    same = calls(4, "match", "big", request_content="a")
    records = [
        *same,
        *calls(2, "match", "big", request_content="b"),
        call("match", "big", request_content="c"),
        call("match", "small", request_content="a"),
        call("other", "big", request_content="a"),
        call("match", "big", request_content="a", org_id="x"),
        call("match", "big", request_content="a", input_tokens=999),
        call("match", "big", request_content="a", status="failed"),
        *calls(3, "match", "big", request_content=FAILED),
        *calls(2, "match", "big"),
    ]

    found = ask(store, records)

    (advice,) = found.repeats
    assert (advice.function, advice.model) == ("match", "big")
    assert (advice.repeats, advice.prompts, advice.saves) == (4, 2, {"USD": Decimal("0.052")})
    assert (advice.basis.calls, len(advice.basis.ids)) == (4, 4)
    assert min(same, key=lambda record: (record.started_at, record.id)).id not in advice.basis.ids
    assert (found.looked_at, found.with_content) == (16, 11)
    assert any("repeated calls are known of 11 calls alone" in note for note in found.notes)


def test_prompts_that_are_not_stored(store: Store):
    """
    Without stored prompts repeats cannot be known, and that is said.
    """
    found = ask(store, calls(5, "match", "big"))

    assert (found.repeats, found.with_content) == ((), 0)
    assert found.notes == ("repeated calls are not known: prompts are not stored (content)",)
    assert found.notes[0] in str(found)


def test_low_caching(store: Store):
    """
    Long prompts that are read from the cache rarely, though it is cheaper, with the most it saves.
    """
    records = [
        *calls(20, "rare", "big", input_tokens=2000, cache_read_tokens=200),
        *calls(20, "often", "big", input_tokens=2000, cache_read_tokens=1500),
        *calls(20, "short", "big", input_tokens=1000, cache_read_tokens=0),
        *calls(20, "silent", "big", input_tokens=2000),
        *calls(19, "seldom", "big", input_tokens=2000, cache_read_tokens=0),
        *calls(20, "alike", "tiny", input_tokens=2000, cache_read_tokens=0),
    ]

    (advice,) = ask(store, records).caching

    assert advice.function == "rare"
    assert (advice.input_tokens, advice.cached_tokens) == (40_000, 4_000)
    assert advice.cached_share == pytest.approx(0.1)
    # 36,000 tokens at 1 instead of 10 a million.
    assert (advice.saves_at_most, advice.currency) == (Decimal("0.324"), "USD")
    assert (advice.basis.calls, len(advice.basis.ids)) == (20, 5)


def test_nothing_to_suggest(store: Store):
    """
    An empty ledger has nothing to suggest, in text and JSON.
    """
    found = ask(store, [])

    assert "nothing to suggest" in str(found)
    assert Suggestions.model_validate_json(found.model_dump_json()) == found


def test_text_and_json():
    """
    Each kind is a table, hidden characters are shown, and JSON gives back the same.
    """
    records = [
        *calls(25, "a\u202eb", "big", input_tokens=2000, cache_read_tokens=0, request_content="q"),
        *calls(12, "chat", "small"),
    ]

    found = ask(MemorySink(), records)

    text = str(found)
    assert Suggestions.model_validate_json(found.model_dump_json()) == found
    assert (len(found.models), len(found.repeats), len(found.caching)) == (1, 1, 1)
    assert "a\\u202eb" in text
    for title in ("a cheaper model", "repeated calls", "long prompts"):
        assert title in text


@pytest.mark.parametrize(
    ("most", "looked_at", "days"),
    [(100, 40, 4), (39, 30, 3), (10, 10, 1), (7, 7, 1)],
)
def test_large_ledgers_are_bounded(monkeypatch, most: int, looked_at: int, days: int):
    """
    So many calls are read and no more: those of the newest days, and how many is told.
    """
    monkeypatch.setattr(suggestions_module.suggestions_of, "__kwdefaults__", {"max_calls": most})
    records = [
        call("f", "big", started_at=NOW - timedelta(days=day, minutes=number))
        for day in range(4)
        for number in range(10)
    ]

    found = ask(MemorySink(), records, 4)

    assert (found.calls, found.looked_at) == (40, looked_at)
    assert found.looked_from == found.until - timedelta(days=days)
    assert ("looked at" in str(found)) == (looked_at < 40)


@pytest.mark.parametrize(
    ("within_s", "looked_at", "days"),
    [
        pytest.param(None, 2_400, 4, id="as long as it takes"),
        pytest.param(24.0, 2_400, 4, id="enough for all"),
        pytest.param(19.0, 1_800, 3, id="for three days"),
        pytest.param(1.0, 600, 1, id="for less than is always looked at"),
    ],
)
def test_large_ledgers_take_a_bounded_time(
    monkeypatch, within_s: float | None, looked_at: int, days: int
):
    """
    Where each call takes a hundredth of a second, as many whole days are read as time allows.
    """
    read = [0]

    class Slow(MemorySink):
        def scan(self, query, *, batch_size):
            for batch in super().scan(query, batch_size=batch_size):
                read[0] += len(batch)
                yield batch

    # The next batch is there when the last call of this one was looked at.
    monkeypatch.setattr(suggestions_module, "perf_counter", lambda: read[0] / 100)
    records = [
        call("f", "big", started_at=NOW - timedelta(days=day, seconds=number))
        for day in range(4)
        for number in range(600)
    ]
    sink = Slow()
    sink.write(records)

    found = Stats(sink, clock=lambda: NOW).suggestions(4, prices=PRICES, within_s=within_s)

    assert (found.calls, found.looked_at) == (2_400, looked_at)
    assert found.looked_from == found.until - timedelta(days=days)


def test_the_scope_confines(store: Store):
    """
    A model that another organisation uses is not in use here.
    """
    store.write(calls(3, "match", "big", org_id="a"))
    store.write(calls(12, "chat", "small", org_id="b"))
    stats = Stats(store, clock=lambda: NOW)

    assert stats.scoped("a").suggestions(prices=PRICES).models == ()
    assert len(stats.suggestions(prices=PRICES).models) == 1


@pytest.mark.parametrize(
    "options", [{"days": 0}, {"limit": 0}, {"where": {"status": "failed"}}, {"where": {"x": 1}}]
)
def test_bad_options(options: dict):
    """
    Numbers below one, unknown fields and a status are refused.
    """
    with pytest.raises(InvalidValue):
        Stats(MemorySink()).suggestions(**options)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from("xyz"), st.integers(0, 3)),
        max_size=30,
    )
)
def test_repeats_and_first_askings_add_up(asked: list[tuple[str, str, int]]):
    """
    Repeats are all calls less the different ones, whatever the order.
    """
    records = [
        call(function, "big", request_content=text, input_tokens=tokens)
        for function, text, tokens in asked
    ]

    found = ask(MemorySink(), records)

    assert sum(each.repeats for each in found.repeats) == len(asked) - len(set(asked))
