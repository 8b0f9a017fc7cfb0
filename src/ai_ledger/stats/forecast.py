"""Looking ahead: the cost at the end of the month, and the day a budget runs out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Context, Decimal
from typing import Final, Literal, TypeAlias

import msgspec

from ai_ledger.errors import InvalidValue
from ai_ledger.money import EXACT, from_nano, tidy
from ai_ledger.stats import calendar
from ai_ledger.stats.projection import (
    MIN_ACTIVE_DAYS,
    MIN_DAYS,
    Ahead,
    Rhythm,
    learn,
)
from ai_ledger.stats.results import Money, Result
from ai_ledger.stats.text import shown, table
from ai_ledger.totals import Group as TotalsGroup
from ai_ledger.totals import Totals

HISTORY_DAYS: Final = 56
"""Eight weeks: what is looked back on, unless said otherwise."""
MAX_HISTORY_DAYS: Final = 366
MAX_GROUPS: Final = 100
"""So many groups have a forecast of their own; the others are in the whole."""
NO_END_DAYS: Final = 366
"""How far ahead the day is looked for on which a budget runs out."""

_SIX_DIGITS: Final = Context(prec=6)
_Key: TypeAlias = tuple[str | None, ...]


class Outlook(Result):
    """
    What one currency will have cost at the end of the month.

    ``expected``, ``low`` and ``high`` are ``None`` when there is not enough to
    judge by; ``not_enough`` says why.
    """

    currency: str
    spent: Money
    """This month up to now; exact."""
    expected: Money | None
    """At the end of the month, what is spent included."""
    low: Money | None
    high: Money | None
    history_days: int
    """Complete days that this is judged by; those without calls count as zero."""
    active_days: int
    """Days among them that had calls with a cost."""
    by_weekday: bool
    """Whether days of the week are told apart."""
    growing: bool
    """Whether growth, or decline, is carried on."""
    not_enough: str | None

    def __str__(self) -> str:
        """One line."""
        return "  ".join(part for part in _outlook_cells(self) if part)


class ForecastGroup(Result):
    """The outlook of the calls that share some values."""

    key: dict[str, str | None]
    calls: int
    """Calls that it is based on: those of the history, and of this month."""
    unpriced_calls: int
    """Of these, the ones without a cost, which no forecast can know."""
    costs: tuple[Outlook, ...]


class Forecast(Result):
    """
    What a month will have cost at its end.

    With the probability ``level`` the cost lies from ``low`` to ``high``, if usage
    goes on as it did. Groups are judged one by one, so they need not add up to the
    whole.
    """

    made_at: datetime
    month_start: datetime
    month_end: datetime
    """Exclusive."""
    history_start: datetime
    """Calls before are not looked at."""
    tz: str
    scope: str | None
    level: float
    by: tuple[str, ...]
    calls: int
    unpriced_calls: int
    costs: tuple[Outlook, ...]
    """By currency; currencies are never added."""
    groups: tuple[ForecastGroup, ...]
    """The most expensive ones first."""
    groups_left_out: int
    """Behind the first `MAX_GROUPS`; in ``costs`` they are counted."""

    def __str__(self) -> str:
        """A table with a line for each currency, and for each group."""
        whose = "" if self.scope is None else f", organisation {shown(self.scope)}"
        head = (
            f"month {self.month_start:%Y-%m} ({self.tz}){whose}, "
            f"as of {self.made_at:%Y-%m-%d %H:%M}"
        )
        if not self.costs:
            return f"{head}\nno costs since {self.history_start:%Y-%m-%d}"
        columns = ["spent", "expected", f"{self.level:.0%}".replace("%", " % interval"), "days"]
        rows = [["all", *[""] * (len(self.by) - 1), *_outlook_cells(each)] for each in self.costs]
        rows += [
            [*map(shown, group.key.values()), *_outlook_cells(each)]
            for group in self.groups
            for each in group.costs
        ]
        text = table([*(self.by or ("",)), *columns], rows, texts=max(len(self.by), 1))
        lines = [head, text]
        if self.groups_left_out:
            lines.append(f"… and {self.groups_left_out:,} more")
        if self.unpriced_calls:
            lines.append(f"without {self.unpriced_calls:,} unpriced calls")
        return "\n".join(lines)


class RunsOut(Result):
    """
    The day a limit is reached, if usage goes on as it did.

    With the probability ``level`` it is reached from ``earliest`` to ``latest``.
    Each is ``None`` when that day is not before ``until``, or more than a year away.
    """

    used: Money
    limit: Money
    until: datetime | None
    """The end of the period, exclusive; ``None`` when it has none."""
    level: float
    day: date | None
    """The day on which the expected use reaches the limit."""
    earliest: date | None
    latest: date | None
    expected: Money | None
    """Used at the end of the period; ``None`` when it has no end, or on too little history."""
    low: Money | None
    high: Money | None
    history_days: int
    active_days: int
    by_weekday: bool
    not_enough: str | None
    """Why there is no forecast; then only a limit that is reached already has its day."""

    def __str__(self) -> str:
        """One line."""
        state = f"{self.used:f} of {self.limit:f} used"
        if self.day is None and self.not_enough:
            return f"{state}; no forecast: {self.not_enough}"
        level = f"{self.level:.0%}".replace("%", " %")
        if self.earliest is None:
            return f"{state}; lasts ({level})"
        end = "later or never" if self.latest is None else str(self.latest)
        day = "not expected to run out" if self.day is None else f"runs out on {self.day}"
        return f"{state}; {day} ({level}: {self.earliest} to {end})"


def _outlook_cells(outlook: Outlook) -> list[str]:
    days = f"{outlook.history_days:,}"
    spent = f"{outlook.spent:f} {shown(outlook.currency)}"
    if outlook.expected is None:
        return [spent, "—", f"not enough data: {outlook.not_enough}", days]
    return [
        spent,
        f"{outlook.expected:f}",
        f"{outlook.low:f} to {outlook.high:f}",
        f"{days}, by weekday" if outlook.by_weekday else days,
    ]


_Part: TypeAlias = Literal["before", "hour", "after"]
"""Of a day: before this hour of the clock, within it, after it."""


class _Days(msgspec.Struct, frozen=True):
    """The intervals that are asked for: the three parts of each day."""

    edges: calendar.Edges
    meant: tuple[tuple[date | None, _Part], ...]
    """Day and part, by interval; without a day for the time before the history."""

    @classmethod
    def of(cls, now: datetime, first: date, before: date, zone: tzinfo) -> _Days:
        """From *first* to today, and the time from *before* on as one interval."""
        local = now.astimezone(zone)
        today = local.date()
        edges = [calendar.day_start(before, zone)]
        meant: list[tuple[date | None, _Part]] = []
        # What the interval behind the last edge will be.
        following: tuple[date | None, _Part] = (None, "before")
        for number in range((today - first).days + 2):
            day = first + timedelta(days=number)
            start = calendar.day_start(day, zone)
            marks: list[tuple[datetime, _Part]] = [(start, "before")]
            if day <= today:
                end = calendar.day_start(day + timedelta(1), zone)
                hour = datetime.combine(day, time(local.hour)).replace(tzinfo=zone).astimezone(UTC)
                marks.append((hour, "hour"))
                marks.append((min(hour + timedelta(hours=1), end), "after"))
            for edge, part in marks:
                if edge > edges[-1]:
                    edges.append(edge)
                    meant.append(following)
                following = (day, part)
        return cls(tuple(edges), tuple(meant))


class _Series:
    """The costs of some calls in one currency, by day."""

    def __init__(self) -> None:
        self.existed_before = False
        self.whole: dict[date, int] = {}
        self.parts: dict[tuple[date, _Part], int] = {}

    def add(self, day: date | None, part: _Part, nano: int) -> None:
        """Count an interval's cost."""
        if day is None:
            self.existed_before = True
            return
        self.whole[day] = self.whole.get(day, 0) + nano
        self.parts[day, part] = self.parts.get((day, part), 0) + nano


