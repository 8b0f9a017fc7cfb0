"""`Failures`: who has shown wrong tokens of late, and how often."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

MOST: Final = 10
WITHIN_S: Final = 60.0
_PEERS: Final = 1_000


class Failures:
    """
    Counts failures of each peer, in this process. Threads may share one.

    A right token is never refused for them: guessing 256 bits is hopeless at any pace,
    and behind a proxy all have the same address. It keeps the database from being asked
    more often than people type.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._seen: Final[OrderedDict[str, deque[float]]] = OrderedDict()

    def note(self, peer: str) -> float | None:
        """Count one more of *peer*; in how many seconds it may try again, if that was too many."""
        with self._lock:
            now = self._clock()
            times = self._seen.setdefault(peer, deque(maxlen=MOST + 1))
            self._seen.move_to_end(peer)
            if len(self._seen) > _PEERS:
                self._seen.popitem(last=False)
            times.append(now)
            while times[0] <= now - WITHIN_S:
                times.popleft()
            return times[0] + WITHIN_S - now if len(times) > MOST else None
