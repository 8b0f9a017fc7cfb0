"""What every store promises, once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_ledger.bounds import label
from ai_ledger.errors import InvalidValue, RecordRefused
from ai_ledger.query import AnyOf, Between, Contains, Query
from ai_ledger.records import (
    MAX_COST,
    MAX_COUNT,
    STATUSES,
    TOKEN_FIELDS,
    USAGE_SOURCES,
    CallRecord,
)
from ai_ledger.sinks import CostChange, Store, open_sink
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.totals import Group, group_records
from ai_ledger.validation import (
    checked_cost,
    checked_count,
    checked_duration,
    checked_http_status,
    checked_usage,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ALL = Query.build(scope=None)
SQL_KINDS = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(
    params=[
        "memory",
        "jsonl",
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    from tests.databases import empty

    if request.param == "memory":
        url = "memory:"
    elif request.param == "jsonl":
        url = f"jsonl:///{tmp_path}/calls"
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.db"
    else:
        url = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
        empty(url)
    opened = open_sink(url)
    assert isinstance(opened, Store)
    yield opened
    if hasattr(opened, "close"):
        opened.close()


def call(number: int, **fields: Any) -> CallRecord:
    """A call a second after the one before."""
    at = fields.pop("started_at", NOON + timedelta(seconds=number))
    # A form that every database takes for an id, in the order of the numbers.
    return CallRecord(id=f"019c0000-0000-7000-8000-{number:012}", started_at=at, **fields)


def stored(store: Store, query: Query = ALL) -> list[CallRecord]:
    return [record for batch in store.scan(query) for record in batch]


def sorted_groups(groups: list[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (group.interval, [(k is None, k) for k in group.key]))


FULL = call(
    1,
    status="failed",
    duration_ms=1234.000977,
    time_to_first_token_ms=0.1 + 0.2,
    error_type="RateLimitError",
    error_message="Zu viele Anfragen: 太多请求",
    http_status=429,
    operation="chat",
    provider="dashscope",
    server_address="dashscope.aliyuncs.com",
    request_model="qwen-plus",
    response_model="qwen-plus-2025-07-28",
    response_id="chatcmpl-1",
    service_tier="default",
    finish_reason="stop",
    streamed=True,
    retries=2,
    input_tokens=2**40,
    cache_read_tokens=0,
    cache_write_tokens=1,
    output_tokens=3,
    reasoning_tokens=2,
    audio_input_tokens=4,
    audio_output_tokens=5,
    usage_source="reported",
    cost=Decimal("0.000000001"),
    currency="CNY",
    price_id="qwen-plus@2025-10",
    org_id="org",
    user_id="user",
    device_id="device",
    session_id="session",
    function="analyze",
    business_type="resume",
    reference_id="job-9",
    tags={"anchor_id": "7", "Größe": "groß"},
    request_content='[{"role": "user", "content": "\\u00e4\n\t漢字 \U0001f600"}]',
    response_content="",
)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(FULL, id="every field set"),
        pytest.param(call(2), id="every field left out"),
        pytest.param(call(3, user_id="", tags={"empty": ""}, request_content=""), id="empty texts"),
        pytest.param(
            call(
                4,
                started_at=datetime(2026, 3, 29, 2, 30, 0, 999_999, timezone(timedelta(hours=5.5))),
            ),
            id="a moment of another zone, to the microsecond",
        ),
        pytest.param(
            call(5, user_id="'; DROP TABLE ai_call_records; --", function='%s ? :x "`\\'),
            id="hostile texts",
        ),
    ],
)
def test_round_trip(store: Store, record: CallRecord) -> None:
    """
    A record comes back equal to what was written.
    """
    store.write([record])

    assert stored(store) == [record]
    assert store.call(None, record.id) == record


def test_the_same_record_again(store: Store) -> None:
    """
    However often a record is sent, in one batch or several, it counts once.
    """
    one, two = call(1, input_tokens=10), call(2, input_tokens=5)

    store.write([one, one])
    store.write([one, two, two])

    assert stored(store) == [one, two]
    assert [group.totals.input_tokens for group in store.aggregate(ALL)] == [15]


def test_an_unfinished_call_is_replaced_by_its_end(store: Store) -> None:
    """
    The finished record takes the place of the unfinished one, whatever comes again later.
    """
    begun = call(1, status="unfinished", request_model="m", request_content="hi")
    ended = call(1, input_tokens=7, request_model="m", tags={"a": "b"}, request_content="hi")

    store.write([begun])
    assert stored(store) == [begun]
    store.write([ended, call(2)])
    store.write([begun])
    store.write([call(1, input_tokens=99)])

    assert stored(store) == [ended, call(2)]
    assert store.aggregate(ALL, ("request_model",), ()) == group_records(
        [ended, call(2)], ("request_model",), ()
    ) or sorted_groups(store.aggregate(ALL, ("request_model",))) == sorted_groups(
        group_records([ended, call(2)], ("request_model",), ())
    )


def test_a_deleted_call_stays_deleted_when_it_ends(store: Store) -> None:
    """
    A call that was deleted while it ran is kept when it is finished, but counted nowhere.
    """
    begun = call(1, status="unfinished", request_model="m")
    ended = call(1, input_tokens=7, request_model="m")
    store.write([begun, call(2)])
    assert store.delete(Query.build(scope=None, where={"id": begun.id}), at=NOON) == 1

    store.write([ended])

    gone = Query.build(scope=None, deleted=True)
    assert stored(store) == [call(2)]
    assert stored(store, gone) == [ended.replace(deleted_at=NOON)]
    assert store.aggregate(ALL) == group_records([call(2)], (), ())
    assert store.restore(gone) == 1
    assert stored(store) == [ended, call(2)]
    assert store.aggregate(ALL) == group_records([ended, call(2)], (), ())


LONG = "x" * 300


def test_names_longer_than_a_label(store: Store) -> None:
    """
    Who asks by the whole name means the calls that carry its label, in every store.
    """
    cut = label(LONG)
    one = call(1, org_id=cut, user_id=cut, function=cut, tags={cut: cut})
    bare = one.replace(user_id=None, tags={})
    store.write([one, call(2, org_id=LONG[:255])])

    for where in ({"user_id": LONG}, {"user_id": AnyOf((LONG,))}, {f"tags.{LONG}": [LONG, "y"]}):
        assert stored(store, Query.build(scope=LONG, where=where)) == [one]
        assert stored(store, Query.build(scope=None, where=where)) == [one]
    assert [group.totals.calls for group in store.aggregate(Query.build(scope=LONG))] == [1]
    by_function = Query.build(scope=None, where={"function": LONG})
    assert store.aggregate(by_function) == group_records([one], (), ())
    assert store.aggregate(Query.build(scope=LONG), (f"tags.{LONG}",)) == group_records(
        [one], (f"tags.{cut}",), ()
    )
    assert store.call(LONG, one.id) == one
    assert store.corrections(LONG, one.id) == []
    assert store.forget(Query.build(scope=LONG, where={"user_id": LONG})) == 1
    assert store.call(LONG, one.id) == bare
    assert store.call(LONG[:255], one.id) is None


def test_the_largest_values_that_a_person_may_type(store: Store) -> None:
    """
    What validation lets through, every store takes and adds up.
    """
    cost, currency = checked_cost(MAX_COST, "VND")
    usage = checked_usage(dict.fromkeys(TOKEN_FIELDS, MAX_COUNT))
    largest = call(
        1,
        cost=cost,
        currency=currency,
        retries=checked_count("retries", MAX_COUNT),
        http_status=checked_http_status(999),
        duration_ms=checked_duration("duration_ms", 1e12),
        time_to_first_token_ms=checked_duration("time_to_first_token_ms", 1e12),
        usage_source=usage.source,
        **{name: getattr(usage, name) for name in TOKEN_FIELDS},
    )
    several = [largest, largest.replace(id=call(2).id), largest.replace(id=call(3).id)]

    store.write(several)

    assert stored(store) == several
    assert store.aggregate(ALL) == group_records(several, (), ())


def test_sums_beyond_64_bits(sql_url: str) -> None:
    """
    A call that would make a total wrong is refused, in a batch or alone; the others count.
    """
    sink = SQLSink(sql_url)
    large = [call(number, cost=Decimal(MAX_COST), currency="VND") for number in range(10)]
    try:
        with pytest.raises(RecordRefused):
            sink.write(large)
        assert stored(sink) == []
        for record in large[:9]:
            sink.write([record])
        with pytest.raises(RecordRefused):
            sink.write(large[9:])

        assert stored(sink) == large[:9]
        assert sink.aggregate(ALL) == group_records(large[:9], (), ())
    finally:
        sink.close()


MANY = [
    call(
        number,
        org_id=[None, "", "a", "b"][number % 4],
        user_id=[None, "u", "U", "u ", ""][number % 5],
        request_model=["m", "M", "m_1", "mx1", "100%"][number % 5],
        status=STATUSES[number % len(STATUSES)],
        input_tokens=[None, 0, number][number % 3],
        duration_ms=[None, number * 1.5][number % 2],
        cost=[None, Decimal(number) / 1000][number % 2],
        currency=[None, "USD"][number % 2],
        streamed=number % 2 == 0,
        usage_source=USAGE_SOURCES[number % 4],
        tags=[{}, {"k": "v"}, {"k": "w", "other": "v"}][number % 3],
    )
    for number in range(60)
]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="all"),
        pytest.param({"since": NOON + timedelta(seconds=10)}, id="since is inclusive"),
        pytest.param({"until": NOON + timedelta(seconds=10)}, id="until is exclusive"),
        pytest.param({"scope": "a"}, id="a scope"),
        pytest.param({"scope": ""}, id="the scope of the empty name"),
        pytest.param({"scope": "a' OR '1'='1"}, id="a hostile scope"),
        pytest.param({"where": {"user_id": "u"}}, id="letter for letter"),
        pytest.param({"where": {"user_id": ["u", None]}}, id="or not set"),
        pytest.param({"where": {"user_id": AnyOf(())}}, id="none of nothing"),
        pytest.param({"where": {"model": Contains("_")}}, id="an underscore is a letter"),
        pytest.param({"where": {"model": Contains("%")}}, id="a percent sign is a letter"),
        pytest.param({"where": {"model": Contains("m")}}, id="small letters are not large ones"),
        pytest.param({"where": {"model": Contains("")}}, id="everything contains nothing"),
        pytest.param({"where": {"input_tokens": Between(10, 30)}}, id="a range of counts"),
        pytest.param({"where": {"input_tokens": Between(9.5, 30.5)}}, id="a range of halves"),
        pytest.param({"where": {"input_tokens": Between(-(10**30), 10**30)}}, id="a huge range"),
        pytest.param({"where": {"input_tokens": [0, 12, None]}}, id="some counts"),
        pytest.param(
            {"where": {"cost": Between(Decimal("0.011"), Decimal("0.0310000000001"))}},
            id="a range of costs",
        ),
        pytest.param({"where": {"cost": Decimal("0.011")}}, id="one cost"),
        pytest.param({"where": {"duration_ms": Between(None, 30)}}, id="short calls"),
        pytest.param({"where": {"streamed": True}}, id="streams"),
        pytest.param({"where": {"status": ["failed", "timeout"]}}, id="two statuses"),
        pytest.param({"where": {"tags.k": "v"}}, id="a tag"),
        pytest.param({"where": {"tags.k": ["w", None]}}, id="a tag or none"),
        pytest.param({"where": {"tags.k": None}}, id="without a tag"),
        pytest.param({"where": {"tags.other": Contains("v")}}, id="part of a tag"),
        pytest.param({"where": {"tags.k": "v", "tags.other": "v"}}, id="two tags"),
        pytest.param({"where": {"user_id": "u", "model": "m"}, "scope": "a"}, id="several"),
        pytest.param({"where": {"any_id": Contains("U")}}, id="part of any id"),
        pytest.param({"where": {"any_id": Contains("0000001"), "user_id": "u"}}, id="of the id"),
        pytest.param({"where": {"unpriced": True}}, id="without a price"),
        pytest.param({"where": {"cost": Between()}}, id="with a price"),
    ],
)
def test_filters(store: Store, asked: dict[str, Any]) -> None:
    """
    Every store means the same calls by a query, and sums over exactly those.
    """
    query = Query.build(**{"scope": None, **asked})
    memory = MemorySink()
    memory.write(MANY)
    store.write(MANY)

    assert stored(store, query) == stored(memory, query)
    for by in ((), ("user_id",), ("request_model",), ("status", "tags.k"), ("org_id",)):
        assert sorted_groups(store.aggregate(query, by)) == sorted_groups(
            memory.aggregate(query, by)
        )


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("order", ["started_at", "input_tokens", "cost", "duration_ms"])
def test_pages(store: Store, order: str, descending: bool) -> None:
    """
    Pages follow each other without a gap, in the same order everywhere.
    """
    memory = MemorySink()
    same_time = [call(100 + number, started_at=NOON) for number in range(5)]
    memory.write([*MANY, *same_time])
    store.write([*MANY, *same_time])

    pages = [
        store.calls(ALL, limit=7, offset=offset, order=order, descending=descending)
        for offset in range(0, 70, 7)
    ]

    assert [record for page in pages for record in page] == memory.calls(
        ALL, order=order, descending=descending
    )


SORTED = {
    "started_at": [NOON + timedelta(seconds=n // 3, microseconds=n % 2) for n in range(12)],
    "cost": [None if n % 4 == 1 else Decimal(n // 3) / 10**9 for n in range(12)],
    "duration_ms": [None if n % 3 == 0 else 0.1 * (n // 2) + 1e-7 for n in range(12)],
    "input_tokens": [None if n in (0, 11) else n % 3 for n in range(12)],
    "retries": [n % 2 for n in range(12)],
    "http_status": [None] * 12,
}


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("order", SORTED)
def test_pages_by_place(store: Store, order: str, descending: bool) -> None:
    """
    From every call, in every order and both ways, going on leaves out nothing and repeats nothing.
    """
    money = {"currency": "USD"} if order == "cost" else {}
    store.write([call(n, **money, **{order: value}) for n, value in enumerate(SORTED[order])])
    asked: dict[str, Any] = {"order": order, "descending": descending}

    whole = store.calls(ALL, **asked)

    assert len(whole) == 12
    for here, record in enumerate(whole):
        place = (getattr(record, order), record.id)
        behind = store.calls(ALL, limit=4, after=place, **asked)
        before = store.calls(ALL, limit=4, after=place, backwards=True, **asked)
        assert (before, behind) == (whole[max(0, here - 4) : here], whole[here + 1 :][:4])
    assert store.calls(ALL, limit=4, backwards=True, **asked) == whole[-4:]
    assert store.calls(ALL, limit=4, offset=3, backwards=True, **asked) == whole[5:9]


def test_a_place_where_no_call_stands(store: Store) -> None:
    """
    Going on behind a call that has gone meanwhile misses none of the others.
    """
    store.write([call(n, input_tokens=n) for n in (1, 2, 3)])

    found = store.calls(ALL, after=(2, call(2).id + "0"), order="input_tokens", descending=False)

    assert [record.input_tokens for record in found] == [3]


@pytest.mark.parametrize(
    "asked",
    [
        {"order": "request_content"},
        {"order": "id; DROP TABLE ai_call_records"},
        {"order": "cost", "after": (NOON, "x")},
        {"order": "cost", "after": (0.5, "x")},
        {"order": "started_at", "after": (None, "x")},
        {"order": "started_at", "after": (NOON.replace(tzinfo=None), "x")},
        {"order": "retries", "after": (True, "x")},
        {"order": "retries", "after": (1.5, "x")},
        {"order": "retries", "after": (2**63, "x")},
        {"order": "duration_ms", "after": (float("nan"), "x")},
        {"order": "cost", "after": (Decimal("Infinity"), "x")},
    ],
)
def test_a_page_that_cannot_be(store: Store, asked: dict[str, Any]) -> None:
    """
    An order outside the list, or a place that no call has in it, is refused by name.
    """
    with pytest.raises(InvalidValue, match=r"order|after"):
        store.calls(ALL, **asked)


def test_scan_in_batches(store: Store) -> None:
    """
    A scan brings all calls, oldest first, in batches of at most the size asked for.
    """
    store.write(list(reversed(MANY)))

    batches = list(store.scan(ALL, batch_size=25))

    assert [len(batch) for batch in batches] == [25, 25, 10]
    assert [record for batch in batches for record in batch] == MANY


def test_scope_is_a_wall(store: Store) -> None:
    """
    Nothing of another organisation, or of none, is seen, changed or counted.
    """
    ours, theirs, nobodys = call(1, org_id="a"), call(2, org_id="b"), call(3)
    store.write([ours, theirs, nobodys])
    mine = Query.build(scope="a")

    assert stored(store, mine) == [ours]
    assert store.calls(mine) == [ours]
    assert store.call("a", theirs.id) is None
    assert store.call("a", nobodys.id) is None
    assert store.call("a", ours.id) == ours
    assert stored(store, Query.build(scope="a", where={"org_id": "b"})) == []
    assert store.aggregate(Query.build(scope="a", where={"org_id": "b"})) == []
    assert [group.totals.calls for group in store.aggregate(mine)] == [1]
    assert store.delete(mine, at=NOON) == 1
    assert store.forget(mine) == 1
    assert stored(store) == [theirs, nobodys]


def test_delete_and_restore(store: Store) -> None:
    """
    A deleted call leaves lists and totals, can be asked for, and comes back whole.
    """
    store.write(MANY)
    some = Query.build(scope=None, where={"user_id": "u"})
    gone = Query.build(scope=None, deleted=True)
    before = sorted_groups(store.aggregate(ALL, ("request_model",)))
    meant = [record for record in MANY if record.user_id == "u"]

    assert store.delete(some, at=NOON) == len(meant)
    assert store.delete(some, at=NOON) == 0
    assert stored(store, gone) == [record.replace(deleted_at=NOON) for record in meant]
    assert stored(store) == [record for record in MANY if record.user_id != "u"]
    assert store.call(None, meant[0].id) == meant[0].replace(deleted_at=NOON)
    assert sum(group.totals.calls for group in store.aggregate(ALL)) == len(MANY) - len(meant)
    assert sum(group.totals.calls for group in store.aggregate(gone)) == len(meant)
    store.write(meant)
    assert stored(store, some) == []

    later = NOON + timedelta(microseconds=1)
    rest = Query.build(scope=None, where={"id": [r.id for r in MANY if r not in meant][:1]})
    assert store.delete(rest, at=later) == 1
    assert store.restore(Query.build(scope=None, deleted_at=later)) == 1
    assert stored(store, gone) == [record.replace(deleted_at=NOON) for record in meant]

    assert store.restore(gone) == len(meant)
    assert stored(store) == MANY
    assert sorted_groups(store.aggregate(ALL, ("request_model",))) == before


def test_forget(store: Store) -> None:
    """
    Content and identity go, of deleted calls as well; numbers stay.
    """
    kept = call(2, user_id="other", tags={"k": "v"}, request_content="mine")
    store.write([FULL, kept, call(3, user_id="user", input_tokens=5, org_id="org")])
    store.delete(Query.build(scope=None, where={"id": call(3).id}), at=NOON)

    assert store.forget(Query.build(scope=None, where={"user_id": "user"})) == 2

    bare = FULL.replace(
        user_id=None,
        device_id=None,
        session_id=None,
        reference_id=None,
        response_id=None,
        error_message=None,
        tags={},
        request_content=None,
        response_content=None,
    )
    assert stored(store) == [bare, kept]
    assert store.call(None, call(3).id) == call(3, input_tokens=5, org_id="org", deleted_at=NOON)
    assert sorted_groups(store.aggregate(ALL, ("user_id",))) == sorted_groups(
        group_records([bare, kept], ("user_id",), ())
    )


def change(record: CallRecord, cost: str | None, currency: str | None = "USD") -> CostChange:
    return CostChange(
        call_id=record.id,
        corrected_at=NOON,
        old_cost=record.cost,
        old_currency=record.currency,
        old_price_id=record.price_id,
        cost=None if cost is None else Decimal(cost),
        currency=currency,
        price_id="new",
    )


def test_correct_costs(store: Store) -> None:
    """
    A correction changes cost and totals once, and the old cost can be seen.
    """
    unpriced = call(1, request_model="m", org_id="a")
    priced = call(2, request_model="m", cost=Decimal(2), currency="CNY", price_id="old")
    store.write([unpriced, priced])
    changes = [change(unpriced, "0.5"), change(priced, "3")]

    assert store.correct_costs(changes) == 2
    assert store.correct_costs(changes) == 0

    corrected = [
        unpriced.replace(cost=Decimal("0.5"), currency="USD", price_id="new"),
        priced.replace(cost=Decimal(3), currency="USD", price_id="new"),
    ]
    assert stored(store) == corrected
    assert store.aggregate(ALL) == group_records(corrected, (), ())
    assert store.corrections(None, priced.id) == [changes[1]]
    assert store.corrections("a", unpriced.id) == [changes[0]]
    assert store.corrections("b", unpriced.id) == []
    assert store.corrections(None, "nobody") == []


def test_corrections_in_a_row(store: Store) -> None:
    """
    Several corrections of one call follow each other, oldest first; a stale one changes nothing.
    """
    first = call(1)
    store.write([first])
    second = first.replace(cost=Decimal(1), currency="USD", price_id="new")

    assert store.correct_costs([change(first, "1"), change(second, None, None)]) == 2
    assert store.correct_costs([change(second, "5")]) == 0

    assert store.corrections(None, first.id) == [change(first, "1"), change(second, None, None)]
    assert stored(store) == [first.replace(price_id="new")]


EDGES = [
    pytest.param((NOON, NOON + timedelta(days=1)), id="one interval"),
    pytest.param(
        tuple(datetime(2026, 1, 30, 18, 30, tzinfo=UTC) + timedelta(days=n) for n in range(5)),
        id="days of a half-hour zone",
    ),
    pytest.param(
        tuple(datetime(2026, 1, 31, 16, tzinfo=UTC) + timedelta(days=n) for n in range(4)),
        id="days of a whole-hour zone",
    ),
    pytest.param(
        tuple(datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3)), id="months in UTC"
    ),
    pytest.param(
        tuple(NOON + timedelta(minutes=7 * n, microseconds=1) for n in range(20)),
        id="odd intervals",
    ),
]
SPREAD = [
    record.replace(started_at=NOON + timedelta(minutes=37 * number, microseconds=number))
    for number, record in enumerate(MANY)
]


@pytest.mark.parametrize("edges", EDGES)
def test_intervals(store: Store, edges: tuple[datetime, ...]) -> None:
    """
    Intervals between any edges, with and without groups and bounds, hold what started in them.
    """
    store.write(SPREAD)
    bounded = {"since": NOON + timedelta(hours=5), "until": NOON + timedelta(hours=30, minutes=1)}
    for asked in ({}, bounded, {"where": {"user_id": ["u", None]}}, {"where": {"tags.k": "v"}}):
        query = Query.build(scope=None, **asked)
        for by in ((), ("request_model",), ("user_id",), ("org_id",)):
            assert sorted_groups(store.aggregate(query, by, edges)) == sorted_groups(
                group_records(stored(store, query), by, edges)
            )


def test_an_hour_that_is_struck_twice(store: Store) -> None:
    """
    Both of its instants are told apart, whichever was asked for first.
    """
    berlin = ZoneInfo("Europe/Berlin")
    first, again = (datetime(2026, 10, 25, 2, tzinfo=berlin, fold=fold) for fold in (0, 1))
    end = datetime(2026, 10, 25, 3, tzinfo=berlin)
    minutes = (30, 90, 100)
    midnight = datetime(2026, 10, 25, tzinfo=UTC)
    store.write(
        [call(n, started_at=midnight + timedelta(minutes=m)) for n, m in enumerate(minutes)]
    )

    def counted(since: datetime, edges: tuple[datetime, ...] = ()) -> list[int]:
        query = Query.build(scope=None, since=since, until=end)
        return [group.totals.calls for group in store.aggregate(query, (), edges)]

    assert [counted(first), counted(again)] == [[3], [2]]
    assert [counted(first, (first, end)), counted(first, (again, end))] == [[3], [2]]
    assert counted(first, (first, again, end)) == [1, 2]


@pytest.mark.parametrize(
    "where",
    [
        {"input_tokens": [[1]]},
        {"input_tokens": "many"},
        {"cost": [Decimal("sNaN")]},
        {"input_tokens": Between(Decimal("sNaN"))},
        {"input_tokens": Between(below=[1])},
        {"input_tokens": True},
        {"streamed": [["yes"]]},
        {"user_id": [["u"]]},
    ],
    ids=str,
)
def test_values_that_no_field_has(where: dict[str, Any]) -> None:
    """
    They are refused by name, before any store is asked.
    """
    with pytest.raises(InvalidValue, match=next(iter(where))):
        Query.build(scope=None, where=where)


def test_an_empty_store(store: Store) -> None:
    """
    A store without calls answers everything with nothing.
    """
    assert stored(store) == []
    assert store.calls(ALL) == []
    assert store.call(None, "x") is None
    assert store.aggregate(ALL, ("user_id",), (NOON, NOON + timedelta(days=1))) == []
    assert store.delete(ALL, at=NOON) == 0
    assert store.restore(ALL) == 0
    assert store.forget(ALL) == 0
    assert store.correct_costs([]) == 0
    store.write([])


texts = st.sampled_from([None, "", "a", "A", "a ", "\\", "\\a", "ä", "'"])
records = st.builds(
    call,
    st.integers(0, 12),
    started_at=st.datetimes(
        datetime(2026, 1, 30, 20), datetime(2026, 2, 2, 4), timezones=st.just(UTC)
    ),
    status=st.sampled_from(STATUSES),
    duration_ms=st.none() | st.floats(0, 1e7),
    time_to_first_token_ms=st.none() | st.floats(0, 1e5),
    input_tokens=st.none() | st.integers(0, 10**9),
    output_tokens=st.none() | st.integers(0, 10**9),
    usage_source=st.sampled_from(USAGE_SOURCES),
    cost=st.none() | st.decimals(0, 1000, places=9),
    currency=st.sampled_from([None, "USD", "CNY"]),
    request_model=texts,
    provider=texts,
    function=texts,
    user_id=texts,
    org_id=texts,
    retries=st.integers(0, 3),
    tags=st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["", "v"]), max_size=2),
)
queries = st.builds(
    Query.build,
    scope=st.none() | st.sampled_from(["", "a", "A"]),
    since=st.none() | st.just(datetime(2026, 1, 31, 3, 30, tzinfo=UTC)),
    where=st.none() | st.fixed_dictionaries({"user_id": texts}),
    deleted=st.booleans(),
)
steps = st.one_of(
    st.tuples(st.just("write"), st.lists(records, max_size=8)),
    st.tuples(st.sampled_from(["delete", "restore", "forget"]), queries),
    st.tuples(
        st.just("correct"),
        st.lists(
            st.tuples(st.integers(0, 12), st.none() | st.decimals(0, 9, places=9)), max_size=4
        ),
    ),
)


def apply(store: Store, step: tuple[str, Any]) -> object:
    """Do one step to *store*, and say what came of it."""
    kind, what = step
    if kind == "write":
        return store.write(what)
    if kind == "delete":
        return store.delete(what, at=NOON)
    if kind in ("restore", "forget"):
        return getattr(store, kind)(what)
    changes: list[CostChange] = []
    for number, cost in dict(what).items():
        known = store.call(None, call(number).id)
        if known is not None:
            changes.append(change(known, None if cost is None else str(cost)))
    return store.correct_costs(changes)


@pytest.mark.parametrize(
    "kind",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def test_totals_equal_rows(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """
    After any writes, deletes, restorations, erasures and corrections, totals equal the rows.
    """
    from tests.databases import empty

    if kind != "sqlite":
        url = request.getfixturevalue("postgres" if kind == "postgresql" else "mariadb")
    rounds = iter(range(10_000))

    @settings(
        max_examples=30 if kind == "sqlite" else 10,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(steps, max_size=8))
    def follow(script: list[tuple[str, Any]]) -> None:
        if kind == "sqlite":
            address = f"sqlite:///{tmp_path}/{next(rounds)}.db"
        else:
            empty(url)
            address = url
        store, memory = open_sink(address), MemorySink()
        assert isinstance(store, Store)
        try:
            for step in script:
                assert apply(store, step) == apply(memory, step)
            compare(store, memory)
        finally:
            store.close()

    follow()


def compare(store: Store, memory: Store) -> None:
    """Both hold the same calls, and answer the same from totals as from rows."""
    half_hours = tuple(datetime(2026, 1, 30, 18, 30, tzinfo=UTC) + timedelta(n) for n in range(4))
    for deleted in (False, True):
        everything = Query.build(scope=None, deleted=deleted)
        assert stored(store, everything) == stored(memory, everything)
    for scope in (None, "", "a"):
        query = Query.build(scope=scope)
        rows = stored(store, query)
        for by in ((), ("request_model",), ("function",), ("user_id",), ("org_id",), ("tags.k",)):
            for edges in ((), half_hours):
                assert sorted_groups(store.aggregate(query, by, edges)) == sorted_groups(
                    group_records(rows, by, edges)
                )


def test_the_days_of_a_range_add_up_to_the_range(store: Store) -> None:
    """
    The totals of neighbouring intervals add up to those of the whole.
    """
    store.write(SPREAD)
    edges = tuple(NOON + timedelta(hours=5 * n, minutes=13) for n in range(8))
    parts = store.aggregate(ALL, (), edges)
    whole = store.aggregate(ALL, (), (edges[0], edges[-1]))

    total = whole[0].totals
    for group in parts[1:]:
        parts[0].totals.add(group.totals)

    assert parts[0].totals == total
    assert total.calls == sum(edges[0] <= record.started_at < edges[-1] for record in SPREAD)
    assert all(low < high for low, high in pairwise(edges))
