"""What a call has to have, and what it got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_ledger.policies.quotas.gate import Gate, Wish

if TYPE_CHECKING:
    from ai_ledger.policies.quotas.places import LocalPlaces, SharedPlaces
    from ai_ledger.policies.quotas.quota import Quota


class Later(Exception):
    """
    The call may be made later. Becomes `TooSoon` when nobody waits.

    Args:
        message: What is in the way.
        wait_s: For how many seconds; ``None`` when nobody knows.
    """

    def __init__(self, message: str, wait_s: float | None) -> None:
        self.message = message
        self.wait_s = wait_s
        super().__init__(message)


@dataclass
class Plan:
    """What the rows ask of one call."""

    quota: Quota | None = None
    model: str | None = None
    key: Gate = ("", "")
    local: Wish | None = None
    shared: tuple[Wish, ...] = ()
    rates_are_far: bool = False
    unchecked: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it can be met without a round trip."""
        return not self.shared and not self.rates_are_far

    @property
    def is_free(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.is_local and self.local is None and not (self.quota and self.quota.rates)


class Admission:
    """What one call holds. What is given back once is not given back twice."""

    __slots__ = ("_elsewhere", "_here", "local", "shared", "turn", "turns")

    def __init__(self, here: LocalPlaces, elsewhere: SharedPlaces) -> None:
        self._here = here
        self._elsewhere = elsewhere
        self.local: Gate | None = None
        self.shared: list[str] = []
        self.turn: tuple[Gate, float] | None = None
        self.turns: dict[Gate, int] = {}

    @property
    def holds_anything(self) -> bool:
        """Whether there is something to give back."""
        return (
            self.local is not None or bool(self.shared) or self.turn is not None or bool(self.turns)
        )

    def __enter__(self) -> None:
        """From here on, an exception gives all of it back."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.end(unsent=not isinstance(error, GeneratorExit))

    def end(self, *, unsent: bool = False) -> None:
        """
        Give the places back. Never waits.

        Args:
            unsent: Nothing was sent, so that turns come back as well. Without it this
                takes no lock, as collected streams and coroutines need it.
        """
        gate, self.local = self.local, None
        ids, self.shared = self.shared, []
        turn, self.turn = self.turn, None
        turns, self.turns = self.turns, {}
        if gate is not None:
            self._here.leave(gate)
        self._elsewhere.leave(ids)
        if unsent:
            if turn is not None:
                self._here.give_back(*turn)
            self._elsewhere.give_back(turns)
