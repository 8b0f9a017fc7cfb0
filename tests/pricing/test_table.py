"""The table: which price a call finds, and what `priced` makes of the record."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue, PriceError
from ai_ledger.pricing import PriceTable
from ai_ledger.pricing.match import snapshot_base
from ai_ledger.records import CallRecord

AT = datetime(2025, 11, 3, 12, tzinfo=UTC)


def a_call(**fields) -> CallRecord:
    """A successful call with 1,000 tokens in and 1,000 out."""
    return CallRecord(
        **{
            "id": "01",
            "started_at": AT,
            "input_tokens": 1_000,
            "output_tokens": 1_000,
            "usage_source": "reported",
            **fields,
        }
    )


def charged(record: CallRecord) -> tuple[Decimal | None, str | None, str | None]:
    """The three fields that `priced` fills."""
    return record.cost, record.currency, record.price_id


@pytest.fixture
def shipped() -> PriceTable:
    """The shipped prices without list prices."""
    return PriceTable(shipped=PriceTable.default())


@pytest.mark.parametrize(
    ("model", "cost", "price_id"),
    [
        ("qwen-plus", "0.0024", "ai-ledger:qwen-plus@2025-10"),
        ("qwen-turbo", "0.0009", "ai-ledger:qwen-turbo@2025-10"),
        ("qwen-max", "0.08", "ai-ledger:qwen-max@2025-10"),
        ("gpt-4", "0.63", "ai-ledger:gpt-4@2025-10"),
        ("gpt-3.5-turbo", "0.0105", "ai-ledger:gpt-3.5-turbo@2025-10"),
        ("deepseek-chat", "0.002", "ai-ledger:deepseek-chat@2025-12"),
    ],
)
def test_the_shipped_table(shipped, model, cost, price_id):
    """
    A thousand tokens in and a thousand out cost what the two rates add up to, in CNY.
    """
    record = shipped.priced(a_call(request_model=model))

    assert charged(record) == (Decimal(cost), "CNY", price_id)


def test_the_shipped_table_holds_six_prices_with_their_origin(shipped):
    """
    Each says when and where it was read, and the example rate says that it is one.
    """
    entries = {price.model: price for price in shipped}

    assert len(shipped) == len(entries) == 6
    assert all(price.source and price.checked for price in shipped)
    assert "example rate" in entries["deepseek-chat"].source


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("qwen-plus-2025-07-28", "qwen-plus"),
        ("qwen-plus-20250728", "qwen-plus"),
        ("gpt-4-0613", "gpt-4"),
        ("qwen-max-latest", "qwen-max"),
        ("gpt-4o-mini", None),
        ("mistral-large-2407", None),
        ("gpt-4-0125-preview", None),
        ("model-9999", None),
        ("model-2025-13-01", None),
        ("-latest", None),
        ("", None),
    ],
)
def test_a_dated_snapshot_has_the_price_of_its_model(model, base):
    """
    Only a real date or "latest" at the very end makes a snapshot.
    """
    assert snapshot_base(model) == base


@pytest.mark.parametrize(
    "model",
    [
        "my-qwen-plus",
        "qwen-plus-turbo",
        "qwen",
        "qwen-plus2",
        "qwen-plus-",
        "x" * 100_000,
        "\ud800",
    ],
)
def test_a_substring_is_no_match(shipped, model):
    """
    A name that only looks alike stays unpriced.
    """
    assert charged(shipped.priced(a_call(request_model=model))) == (None, None, None)


def test_exact_comes_before_snapshot_and_that_before_pattern():
    """
    The closest entry wins, and of two the provider's own.
    """
    table = PriceTable()
    table.add("qwen-*", input=1)
    table.add("qwen-vl-*", input=2)
    table.add("qwen-vl-max", input=3)
    table.add("qwen-vl-max", input=4, provider="dashscope")
    table.add("qwen-vl-max-2025-01-01", input=5)

    def rate(model: str, provider: str | None = None) -> Decimal | None:
        price = table.find(provider, model, AT)
        return price.input_per_mtok if price else None

    assert {
        "pattern": rate("qwen-long"),
        "longer pattern": rate("qwen-vl-plus"),
        "snapshot": rate("qwen-vl-max-2025-02-02"),
        "provider's snapshot": rate("qwen-vl-max-2025-02-02", "DashScope"),
        "exact": rate("qwen-vl-max"),
        "in any case": rate("QWEN-VL-MAX"),
        "provider": rate("qwen-vl-max", "dashscope"),
        "other provider": rate("qwen-vl-max", "siliconflow"),
        "exact snapshot": rate("qwen-vl-max-2025-01-01", "dashscope"),
        "none": rate("my-qwen-long"),
    } == {
        "pattern": 1,
        "longer pattern": 2,
        "snapshot": 3,
        "provider's snapshot": 4,
        "exact": 3,
        "in any case": 3,
        "provider": 4,
        "other provider": 3,
        "exact snapshot": 5,
        "none": None,
    }


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        (datetime(2025, 9, 30, 23, 59, 59, 999_999, tzinfo=UTC), 1),
        (datetime(2025, 10, 1, tzinfo=UTC), 2),
        (datetime.fromisoformat("2025-10-01T07:59:59+08:00"), 1),
        (datetime.fromisoformat("2025-10-01T08:00:00+08:00"), 2),
        (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), 2),
        (datetime(2026, 1, 1, tzinfo=UTC), None),
    ],
)
def test_a_price_changes_at_midnight(moment, rate):
    """
    A new rate is a new entry: yesterday's call keeps yesterday's price, to the microsecond.
    """
    table = PriceTable()
    table.add("m", input=1)
    table.add("m", input=2, valid_from=date(2025, 10, 1), valid_to="2026-01-01")

    price = table.find(None, "m", moment)

    assert (price.input_per_mtok if price else None) == rate


def test_a_price_that_has_ended_makes_way_for_the_next_best():
    """
    When an exact entry is not valid yet, a pattern that is answers.
    """
    table = PriceTable()
    table.add("m-1", input=2, valid_from=date(2026, 1, 1))
    table.add("m-*", input=1)

    assert table.find(None, "m-1", AT).input_per_mtok == 1


def test_what_answered_is_charged_and_else_what_was_asked():
    """
    A deployment's name has no price; the model that it stands for has.
    """
    table = PriceTable()
    table.add("real", input=1, output=1)
    table.add("asked", input=2, output=2)

    def price_id(asked: str, answered: str | None) -> str | None:
        return table.priced(a_call(request_model=asked, response_model=answered)).price_id

    assert [
        price_id("my-deployment", "real"),
        price_id("asked", "real"),
        price_id("asked", "unheard-of"),
        price_id("asked", None),
    ] == ["own:real", "own:real", "own:asked", "own:asked"]


def test_your_own_prices_come_first():
    """
    An own entry wins over a shipped one, whichever of the two names it is for.
    """
    table = PriceTable.default()
    table.add("qwen-plus", input=9, output=9, currency="USD")
    table.add("my-deployment", input=8, output=8, currency="EUR")

    assert charged(table.priced(a_call(request_model="qwen-plus"))) == (
        Decimal("0.018"),
        "USD",
        "own:qwen-plus",
    )
    assert charged(
        table.priced(a_call(request_model="my-deployment", response_model="qwen-max"))
    ) == (Decimal("0.016"), "EUR", "own:my-deployment")


def test_an_added_price_holds_from_then_on():
    """
    What was looked up before does not hide it.
    """
    table = PriceTable()
    before = table.priced(a_call(request_model="m"))
    table.add("m", input="0.4", output=2, currency="CNY", per=1_000)

    assert charged(before) == (None, None, None)
    assert charged(table.priced(a_call(request_model="m"))) == (Decimal("2.4"), "CNY", "own:m")


@pytest.mark.parametrize(
    ("status", "cost"),
    [("success", 1), ("timeout", 1), ("failed", None), ("unfinished", None), ("blocked", None)],
)
def test_a_price_by_the_call_is_not_asked_for_an_error(status, cost):
    """
    A call has its price without any count, unless it failed or was not sent.
    """
    table = PriceTable()
    table.add("m", per_call=1)
    record = a_call(request_model="m", status=status, input_tokens=None, output_tokens=None)

    assert table.priced(record).cost == cost


def test_a_name_that_is_none_matches_no_pattern():
    """
    A hundred thousand characters are no model's name, and are not remembered.
    """
    table = PriceTable()
    table.add("x*", input=1)

    assert table.find(None, "x" * 256, AT) is not None
    assert table.find(None, "x" * 257, AT) is None


def test_a_stated_cost_is_kept(shipped):
    """
    The provider knows best, and so does a caller who gave an amount.
    """
    by_provider = a_call(
        request_model="qwen-plus", cost=Decimal("0.5"), currency="USD", price_id="provider"
    )
    by_caller = a_call(request_model="qwen-plus", cost=Decimal("0.5"), currency="USD")

    assert shipped.priced(by_provider) is by_provider
    assert shipped.priced(by_caller) is by_caller


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        pytest.param({"status": "blocked"}, None, id="a blocked call was never sent"),
        pytest.param({"status": "circuit_open"}, None, id="nor was this one"),
        pytest.param(
            {"status": "failed", "input_tokens": None, "output_tokens": None},
            None,
            id="an error costs nothing, not even by the call",
        ),
        pytest.param({"status": "failed"}, "1.002", id="a stream cut short costs what was counted"),
        pytest.param({"status": "cancelled"}, "1.002", id="so does a cancelled one"),
        pytest.param({"input_tokens": None}, "1.001", id="one side known"),
        pytest.param({"input_tokens": None, "output_tokens": None}, None, id="nothing known"),
        pytest.param({"usage_source": "estimated"}, "1.002", id="an estimate is charged"),
    ],
)
def test_what_a_call_costs_by_its_outcome(fields, cost):
    """
    What was not sent or not answered costs nothing; what was counted costs its price.
    """
    table = PriceTable()
    table.add("m", input=1, output=1, per_call=1)

    record = table.priced(a_call(request_model="m", **fields))

    assert record.cost == (None if cost is None else Decimal(cost))


def test_the_cost_is_rounded_once_to_whole_nano_units():
    """
    0.4 nano-units a token are 1.2 for three, and become 1 at the end, not 0 three times.
    """
    table = PriceTable()
    table.add("m", input="0.0004", output="0")

    assert table.priced(a_call(request_model="m", input_tokens=3)).cost == Decimal("1E-9")


def test_the_cost_does_not_depend_on_the_precision_of_the_thread():
    """
    A program that works with six digits gets the same nano-units.
    """
    table = PriceTable()
    table.add("m", input="0.000001", output=0)
    record = a_call(request_model="m", input_tokens=123_456_789_012_345_678)

    with localcontext() as context:
        context.prec = 6
        cost = table.priced(record).cost

    assert cost == Decimal("123456.789012346")


def test_a_cost_too_large_to_keep_is_unknown():
    """
    Nothing is cut to what fits.
    """
    table = PriceTable()
    table.add("m", input=10**9, output=1)

    record = table.priced(a_call(request_model="m", input_tokens=2**62))

    assert charged(record) == (None, None, None)


FREE_FIELDS = (
    "provider",
    "request_model",
    "response_model",
    "service_tier",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "status",
    "cost",
    "price_id",
    "usage_source",
)
ODD = [None, -1, 2**70, 1.5, float("nan"), "", "gpt-4o", "\ud800", "x" * 1_000, b"x", [], {}]


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(FREE_FIELDS, st.sampled_from(ODD))),
    st.sampled_from([AT, AT.replace(tzinfo=None), None, datetime.max, datetime.min]),
)
def test_no_record_makes_it_raise(fields, started_at):
    """
    A record built by hand may hold anything: it comes back, with or without a cost.
    """
    record = CallRecord(**{"id": "01", **fields, "started_at": started_at})

    assert ANY_MODEL.priced(record).id == "01"


ANY_MODEL = PriceTable.default()
ANY_MODEL.add("*", input=1, output=1, valid_from="2025-01-01")


def test_memory_is_bounded_whatever_is_asked():
    """
    A million model names do not fill the cache.
    """
    table = PriceTable()
    table.add("m", input=1)
    for number in range(5_000):
        table.find("p", f"model-{number}", AT)

    assert len(table._own._cache) <= 2048


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        ({"valid_from": None}, "duplicate"),
        ({"valid_from": "2025-02-01"}, "overlaps"),
        ({"valid_from": "2025-04-01"}, "gap"),
    ],
)
def test_a_series_that_contradicts_itself_is_refused_and_changes_nothing(second, complaint):
    """
    Two prices of one model follow each other without overlap and without a gap.
    """
    table = PriceTable()
    table.add("m", input=1, valid_to="2025-03-01")

    with pytest.raises(PriceError, match=f"own:m.*{complaint}"):
        table.add("m", input=2, **second)

    assert len(table) == 1


def test_a_series_may_follow_on():
    """
    The end of one is the beginning of the next.
    """
    table = PriceTable()
    table.add("m", input=1, valid_to="2025-03-01")
    table.add("m", input=2, valid_from="2025-03-01")
    table.add("m", input=3, valid_from=datetime(2025, 4, 1, tzinfo=UTC) + timedelta(hours=1))

    assert [price.id for price in table] == [
        "own:m",
        "own:m@2025-03-01",
        "own:m@2025-04-01T01:00:00+00:00",
    ]


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), date(2026, 1, 1), None])
def test_find_takes_an_aware_time(shipped, at):
    """
    A time without a zone, or none, is refused by name.
    """
    with pytest.raises(InvalidValue, match=r"^at="):
        shipped.find(None, "qwen-plus", at)
