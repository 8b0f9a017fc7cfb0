"""`Stats`: the questions that people ask of a store."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ai_ledger.errors import InvalidValue
from ai_ledger.query import GROUP_FIELDS, Between, Query, field_name
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.sinks.base import Place, Store
from ai_ledger.stats import calendar
from ai_ledger.stats.convert import Conversion, converted_costs
from ai_ledger.stats.cursors import browsed
from ai_ledger.stats.forecast import HISTORY_DAYS, Forecast, Forecaster
from ai_ledger.stats.rank import Ranking, ranked
from ai_ledger.stats.results import (
    CallDetail,
    CallPage,
    CallSlice,
    Current,
    Figures,
    Group,
    Point,
    Profile,
    Summary,
    Top,
    Trend,
)
from ai_ledger.totals import Totals

if TYPE_CHECKING:
    from ai_ledger.pricing.convert import Rates
    from ai_ledger.pricing.table import PriceTable
    from ai_ledger.stats.advice import Suggestions

Bucket: TypeAlias = Literal["hour", "day", "month"]
Where: TypeAlias = Mapping[str, Any]
By: TypeAlias = str | Sequence[str]
Key: TypeAlias = tuple[str | None, ...]

MAX_PAGE_SIZE: Final = 1000


class Stats:
    """
    Reports over a store, confined to a scope and told in a time zone.

    ``where`` is as in `Query.build`: field → value, a collection of values, ``None``
    (not set), `Between` or `Contains`; aliases and ``tags.<key>`` are accepted. ``by``
    is one field or several: those of `query.GROUP_FIELDS`, aliases, ``tags.<key>``.

    Every method may raise `InvalidValue` for an unknown field, a naive datetime
    or a number out of bounds, and `SinkUnavailable` when the store is away.

    Args:
        store: What is asked.
        scope: The organisation (``org_id``) that every answer is confined to;
            ``None`` for all. It cannot be changed, and no filter can widen it.
        tz: Whose hours, days and months are meant: ``UTC``, or a name such as
            ``Asia/Shanghai``.
        clock: Says what time it is; aware.
    """

    def __init__(
        self,
        store: Store,
        *,
        scope: str | int | None = None,
        tz: str | tzinfo = "UTC",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._scope = None if scope is None else _text("scope", scope)
        self._tz = calendar.time_zone(tz)
        self._tz_name = str(self._tz)
        self._clock = clock

    @property
    def scope(self) -> str | None:
        """The organisation that every answer is confined to; ``None`` for all."""
        return self._scope

    @property
    def tz(self) -> str:
        """The time zone in which answers are told."""
        return self._tz_name

    def scoped(self, org_id: str | int) -> Stats:
        """
        The same reports confined to one organisation.

        Raises:
            InvalidValue: These are confined to another one already.
        """
        wanted = _text("org_id", org_id)
        if self._scope not in (None, wanted):
            raise InvalidValue("org_id", org_id, f"{self._scope!r}, the scope of these reports")
        return Stats(self._store, scope=wanted, tz=self._tz, clock=self._clock)

    def in_zone(self, tz: str | tzinfo) -> Stats:
        """The same reports in another time zone."""
        return Stats(self._store, scope=self._scope, tz=tz, clock=self._clock)

    # Sums

    def summary(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        where: Where | None = None,
        by: By = (),
        *,
        currency: str | None = None,
        rates: Rates | None = None,
        deleted: bool = False,
    ) -> Summary:
        """
        What the calls of a time add up to, and the groups asked for.

        Args:
            since: Inclusive; left out, from the first call on.
            until: Exclusive; left out, to the last.
            where: Which calls.
            by: Fields to group by.
            currency: Tell costs in this currency as well.
            rates: The exchange rates for that; each day's costs are converted at
                the rate of that day (UTC). What has no rate is named, not guessed.
            deleted: Of deleted calls instead.
        """
        query = self._query(since, until, where, deleted=deleted)
        fields = _fields(by)
        totals = self._totals(query, fields)
        convert = self._conversion(query, fields, currency, rates)
        groups = [
            Group.of(each, key=dict(zip(fields, key, strict=True)), converted=convert.of(key))
            for key, each in ranked(totals, "calls")
        ]
        return Summary.of(
            Totals.of(totals.values()),
            converted=convert.total,
            since=self._local(since),
            until=self._local(until),
            tz=self._tz_name,
            scope=self._scope,
            by=fields,
            groups=tuple(groups) if fields else (),
        )

    def current(self, where: Where | None = None, by: By = ()) -> Current:
        """This hour of the clock, and today, so far."""
        now = self._clock()
        hour = calendar.last_hours(now, 1, self._tz)
        today = calendar.last_days(now, 1, self._tz)
        return Current(
            hour=self.summary(hour[0], hour[-1], where, by),
            today=self.summary(today[0], today[-1], where, by),
        )

    def hourly(self, hours_ago: int = 24, where: Where | None = None, by: By = ()) -> Trend:
        """The last *hours_ago* hours of the clock, this one included."""
        edges = calendar.last_hours(self._clock(), hours_ago, self._tz)
        return self._trend("hour", edges, where, by)

    def daily(self, days_ago: int = 7, where: Where | None = None, by: By = ()) -> Trend:
        """The last *days_ago* days, today included."""
        edges = calendar.last_days(self._clock(), days_ago, self._tz)
        return self._trend("day", edges, where, by)

    def days(self, first: date, last: date, where: Where | None = None, by: By = ()) -> Trend:
        """The days from *first* to *last*, both included."""
        if first > last:
            raise InvalidValue("first", first, f"a day that is not after {last}")
        count = (last - first).days + 1
        if count > calendar.MAX_DAYS:
            raise InvalidValue("first", first, f"at most {calendar.MAX_DAYS} days up to {last}")
        return self._trend("day", calendar.day_edges(first, count, self._tz), where, by)

    def monthly(self, year: int, month: int, where: Where | None = None, by: By = ()) -> Trend:
        """The days of a month; its ``total`` is the month."""
        return self._trend("day", calendar.month_days(year, month, self._tz), where, by)

    def trend(
        self,
        days: int = 30,
        bucket: Bucket = "day",
        by: By = (),
        where: Where | None = None,
    ) -> Trend:
        """
        The last *days* days, today included, by hour, day or month.

        Months are whole ones: as many as it takes to reach back *days* days.
        """
        now = self._clock()
        edges = calendar.last_days(now, days, self._tz)
        if bucket == "month":
            first, last = (each.astimezone(self._tz) for each in (edges[0], now))
            months = (last.year - first.year) * 12 + last.month - first.month + 1
            edges = calendar.last_months(now, months, self._tz)
        elif bucket == "hour":
            if days * 24 > calendar.MAX_HOURS:
                raise InvalidValue("days", days, f"at most {calendar.MAX_HOURS // 24}, by hour")
            edges = calendar.hours_of(edges, self._tz)
        elif bucket != "day":
            raise InvalidValue("bucket", bucket, "hour, day or month")
        return self._trend(bucket, edges, where, by)

    def top(
        self,
        field: str,
        limit: int = 10,
        days: int | None = 30,
        by: Ranking = "cost",
        where: Where | None = None,
    ) -> Top:
        """
        The values of *field* with the highest cost, most calls or most tokens.

        Currencies are not compared: with several of them, each has a ranking of
        its own, and the rows are taken from these in turn.

        Args:
            field: What is ranked.
            limit: At most so many rows.
            days: The last so many days, today included; ``None`` for all time.
            by: ``cost``, ``calls`` or ``tokens``.
            where: Which calls.
        """
        _at_least_one("limit", limit)
        fields = _fields(field)
        if len(fields) != 1:
            raise InvalidValue("field", field, "one field")
        edges = calendar.last_days(self._clock(), days, self._tz) if days is not None else ()
        since, until = (edges[0], edges[-1]) if edges else (None, None)
        totals = self._totals(self._query(since, until, where), fields)
        return Top(
            field=fields[0],
            ranked_by=by,
            since=self._local(since),
            until=self._local(until),
            tz=self._tz_name,
            scope=self._scope,
            rows=tuple(
                Group.of(each, key={fields[0]: key[0]}) for key, each in ranked(totals, by)[:limit]
            ),
            values=len(totals),
            total=Figures.of(Totals.of(totals.values())),
        )

    # Looking ahead

    def forecast(
        self,
        by: By = (),
        where: Where | None = None,
        *,
        level: float = 0.8,
        history_days: int = HISTORY_DAYS,
    ) -> Forecast:
        """
        What this month will have cost at its end, by currency.

        Spent so far, exactly, and what the rest of today and the days to come are
        expected to add, judged by the complete days before today; days without
        calls count as zero. It is not told on fewer than `projection.MIN_DAYS`
        days since the first cost, or with calls on fewer than
        `projection.MIN_ACTIVE_DAYS` of them.

        Args:
            by: A forecast for each value of this field too, or of these fields.
            where: Which calls.
            level: The probability that the cost lies in the interval, from 0.5 to
                0.99, if usage goes on as it did.
            history_days: How many days are looked back on: 14 to 366.
        """
        fields = _fields(by)
        maker = Forecaster(self._clock(), self._tz, level, history_days)
        query = self._query(maker.edges[0], maker.edges[-1], where)
        found = self._store.aggregate(query, fields, maker.edges)
        return maker.made(found, fields, self._scope, self._tz_name)

    def suggestions(
        self,
        days: int = 30,
        where: Where | None = None,
        *,
        prices: PriceTable | None = None,
        limit: int = 10,
        within_s: float | None = None,
    ) -> Suggestions:
        """
        Where money could be saved, judged by the calls that succeeded in the last days.

        Cheaper models that are in use already, repeated calls (where prompts are
        stored), and long prompts that the provider's cache has little of. At most
        `suggestions.MAX_CALLS` calls are read, those of the newest whole days; on a
        busier day its first ones. Memory stays below 100 MB.

        Args:
            days: The last so many, today included.
            where: Which calls.
            prices: The prices of now; `PriceTable.default` when left out.
            limit: So many suggestions of each kind.
            within_s: About how many seconds calls are read for, and so how many of them;
                as long as it takes when left out.
        """
        from ai_ledger.pricing.table import PriceTable as Table
        from ai_ledger.stats.suggestions import successful, suggestions_of

        _at_least_one("limit", limit)
        _refuse_no_filter(where)
        if where is not None and "status" in where:
            raise InvalidValue("where", where, "no status: only successful calls are looked at")
        now = self._clock()
        edges = calendar.last_days(now, days, self._tz)
        return suggestions_of(
            self._store,
            self._query(edges[0], edges[-1], successful(where)),
            edges,
            Table.default() if prices is None else prices,
            now=now,
            limit=limit,
            tz=self._tz_name,
            local=lambda moment: moment.astimezone(self._tz),
            within_s=within_s,
        )

    # One user, device or session

    def session(self, session_id: str | int) -> Profile:
        """What happened in one session, ever."""
        return self._profile("session_id", session_id, None)

    def user(self, user_id: str | int, days: int = 30) -> Profile:
        """What one user did in the last *days* days, today included."""
        return self._profile("user_id", user_id, days)

    def device(self, device_id: str | int, days: int = 30) -> Profile:
        """What one device did in the last *days* days, today included."""
        return self._profile("device_id", device_id, days)

    # Calls

    def calls(
        self,
        where: Where | None = None,
        page: int = 1,
        page_size: int = 50,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        order: str = "started_at",
        descending: bool = True,
        deleted: bool = False,
        content: bool = False,
    ) -> CallPage:
        """
        One page of calls, newest first.

        Args:
            where: Which calls.
            page: From 1; behind the last page there is nothing.
            page_size: At most 1,000.
            since: Inclusive.
            until: Exclusive.
            order: ``started_at`` or one of `query.NUMBER_FIELDS`.
            descending: Largest or newest first.
            deleted: Deleted calls instead.
            content: With prompts and answers, which are left out otherwise.
        """
        _at_least_one("page", page)
        _at_least_one("page_size", page_size, MAX_PAGE_SIZE)
        query = self._query(since, until, where, deleted=deleted)
        total = Totals.of(self._totals(query, ()).values()).calls
        offset = (page - 1) * page_size
        records: list[CallRecord] = []
        # A page far behind the last one is not worth a walk through the store.
        if offset < total or page == 1:
            records = self._store.calls(
                query,
                limit=page_size,
                offset=offset,
                order=order,
                descending=descending,
                content=content,
            )
        return CallPage(
            calls=tuple(records),
            page=page,
            page_size=page_size,
            total=total,
            pages=-(-total // page_size),
        )

    def browse(
        self,
        where: Where | None = None,
        cursor: str | None = None,
        limit: int = 50,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        order: str = "started_at",
        descending: bool = True,
        last: bool = False,
        strict: bool = False,
        deleted: bool = False,
        content: bool = False,
    ) -> CallSlice:
        """
        Some calls in an order, with what leads to the next and the previous ones.

        By ``started_at`` any of them takes as long as the first, however many there
        are; other orders look at each call of the time. Calls without the value
        come last. Nothing is counted: `summary` does that.

        Args:
            where: Which calls.
            cursor: From an earlier answer in the same order; left out, the first calls.
            limit: At most so many; no more than 1,000.
            since: Inclusive.
            until: Exclusive.
            order: ``started_at`` or one of `query.NUMBER_FIELDS`.
            descending: Largest or newest first.
            last: The last calls, instead of a cursor.
            strict: Nothing where the calls behind the cursor were deleted meanwhile, in
                place of the last ones: no call twice on the way through all.
            deleted: Deleted calls instead.
            content: With prompts and answers, which are left out otherwise.
        """
        _at_least_one("limit", limit, MAX_PAGE_SIZE)
        if last and cursor is not None:
            raise InvalidValue("cursor", cursor, "none, for the last calls")
        query = self._query(since, until, where, deleted=deleted)

        def read(after: Place | None, backwards: bool) -> list[CallRecord]:
            return self._store.calls(
                query,
                limit=limit + 1,
                after=after,
                backwards=backwards,
                order=order,
                descending=descending,
                content=content,
            )

        found = browsed(read, order, cursor, limit, last=last, strict=strict)
        return CallSlice(
            calls=tuple(found.calls),
            order=order,
            descending=descending,
            next=found.next,
            previous=found.previous,
        )

    def call(self, call_id: str) -> CallDetail | None:
        """One call, deleted or not, with its corrections; ``None`` when there is none in scope."""
        record = self._store.call(self._scope, call_id)
        if record is None:
            return None
        corrections = self._store.corrections(self._scope, call_id)
        return CallDetail(call=record, corrections=tuple(corrections))

    def export_report(self, path: Path | str, days: int = 30) -> Path:
        """
        Write the report of the last *days* days to *path*: ``.json`` or ``.csv``.

        It holds the total, each day, and the groups by model, provider, function,
        business type, operation, organisation, user and device. In CSV, cells that
        a spreadsheet would run as formulas get a leading ``'``. The file is 0600
        and appears whole or not at all.

        Raises:
            InvalidValue: Another ending, or *path* is a symbolic link.
            OSError: The file cannot be written.
        """
        from ai_ledger.stats.export import SECTIONS, Report, write_report

        daily = self.daily(days)
        since, until = daily.points[0].start, daily.points[-1].end
        groups = {field: self.summary(since, until, by=field).groups for field in SECTIONS}
        report = Report(
            made_at=self._clock().astimezone(self._tz),
            since=since,
            until=until,
            tz=self._tz_name,
            scope=self._scope,
            total=daily.total,
            daily=daily.points,
            groups=groups,
        )
        return write_report(Path(path), report)

    # Below

    def _query(
        self,
        since: datetime | None,
        until: datetime | None,
        where: Where | None,
        *,
        deleted: bool = False,
    ) -> Query:
        _refuse_no_filter(where)
        return Query.build(
            scope=self._scope, since=since, until=until, where=where, deleted=deleted
        )

    def _totals(self, query: Query, fields: tuple[str, ...]) -> dict[Key, Totals]:
        return {group.key: group.totals for group in self._store.aggregate(query, fields)}

    def _trend(self, bucket: Bucket, edges: calendar.Edges, where: Where | None, by: By) -> Trend:
        fields = _fields(by)
        cells: dict[int, dict[Key, Totals]] = {}
        over_all: dict[Key, Totals] = {}
        for group in self._store.aggregate(self._query(edges[0], edges[-1], where), fields, edges):
            cells.setdefault(group.interval, {})[group.key] = group.totals
            over_all.setdefault(group.key, Totals()).add(group.totals)
        return Trend(
            bucket=bucket,
            tz=self._tz_name,
            scope=self._scope,
            by=fields,
            points=tuple(
                Point.of(
                    Totals.of(cells.get(interval, {}).values()),
                    start=self._local(start),
                    end=self._local(end),
                    groups=_groups(cells.get(interval, {}), fields),
                )
                for interval, (start, end) in enumerate(pairwise(edges))
            ),
            total=Figures.of(Totals.of(over_all.values())),
            groups=_groups(over_all, fields),
        )

    def _profile(self, field: str, value: str | int, days: int | None) -> Profile:
        text = _text(field, value)
        where = {field: text}
        edges = calendar.last_days(self._clock(), days, self._tz) if days is not None else ()
        since, until = (edges[0], edges[-1]) if edges else (None, None)
        query = self._query(since, until, where)
        first, last = (
            self._store.calls(query, limit=1, descending=descending, content=False)
            for descending in (False, True)
        )
        return Profile(
            field=field,
            value=text,
            summary=self.summary(since, until, where, "request_model"),
            functions=self.summary(since, until, where, "function").groups,
            daily=self._trend("day", edges, where, ()) if edges else None,
            first_call_at=self._local(first[0].started_at) if first else None,
            last_call_at=self._local(last[0].started_at) if last else None,
        )

    def _conversion(
        self, query: Query, fields: tuple[str, ...], currency: str | None, rates: Rates | None
    ) -> Conversion:
        if currency is None and rates is None:
            return Conversion(None, {})
        if currency is None or rates is None:
            raise InvalidValue("currency", currency, "a currency, together with rates")
        return converted_costs(self._store, query, fields, currency, rates)

    def _local(self, moment: datetime | None) -> datetime | None:
        return None if moment is None else moment.astimezone(self._tz)


def _groups(totals: Mapping[Key, Totals], fields: tuple[str, ...]) -> tuple[Group, ...]:
    if not fields:
        return ()
    return tuple(
        Group.of(each, key=dict(zip(fields, key, strict=True)))
        for key, each in ranked(totals, "calls")
    )


def _fields(by: By) -> tuple[str, ...]:
    names = (by,) if isinstance(by, str) else tuple(by)
    return tuple(dict.fromkeys(field_name(name, GROUP_FIELDS) for name in names))


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidValue(name, value, "a text")
    return str(value)


def _refuse_no_filter(where: object) -> None:
    if where is None:
        return
    if not isinstance(where, Mapping):
        raise InvalidValue("where", where, "a mapping of fields to values")
    for field, condition in cast("Mapping[str, object]", where).items():
        if isinstance(condition, Between):
            for bound in (condition.at_least, condition.below):
                if bound is not None and not _is_number(bound):
                    raise InvalidValue(field, bound, "a number as a bound of Between")


def _is_number(value: object) -> bool:
    return type(value) in (int, float, Decimal) and math.isfinite(cast("float", value))


def _at_least_one(name: str, value: object, most: int = 10**12) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidValue(name, value, f"a whole number from 1 to {most}")
