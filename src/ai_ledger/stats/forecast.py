"""Looking ahead: the cost at the end of the month, and the day a budget runs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final, TypeAlias

from ai_ledger.errors import InvalidValue
from ai_ledger.money import EXACT, tidy
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

HISTORY_DAYS: Final = 56
"""Eight weeks: what is looked back on, unless said otherwise."""
MAX_GROUPS: Final = 100
"""So many groups have a forecast of their own; the others are in the whole."""
NO_END_DAYS: Final = 366
"""How far ahead the day is looked for on which a budget runs out."""

Key: TypeAlias = tuple[str | None, ...]


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
    """Days among them with a cost."""
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
    first = min(past, default=today)
    first = max(first, today - timedelta(days=calendar.MAX_DAYS))
    history = [
        past.get(first + timedelta(days=number), 0.0) for number in range((today - first).days)
    ]
    known = _Known(first, history)
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
        history_days=len(history),
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

    def __init__(self, first: date, daily: Sequence[float]) -> None:
        self.days = len(daily)
        self.active = sum(1 for amount in daily if amount > 0)
        self.not_enough: str | None = None
        if self.days < MIN_DAYS:
            self.not_enough = f"{self.days} complete days of history, {MIN_DAYS} are needed"
        elif self.active < MIN_ACTIVE_DAYS:
            self.not_enough = f"{self.active} days with a cost, {MIN_ACTIVE_DAYS} are needed"
        self.rhythm = None if self.not_enough else learn(first, daily)


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
    """*exact* and an amount that is a judgement, told to six digits of it."""
    return tidy(EXACT.add(exact, Decimal(f"{judged:.6g}")))
