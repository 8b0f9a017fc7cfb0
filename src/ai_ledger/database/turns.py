"""SQLite within one process: one thread writes at a time, and none is inside while it forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ai_ledger.interruptions import acquire

LONGEST_WAIT_SECONDS: Final = 5.0
"""How long a fork waits for transactions to end, and new ones wait for a fork."""


class Turns:
    """
    Keeps the connections of this process to SQLite files out of each other's way.

    The deliveries and the policies of a ledger have connections of their own to the
    same file. That one thread writes at a time is what SQLite does anyway, but it
    asks again at intervals instead of waiting in turn, and before 3.51.3 two
    connections that write and check-point at the same moment may damage the file.

    A child that is forked while a thread is inside SQLite inherits the note of a
    lock that nobody will ever open. So a fork waits until all are out.
    """

    def __init__(self) -> None:
        self.is_awaited_elsewhere = False
        """Whether `delivery.process` calls `before_fork`, in the order that it needs."""
        self._begin()

    def _begin(self) -> None:
        # Entered itself and not through the condition, whose methods a handler of a
        # signal may interrupt between taking it and the block that gives it back.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._inside: dict[int, int] = {}
        self._forker: int | None = None
        self._writers: dict[Path, threading.Lock] = {}

    @contextmanager
    def inside(self, path: Path, *, writes: bool, timeout_s: float) -> Generator[None]:
        """
        Be inside SQLite, on the file *path*, until the block ends.

        Args:
            path: The file.
            writes: Whether it is for a transaction that writes.
            timeout_s: How long to wait for another thread that writes.

        Raises:
            TimeoutError: Another thread of this process has been writing all that time.
        """
        me = threading.get_ident()
        # As it is when this begins, should a fork come between.
        inside, changed, guard = self._inside, self._changed, self._lock
        lock: threading.Lock | None = None
        got: list[bool] = []
        entered = False
        try:
            with guard:
                if self._forker is not None and self._forker != me and me not in inside:
                    changed.wait_for(lambda: self._forker is None, LONGEST_WAIT_SECONDS)
                count = inside.get(me, 0) + 1
                inside[me] = count
                entered = True
                if writes:
                    lock = self._writers.setdefault(path, threading.Lock())
            if lock is not None:
                acquire(lock, timeout_s, got)
                if True not in got:
                    raise TimeoutError(
                        f"another thread has been writing to {path} for {timeout_s} s"
                    )
            yield
        finally:
            # No function is called before all is as it was: then no handler can run.
            if entered:
                # Only this thread changes what is said of it.
                left = inside[me] - 1
                if left:
                    inside[me] = left
                else:
                    del inside[me]
            if lock is not None and True in got:
                lock.release()
            if self._forker is not None:
                with guard:
                    changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no other thread is inside, and let none in."""
        me = threading.get_ident()
        with self._lock:
            self._forker = me
            self._changed.wait_for(
                lambda: all(thread == me for thread in list(self._inside)), LONGEST_WAIT_SECONDS
            )

    def after_fork_in_parent(self) -> None:
        """Let them in again."""
        with self._lock:
            self._forker = None
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Nobody is inside."""
        self._begin()


turns: Final = Turns()


def _before_fork() -> None:
    if not turns.is_awaited_elsewhere:
        turns.before_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=turns.after_fork_in_parent,
        after_in_child=turns.after_fork_in_child,
    )
