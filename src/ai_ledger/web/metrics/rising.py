"""`Rising`: counters over sums that may fall."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Rising(Generic[K]):
    """
    How much each sum has grown since it was first read here.

    The sums of a store fall when calls are deleted, priced again or forgotten. A counter
    that falls has begun anew, for who reads it, and all that it says counts as new. So a
    fall is left out, and what comes after it is counted from there.
    """

    def __init__(self) -> None:
        self._last: dict[K, int] = {}
        self._risen: dict[K, int] = {}
        self._has_begun = False

    def read(self, sums: dict[K, int]) -> dict[K, int]:
        """
        What has been added to each sum.

        Args:
            sums: All of them as they are now. One that was not there before began at
                zero, unless this is the first reading of all.
        """
        for key, now in sums.items():
            before = self._last.get(key, 0 if self._has_begun else now)
            self._risen[key] = self._risen.get(key, 0) + max(0, now - before)
        # Those that are gone have fallen to nothing.
        self._last = dict(sums)
        self._has_begun = True
        return dict(self._risen)
