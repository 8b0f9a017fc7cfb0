"""The turns and places of this process: taken, kept alive, given back."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from ai_ledger.errors import AILedgerError
from ai_ledger.policies.quotas.gate import MICRO, Gate, Refused, Wish

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database

_IDLE_S: Final = 5.0
_TRY_AGAIN_S: Final = 1.0
_AT_EXIT_S: Final = 2.0


class SharedPlaces:
    """
    Turns and places of all processes together. Threads share it.

    A thread gives back what calls no longer need, and renews what they still do;
    it ends when there is nothing of either. What a killed process held is free
    when its time is up.

    Args:
        opened: Gives the database.
        ttl_s: How long a place lasts that nobody renews.
    """

    def __init__(self, opened: Callable[[], Database], ttl_s: float) -> None:
        self._opened = opened
        self._ttl_s = ttl_s
        self._start()
        _living.add(self)

    def _start(self) -> None:
        self._holder = str(uuid4())
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._leaving: list[str] = []
        self._is_giving_back = False
        self._thread: threading.Thread | None = None
        self._renew_at = float("inf")

    after_fork_in_child = _start

    def enter(self, wishes: Sequence[Wish]) -> list[str]:
        """
        Take all that *wishes* say, or nothing; the ids of the places.

        Raises:
            Refused: Something cannot be had now.
            AILedgerError: The database is away.
        """
        with self._changed:
            in_between = self._is_giving_back
        try:
            return self._enter(wishes)
        except Refused as refused:
            if refused.wait_us is not None or not in_between:
                raise
        # The last call of this very caller may have just been giving back its place.
        with self._changed:
            self._changed.wait_for(lambda: not self._is_giving_back, timeout=_TRY_AGAIN_S)
        return self._enter(wishes)

    def _enter(self, wishes: Sequence[Wish]) -> list[str]:
        from ai_ledger.policies.quotas.gates import enter

        with self._changed:
            leaving, self._leaving = self._leaving, []
        try:
            ids = enter(
                self._opened(), wishes, holder=self._holder, ttl_s=self._ttl_s, leaving=leaving
            )
        except Refused:
            raise
        except BaseException:
            with self._changed:
                self._leaving += leaving
            raise
        if ids:
            with self._changed:
                if not self._held:
                    self._renew_at = time.monotonic() + self._ttl_s / 3
                self._held.update(ids)
                self._wake()
        return ids

    def leave(self, ids: Sequence[str]) -> None:
        """Give places back, soon; never waits."""
        if not ids:
            return
        with self._changed:
            self._held.difference_update(ids)
            self._leaving += ids
            self._wake()

    def close(self, timeout: float = _AT_EXIT_S) -> None:
        """Wait until what was given back is."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._leaving and not self._is_giving_back, timeout=timeout
            )

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="ai-ledger-quotas", daemon=True)
            with suppress(RuntimeError):  # the interpreter ends and starts no thread any more
                thread.start()
                self._thread = thread
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._leaving:
                    pause = self._renew_at - time.monotonic() if self._held else _IDLE_S
                    self._changed.wait(max(0.0, pause))
                if not self._leaving and not self._held:
                    self._thread = None
                    return
                leaving, self._leaving = self._leaving, []
                self._is_giving_back = bool(leaving)
                keeping = list(self._held) if time.monotonic() >= self._renew_at else []
            failed = not self._told(leaving, keeping)
            with self._changed:
                self._is_giving_back = False
                if failed:
                    self._leaving += leaving
                elif keeping:
                    self._renew_at = time.monotonic() + self._ttl_s / 3
                self._changed.notify_all()
                if failed:
                    self._changed.wait(_TRY_AGAIN_S)

    def _told(self, leaving: list[str], keeping: list[str]) -> bool:
        from ai_ledger.policies.quotas.gates import leave, renew

        try:
            if leaving:
                leave(self._opened(), leaving)
            if keeping:
                renew(self._opened(), keeping, ttl_s=self._ttl_s)
        except AILedgerError:
            return False  # tried again; in the end the places run out by themselves
        return True


class LocalPlaces:
    """
    Turns and places of this process alone. Threads share it.

    Args:
        clock: Seconds.
    """

    _MOST: Final = 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start()
        _living.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._next_at: dict[Gate, float] = {}
        self._taken: dict[Gate, int] = {}

    after_fork_in_child = _start

    def enter(self, wish: Wish) -> None:
        """
        Take a turn and a place.

        Raises:
            Refused: It cannot be had now.
        """
        with self._lock:
            now = self._clock()
            wait = self._next_at.get(wish.gate, 0.0) - now if wish.interval_us else 0.0
            if wait > 0:
                raise Refused(wish, max(1, round(wait * MICRO)))
            if wish.places:
                taken = self._taken.get(wish.gate, 0)
                if taken >= wish.places:
                    raise Refused(wish, None)
                self._taken[wish.gate] = taken + 1
            if wish.interval_us:
                if len(self._next_at) >= self._MOST:
                    self._next_at = {gate: at for gate, at in self._next_at.items() if at > now}
                self._next_at[wish.gate] = now + wish.interval_us / MICRO

    def leave(self, gate: Gate) -> None:
        """Give a place back."""
        with self._lock:
            left = self._taken.get(gate, 0) - 1
            if left > 0:
                self._taken[gate] = left
            else:
                self._taken.pop(gate, None)


_living: weakref.WeakSet[SharedPlaces | LocalPlaces] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for each in list(_living):
        each.after_fork_in_child()


@atexit.register
def _at_exit() -> None:
    for each in list(_living):
        if isinstance(each, SharedPlaces):
            each.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
