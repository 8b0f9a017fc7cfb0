"""Reading the kept totals: which of them answer a question, and what they say."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.engine import Connection

from ai_ledger.bounds import key_of, value_of_key
from ai_ledger.database.tables.calls import TOTAL_NUMBERS, totals
from ai_ledger.query import AnyOf, Condition, Query
from ai_ledger.records import STATUSES
from ai_ledger.sinks.sql.cells import DIMENSIONS, GRAINS, OVERALL, durations_of
from ai_ledger.sinks.sql.conditions import MAX_VALUES
from ai_ledger.totals import Group, Totals

NARROW: Final = (
    "calls",
    "success_calls",
    "input_tokens",
    "output_tokens",
    "cost_nano",
    "unpriced_calls",
)
"""What a list of costs shows: of the numbers of a cell, those few."""
_WIDTH: Final = len(TOTAL_NUMBERS)
_FIRST_STATUS: Final = TOTAL_NUMBERS.index(f"{STATUSES[0]}_calls")
_COST: Final = TOTAL_NUMBERS.index("cost_nano")
_PLAIN: Final = tuple(
    (place, name)
    for place, name in enumerate(TOTAL_NUMBERS)
    if name in Totals.__struct_fields__ and name != "cost_nano"
)
_CROWDED: Final = frozenset(("user_id",))
"""Fields that have thousands of values."""
_MAX_ORGS: Final = 200
_MAX_KEYS: Final = 10_000
"""So many totals are looked up one by one rather than to be found in a range."""
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_SHORTEST: Final = {"h": _HOUR, "d": _DAY, "m": 28 * _DAY}


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

    def add_narrow(
        self, key: tuple[str | None, ...], interval: int, currency: str, numbers: Sequence[Any]
    ) -> None:
        """Count *numbers*, in the order of `NARROW`, into one group."""
        calls, succeeded, tokens_in, tokens_out, cost, unpriced = map(int, numbers)
        if not calls:
            return
        found = self._group(key, interval)
        found.calls += calls
        found.input_tokens += tokens_in
        found.output_tokens += tokens_out
        found.unpriced_calls += unpriced
        if succeeded:
            found.statuses["success"] = found.statuses.get("success", 0) + succeeded
        if currency:
            found.cost_nano[currency] = found.cost_nano.get(currency, 0) + cost

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
    orgs: tuple[str, ...] | None
    """Keys of the organisations that are meant, beside the scope of the question."""
    starts: list[datetime]
    """Where the intervals start, for finding that of a period."""
    intervals: list[int]
    """Their indexes among those that were asked for."""
    spans: list[Span] = msgspec.field(default_factory=list[Span])
    rest: list[tuple[datetime | None, datetime | None, int]] = msgspec.field(
        default_factory=list[tuple[datetime | None, datetime | None, int]]
    )


# A page asks for the same days of several budgets, and again every half minute.
@lru_cache(maxsize=256)
def plan(query: Query, by: tuple[str, ...], edges: tuple[datetime, ...]) -> Plan | None:
    """
    How kept totals answer the question, or ``None`` when they do not.

    They do when at most one field that totals are kept by takes part, for
    grouping, as a list of wanted values, or both. Every total is of one organisation,
    so that organisations may be wanted beside it, or be what is grouped by. Nobody
    changes a plan, since the next who asks is given the same one.
    """
    if query.deleted or len(by) > 1:
        return None
    wanted: dict[str, tuple[str, ...]] = {}
    for field, condition in query.where:
        keys = _keys(condition)
        # Of two conditions on one field the totals know nothing.
        if keys is None or field in wanted:
            return None
        wanted[field] = keys
    orgs = wanted.pop("org_id", None)
    by_org = by == ("org_id",)
    fields = {*wanted, *(() if by_org else by)}
    if len(fields) > 1:
        return None
    dimension = fields.pop() if fields else OVERALL
    if dimension not in DIMENSIONS:
        return None
    intervals = _bounded(query, edges)
    found = Plan(
        dimension=dimension,
        group="org_id" if by_org else "value" if by else None,
        values=wanted.get(dimension),
        orgs=orgs,
        starts=[since for since, _, _ in intervals],
        intervals=[interval for _, _, interval in intervals],
    )
    for since, until, interval in intervals:
        _cover(found, since, until, interval)
    found.spans = _joined(found.spans)
    return found


def _keys(condition: Condition) -> tuple[str, ...] | None:
    """The keys that a list of texts stands for; ``None`` for another condition."""
    if not isinstance(condition, AnyOf) or len(condition.values) > MAX_VALUES:
        return None
    found: list[str] = []
    for value in condition.values:
        if value is not None and not isinstance(value, str):
            return None
        found.append(key_of(value))
    return tuple(found)


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


def narrowed(numbers: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Of *numbers*, in the order of `schema.TOTAL_NUMBERS`, those of `NARROW`, in its order."""
    return [numbers[TOTAL_NUMBERS.index(name)] for name in NARROW]


