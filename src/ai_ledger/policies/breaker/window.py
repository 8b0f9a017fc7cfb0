"""A sliding window: how many calls there were of late, and how many of them failed."""

from __future__ import annotations

from typing import Final

BUCKETS: Final = 10
"""Counts leave the window a tenth of it at a time."""


class Window:
    """
    Counts over the last *seconds*, kept in `BUCKETS`: constant in time and memory.

    The newest bucket is still being filled, so what is counted is never older than
    *seconds*, and the oldest tenth of it may be gone already.

    Args:
        seconds: How far back, above 0.
    """

    __slots__ = ("_calls", "_failures", "_newest", "_width", "calls", "failures")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self._newest = 0
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._calls = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self.calls = 0
        self.failures = 0

    def add(self, failed: bool, now: float) -> None:
        """Count one call that ended *now*."""
        self.slide(now)
        at = self._newest % BUCKETS
        self._calls[at] += 1
        self.calls += 1
        if failed:
            self._failures[at] += 1
            self.failures += 1

    def slide(self, now: float) -> None:
        """Forget what is too old *now*. Time that goes back forgets nothing."""
        newest = int(now // self._width)
        if newest == self._newest:
            return
        for number in range(max(self._newest + 1, newest - BUCKETS + 1), newest + 1):
            at = number % BUCKETS
            self.calls -= self._calls[at]
            self.failures -= self._failures[at]
            self._calls[at] = self._failures[at] = 0
        self._newest = max(self._newest, newest)
