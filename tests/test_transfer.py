"""Calls from store to store and from files of other systems: each counts once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue, RecordRefused, SinkUnavailable
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id
from ai_ledger.sinks import Store, open_sink
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.transfer import (
    BadLine,
    Refusal,
    TransferReport,
    import_jsonl,
    read_jsonl,
    record_of,
    transfer,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYTHING = Query.build(scope=None)
KINDS = ("memory", "jsonl", "sqlite")


def make(number: int, **fields) -> CallRecord:
    # Ids by number keep their order; a UUID's form is what databases expect.
    return CallRecord(
        id=f"00000000-0000-7000-8000-{number:012}",
        started_at=NOON + timedelta(hours=number),
        **fields,
    )


CALLS = [
    make(
        1,
        org_id="a",
        user_id="张三",
        request_model="qwen-plus",
        input_tokens=5,
        cost=Decimal("0.0000004"),
        currency="CNY",
        price_id="p",
        duration_ms=12.345,
        usage_source="reported",
        tags={"anchor_id": "x", "实": "☃"},
        request_content="question\n" * 9,
    ),
    make(2, status="unfinished", org_id="b"),
    make(30, status="failed", error_type="E", error_message="m", http_status=500, org_id="b"),
]


@pytest.fixture
def store_of(tmp_path: Path) -> Iterator[Callable[[str, str], Store]]:
    opened: list[Store] = []

    def open_store(kind: str, name: str) -> Store:
        path = f"///{tmp_path}/{name}.{kind}" if kind != "memory" else ""
        store = open_sink(f"{kind}:{path}")
        assert isinstance(store, Store)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        getattr(store, "close", lambda: None)()


def all_of(store: Store, query: Query = EVERYTHING) -> list[CallRecord]:
    return [record for batch in store.scan(query) for record in batch]


@pytest.mark.parametrize(("kind", "other"), list(product(KINDS, KINDS)))
def test_between_every_pair(store_of, kind, other):
    """
    Every call arrives unchanged, once, however often it is sent.
    """
    source, target = store_of(kind, "source"), store_of(other, "target")
    source.write(CALLS)

    reports = [transfer(source, target, EVERYTHING, batch_size=2) for _ in range(2)]

    assert reports == [TransferReport(read=3, written=3)] * 2
    assert all_of(target) == CALLS
    assert sum(group.totals.calls for group in target.aggregate(EVERYTHING)) == 3


def test_only_what_is_meant():
    """
    Only the calls of the query leave the store, within its scope; progress is told.
    """
    source, target, told = MemorySink(), MemorySink(), []
    source.write(CALLS)
    query = Query.build(scope="b", where={"org_id": ["a", "b"]})

    report = transfer(source, target, query, batch_size=1, progress=told.append)

    assert (report, told) == (TransferReport(read=2, written=2), [1, 2])
    assert all_of(target) == CALLS[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_deleted_calls_stay_deleted(store_of, kind):
    """
    Deleted calls go when they are asked for, and arrive as deleted.
    """
    source, target = MemorySink(), store_of(kind, "target")
    source.write(CALLS)
    source.delete(EVERYTHING, at=NOON)
    deleted = Query.build(scope=None, deleted=True)

    assert transfer(source, target, deleted).read == 3
    assert all_of(target) == []
    assert all_of(target, deleted) == [record.replace(deleted_at=NOON) for record in CALLS]
    assert target.aggregate(EVERYTHING) == []


class Picky(MemorySink):
    def write(self, records):
        bad = [record.id for record in records if record.user_id == "bad"]
        if bad:
            raise RecordRefused(f"{len(bad)} of {len(records)}")
        super().write(records)


def test_refused_calls_do_not_harm_their_neighbours():
    """
    What the target refuses is found one by one and reported; the rest arrives.
    """
    source, target = MemorySink(), Picky()
    calls = [make(number, user_id="bad" if number in (3, 4) else "good") for number in range(9)]
    source.write(calls)

    assert transfer(source, target, EVERYTHING) == TransferReport(
        read=9,
        written=7,
        refused=tuple(Refusal(call_id=calls[n].id, reason="1 of 1") for n in (3, 4)),
    )
    assert {record.user_id for record in all_of(target)} == {"good"}


def test_a_target_that_is_away():
    """
    When the target is away the caller hears of it at once.
    """
    source, target = MemorySink(), MemorySink()
    source.write(CALLS)

    def away(records):
        raise SinkUnavailable("away")

    target.write = away
    with pytest.raises(SinkUnavailable):
        transfer(source, target, EVERYTHING)


def test_our_own_file_comes_back_equal(tmp_path):
    """
    A line that we wrote is read as the record that it was.
    """
    path = tmp_path / "usage.jsonl"
    path.write_bytes(b"".join(record.to_json() + b"\n" for record in CALLS))

    assert list(read_jsonl(path)) == CALLS


FOREIGN = {
    "id": 4711,
    "create_time": "2026-03-01 20:00:00",
    "model": "gpt-4",
    "api_provider": "openai",
    "service_type": "chat",
    "prompt_tokens": 12,
    "completion_tokens": "34",
    "total_tokens": 46,
    "cost_usd": 0.000123456789,
    "response_time": 812.5,
    "success": False,
    "error_msg": "401 for sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD",
    "site_id": 7,
    "user_id": 42,
    "sn_code": "SN-1",
    "conversation_id": "c-1",
    "app_type": "resume",
    "is_delete": 0,
    "anchor_id": 99,
    "extra": {"b": 0.5, "a": [True, None]},
    "empty": None,
}


def test_foreign_line(tmp_path):
    """
    The words of other systems are understood, the rest becomes tags, no digit is lost.
    """
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps(FOREIGN))
    (record,) = read_jsonl(path, tz=ZoneInfo("Asia/Shanghai"))

    assert record == CallRecord(
        id="4711",
        started_at=NOON,
        request_model="gpt-4",
        provider="openai",
        operation="chat",
        input_tokens=12,
        output_tokens=34,
        cost=Decimal("0.000123457"),
        currency="USD",
        duration_ms=812.5,
        status="failed",
        error_message=record.error_message,
        org_id="7",
        user_id="42",
        device_id="SN-1",
        session_id="c-1",
        business_type="resume",
        tags={"anchor_id": "99", "extra": '{"a":[true,null],"b":0.5}'},
    )
    assert record.started_at.utcoffset() == timedelta(0)
    assert "abcdefghij" not in record.error_message


FULL_TAGS = {f"k{n}": "v" for n in range(32)} | {"ai_ledger.traceparent": "00-1-2-01"}
"""As many as a call may have, and what a sink has added."""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"timestamp": "2026-03-01T12:00:00Z"}, {}, id="another alias"),
        pytest.param({"started_at": 1772366400}, {}, id="seconds"),
        pytest.param({"started_at": 1772366400000}, {}, id="milliseconds"),
        pytest.param({"started_at": "2026-03-01T17:30:00+05:30"}, {}, id="another zone"),
        pytest.param({"success": True}, {}, id="success"),
        pytest.param({"success": 0}, {"status": "failed"}, id="success as a number"),
        pytest.param({"success": True, "status": "timeout"}, {"status": "timeout"}, id="status"),
        pytest.param({"input_tokens": 1, "prompt_tokens": 2}, {"input_tokens": 1}, id="ours wins"),
        pytest.param({"is_delete": 1}, {"deleted_at": NOON}, id="deleted"),
        pytest.param({"is_delete": False}, {}, id="not deleted"),
        pytest.param({"total_tokens": 9}, {"tags": {"total_tokens": "9"}}, id="only a total"),
        pytest.param({"cost": "0.5", "currency": "CNY"}, {"cost": "0.5"}, id="text as amount"),
        pytest.param(
            {"cost_usd": 0.1, "cost_amount": "0.7", "currency": "CNY"},
            {"cost": "0.7", "tags": {"cost_usd": "0.1"}},
            id="two amounts",
        ),
        pytest.param({"cost_usd": 0}, {"cost": "0"}, id="nothing was charged"),
        pytest.param({"cost": None, "cost_usd": 1}, {"cost": "1"}, id="null beside an alias"),
        pytest.param({"user_id": "a\x00b\ud800"}, {"user_id": "a�b�"}, id="odd text"),
        pytest.param(
            {"tags": {"a": 1, "b": None}, "c": "d"}, {"tags": {"a": "1", "c": "d"}}, id="t"
        ),
        pytest.param({"duration_ms": "1.5"}, {"duration_ms": 1.5}, id="text as duration"),
        pytest.param({"streamed": "true"}, {"streamed": True}, id="text as boolean"),
        pytest.param({"tags": FULL_TAGS}, {"tags": FULL_TAGS}, id="all tags and marks"),
    ],
)
def test_accepted(tmp_path, changes, expected):
    """
    Many ways to say the same are understood.
    """
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"id": "x", "started_at": NOON.isoformat()} | changes))
    if "timestamp" in changes:
        path.write_text(json.dumps({"id": "x"} | changes))
    (record,) = read_jsonl(path)
    if "cost" in expected:
        currency = changes.get("currency", "USD")
        expected = expected | {"cost": Decimal(expected["cost"]), "currency": currency}

    assert record == CallRecord(id="x", started_at=NOON, **expected)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"{", "JSON in UTF-8 (Expecting", id="half a line"),
        pytest.param(b"\xff\xfe", "utf-8", id="no text"),
        pytest.param(b"[1]", "a JSON object", id="a list"),
        pytest.param(b"{}", "started_at", id="nothing"),
        pytest.param(b"[" * 100_000, "recursion", id="deep"),
        pytest.param({"started_at": "2026-03-01T12:00:00"}, "started_at", id="naive"),
        pytest.param({"started_at": "yesterday"}, "started_at", id="no time"),
        pytest.param({"started_at": True}, "started_at", id="a boolean as time"),
        pytest.param({"started_at": 1e300}, "started_at", id="after the end of time"),
        pytest.param({"prompt_tokens": -1}, "input_tokens", id="negative"),
        pytest.param({"input_tokens": 10**30}, "input_tokens", id="huge"),
        pytest.param({"input_tokens": 1.5}, "input_tokens", id="half a token"),
        pytest.param({"input_tokens": "many"}, "input_tokens", id="no number"),
        pytest.param({"input_tokens": 1, "cache_read_tokens": 2}, "cache_read", id="part > whole"),
        pytest.param({"cost": 1}, "currency", id="no currency"),
        pytest.param({"cost": 1, "currency": "$"}, "currency", id="no code"),
        pytest.param({"cost_usd": -1}, "cost", id="negative cost"),
        pytest.param({"cost_usd": 1, "currency": "CNY"}, "currency", id="two currencies"),
        pytest.param(b'{"started_at":0,"cost_usd":NaN}', "NaN", id="NaN"),
        pytest.param({"cost_usd": "1e400"}, "cost", id="a fortune"),
        pytest.param({"duration_ms": -5}, "duration_ms", id="negative duration"),
        pytest.param({"status": "fine"}, "status", id="unknown status"),
        pytest.param({"started_at": "0001-01-01T00:00Z"}, "started_at", id="the first year"),
        pytest.param({"started_at": "9999-12-31T23:59-05:00"}, "started_at", id="the last year"),
        pytest.param({"started_at": -1}, "started_at", id="before 1970"),
        pytest.param({"success": "maybe"}, "success", id="maybe"),
        pytest.param({"user_id": {"id": 1}}, "user_id", id="an object as id"),
        pytest.param({"user_id": True}, "user_id", id="a boolean as id"),
        pytest.param({"tags": "x"}, "tags", id="tags as text"),
        pytest.param({f"k{n}": "v" for n in range(99)}, "tags", id="too many tags"),
        pytest.param(
            {"tags": {f"ai_ledger.k{n}": "v" for n in range(99)}}, "tags", id="too many marks"
        ),
        pytest.param({"usage_source": "guessed"}, "usage_source", id="unknown source"),
    ],
)
def test_bad_line(tmp_path, line, reason):
    """
    A bad line is reported with its number and the field, and its neighbours are read.
    """
    if isinstance(line, dict):
        line = json.dumps({"started_at": NOON.isoformat()} | line).encode()
    path = tmp_path / "other.jsonl"
    path.write_bytes(b"\n".join([CALLS[0].to_json(), b"", line, CALLS[2].to_json()]))
    found = list(read_jsonl(path))

    assert (found[0], found[2]) == (CALLS[0], CALLS[2])
    assert isinstance(found[1], BadLine)
    assert found[1].number == 3
    assert reason in found[1].reason


def test_a_file_of_another_kind(tmp_path):
    """
    A large file without a single call is counted, and only its first lines are kept.
    """
    path, target = tmp_path / "access.log", Picky()
    path.write_text("GET /\n" * 3000)
    report = import_jsonl(path, target)

    assert (report.read, report.bad, len(report.bad_lines)) == (0, 3000, 1000)

    source = MemorySink()
    source.write([make(number, user_id="bad") for number in range(1100)])
    report = transfer(source, target, EVERYTHING)
    assert (report.read, report.written, len(report.refused)) == (1100, 0, 1000)


def test_endless_line(tmp_path, monkeypatch):
    """
    A line longer than any record is left out without being read into memory whole.
    """
    monkeypatch.setattr("ai_ledger.transfer.MAX_LINE_BYTES", 500)
    path = tmp_path / "other.jsonl"
    good = CALLS[2].to_json()
    path.write_bytes(b"\n".join([good, b"x" * 5000, good, b"y" * 501, b"z" * 501 + b"\n"]))
    found = list(read_jsonl(path))

    assert found == [
        CALLS[2],
        BadLine(number=2, reason="longer than 500 bytes"),
        CALLS[2],
        BadLine(number=4, reason="longer than 500 bytes"),
        BadLine(number=5, reason="longer than 500 bytes"),
    ]


def test_import_twice_counts_once(tmp_path):
    """
    Lines without ids get the same id each time, whatever their spacing and order of keys.
    """
    path, again, target = tmp_path / "one.jsonl", tmp_path / "two.jsonl", MemorySink()
    lines = [{"started_at": 1772366400 + n, "prompt_tokens": n, "cost_usd": 0.1} for n in range(5)]
    path.write_text("\n".join(map(json.dumps, lines)) + "\nbroken\n")
    again.write_text("\n".join(json.dumps(dict(reversed(line.items()))) for line in lines))
    told: list[int] = []

    reports = [
        import_jsonl(path, target, batch_size=2, progress=told.append),
        import_jsonl(path, target),
        import_jsonl(again, target),
    ]

    assert [(report.read, report.written) for report in reports] == [(5, 5)] * 3
    assert [line.number for line in reports[0].bad_lines] == [6]
    assert told == [2, 4, 5]
    assert [record.input_tokens for record in all_of(target)] == list(range(5))
    assert all_of(target)[0].id == "835f856f-e303-5995-842b-868adb887cc0"


texts = st.text(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from([*FOREIGN, *CallRecord.__struct_fields__]) | texts


@given(st.dictionaries(keys, plain, max_size=8))
def test_any_object(data):
    """
    Any JSON object is a record that can be stored, or is refused by name; nothing else.
    """
    try:
        record = record_of(json.loads(json.dumps(data), parse_float=Decimal))
    except InvalidValue:
        return
    assert CallRecord.from_json(record.to_json()) == record


@given(
    st.builds(
        CallRecord,
        id=st.builds(new_id),
        started_at=st.datetimes(
            datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)
        ),
        user_id=st.none()
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
        input_tokens=st.none() | st.integers(0, 2**53),
        duration_ms=st.none() | st.integers(0, 10**9).map(lambda us: us / 1000),
        streamed=st.booleans(),
        status=st.sampled_from(["success", "unfinished", "blocked"]),
    )
)
def test_every_record_of_ours(record):
    """
    Whatever record we write is read back equal.
    """
    assert record_of(json.loads(record.to_json(), parse_float=Decimal)) == record