class _Calls:
    """Some calls: their costs by currency and day, and how many they are."""

    def __init__(self) -> None:
        self.calls = 0
        self.unpriced = 0
        self.series: dict[str, _Series] = {}

    def add(self, day: date | None, part: _Part, totals: Totals) -> None:
        """Count an interval."""
        if day is not None:
            self.calls += totals.calls
            self.unpriced += totals.unpriced_calls
        for code, nano in totals.cost_nano.items():
            self.series.setdefault(code, _Series()).add(day, part, nano)

    def rank(self) -> tuple[int, int]:
        """More is first."""
        return max((sum(each.whole.values()) for each in self.series.values()), default=0), (
            self.calls
        )


class Forecaster:
    """
    Makes the forecast of this month from what a store keeps.

    Args:
        now: Aware.
        zone: Whose month and days are meant.
        level: The probability of the interval.
        history_days: How many complete days are looked back on.
    """

    def __init__(self, now: datetime, zone: tzinfo, level: float, history_days: int) -> None:
        check_level(level)
        if type(history_days) is not int or not MIN_DAYS <= history_days <= MAX_HISTORY_DAYS:
            raise InvalidValue(
                "history_days",
                history_days,
                f"a whole number from {MIN_DAYS} to {MAX_HISTORY_DAYS}",
            )
        self.now = now
        self._zone = zone
        self._level = level
        self._today = now.astimezone(zone).date()
        self._first = self._today - timedelta(days=history_days)
        month = calendar.month_days(self._today.year, self._today.month, zone)
        self._month = self._today.replace(day=1)
        self.month_start, self.month_end = month[0], month[-1]
        # What was there already before the history has no first, incomplete day in it.
        before = self._first - timedelta(days=history_days)
        self._days = _Days.of(now, min(self._first, self._month), before, zone)
        self._to_come = _days_to_come(now, self.month_end, zone)
        self.history_start = calendar.day_start(self._first, zone)

    @property
    def edges(self) -> calendar.Edges:
        """What the store is to be asked for."""
        return self._days.edges

    def made(
        self, found: Iterable[TotalsGroup], fields: tuple[str, ...], scope: str | None, tz: str
    ) -> Forecast:
        """The forecast from the store's answer."""
        whole = _Calls()
        parts: dict[_Key, _Calls] = {}
        for group in found:
            day, part = self._days.meant[group.interval]
            whole.add(day, part, group.totals)
            if fields:
                parts.setdefault(group.key, _Calls()).add(day, part, group.totals)
        # Those that ended before the history have no calls here.
        rows = [(key, calls) for key, calls in parts.items() if calls.calls]
        rows.sort(key=lambda row: row[1].rank(), reverse=True)
        return Forecast(
            made_at=self._local(self.now),
            month_start=self._local(self.month_start),
            month_end=self._local(self.month_end),
            history_start=self._local(self.history_start),
            tz=tz,
            scope=scope,
            level=self._level,
            by=fields,
            calls=whole.calls,
            unpriced_calls=whole.unpriced,
            costs=self._outlooks(whole),
            groups=tuple(
                ForecastGroup(
                    key=dict(zip(fields, key, strict=True)),
                    calls=calls.calls,
                    unpriced_calls=calls.unpriced,
                    costs=self._outlooks(calls),
                )
                for key, calls in rows[:MAX_GROUPS]
            ),
            groups_left_out=max(len(rows) - MAX_GROUPS, 0),
        )

    def _outlooks(self, calls: _Calls) -> tuple[Outlook, ...]:
        return tuple(
            self._outlook(code, series)
            for code, series in sorted(calls.series.items())
            if series.whole
        )

    def _outlook(self, currency: str, series: _Series) -> Outlook:
        spent = from_nano(sum(nano for day, nano in series.whole.items() if day >= self._month))
        first = self._first
        if not series.existed_before:
            # On its first day it was used for a part of the day, nobody knows which.
            first = max(first, min(series.whole) + timedelta(days=1))
        amounts = {day: nano / 1e9 for day, nano in series.whole.items()}
        known = _Known.of(amounts, first, self._today)
        ahead: Ahead | None = None
        if known.rhythm is not None:
            (today, share), *days = self._to_come
            ahead = known.rhythm.ahead([(today, self._left_of_today(series, first, share)), *days])
        low, high = (None, None) if ahead is None else _interval(ahead, self._level)
        return Outlook(
            currency=currency,
            spent=spent,
            expected=None if ahead is None else _plus(spent, ahead.mean),
            low=None if low is None else _plus(spent, low),
            high=None if high is None else _plus(spent, high),
            history_days=known.days,
            active_days=known.active,
            by_weekday=known.rhythm is not None and known.rhythm.by_weekday,
            growing=known.rhythm is not None and known.rhythm.slope != 0,
            not_enough=known.not_enough,
        )

    def _left_of_today(self, series: _Series, first: date, elapsing: float) -> float:
        """The share of a day's cost that comes after this time of the day, as days went so far."""
        days = [day for day in series.whole if first <= day < self._today]
        whole = sum(series.whole[day] for day in days)
        if not whole:
            return elapsing
        this_hour, after = (
            sum(series.parts.get((day, part), 0) for day in days) for part in ("hour", "after")
        )
        local = self.now.astimezone(self._zone)
        # Within the hour, cost is taken as even.
        left = 1 - (local.minute * 60 + local.second) / 3600
        return (after + this_hour * left) / whole

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone)


