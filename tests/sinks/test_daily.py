"""Days of any zone, and the newest calls, are told from totals as the rows would tell them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from tests.databases import EACH, ledger_of

from ai_ledger.errors import InvalidValue
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.daily import covers
from ai_ledger.stats.calendar import day_edges
from ai_ledger.totals import group_records

FIRST = date(2026, 3, 25)
"""Some days before the clocks of London change."""


def _calls() -> list[CallRecord]:
    chance = random.Random(7)
    start = datetime(2026, 3, 24, tzinfo=UTC)
    return [
        CallRecord(
            id=f"c-{number:04}",
            started_at=start + timedelta(minutes=chance.randrange(8 * 24 * 60)),
            status=chance.choice(["success", "success", "failed", "timeout"]),
            duration_ms=10.0,
            request_model=chance.choice(["one", "two", None, "\\odd"]),
            function="rare" if number == 17 else chance.choice(["f", "g"]),
            org_id=chance.choice(["acme", "globex", None]),
            cost=None if number % 5 == 0 else Decimal(number) / 1000,
            currency=None if number % 5 == 0 else chance.choice(["CNY", "USD"]),
            usage_source="reported",
        )
        for number in range(600)
    ]


CALLS = _calls()


@pytest.fixture(scope="module", params=EACH)
def sink(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SQLSink]:
    """A store with the calls, some of which were deleted."""

    with ledger_of(request.param, tmp_path_factory.mktemp("daily")) as url:
        sink = SQLSink(url)
        sink.write(CALLS)
        sink.delete(
            Query.build(scope=None, where={"id": ["c-0003", "c-0004"]}), at=CALLS[0].started_at
        )
        yield sink
        sink.close()


KEPT = [call for call in CALLS if call.id not in ("c-0003", "c-0004")]


@pytest.mark.parametrize("scope", [None, "acme"])
@pytest.mark.parametrize(
    ("zone", "covered"),
    [
        ("UTC", True),
        ("Asia/Shanghai", True),
        ("America/New_York", True),
        ("Europe/London", True),
        ("Pacific/Kiritimati", True),
        ("Pacific/Pago_Pago", True),
        ("Asia/Kolkata", False),
    ],
)
def test_days_of_a_zone_are_the_sums_of_their_calls(
    sink: SQLSink, zone: str, covered: bool, scope: str | None
) -> None:
    """
    Calls, statuses and costs by model; also on days on which the clocks change.
    """
    edges = day_edges(FIRST, 6, ZoneInfo(zone))
    query = Query.build(scope=scope, since=edges[0], until=edges[-1])
    calls = [call for call in KEPT if scope in (None, call.org_id)]

    found = sink.daily(query, "request_model", edges)

    assert covers(query, "request_model", edges) is covered
    assert {
        (each.key, each.interval): (
            each.totals.calls,
            each.totals.statuses,
            {code: nano for code, nano in each.totals.cost_nano.items() if nano},
        )
        for each in found
    } == {
        (each.key, each.interval): (
            each.totals.calls,
            each.totals.statuses,
            {code: nano for code, nano in each.totals.cost_nano.items() if nano},
        )
        for each in group_records(calls, ("request_model",), edges)
    }


@pytest.mark.parametrize("scope", [None, "acme"])
@pytest.mark.parametrize("at_once", [500, 1])
def test_the_newest_call_of_each_value(
    sink: SQLSink, scope: str | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whether it is among the newest calls of all, or has to be looked for.
    """
    monkeypatch.setattr("ai_ledger.sinks.sql.latest._AT_ONCE", at_once)
    since, until = datetime(2026, 3, 25, tzinfo=UTC), datetime(2026, 3, 31, 12, tzinfo=UTC)
    query = Query.build(scope=scope, since=since, until=until)
    calls = [
        call for call in KEPT if since <= call.started_at < until and scope in (None, call.org_id)
    ]

    for field, values in (
        ("request_model", ["one", "two", None, "\\odd", "never"]),
        ("function", ["f", "g", "rare", None]),
    ):
        expected = {}
        for value in values:
            mine = [call for call in calls if getattr(call, field) == value]
            if mine:
                newest = max(mine, key=lambda call: (call.started_at, call.id))
                expected[value] = (newest.id, newest.started_at, newest.status)
        assert {
            value: (each.call_id, each.started_at, each.status)
            for value, each in sink.latest(query, field, values).items()
        } == expected


def test_the_newest_call_is_told_of_fields_with_totals_alone(sink: SQLSink) -> None:
    """
    Another field, a condition or too many values are refused, not answered slowly.
    """
    query = Query.build(scope=None)

    with pytest.raises(InvalidValue):
        sink.latest(query, "session_id", ["s"])
    with pytest.raises(InvalidValue):
        sink.latest(Query.build(scope=None, where={"status": "failed"}), "function", ["f"])
    with pytest.raises(InvalidValue):
        sink.latest(query, "function", [str(n) for n in range(101)])
