"""Dates in spreadsheets: numbers of days, which the format of their cell makes dates of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Final, Literal, TypeAlias

Shape: TypeAlias = Literal["day", "moment", "clock", "span", "any"]
"""What a format shows; ``any`` is a day or a time, as the number has it."""

# Formats that files name without describing them: ECMA-376, part 1, 18.8.30. From 27 on they
# are those of East Asia, where some are days in one language and times of day in another.
_DAYS: Final = (14, 15, 16, 17, 27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58)
_CLOCKS: Final = (18, 19, 20, 21, 32, 33, 45, 47)
_ANY: Final = (34, 35, 55, 56)
BUILT_IN: Final[Mapping[int, Shape]] = {
    **dict.fromkeys(_DAYS, "day"),
    **dict.fromkeys(_CLOCKS, "clock"),
    **dict.fromkeys(_ANY, "any"),
    22: "moment",
    46: "span",
}
"""Number of a format → what it shows, where that is a date or a time."""

# What a format shows as it is: quoted, behind \ or _ or *, and colours, conditions and
# languages in brackets. None is searched twice, however many are never closed.
_LITERAL: Final = re.compile(r'"[^"]*"?|\\.?|[_*].?|\[[^\]]*\]?', re.DOTALL)
_COUNTED: Final = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)

_DAY_MS: Final = 86_400_000


def shape_of(code: str) -> Shape | None:
    """What a format such as ``yyyy"年"m"月"`` shows; ``None`` if it is no date or time."""
    kept = _LITERAL.sub(lambda found: found[0] if _COUNTED.fullmatch(found[0]) else "", code)
    # Behind the first one stand those of negative numbers, of zero and of text.
    letters = set(kept.partition(";")[0].lower())
    clock = bool(letters & set("hs"))
    # An m is minutes beside hours or seconds, else it is a month.
    if letters & set("yd") or ("m" in letters and not clock and "[" not in letters):
        return "moment" if clock else "day"
    if "[" in letters:
        return "span"
    return "clock" if clock else None


def iso(number: float, shape: Shape, *, since_1904: bool) -> str | None:
    """
    A number of days as ISO 8601 writes it: a day, a time of day, or both.

    Args:
        number: Of days since the beginning of the calendar.
        shape: What the format of the cell shows.
        since_1904: Whether that is 1904, as in files of old Macs; else it is 1900.

    Returns:
        Spans in hours, such as 36:00:00; ``None`` for what no calendar has.
    """
    if not 0 <= number < 2_958_466:  # the end of 9999
        return None
    days, rest = divmod(round(number * _DAY_MS), _DAY_MS)
    clock = _clock(rest)
    if shape == "span":
        hours = days * 24 + rest // 3_600_000
        return f"{hours:02d}{clock[2:]}"
    if shape == "clock" or (shape == "any" and not days):
        return clock
    day = _day(days, since_1904=since_1904)
    if day is None or shape == "day" or (shape == "any" and not rest):
        return day
    return f"{day}T{clock}"


def _clock(ms: int) -> str:
    shown: time = (datetime.min + timedelta(milliseconds=ms)).time()
    return shown.isoformat("milliseconds" if ms % 1_000 else "seconds")


def _day(days: int, *, since_1904: bool) -> str | None:
    try:
        if since_1904:
            return (date(1904, 1, 1) + timedelta(days)).isoformat()
        # Spreadsheets have a 29th of February 1900, the 60th day, which never was.
        if days in (0, 60):
            return None
        return (date(1899, 12, 30 if days > 60 else 31) + timedelta(days)).isoformat()
    except OverflowError:
        return None
