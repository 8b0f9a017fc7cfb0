"""Time zones, and the instant at which their clocks first show something."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from ai_ledger.errors import InvalidValue

_MAX_CHARS: Final = 64


def time_zone(tz: str | tzinfo) -> tzinfo:
    """
    The time zone that *tz* names: ``UTC`` or a name such as ``Asia/Kolkata``.

    Raises:
        InvalidValue: This machine knows no such zone.
    """
    if isinstance(tz, tzinfo):
        return tz
    if tz == "UTC":
        return UTC  # needs no data base of zones, which small containers lack
    try:
        # Of a path with thousands of folders each is looked for within the one before.
        return ZoneInfo(tz if len(tz) <= _MAX_CHARS else "")
    except (LookupError, ValueError, OSError, TypeError):
        raise InvalidValue("tz", tz, "the name of a time zone, such as 'Asia/Shanghai'") from None


def first_instant(shown: datetime, tz: tzinfo) -> datetime:
    """
    When the clocks of *tz* first show *shown* or something later, in UTC.

    Clocks that skip it show something later at the instant of the change, clocks
    that strike it twice show it at the first stroke.

    Args:
        shown: Naive: what a clock on the wall shows.
        tz: Where the clock hangs.
    """
    start = shown.replace(tzinfo=tz).astimezone(UTC)
    if clock(start, tz) == shown:
        return start
    # No clock shows it. Read with the offset after the change it lies before the
    # change, and read with the offset before it, behind.
    early = shown.replace(tzinfo=tz, fold=1).astimezone(UTC)
    while start - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(start - early) // timedelta(seconds=2))
        early, start = (early, middle) if clock(middle, tz) >= shown else (middle, start)
    return start


def clock(instant: datetime, tz: tzinfo) -> datetime:
    """What the clocks of *tz* show at *instant*."""
    return instant.astimezone(tz).replace(tzinfo=None, fold=0)
