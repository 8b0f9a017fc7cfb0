"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """
    Time for tests: call it for the time of day, `monotonic` for durations.

    Args:
        start: The first time of day; aware. The default is an arbitrary Monday.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("start: expected a datetime with a time zone")
        self._now = start
        self._monotonic = 1000.0

    def __call__(self) -> datetime:
        """The time of day, aware."""
        return self._now

    def now(self) -> datetime:
        """The time of day, aware."""
        return self._now

    def time(self) -> float:
        """Seconds since the epoch, like `time.time`."""
        return self._now.timestamp()

    def monotonic(self) -> float:
        """Seconds that never go back, like `time.monotonic`."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass on both clocks."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += max(0.0, seconds)

    def sleep(self, seconds: float) -> None:
        """`advance`, for code that is handed a ``sleep``."""
        self.advance(seconds)

    def set(self, now: datetime) -> None:
        """Step the time of day to *now*, as an administrator would; `monotonic` stays."""
        self._now = now
