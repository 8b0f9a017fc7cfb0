"""`Period`: the days that a page or a question is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Final

from ai_ledger.errors import InvalidValue
from ai_ledger.stats import calendar

RANGES: Final = (1, 3, 7, 10, 30)
"""The numbers of days that pages offer; any from 1 to `MAX_DAYS` is understood."""
MAX_DAYS: Final = 366
PERIOD: Final = ("days", "first", "last")
"""The parameters by which an address says which days."""
_YEARS: Final = range(1970, 9001)
"""Those that calendars, time zones and databases all understand."""


@dataclass(frozen=True)
class Period:
    """
    Whole days of a time zone.

    Args:
        first: The first of them.
        last: The last of them.
        tz: Whose days.
        days: Set when they are the last so many, today included, and move on with time.
    """

    first: date
    last: date
    tz: tzinfo
    days: int | None = None

    @classmethod
    def of(
        cls,
        *,
        days: int | None,
        first: date | None,
        last: date | None,
        now: datetime,
        tz: tzinfo,
        default: int = 7,
    ) -> Period:
        """
        What was asked for: the last *days* days, or those from *first* to *last*.

        Raises:
            InvalidValue: More than `MAX_DAYS`, or they end before they begin.
        """
        today = now.astimezone(tz).date()
        if first is not None or last is not None:
            last = last or today
            first = first or last
            if first > last:
                raise InvalidValue("first", first.isoformat(), f"a day that is not after {last}")
            if (last - first).days >= MAX_DAYS:
                raise InvalidValue(
                    "first", first.isoformat(), f"at most {MAX_DAYS} days before {last}"
                )
            return cls(first, last, tz)
        days = default if days is None else days
        if not 1 <= days <= MAX_DAYS:
            raise InvalidValue("days", days, f"a whole number from 1 to {MAX_DAYS}")
        return cls(today - timedelta(days=days - 1), today, tz, days)

    @property
    def edges(self) -> tuple[datetime, ...]:
        """The beginnings of the days, and the end of the last; aware."""
        return calendar.day_edges(self.first, (self.last - self.first).days + 1, self.tz)

    @property
    def since(self) -> datetime:
        """Inclusive."""
        return self.edges[0]

    @property
    def until(self) -> datetime:
        """Exclusive."""
        return self.edges[-1]

    @property
    def query(self) -> dict[str, str]:
        """As the parameters of an address."""
        if self.days is not None:
            return {"days": str(self.days)}
        return {"first": self.first.isoformat(), "last": self.last.isoformat()}


def checked_day(name: str, day: date | None) -> date | None:
    """
    *day*, if there is one.

    Raises:
        InvalidValue: It is before 1970 or after 9000.
    """
    if day is not None and day.year not in _YEARS:
        raise InvalidValue(name, day.isoformat(), "a day from 1970 to 9000")
    return day


def checked_moment(name: str, moment: datetime | None) -> datetime | None:
    """
    *moment*, if there is one.

    Raises:
        InvalidValue: It is before 1970 or after 9000.
    """
    if moment is not None and moment.year not in _YEARS:
        raise InvalidValue(name, moment.isoformat(), "a moment from 1970 to 9000")
    return moment


def day_of(name: str, text: str | None) -> date | None:
    """
    The day that *text* says, such as 2026-05-20; ``None`` if it says nothing.

    Raises:
        InvalidValue: It is none, before 1970 or after 9000.
    """
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise InvalidValue(name, text, "a day such as 2026-05-20") from None
    return checked_day(name, found)


def moment_of(name: str, text: str | None) -> datetime | None:
    """
    The moment that *text* says, in ISO 8601 with a zone; ``None`` if it says nothing.

    Raises:
        InvalidValue: It is none, has no zone, or is before 1970 or after 9000.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidValue(name, text, "a moment with a time zone, from 1970 to 9000")
    return checked_moment(name, found)
