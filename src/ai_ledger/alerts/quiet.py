"""Quiet hours: when nobody wants to be told."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

from ai_ledger.errors import InvalidValue
from ai_ledger.zones import time_zone

_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_MINUTE: Final = timedelta(minutes=1)
# A day, and the hours that a change of the clock may add.
_MOST_MINUTES: Final = 27 * 60


class QuietHours:
    """
    A part of each day, by the clock on a wall.

    Args:
        hours: ``22:00-08:00``; the end is the first minute that is not quiet.
        tz: Whose wall: ``UTC``, or a name such as ``Asia/Shanghai``.

    Raises:
        InvalidValue: These are no hours, or no zone.
    """

    def __init__(self, hours: str, tz: str) -> None:
        found = _HOURS.fullmatch(hours)
        if found is None or found[1] + found[2] == found[3] + found[4]:
            raise InvalidValue("quiet", hours, "hours such as 22:00-08:00")
        self._start = time(int(found[1]), int(found[2]))
        self._end = time(int(found[3]), int(found[4]))
        self._zone = time_zone(tz)

    def over(self, now: datetime) -> datetime:
        """
        The first moment from *now* on that is not quiet; in UTC.

        It is looked for minute by minute, so that clocks that skip the end of the
        quiet hours, or strike it twice, need no rule of their own.
        """
        now = now.astimezone(UTC)
        if not self._is_quiet(now):
            return now
        minute = now.replace(second=0, microsecond=0)
        for _ in range(_MOST_MINUTES):
            minute += _MINUTE
            if not self._is_quiet(minute):
                return minute
        return now  # a zone in which all hours are quiet does not exist

    def _is_quiet(self, moment: datetime) -> bool:
        clock = moment.astimezone(self._zone).time()
        if self._start < self._end:
            return self._start <= clock < self._end
        return clock >= self._start or clock < self._end
