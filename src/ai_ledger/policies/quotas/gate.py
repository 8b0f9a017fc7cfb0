"""What a call needs to pass: a turn, a place, or both."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

Gate: TypeAlias = tuple[str, str]
"""The key of an organisation and that of a model; `TOGETHER` for all organisations."""

# No key of an organisation is this: after a backslash they have another one or nothing.
TOGETHER: Final = "\\*"
MICRO: Final = 1_000_000


class Wish(msgspec.Struct, frozen=True):
    """
    What a call needs of one gate.

    Args:
        gate: Which.
        interval_us: Microseconds until the next turn; 0 when turns do not matter.
        places: How many calls may be in flight; 0 for no bound.
    """

    gate: Gate
    interval_us: int
    places: int


class Refused(Exception):
    """
    Not now.

    Args:
        wish: What could not be had.
        wait_us: Microseconds until the next turn; ``None`` when all places are taken.
    """

    def __init__(self, wish: Wish, wait_us: int | None) -> None:
        self.wish = wish
        self.wait_us = wait_us
        super().__init__(wish)
