"""Where days, hours and months begin in a time zone, as instants in UTC."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final, TypeAlias

from ai_ledger.errors import InvalidValue
from ai_ledger.zones import clock, first_instant
from ai_ledger.zones import time_zone as time_zone

Edges: TypeAlias = tuple[datetime, ...]
"""Ascending instants in UTC; interval *i* runs from ``edges[i]`` to before ``edges[i + 1]``."""

MAX_DAYS: Final = 3_660
MAX_HOURS: Final = 24 * 92


def day_start(day: date, tz: tzinfo) -> datetime:
    """
    The first instant of *day*.

    Clocks that skip midnight begin the day at the instant of the change, clocks
    that strike it twice at the first stroke.
    """
    if not 1900 <= day.year <= 9990:
        raise InvalidValue("day", day, "a day from 1900 to 9990")
    return first_instant(datetime.combine(day, time()), tz)


def day_edges(first: date, days: int, tz: tzinfo) -> Edges:
    """The edges of *days* days from *first* on, less those that the zone has left out."""
    starts = (day_start(first + timedelta(days=number), tz) for number in range(days + 1))
    # The day that Samoa skipped in 2011 would begin and end at one instant.
    return tuple(dict.fromkeys(starts))


def last_days(now: datetime, days: int, tz: tzinfo) -> Edges:
    """The edges of the last *days* days, today included."""
    _check("days", days, MAX_DAYS)
    today = now.astimezone(tz).date()
    return day_edges(today - timedelta(days=days - 1), days, tz)


def month_days(year: int, month: int, tz: tzinfo) -> Edges:
    """The edges of the days of a month."""
    first, following = _months(year, month, 2)
    return day_edges(first, (following - first).days, tz)


def last_months(now: datetime, months: int, tz: tzinfo) -> Edges:
    """The edges of the last *months* calendar months, this one included."""
    _check("months", months, MAX_DAYS // 30)
    today = now.astimezone(tz).date()
    years, month = divmod(today.year * 12 + today.month - months, 12)
    return tuple(day_start(first, tz) for first in _months(years, month + 1, months + 1))


def hours_of(edges: Edges, tz: tzinfo) -> Edges:
    """
    The hours of the clock within *edges*, each of which stays an edge.

    A change of the clock makes an hour shorter where it does not move by whole hours.
    """
    found = [edges[0]]
    for end in edges[1:]:
        while found[-1] < end:
            shown = clock(found[-1], tz)
            into = timedelta(
                minutes=shown.minute, seconds=shown.second, microseconds=shown.microsecond
            )
            found.append(min(found[-1] + timedelta(hours=1) - into, end))
    return tuple(found)


def last_hours(now: datetime, hours: int, tz: tzinfo) -> Edges:
    """The edges of the last *hours* hours of the clock, this one included."""
    _check("hours", hours, MAX_HOURS)
    today = now.astimezone(tz).date()
    days = hours // 23 + 2
    edges = hours_of(day_edges(today - timedelta(days=days - 1), days, tz), tz)
    end = next(index for index, edge in enumerate(edges) if edge > now)
    return edges[end - hours : end + 1]


def _months(year: int, month: int, count: int) -> list[date]:
    if not 1 <= month <= 12:
        raise InvalidValue("month", month, "a month from 1 to 12")
    if not 1900 <= year <= 9990:
        raise InvalidValue("year", year, "a year from 1900 to 9990")
    firsts = (divmod(year * 12 + month - 1 + number, 12) for number in range(count))
    return [date(years, months + 1, 1) for years, months in firsts]


def _check(name: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidValue(name, value, f"a whole number from 1 to {most}")
