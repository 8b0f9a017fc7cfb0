"""Calls and costs over time by one field, read from few totals whatever the time zone is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import key_of, value_of_key
from ai_ledger.database.tables.calls import totals
from ai_ledger.query import Query
from ai_ledger.records import STATUSES
from ai_ledger.sinks.sql.cells import GRAINS
from ai_ledger.totals import Group, Totals

MAX_EDGES: Final = 400
_DAY: Final = timedelta(days=1)
_SHORTEST_DAY: Final = timedelta(hours=23)
_HOURS: Final = 24
_t = totals.c
_NUMBERS: Final = ("calls", "cost_nano", *(f"{status}_calls" for status in STATUSES))
_SUMS: Final = tuple(sa.func.sum(_t[name]) for name in _NUMBERS)

_Cell = tuple[str, str]
"""The key of a value, and a currency."""
_Numbers = list[int]
_ByDay = dict[str, dict[_Cell, _Numbers]]


def covers(query: Query, field: str, edges: Sequence[datetime]) -> bool:
    """Whether `daily_sums` can answer: days that begin on whole hours, a field that has totals."""
    # Of edges so far apart no two lie within one day of UTC, unless one is its beginning.
    return (
        not query.where
        and not query.deleted
        and "h" in GRAINS.get(field, "")
        and 2 <= len(edges) <= MAX_EDGES
        and all(edge.astimezone(UTC) == _hour(edge) for edge in edges)
        and all(end - start >= _SHORTEST_DAY for start, end in pairwise(edges))
    )


def daily_sums(
    connection: Connection, query: Query, field: str, edges: Sequence[datetime]
) -> list[Group]:
    """
    Calls, statuses and costs, and nothing else, by value of *field* and interval.

    A day elsewhere is whole days of UTC, but for its two ends. What lies before an
    end in its day of UTC and what lies behind it are the day together, so that only
    the shorter of the two is read hour by hour: for Shanghai a third of the hours.

    Args:
        connection: For reading; both readings see one moment.
        query: Whose scope counts.
        field: One that totals are kept by, hour by hour.
        edges: As `covers` wants them; ascending.
    """
    moments = [edge.astimezone(UTC) for edge in edges]
    days = _days(connection, query, field, moments[0], moments[-1])
    parts = {moment: _short_side(moment) for moment in moments}
    hours = sorted({each for _, periods in parts.values() for each in periods})
    short = _hours(connection, query, field, hours)
    groups: list[Group] = []
    for interval, (start, end) in enumerate(pairwise(moments)):
        sums: dict[_Cell, _Numbers] = {}
        # Up to the end, less what lies before the start: both from the start's midnight on.
        day = start.replace(hour=0)
        while day < end:
            _add(sums, days.get(_name(day), {}))
            day += _DAY
        for moment, wanted in ((start, "before"), (end, "behind")):
            if moment.hour == 0:
                continue
            name = _name(moment)
            side, _ = parts[moment]
            _add(sums, short.get(name, {}), -1 if side == wanted else 1)
            if side != wanted:
                _add(sums, days.get(name, {}), -1)
        groups += _groups(sums, interval)
    return groups


def _short_side(moment: datetime) -> tuple[str, list[str]]:
    """Which side of *moment* has fewer hours of its day, and their periods."""
    before = moment.hour <= _HOURS // 2
    hours = range(moment.hour) if before else range(moment.hour, _HOURS)
    day = _name(moment)
    return ("before" if before else "behind"), [f"{day}T{hour:02}" for hour in hours]


def _days(
    connection: Connection, query: Query, field: str, since: datetime, until: datetime
) -> _ByDay:
    keys = (_t.period.label("day"), _t.value, _t.currency)
    statement = (
        sa.select(*keys, *_SUMS)
        .where(_t.period >= _name(since), _t.period <= _name(until))
        .group_by(*keys)
    )
    return _read(connection, _confined(statement, query, field, "d"))


def _hours(connection: Connection, query: Query, field: str, periods: Collection[str]) -> _ByDay:
    if not periods:
        return {}
    # In the list of columns alone: PostgreSQL would not know two parameters for the same.
    day = sa.func.substr(_t.period, sa.literal_column("1"), sa.literal_column("10"))
    statement = (
        sa.select(day, _t.value, _t.currency, *_SUMS)
        .where(_t.period.in_(periods))
        .group_by(day, _t.value, _t.currency)
    )
    return _read(connection, _confined(statement, query, field, "h"))


def _confined(statement: Any, query: Query, field: str, grain: str) -> Any:
    statement = statement.where(_t.grain == grain, _t.dimension == field)
    if query.scope is not None:
        statement = statement.where(_t.org_id == key_of(query.scope))
    return statement


def _read(connection: Connection, statement: Any) -> _ByDay:
    found: _ByDay = {}
    rows: list[tuple[Any, ...]] = [tuple(row) for row in connection.execute(statement)]
    for row in rows:
        found.setdefault(row[0], {})[row[1], row[2]] = [int(number) for number in row[3:]]
    return found


def _add(sums: dict[_Cell, _Numbers], more: dict[_Cell, _Numbers], sign: int = 1) -> None:
    for cell, numbers in more.items():
        known = sums.get(cell)
        if known is None:
            known = sums[cell] = [0] * len(_NUMBERS)
        for place, number in enumerate(numbers):
            known[place] += sign * number


def _groups(sums: dict[_Cell, _Numbers], interval: int) -> list[Group]:
    found: dict[str, Totals] = {}
    for (value, currency), (calls, cost, *statuses) in sums.items():
        if not calls:
            continue
        each = found.setdefault(value, Totals())
        each.calls += calls
        if currency:
            each.cost_nano[currency] = each.cost_nano.get(currency, 0) + cost
        for status, count in zip(STATUSES, statuses, strict=True):
            if count:
                each.statuses[status] = each.statuses.get(status, 0) + count
    return [
        Group(key=(value_of_key(value),), interval=interval, totals=each)
        for value, each in found.items()
    ]


def _name(moment: datetime) -> str:
    return moment.date().isoformat()


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
