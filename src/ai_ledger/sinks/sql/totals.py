"""Reading the kept totals: which of them answer a question, and what they say."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import key_of, value_of_key
from ai_ledger.database.tables.calls import TOTAL_NUMBERS, totals
from ai_ledger.query import AnyOf, Query
from ai_ledger.records import STATUSES
from ai_ledger.sinks.sql.cells import DIMENSIONS, GRAINS, OVERALL, durations_of
from ai_ledger.sinks.sql.conditions import MAX_VALUES
from ai_ledger.totals import Group, Totals

_WIDTH: Final = len(TOTAL_NUMBERS)
_FIRST_STATUS: Final = TOTAL_NUMBERS.index(f"{STATUSES[0]}_calls")
_COST: Final = TOTAL_NUMBERS.index("cost_nano")
_PLAIN: Final = tuple(
    (place, name)
    for place, name in enumerate(TOTAL_NUMBERS)
    if name in Totals.__struct_fields__ and name != "cost_nano"
)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


class Answer:
    """The groups of an aggregate, put together from several readings."""

    def __init__(self) -> None:
        self._groups: dict[tuple[tuple[str | None, ...], int], Totals] = {}

    def add(
        self, key: tuple[str | None, ...], interval: int, currency: str, numbers: Sequence[Any]
    ) -> None:
        """Count *numbers*, in the order of `schema.TOTAL_NUMBERS`, into one group."""
        if not numbers[0]:
            return
        found = self._group(key, interval)
        for place, name in _PLAIN:
            if numbers[place]:
                setattr(found, name, getattr(found, name) + int(numbers[place]))
        for status, calls in zip(STATUSES, numbers[_FIRST_STATUS:], strict=False):
            if calls:
                found.statuses[status] = found.statuses.get(status, 0) + int(calls)
        if currency:
            found.cost_nano[currency] = found.cost_nano.get(currency, 0) + int(numbers[_COST])

    def add_duration(
        self, key: tuple[str | None, ...], interval: int, bucket: int, calls: int
    ) -> None:
        """Count *calls* in a bucket of durations."""
        durations = self._group(key, interval).durations
        durations[bucket] = durations.get(bucket, 0) + calls

    def add_durations(self, key: tuple[str | None, ...], interval: int, text: str) -> None:
        """Count the durations of a row of totals."""
        found = self._group(key, interval)
        if not found.durations:
            found.durations = durations_of(text)
            return
        for bucket, calls in durations_of(text).items():
            found.durations[bucket] = found.durations.get(bucket, 0) + calls

    def groups(self) -> list[Group]:
        """Every group that has calls."""
        found: list[Group] = []
        for (key, interval), sums in self._groups.items():
            if not all(sums.durations.values()):
                sums.durations = {bucket: n for bucket, n in sums.durations.items() if n}
            found.append(Group(key=key, interval=interval, totals=sums))
        return found

    def _group(self, key: tuple[str | None, ...], interval: int) -> Totals:
        found = self._groups.get((key, interval))
        if found is None:
            found = self._groups[key, interval] = Totals()
        return found


class Span(msgspec.Struct, frozen=True):
    """Whole months, days or hours, from one period to before another."""

    grain: str
    since: str
    until: str


class Plan(msgspec.Struct, kw_only=True):
    """How to answer an aggregate: totals for whole periods, rows for what sticks out."""

    dimension: str
    group: str | None
    """The column that is grouped by: ``value`` of the dimension, ``org_id``, or none."""
    values: tuple[str, ...] | None
    """Keys to which the dimension is confined."""
    starts: list[datetime]
    """Where the intervals start, for finding that of a period."""
    intervals: list[int]
    """Their indexes among those that were asked for."""
    spans: list[Span] = msgspec.field(default_factory=list[Span])
    rest: list[tuple[datetime | None, datetime | None, int]] = msgspec.field(
        default_factory=list[tuple[datetime | None, datetime | None, int]]
    )


def plan(query: Query, by: tuple[str, ...], edges: tuple[datetime, ...]) -> Plan | None:
    """
    How kept totals answer the question, or ``None`` when they do not.

    They do when at most one field that totals are kept by takes part, for
    grouping, as a list of wanted values, or both; or the organisation, for grouping.
    """
    fields = {*by, *(field for field, _ in query.where)}
    if query.deleted or len(fields) > 1 or len(by) > 1 or len(query.where) > 1:
        return None
    if query.where and "org_id" in fields:
        return None
    by_org = by == ("org_id",)
    dimension = fields.pop() if fields and not by_org else OVERALL
    values: tuple[str, ...] | None = None
    for _, condition in query.where:
        if not isinstance(condition, AnyOf) or len(condition.values) > MAX_VALUES:
            return None
        if not all(value is None or isinstance(value, str) for value in condition.values):
            return None
        values = tuple(key_of(each) for each in condition.values)
    if dimension not in DIMENSIONS:
        return None
    intervals = _bounded(query, edges)
    found = Plan(
        dimension=dimension,
        group="org_id" if by_org else "value" if by else None,
        values=values,
        starts=[since for since, _, _ in intervals],
        intervals=[interval for _, _, interval in intervals],
    )
    for since, until, interval in intervals:
        _cover(found, since, until, interval)
    found.spans = _joined(found.spans)
    return found


# Bounds that no call lies outside of, far enough from the ends of what a
# datetime can hold to be rounded to a month.
_EARLIEST: Final = datetime(1, 2, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 1, tzinfo=UTC)


def _bounded(query: Query, edges: tuple[datetime, ...]) -> list[tuple[datetime, datetime, int]]:
    since = query.since.astimezone(UTC) if query.since else _EARLIEST
    until = query.until.astimezone(UTC) if query.until else _LATEST
    if len(edges) < 2:
        return [(since, until, 0)] if since < until else []
    moments = [edge.astimezone(UTC) for edge in edges]
    return [
        (max(low, since), min(high, until), interval)
        for interval, (low, high) in enumerate(pairwise(moments))
        if max(low, since) < min(high, until)
    ]


def _cover(found: Plan, since: datetime, until: datetime, interval: int) -> None:
    """Split an interval into rows, hours, days, months, days, hours and rows."""
    grains = GRAINS[found.dimension]
    low, high = _ceiling(since, grains[0]), _floor(until, grains[0])
    if low >= high:
        found.rest.append((since, until, interval))
        return
    if since < low:
        found.rest.append((since, low, interval))
    if high < until:
        found.rest.append((high, until, interval))
    for grain, wider in zip(grains, (*grains[1:], None), strict=True):
        if wider is None or _ceiling(low, wider) >= _floor(high, wider):
            _span(found, grain, low, high)
            return
        inner_low, inner_high = _ceiling(low, wider), _floor(high, wider)
        _span(found, grain, low, inner_low)
        _span(found, grain, inner_high, high)
        low, high = inner_low, inner_high


def _span(found: Plan, grain: str, low: datetime, high: datetime) -> None:
    if low < high:
        found.spans.append(Span(grain, _period(grain, low), _period(grain, high)))


def _floor(moment: datetime, grain: str) -> datetime:
    moment = moment.replace(minute=0, second=0, microsecond=0)
    if grain == "h":
        return moment
    moment = moment.replace(hour=0)
    return moment if grain == "d" else moment.replace(day=1)


def _ceiling(moment: datetime, grain: str) -> datetime:
    low = _floor(moment, grain)
    if low == moment:
        return moment
    if grain == "h":
        return low + _HOUR
    return low + _DAY if grain == "d" else _floor(low + 31 * _DAY, "m")


_LENGTH: Final = {"m": 7, "d": 10, "h": 13}


def _period(grain: str, moment: datetime) -> str:
    return moment.isoformat()[: _LENGTH[grain]]


def _moment(period: str) -> datetime:
    year, month, day, hour = period[:4], period[5:7], period[8:10] or "1", period[11:13] or "0"
    return datetime(int(year), int(month), int(day), int(hour), tzinfo=UTC)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """The same spans in order, those that touch as one."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.grain, each.since)):
        if joined and (joined[-1].grain, joined[-1].until) == (span.grain, span.since):
            span = Span(span.grain, joined.pop().since, span.until)
        joined.append(span)
    return joined


