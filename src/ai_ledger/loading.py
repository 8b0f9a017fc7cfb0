"""Importing a heavy package in a background thread of a program that may fork."""

from __future__ import annotations

import os
import threading
from typing import Final

LONGEST_WAIT_SECONDS: Final = 5.0
"""How long a fork waits for an import: most end within one second."""


class Loading:
    """
    Held while a background thread imports: ``with loading: import sqlalchemy``.

    A child forked while another thread imports would wait forever for the lock of a
    module that nobody goes on importing. So a fork waits for the import to end, which
    is once in the life of a program, though not forever. Re-entrant.
    """

    def __init__(self) -> None:
        self.is_awaited_elsewhere = False
        """
        Whether `delivery.process` calls `before_fork`: it has locks of its own to take
        after this one, and Python calls the hooks of the module imported last first.
        """
        self._lock = threading.RLock()
        self._forking: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait for the import in progress, and let none begin."""
        if self._lock.acquire(timeout=LONGEST_WAIT_SECONDS):
            self._forking = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """Go on, if this thread is the one that took the lock."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on; with another lock if its holder stayed behind in the parent."""
        if self._forking == threading.get_ident():
            self.after_fork_in_parent()
        else:
            self._forking = None
            self._lock = threading.RLock()


loading: Final = Loading()


def _before_fork() -> None:
    if not loading.is_awaited_elsewhere:
        loading.before_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=loading.after_fork_in_parent,
        after_in_child=loading.after_fork_in_child,
    )