def runs_out(
    *,
    used: Decimal | int,
    limit: Decimal | int,
    daily: Mapping[date, Decimal | int],
    until: datetime | None,
    now: datetime,
    tz: str | tzinfo = "UTC",
    level: float = 0.8,
) -> RunsOut:
    """
    The day on which *used* reaches *limit*.

    Args:
        used: In the running period, up to *now*; in the unit of *limit*, whichever
            that is (units of a currency, tokens).
        limit: What the period has in all.
        daily: Day in *tz* → what was used on it: the history to judge by, which may
            and should reach back before the period. Days that are missing between
            the first one and today count as zero. The first day counts as a whole
            one; leave it out if it was not. Today and later days are ignored: what
            was used today is in *used*.
        until: The end of the period, exclusive, aware; ``None`` when it has none.
        now: Aware.
        tz: Whose days are meant.
        level: The probability of the interval, between 0.5 and 0.99.

    Raises:
        InvalidValue: A naive time, a negative amount, a level out of bounds.
    """
    zone = calendar.time_zone(tz)
    check_level(level)
    for name, moment in (("now", now), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidValue(name, moment, "a datetime with a time zone")
    for name, amount in (("used", used), ("limit", limit)):
        if not Decimal(amount).is_finite() or amount < 0:
            raise InvalidValue(name, amount, "an amount of 0 or more")
    today = now.astimezone(zone).date()
    past = {day: float(amount) for day, amount in daily.items() if day < today}
    # Each day that was named had something, if only a zero.
    known = _Known.of(past, min(past, default=today), today)
    room = float(limit) - float(used)
    found: dict[str, date | None] = {"day": None, "earliest": None, "latest": None}
    end: Ahead | None = None
    rhythm = known.rhythm
    if room <= 0:
        found = dict.fromkeys(found, today)
    if rhythm is not None:
        days = _days_to_come(now, until, zone)
        if until is not None:
            end = rhythm.ahead(days)
        if room > 0:
            found = _reached(rhythm, days, room, level)
    low, high = (None, None) if end is None else _interval(end, level)
    return RunsOut(
        used=Decimal(used),
        limit=Decimal(limit),
        until=until,
        level=level,
        expected=None if end is None else _plus(Decimal(used), end.mean),
        low=None if low is None else _plus(Decimal(used), low),
        high=None if high is None else _plus(Decimal(used), high),
        history_days=known.days,
        active_days=known.active,
        by_weekday=rhythm is not None and rhythm.by_weekday,
        not_enough=known.not_enough,
        **found,
    )


def _reached(
    rhythm: Rhythm, days: Sequence[tuple[date, float]], room: float, level: float
) -> dict[str, date | None]:
    """The first days on which the sum reaches *room*: as expected, early and late."""
    tail = (1 - level) / 2
    found: dict[str, date | None] = {"day": None, "earliest": None, "latest": None}
    for number, (day, _) in enumerate(days[:NO_END_DAYS], start=1):
        ahead = rhythm.ahead(days[:number])
        sums = {
            "day": ahead.mean,
            "earliest": ahead.quantile(1 - tail),
            "latest": ahead.quantile(tail),
        }
        for name, amount in sums.items():
            if amount >= room and found[name] is None:
                found[name] = day
        if None not in found.values():
            break
    return found


class _Known:
    """A history of complete days, and what can be learnt from it."""

    def __init__(self, days: int, active: int, rhythm: Rhythm | None, lacking: str | None) -> None:
        self.days = days
        self.active = active
        self.rhythm = rhythm
        self.not_enough = lacking

    @classmethod
    def of(cls, amounts: Mapping[date, float], first: date, today: date) -> _Known:
        """
        What is known from the days from *first* to yesterday.

        Args:
            amounts: Of the days that had any calls; the others count as zero.
            first: The first complete day.
            today: Which is not complete.
        """
        first = max(first, today - timedelta(days=calendar.MAX_DAYS))
        days = max((today - first).days, 0)
        active = sum(1 for day in amounts if first <= day < today)
        lacking: str | None = None
        if days < MIN_DAYS:
            lacking = f"{days} complete days of history, {MIN_DAYS} are needed"
        elif active < MIN_ACTIVE_DAYS:
            lacking = f"calls on {active} days of {days}, {MIN_ACTIVE_DAYS} are needed"
        if lacking:
            return cls(days, active, None, lacking)
        daily = [amounts.get(first + timedelta(days=number), 0.0) for number in range(days)]
        return cls(days, active, learn(first, daily), None)


def check_level(level: object) -> None:
    """
    Refuse what is no probability for an interval.

    Raises:
        InvalidValue: Not from 0.5 to 0.99.
    """
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0.5 <= level <= 0.99:
        raise InvalidValue("level", level, "a probability from 0.5 to 0.99")


def _days_to_come(now: datetime, until: datetime | None, zone: tzinfo) -> list[tuple[date, float]]:
    """The rest of today and the days until *until*, each with its share that is still to come."""
    today = now.astimezone(zone).date()
    if until is None:
        count = NO_END_DAYS
    else:
        count = min((until.astimezone(zone).date() - today).days + 1, calendar.MAX_DAYS)
    days: list[tuple[date, float]] = []
    for number in range(max(count, 0)):
        day = today + timedelta(days=number)
        start, end = calendar.day_start(day, zone), calendar.day_start(day + timedelta(1), zone)
        begin = max(start, now.astimezone(UTC))
        stop = end if until is None else min(end, until.astimezone(UTC))
        if stop > begin:
            # Of the day's own length, which a change of the clock makes 23 or 25 hours.
            days.append((day, (stop - begin) / (end - start)))
    return days


def _interval(ahead: Ahead, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    return ahead.quantile(tail), ahead.quantile(1 - tail)


def _plus(exact: Decimal, judged: float) -> Decimal:
    """*exact* and an amount that is a judgement, told to six digits."""
    told = _SIX_DIGITS.plus(EXACT.add(exact, Decimal(judged)))
    return tidy(max(told, exact))
