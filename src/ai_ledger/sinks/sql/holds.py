"""What this process has set aside for its calls, as the writer of their rows sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Consumed(NamedTuple):
    """Part of a lease that a row has now taken the place of, in the lease's unit."""

    lease_id: int
    amount: int


class Holds(Protocol):
    """
    Knows which leases the calls of this process draw on.

    The writer asks inside its transaction, which may be done over, and tells
    afterwards: `consumed` must change nothing and give the same answer until
    `charged`, and a call of which nothing is known has no answer.
    """

    def consumed(self, call_ids: Sequence[str]) -> Sequence[Consumed]:
        """What ends with the rows of these calls, which the transaction stores."""
        ...

    def charged(self, call_ids: Sequence[str]) -> None:
        """
        These calls are stored and what they held is taken off the leases.

        Also those that were stored before, as after a commit whose answer was lost.
        """
        ...