_t = totals.c
_SUMS: Final = tuple(sa.func.sum(_t[name]) for name in TOTAL_NUMBERS)


def sums_of_totals(connection: Connection, query: Query, planned: Plan, answer: Answer) -> None:
    """Add to *answer* what the totals say about the whole periods of *planned*."""
    several = len(planned.starts) > 1
    keys = [*([_t.period] if several else []), *([_t[planned.group]] if planned.group else [])]
    if connection.dialect.name == "postgresql":
        joined = sa.func.string_agg(_t.durations, "")
    elif connection.dialect.name == "sqlite":
        joined = sa.func.group_concat(_t.durations, "")
    else:
        joined = sa.func.group_concat(_t.durations.op("SEPARATOR")(sa.text("''")))
    statement = sa.select(*keys, _t.currency, *_SUMS, joined).group_by(*keys, _t.currency)
    if query.scope is not None:
        statement = statement.where(_t.org_id == key_of(query.scope))
    if planned.values is not None:
        statement = statement.where(_t.value.in_(planned.values))
    statement = statement.where(_t.dimension == planned.dimension)
    for span in planned.spans:
        found = connection.execute(
            statement.where(_t.grain == span.grain, _t.period >= span.since, _t.period < span.until)
        )
        for row in found:
            interval = planned.intervals[0]
            place = 0
            if several:
                interval = planned.intervals[bisect_right(planned.starts, _moment(row[0])) - 1]
                place = 1
            key: tuple[str | None, ...] = ()
            if planned.group:
                key = (value_of_key(row[place]),)
                place += 1
            numbers = row[place + 1 : place + 1 + _WIDTH]
            answer.add(key, interval, row[place], numbers)
            if numbers[0] and row[-1]:
                answer.add_durations(key, interval, row[-1])
