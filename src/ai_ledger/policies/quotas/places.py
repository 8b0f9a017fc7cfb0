"""The turns and places of this process: taken, kept alive, given back."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from ai_ledger.errors import AILedgerError
from ai_ledger.forks import Living
from ai_ledger.policies.quotas.gate import MICRO, Gate, Refused, Wish

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database

log: Final = logging.getLogger("ai_ledger.quotas")

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
        # A collected stream ends its call in whatever thread allocates, also in one that
        # is in the middle of this class or of `threading`: there, these are all it touches.
        self._left: deque[str] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._leaving: list[str] = []
        self._unused: dict[Gate, int] = {}
        self._is_giving_back = False
        self._thread: threading.Thread | None = None
        self._renew_at = float("inf")

    after_fork_in_child = _start

    def enter(self, wishes: Sequence[Wish]) -> tuple[list[str], dict[Gate, int]]:
        """
        Take all that *wishes* say, or nothing; the ids of the places, and the turns.

        Raises:
            Refused: Something cannot be had now.
            AILedgerError: The database is away.
        """
        with self._changed:
            in_between = self._is_giving_back
        try:
            return self._enter(wishes)
        except Refused:
            if not in_between:
                raise
        # The last call of this very caller may have just been giving back its place.
        with self._changed:
            self._changed.wait_for(lambda: not self._is_giving_back, timeout=_TRY_AGAIN_S)
        return self._enter(wishes)

    def _enter(self, wishes: Sequence[Wish]) -> tuple[list[str], dict[Gate, int]]:
        from ai_ledger.policies.quotas.gates import enter

        with self._changed:
            leaving, unused = self._taken_over()
        try:
            ids, turns = enter(
                self._opened(),
                wishes,
                holder=self._holder,
                ttl_s=self._ttl_s,
                leaving=leaving,
                unused=unused,
            )
        except Refused:
            raise
        except BaseException:
            with self._changed:
                self._leaving += leaving
                self._unused = {**unused, **self._unused}
                self._wake()
            raise
        if ids:
            with self._changed:
                if not self._held:
                    self._renew_at = time.monotonic() + self._ttl_s / 3
                self._held.update(ids)
                self._wake()
        return ids, turns

    def leave(self, ids: Sequence[str]) -> None:
        """Give places back, soon; never waits and takes no lock."""
        if ids:
            self._left.extend(ids)
            self._bell.put(None)

    def give_back(self, turns: dict[Gate, int]) -> None:
        """Give turns back that nothing was sent for, soon. Not for finalizers."""
        if turns:
            with self._changed:
                self._unused.update(turns)
                self._wake()

    def close(self, timeout: float = _AT_EXIT_S) -> None:
        """Wait until what was given back is."""
        with self._changed:
            if self._has_work():
                self._wake()
            self._changed.wait_for(
                lambda: not self._has_work() and not self._is_giving_back, timeout=timeout
            )

    def _has_work(self) -> bool:
        return bool(self._left or self._leaving or self._unused)

    def _taken_over(self) -> tuple[list[str], dict[Gate, int]]:
        """What is to be given back, now in the hands of the caller, who has the lock."""
        while self._left:
            left = self._left.popleft()
            self._held.discard(left)
            self._leaving.append(left)
        leaving, self._leaving = self._leaving, []
        unused, self._unused = self._unused, {}
        return leaving, unused

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="ai-ledger-quotas", daemon=True)
            with suppress(RuntimeError):  # the interpreter ends and starts no thread any more
                self._thread = thread
                thread.start()
                return
            self._thread = None
        self._bell.put(None)

    def _run(self) -> None:
        try:
            while self._round():
                pass
        finally:
            with self._changed:
                # Whatever has happened, the next call starts another one.
                if self._thread is threading.current_thread():
                    self._thread = None
                self._is_giving_back = False
                self._changed.notify_all()

    def _round(self) -> bool:
        """Give back and renew once; whether there is a need to go on."""
        with self._changed:
            pause = self._renew_at - time.monotonic() if self._held else _IDLE_S
            if self._has_work():
                pause = 0.0
        self._rest(pause)
        with self._changed:
            leaving, unused = self._taken_over()
            if not leaving and not unused and not self._held:
                self._thread = None
                return False
            self._is_giving_back = bool(leaving or unused)
            keeping = list(self._held) if time.monotonic() >= self._renew_at else []
        failed = not self._told(leaving, unused, keeping)
        with self._changed:
            self._is_giving_back = False
            if failed:
                self._leaving += leaving
                self._unused = {**unused, **self._unused}
            elif keeping:
                self._renew_at = time.monotonic() + self._ttl_s / 3
            self._changed.notify_all()
        if failed:
            time.sleep(_TRY_AGAIN_S)
        return True

    def _rest(self, pause: float) -> None:
        with suppress(queue.Empty):
            if pause > 0:
                self._bell.get(timeout=pause)
            while True:
                self._bell.get_nowait()

    def _told(self, leaving: list[str], unused: dict[Gate, int], keeping: list[str]) -> bool:
        from ai_ledger.policies.quotas.gates import leave, renew

        try:
            if leaving or unused:
                leave(self._opened(), leaving, unused)
            if keeping:
                renew(self._opened(), keeping, ttl_s=self._ttl_s)
        except AILedgerError:
            return False  # tried again; in the end the places run out by themselves
        except Exception as error:  # noqa: BLE001  # nobody else renews what calls still hold
            log.debug("places of quotas could not be looked after: %s", error)
            return False
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
        # As in `SharedPlaces`: what a finalizer gives back while its thread has the lock.
        self._left: deque[Gate] = deque()
        self._next_at: dict[Gate, float] = {}
        self._taken: dict[Gate, int] = {}

    after_fork_in_child = _start

    def enter(self, wish: Wish) -> float | None:
        """
        Take a turn and a place; the turn, if there are any.

        Raises:
            Refused: It cannot be had now.
        """
        with self._lock:
            self._drain()
            now = self._clock()
            wait = self._next_at.get(wish.gate, 0.0) - now if wish.interval_us else 0.0
            if wait > 0:
                raise Refused(wish, max(1, round(wait * MICRO)))
            if wish.places:
                taken = self._taken.get(wish.gate, 0)
                if taken >= wish.places:
                    raise Refused(wish, None)
                self._taken[wish.gate] = taken + 1
            if not wish.interval_us:
                return None
            if len(self._next_at) >= self._MOST:
                self._next_at = {gate: at for gate, at in self._next_at.items() if at > now}
            turn = self._next_at[wish.gate] = now + wish.interval_us / MICRO
            return turn

    def leave(self, gate: Gate) -> None:
        """Give a place back; takes no lock."""
        self._left.append(gate)

    def give_back(self, gate: Gate, turn: float) -> None:
        """Give a turn back that nothing was sent for. Not for finalizers."""
        with self._lock:
            if self._next_at.get(gate) == turn:
                del self._next_at[gate]

    def _drain(self) -> None:
        while self._left:
            gate = self._left.popleft()
            left = self._taken.get(gate, 0) - 1
            if left > 0:
                self._taken[gate] = left
            else:
                self._taken.pop(gate, None)


_living: Final[Living[SharedPlaces | LocalPlaces]] = Living()


@atexit.register
def _at_exit() -> None:
    for each in _living:
        if isinstance(each, SharedPlaces):
            each.close()
