"""How many of what takes long go on at a time, in all and for one reader."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from ai_ledger.access import Access

T = TypeVar("T")

QUESTIONS: Final = 16
"""Slow ones that are worked on at a time, of all readers; a thread pool has 40 threads."""
QUESTIONS_EACH: Final = 6
"""Of one reader: as many connections as a browser has."""
_THREADS: Final = 4


class Seats:
    """
    Seats that nobody waits for. Threads share one.

    Args:
        number: How many there are.
        each: How many of them one reader may have.
    """

    def __init__(self, number: int, each: int) -> None:
        self._lock: Final = threading.Lock()
        self._number: Final = number
        self._each: Final = each
        self._taken: Final[Counter[str]] = Counter()

    def take(self, who: str) -> bool:
        """Take one, if there is one for *who*."""
        with self._lock:
            if self._taken[who] >= self._each or self._taken.total() >= self._number:
                return False
            self._taken[who] += 1
            return True

    def leave(self, who: str) -> None:
        """Give one back."""
        with self._lock:
            self._taken[who] -= 1
            if not self._taken[who]:
                del self._taken[who]


def who_is(access: Access) -> str:
    """One reader: a token, or a name where there is none."""
    if access.token_id is not None:
        return f"token {access.token_id}"
    return f"{access.org_id or ''}/{access.name}"


async def aside(what: str, work: Callable[[], T]) -> T:
    """
    Run *work* in a thread that no page waits for, nor waits for pages.

    Args:
        what: Each has `_THREADS` threads of its own.
        work: Takes nothing.
    """
    # Each event loop has its own, as the threads of pages are.
    limiters = _limiters.get(None)
    if limiters is None:
        limiters = dict[str, anyio.CapacityLimiter]()
        _limiters.set(limiters)
    if what not in limiters:
        limiters[what] = anyio.CapacityLimiter(_THREADS)
    return await run_sync(work, limiter=limiters[what])


_limiters: Final[RunVar[dict[str, anyio.CapacityLimiter] | None]] = RunVar("ai_ledger_threads")