def sums_of_totals(
    connection: Connection, query: Query, planned: Plan, answer: Answer, *, narrow: bool = False
) -> None:
    """
    Add to *answer* what the totals say about the whole periods of *planned*.

    Args:
        connection: To read on.
        query: The question.
        planned: How it is answered.
        answer: What is added to.
        narrow: Nothing but `NARROW`, which is read several times faster.
    """
    several = len(planned.starts) > 1
    keys = [*([_t.period] if several else []), *([_t[planned.group]] if planned.group else [])]
    sums = narrowed(_SUMS) if narrow else [*_SUMS, _joined_durations(connection.dialect.name)]
    orgs = _orgs(connection, query, planned)
    statement = (
        sa.select(*keys, _t.currency, *sums)
        .where(*_meant(planned, orgs))
        .group_by(*keys, _t.currency)
    )
    intervals: dict[str, int] = {}
    first = planned.intervals[0] if planned.intervals else 0
    place = len(keys)
    for span in planned.spans:
        where = (_t.grain == span.grain, *_in_span(span, planned, orgs))
        for row in connection.execute(statement.where(*where)):
            interval = first
            if several:
                found = intervals.get(row[0])
                if found is None:
                    at = bisect_right(planned.starts, _moment(row[0])) - 1
                    found = intervals[row[0]] = planned.intervals[at]
                interval = found
            key = (value_of_key(row[place - 1]),) if planned.group else ()
            if narrow:
                answer.add_narrow(key, interval, row[place], row[place + 1 :])
                continue
            numbers = row[place + 1 : place + 1 + _WIDTH]
            answer.add(key, interval, row[place], numbers)
            if numbers[0] and row[-1]:
                answer.add_durations(key, interval, row[-1])


def costs_in_totals(connection: Connection, query: Query, planned: Plan) -> sa.Select[Any]:
    """
    The numbers of `NARROW` by key and currency, for one interval without a rest.

    Columns: ``key``, ``money``, which is empty for none, and the numbers by their names.

    Args:
        connection: On which it will be asked.
        query: The question.
        planned: How it is answered.
    """
    orgs = _orgs(connection, query, planned)
    names = [
        (_t[planned.group or "value"]).label("key"),
        _t.currency.label("money"),
        *(_t[name] for name in NARROW),
    ]
    meant = _meant(planned, orgs)
    cells = sa.union_all(
        *(
            sa.select(*names).where(*meant, _t.grain == span.grain, *_in_span(span, planned, orgs))
            for span in planned.spans
        )
    ).subquery("cells")
    return (
        sa.select(
            cells.c.key,
            cells.c.money,
            *(sa.func.sum(cells.c[name]).label(name) for name in NARROW),
        )
        .group_by(cells.c.key, cells.c.money)
        .having(sa.func.sum(cells.c.calls) > 0)
    )


def _meant(planned: Plan, orgs: Sequence[str] | None) -> list[ColumnElement[bool]]:
    """What must hold for a total, whatever its time."""
    found = [_t.dimension == planned.dimension]
    if orgs is not None:
        found.append(_t.org_id.in_(orgs))
    if planned.values is not None:
        found.append(_t.value.in_(planned.values))
    return found


def _joined_durations(kind: str) -> ColumnElement[Any]:
    if kind == "postgresql":
        return sa.func.string_agg(_t.durations, "")
    if kind == "sqlite":
        return sa.func.group_concat(_t.durations, "")
    return sa.func.group_concat(_t.durations.op("SEPARATOR")(sa.text("''")))


def _orgs(connection: Connection, query: Query, planned: Plan) -> Sequence[str] | None:
    """
    The keys of the organisations that are meant; ``None`` for all, when they are many.

    With them named, a database reads totals in the order in which they are stored, where
    those of one organisation, field and time lie side by side.
    """
    if query.scope is not None:
        scope = key_of(query.scope)
        return [scope] if planned.orgs is None or scope in planned.orgs else []
    if planned.orgs is not None:
        return planned.orgs
    widest = GRAINS[OVERALL][-1]
    known = (
        sa.select(_t.org_id)
        .where(_t.grain == widest, _t.dimension == OVERALL)
        .distinct()
        .limit(_MAX_ORGS + 1)
    )
    found = connection.execute(known).scalars().all()
    return found if len(found) <= _MAX_ORGS else None


def _in_span(
    span: Span, planned: Plan, orgs: Sequence[str] | None
) -> tuple[ColumnElement[bool], ...]:
    """
    The periods of *span*: as a range, or each by its name.

    By their whole keys a few totals are found among those of many thousand users, all of
    which would have to be read in a range of time.
    """
    if planned.dimension in _CROWDED and planned.values is not None and orgs is not None:
        most = _MAX_KEYS // max(1, len(planned.values) * len(orgs))
        periods = _names(span, most)
        if periods is not None:
            return (_t.period.in_(periods),)
    return (_t.period >= span.since, _t.period < span.until)


def _names(span: Span, most: int) -> list[str] | None:
    """The periods of *span*; ``None`` where they may be more than *most*."""
    moment, until = _moment(span.since), _moment(span.until)
    if (until - moment) / _SHORTEST[span.grain] > most:
        return None
    found: list[str] = []
    while moment < until:
        found.append(_period(span.grain, moment))
        moment = _ceiling(moment + _HOUR, span.grain)
    return found
