"""The ledger by hand: calls accounted for in a block, or after the fact; bad input by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ai_ledger import (
    CallRecord,
    ConfigurationError,
    InvalidValue,
    Ledger,
    PriceTable,
    call_context,
    record_ai_usage,
    use_ledger,
)
from ai_ledger.answers import Answer
from ai_ledger.context import Context
from ai_ledger.records import MAX_COUNT
from ai_ledger.sinks.memory import MemorySink

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEST = timezone(timedelta(hours=-5))
EAST = timezone(timedelta(hours=14))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(sinks=[MemorySink()], journal=False) as ledger:
        yield ledger


def only(ledger: Ledger) -> CallRecord:
    assert ledger.flush(60)
    (sink,) = ledger.sinks
    (record,) = sink.records  # type: ignore[attr-defined]
    return record


# In a block


def test_a_call_by_hand(ledger: Ledger) -> None:
    """
    What is said in the block and around it is on the books when it ends.
    """
    with (
        call_context(user_id="u", session_id="outer"),
        ledger.call(model="m", provider="p", session_id="inner", anchor_id=7) as call,
    ):
        call.set_usage(input_tokens=100, output_tokens=20, cache_read_tokens=60)
        call.set_cost("0.25", "CNY")
        call.set_retries(2)
        assert call.record is None

    record = only(ledger)
    assert call.id == record.id
    assert (record.status, record.request_model, record.provider) == ("success", "m", "p")
    assert (record.user_id, record.session_id, record.tags) == ("u", "inner", {"anchor_id": "7"})
    assert (record.input_tokens, record.output_tokens, record.cache_read_tokens) == (100, 20, 60)
    assert (record.usage_source, record.retries) == ("reported", 2)
    assert (record.cost, record.currency, record.price_id) == (Decimal("0.25"), "CNY", "provider")
    assert record.duration_ms is not None


def test_a_response_passed_by_hand(ledger: Ledger) -> None:
    """
    Any provider's answer is read for what it says.
    """
    with ledger.call(model="qwen-plus") as call:
        call.set_response(
            {
                "request_id": "r-1",
                "output": {"choices": [{"finish_reason": "stop", "message": {"content": "Hi"}}]},
                "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11},
            }
        )

    record = only(ledger)
    assert (record.response_id, record.finish_reason, record.response_content) == (
        "r-1",
        "stop",
        "Hi",
    )
    assert (record.usage_source, record.input_tokens, record.output_tokens) == ("reported", 9, 2)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("of sk-abcdef0123456789"), "failed"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_an_exception_leaving_the_block(error: BaseException, status: str, ledger: Ledger) -> None:
    """
    It is recorded and passes on, the same object.
    """
    with pytest.raises(type(error)) as caught, ledger.call(model="m"):
        raise error

    record = only(ledger)
    assert caught.value is error
    assert (record.status, record.error_type) == (status, type(error).__name__)
    assert "sk-abc" not in (record.error_message or "")
    assert (record.usage_source, record.input_tokens) == ("unknown", None)


def test_a_failure_told_in_words(ledger: Ledger) -> None:
    """
    `fail` ends the call; what happens afterwards does not change it.
    """
    with ledger.call(model="m") as call:
        call.fail("it said no")
        call.set_usage(input_tokens=3)

    record = only(ledger)
    assert (record.status, record.error_message) == ("failed", "it said no")


async def test_an_async_block(ledger: Ledger) -> None:
    """
    ``async with`` does the same.
    """
    async with ledger.call(model="m", operation="embeddings") as call:
        call.set_usage(input_tokens=3)

    record = only(ledger)
    assert (record.status, record.operation, record.input_tokens) == ("success", "embeddings", 3)


# After the fact


def test_record_ai_usage() -> None:
    """
    Everything that a record has can be said, aliases included; unknown words become tags.
    """
    sink = MemorySink()
    started = datetime(2026, 1, 5, 20, 0, tzinfo=timezone(timedelta(hours=8)))
    with Ledger(sinks=[sink], journal=False) as ledger:
        use_ledger(ledger)
        try:
            with call_context(business_type="b", user_id="ambient"):
                record_id = record_ai_usage(
                    model="qwen-plus",
                    function="report",
                    prompt_tokens=100,
                    completion_tokens=20,
                    response_time=1234.5678,
                    success=False,
                    error_msg="key sk-abcdef0123456789 refused",
                    user_id=42,
                    site_id=7,
                    anchor_id=9,
                    session_id="s",
                    create_time=started,
                    cost_usd="0.0123456789123",
                    request_content={"messages": [1]},
                )
        finally:
            use_ledger(None)
        record = only(ledger)

    assert record == CallRecord(
        id=record_id,
        started_at=datetime(2026, 1, 5, 12, 0, tzinfo=UTC),
        status="failed",
        duration_ms=1234.568,
        error_message="key [redacted] refused",
        request_model="qwen-plus",
        input_tokens=100,
        output_tokens=20,
        usage_source="reported",
        cost=Decimal("0.012345679"),
        currency="USD",
        price_id="provider",
        org_id="7",
        user_id="42",
        session_id="s",
        function="report",
        business_type="b",
        tags={"anchor_id": "9"},
        request_content='{"messages":[1]}',
    )


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"input_tokens": -1}, id="negative count"),
        pytest.param({"output_tokens": MAX_COUNT + 1}, id="huge count"),
        pytest.param({"input_tokens": 1.5}, id="half a token"),
        pytest.param({"input_tokens": "3"}, id="count as text"),
        pytest.param({"input_tokens": True}, id="count as truth"),
        pytest.param({"cache_read_tokens": 5, "input_tokens": 4}, id="part beyond its total"),
        pytest.param({"cost": float("nan"), "currency": "USD"}, id="NaN cost"),
        pytest.param({"cost": float("inf"), "currency": "USD"}, id="infinite cost"),
        pytest.param({"cost": "-1", "currency": "USD"}, id="negative cost"),
        pytest.param({"cost": "much", "currency": "USD"}, id="cost in words"),
        pytest.param({"cost": 10**11, "currency": "USD"}, id="cost beyond nano-units"),
        pytest.param({"cost": "1e99999999999999", "currency": "USD"}, id="cost of many zeros"),
        pytest.param({"cost": "1e" + "9" * 30, "currency": "USD"}, id="exponent beyond decimals"),
        pytest.param({"cost": 10**5000, "currency": "USD"}, id="cost too long to be written"),
        pytest.param({"input_tokens": 10**5000}, id="count too long to be written"),
        pytest.param({"currency": "usd", "cost": 1}, id="currency"),
        pytest.param({"currency": "RMB", "cost": 1}, id="currency outside ISO 4217"),
        pytest.param({"currency": "CNY", "cost_usd": 1}, id="dollars in another currency"),
        pytest.param({"started_at": datetime(2026, 1, 1)}, id="naive datetime"),
        pytest.param({"started_at": datetime.max.replace(tzinfo=WEST)}, id="after all years"),
        pytest.param({"started_at": datetime.min.replace(tzinfo=EAST)}, id="before all years"),
        pytest.param({"started_at": datetime(1969, 12, 31, 23, tzinfo=UTC)}, id="before 1970"),
        pytest.param({"started_at": datetime(2200, 1, 1, tzinfo=UTC)}, id="from 2200 on"),
        pytest.param({"started_at": "2026-01-01"}, id="time as text"),
        pytest.param({"duration_ms": -1}, id="negative duration"),
        pytest.param({"duration_ms": float("nan")}, id="NaN duration"),
        pytest.param({"duration_ms": "1"}, id="duration as text"),
        pytest.param({"duration_ms": 10**400}, id="duration beyond floats"),
        pytest.param({"status": "great"}, id="unknown status"),
        pytest.param({"status": "unfinished"}, id="unfinished is for the journal"),
        pytest.param({"success": "yes"}, id="success as text"),
        pytest.param({"success": "yes", "status": "success"}, id="success as text beside status"),
        pytest.param({"total_tokens": -1}, id="negative total"),
        pytest.param({"usage_source": "guessed"}, id="unknown source"),
        pytest.param({"user_id": b"u"}, id="id as bytes"),
        pytest.param({"user_id": ["u"]}, id="id as a list"),
        pytest.param({"anchor": {"a": 1}}, id="tag as a mapping"),
        pytest.param({"response_model": 7}, id="name as a number"),
        pytest.param({"retries": -1}, id="negative retries"),
        pytest.param({"http_status": "200"}, id="status code as text"),
        pytest.param({"http_status": 99}, id="status code of two digits"),
        pytest.param({"http_status": 1000}, id="status code of four digits"),
        pytest.param({"cost": 10**9 + 1, "currency": "USD"}, id="huge cost"),
        pytest.param({"id": "mine"}, id="the record's id"),
        pytest.param({"price_id": "mine"}, id="the price"),
        pytest.param({"is_delete": True}, id="deleted"),
    ],
)
def test_bad_input_is_named(fields: dict[str, Any], ledger: Ledger) -> None:
    """
    Each is refused with its field's name and what was expected; nothing is recorded.
    """
    name = next(iter(fields))

    with pytest.raises(InvalidValue) as caught:
        ledger.record("m", **fields)

    assert caught.value.field == name
    assert str(caught.value).startswith(f"{name}=")
    assert ": expected " in str(caught.value)
    assert ledger.flush(60)
    assert ledger.sinks[0].records == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_tokens": 1, "prompt_tokens": 2}, r"prompt_tokens=2: .*input_tokens=1"),
        ({"create_time": AT, "started_at": AT + HOUR}, r"started_at=.*create_time="),
        ({"user_id": "u", "site_id": 1, "org_id": 2}, r"org_id=2: .*site_id=1"),
        ({"request_model": "other"}, r"request_model='other': .*model='m'"),
        ({"cost": 1, "currency": "USD", "cost_usd": 2}, r"cost_usd=2: .*cost=1"),
        ({"success": True, "status": "failed"}, r"success=True: .*status='failed'"),
        ({"success": False, "status": "success"}, r"success=False: .*status='success'"),
        (
            {"input_tokens": 1, "output_tokens": 2, "total_tokens": 4},
            r"total_tokens=4: .*3, .*input_tokens and output_tokens",
        ),
        ({"input_tokens": 5, "total_tokens": 4}, r"total_tokens=4: .*input_tokens \(5\)"),
        ({"output_tokens": 5, "total_tokens": 4}, r"total_tokens=4: .*output_tokens \(5\)"),
    ],
)
def test_contradictions_are_named(fields: dict[str, Any], message: str, ledger: Ledger) -> None:
    """
    Two words for one thing may not say two things; both are named.
    """
    with pytest.raises(InvalidValue, match="^" + message):
        ledger.record("m", **fields)

    assert ledger.flush(60)
    assert ledger.sinks[0].records == []  # type: ignore[attr-defined]


def test_saying_it_twice_is_no_contradiction(ledger: Ledger) -> None:
    """
    Two words for one thing may say the same, in different dress and beside nothing.
    """
    ledger.record(
        "m",
        model_name="m",
        input_tokens=1,
        prompt_tokens=1,
        output_tokens=None,
        completion_tokens=2,
        site_id=7,
        org_id="7",
        cost=Decimal("0.1"),
        cost_usd="0.1",
        status="timeout",
        success=False,
    )

    record = only(ledger)
    assert (record.request_model, record.input_tokens, record.output_tokens) == ("m", 1, 2)
    assert (record.org_id, record.status) == ("7", "timeout")
    assert (record.cost, record.currency) == (Decimal("0.1"), "USD")


@pytest.mark.parametrize(
    ("counts", "read"),
    [
        pytest.param({"total_tokens": 10}, (10, None), id="alone, as for embeddings"),
        pytest.param({"total_tokens": 10, "input_tokens": 7}, (7, 3), id="the output is the rest"),
        pytest.param({"total_tokens": 10, "output_tokens": 3}, (7, 3), id="the input is the rest"),
        pytest.param({"total_tokens": 5, "prompt_tokens": 5}, (5, 0), id="nothing is left"),
        pytest.param({"total_tokens": 3, "input_tokens": 1, "output_tokens": 2}, (1, 2), id="all"),
        pytest.param({"total_tokens": None, "input_tokens": 1}, (1, None), id="no total"),
    ],
)
def test_a_total_by_hand(
    counts: dict[str, Any], read: tuple[int | None, int | None], ledger: Ledger
) -> None:
    """
    A total gives the count that is not said, after the fact and in a block.
    """
    ledger.record("m", **counts)
    with ledger.call("m") as call:
        call.set_usage(**counts)

    assert ledger.flush(60)
    records: list[CallRecord] = ledger.sinks[0].records  # type: ignore[attr-defined]
    assert [
        (each.input_tokens, each.output_tokens, each.usage_source, each.tags) for each in records
    ] == [(*read, "reported", {})] * 2


def test_a_model_that_is_no_text(ledger: Ledger) -> None:
    """
    The model is named too.
    """
    with pytest.raises(InvalidValue, match=r"^model=7"):
        ledger.record(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda call: call.set_usage(input_tokens=-1), "input_tokens"),
        (lambda call: call.set_usage(colour=1), "colour"),
        (lambda call: call.set_cost("NaN", "USD"), "cost"),
        (lambda call: call.set_cost(1, "$"), "currency"),
        (lambda call: call.set_retries("some"), "retries"),
    ],
    ids=["count", "name", "cost", "currency", "retries"],
)
def test_bad_input_in_a_block(call: Any, field: str, ledger: Ledger) -> None:
    """
    The same in a block; what leaves it marks the call as failed.
    """
    with pytest.raises(InvalidValue) as caught, ledger.call(model="m") as open_call:
        call(open_call)

    assert caught.value.field == field
    assert only(ledger).status == "failed"


def test_bounds_and_hostile_texts(ledger: Ledger) -> None:
    """
    Huge and odd texts are stored cut and cleaned, and the record survives its JSON.
    """
    hostile = "\x00\ud800'; DROP TABLE--\r\n\x1b]0;\u202e" * 40
    ledger.record(
        hostile,
        user_id=hostile,
        input_tokens=MAX_COUNT,
        request_content="x" * 10_000_000,
        response_content={b"bytes": object(), "set": {1}, "nan": float("nan")},
        error_message=hostile * 100,
        **{hostile: hostile},
    )

    record = only(ledger)
    assert len(record.request_model or "") == len(record.user_id or "") == 255
    assert len(record.request_content or "") <= 1024 * 1024
    assert len(record.error_message or "") <= 2_000
    assert CallRecord.from_json(record.to_json()) == record
    assert b"\\u0000" not in record.to_json()


# Options


def test_sinks_must_be_sinks() -> None:
    """
    Anything with write(records) will do, and nothing else.
    """
    with pytest.raises(ConfigurationError, match="it has no write"):
        Ledger(sinks=[object()])  # type: ignore[list-item]


class CheckOnly:
    def check(self, call: CallRecord, request: object) -> None: ...


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", 5),
        ("url", [5]),
        ("sinks", 5),
        ("prices", 5),
        ("prices", [("m", 1)]),
        ("content", "some"),
        ("redact", "x"),
        ("redact_timeout", -1),
        ("redact_timeout", None),
        ("max_text_bytes", -1),
        ("max_text_bytes", 1.5),
        ("max_text_bytes", True),
        ("policies", [object()]),
        ("policies", [CheckOnly()]),
        ("policies", CheckOnly()),
        ("require", ["colour"]),
        ("require", [5]),
        ("require", "user_id"),
        ("on_missing", "shout"),
        ("journal", 5),
        ("journal", True),
        ("journal", ""),
        ("fsync", "x"),
        ("on_full", "x"),
        ("exit_timeout", "a"),
        ("exit_timeout", -0.1),
        ("exit_timeout", float("nan")),
        ("exit_timeout", float("inf")),
        ("exit_timeout", True),
    ],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    """
    Each is refused when the ledger is made, with what was given and what was expected.
    """
    options: dict[str, Any] = {"url": "memory:", "journal": False, option: value}

    with pytest.raises(ConfigurationError, match=rf"^{option}=.+: expected ."):
        Ledger(**options)


def test_prices_may_be_a_file_or_a_mapping(tmp_path: Path) -> None:
    """
    What `PriceTable.load` reads need not be loaded first; the shipped prices stay behind it.
    """
    path = tmp_path / "prices.toml"
    path.write_text('[[prices]]\nmodel = "m"\ninput = 2\noutput = 3\n')
    mapping = {"prices": [{"model": "m", "input": 2, "output": 3}]}

    costs: list[Decimal | None] = []
    for prices in (path, str(path), mapping, PriceTable.load(path)):
        with Ledger("memory:", prices=prices) as ledger:
            ledger.record("m", input_tokens=1_000_000, output_tokens=1_000_000)
            costs.append(only(ledger).cost)
            assert len(ledger.prices) > 1
    assert costs == [Decimal(5)] * 4


def test_prices_that_cannot_be_read(tmp_path: Path) -> None:
    """
    A file that is not there is a fault of the set-up.
    """
    with pytest.raises(ConfigurationError, match=r"^x\.toml: cannot be read"):
        Ledger("memory:", prices=tmp_path / "x.toml")


@pytest.mark.parametrize("ledger", ["x", "sqlite:///x.db", 5, Ledger])
def test_a_default_ledger_is_a_ledger(ledger: Any) -> None:
    """
    A URL is not opened silently, and an absurd value is not found out at the first call.
    """
    with pytest.raises(ConfigurationError, match=r"^ledger=.+: expected a Ledger"):
        use_ledger(ledger)
    with pytest.raises(ConfigurationError, match=r"^ledger=.+: expected a Ledger"):
        record_ai_usage("m", ledger=ledger)


def test_two_ledgers_keep_apart(ledger: Ledger) -> None:
    """
    Each has its own books.
    """
    with Ledger(sinks=[MemorySink()], journal=False) as other:
        other.record("theirs")
        ledger.record("ours")

        assert only(other).request_model == "theirs"
        assert only(ledger).request_model == "ours"


def test_forget_reaches_calls_in_flight() -> None:
    """
    A call that was under way when someone was forgotten ends without content and identity.
    """
    sink = MemorySink()
    with Ledger(sinks=[sink], journal=False) as ledger:
        with ledger.call("m", user_id="u-9", anchor_id="a-1") as call:
            ledger.forget(user_id="u-9")
            call.set_response({"id": "r-1", "model": "m", "choices": [], "usage": {}})
        with ledger.call("m", user_id="u-8"):
            pass
        ledger.flush(60)

    assert [(each.user_id, each.tags, each.response_id) for each in sink.records] == [
        (None, {}, None),
        ("u-8", {}, None),
    ]


@pytest.mark.parametrize("who", [{}, {"user_id": None}, {"user_id": []}, {"user_id": ["u", None]}])
def test_forget_needs_somebody(who: dict[str, Any]) -> None:
    """
    Nobody in particular is not everybody without a name.
    """
    with Ledger("memory:") as ledger, pytest.raises(InvalidValue, match=r"^who="):
        ledger.forget(**who)


def test_tags_of_the_ledger_are_its_own() -> None:
    """
    A caller cannot say what only the ledger says: how many calls a record stands for.
    """
    with Ledger("memory:") as ledger:
        for say in (
            lambda: ledger.call("m", **{"ai_ledger.overflow_calls": "1000"}),
            lambda: ledger.record("m", tags={"ai_ledger.overflow_calls": "1000"}),
        ):
            with pytest.raises(InvalidValue, match=r"^ai_ledger\.overflow_calls="):
                say()


def test_a_model_is_a_text(ledger: Ledger) -> None:
    """
    A model of another kind is refused by name, before the block is entered.
    """
    with pytest.raises(InvalidValue, match=r"^model=7: expected a text"):
        ledger.call(7)  # type: ignore[arg-type]


def test_what_was_never_seen_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An answer that nobody looked at is estimated, however exactly the question was counted.
    """
    monkeypatch.setattr("ai_ledger.tokens.count_tokens", lambda text, model: (7, "counted"))
    sink = MemorySink()
    with Ledger(sinks=[sink], journal=False) as ledger:
        for content in (None, "an answer"):
            call = ledger.open_call(
                operation="chat",
                provider=None,
                server_address=None,
                request_model="gpt-4o",
                request={"messages": [{"role": "user", "content": "hello"}]},
                context=Context(),
            )
            call.answer = Answer(expects_usage=True, content=content)
            call.finish("cancelled")
        ledger.flush(60)

    assert [
        (each.usage_source, each.input_tokens, each.output_tokens) for each in sink.records
    ] == [
        ("estimated", 7, 1),
        ("counted", 7, 7),
    ]


def test_a_ledger_given_as_a_url_keeps_its_password() -> None:
    """
    The refusal of a URL in a ledger's place does not quote the password in it.
    """
    for refuse in (use_ledger, lambda url: record_ai_usage("m", ledger=url)):
        with pytest.raises(ConfigurationError, match=r"^ledger=") as refused:
            refuse("postgresql://me:canary-password@host/db")  # type: ignore[arg-type]
        assert "canary" not in str(refused.value)
