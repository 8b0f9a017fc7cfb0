"""What this process remembers of the rows, so that a call need not ask for them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ai_ledger.errors import AILedgerError, SinkUnavailable

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database
    from ai_ledger.policies.quotas.rows import Snapshot

REFRESH_S: Final = 2.0
"""What another process has changed holds here after so many seconds at the latest."""


class Known:
    """
    The rows of one database. Threads share it.

    While calls come, the rows are looked at anew behind their backs before they are
    too old; only the first call, and one after a pause, waits for them.

    Args:
        opened: Gives the database.
        clock: Seconds.
    """

    def __init__(
        self, opened: Callable[[], Database], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.last: Snapshot | None = None
        """The rows as they were when they were last read."""
        self._opened = opened
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._failed_at = float("-inf")
        self._failure = ""
        self._edits = 0
        self._refreshing = False

    @property
    def is_fresh(self) -> bool:
        """Whether `rows` answers at once."""
        now = self._clock()
        return now - self._read_at < REFRESH_S or now - self._failed_at < REFRESH_S

    def rows(self) -> Snapshot:
        """
        The rows, as they were less than `REFRESH_S` ago.

        Raises:
            AILedgerError: They cannot be read. It is not tried again for a while.
        """
        last, age = self.last, self._clock() - self._read_at
        if last is not None and age < REFRESH_S:
            if age > REFRESH_S / 2 and not self._refreshing:
                self._refresh_behind()
            return last
        return self._read()

    def edited(self) -> None:
        """Read the rows before the next call: this process has changed them."""
        # Not under the lock, which may be held for as long as the database is slow.
        self._edits += 1
        self._read_at = self._failed_at = float("-inf")

    def after_fork_in_child(self) -> None:
        """Go on without the parent's threads."""
        self._lock = threading.Lock()
        self._refreshing = False

    def _read(self) -> Snapshot:
        from ai_ledger.policies.quotas.rows import snapshot

        with self._lock:
            begun, edits = self._clock(), self._edits
            if self.last is not None and begun - self._read_at < REFRESH_S:
                return self.last  # another thread was quicker
            if begun - self._failed_at < REFRESH_S:
                raise SinkUnavailable(self._failure)
            try:
                self.last = snapshot(self._opened(), self.last)
            except AILedgerError as error:
                self._failure = str(error)
                self._failed_at = self._clock()
                raise
            if edits == self._edits:
                self._read_at = begun
            return self.last

    def _refresh_behind(self) -> None:
        self._refreshing = True
        try:
            threading.Thread(
                target=self._refresh, name="ai-ledger-quotas-rows", daemon=True
            ).start()
        except RuntimeError:  # the interpreter ends and starts no thread any more
            self._refreshing = False

    def _refresh(self) -> None:
        from ai_ledger.policies.quotas.rows import snapshot

        try:
            with suppress(AILedgerError), self._lock:
                # The next call that finds the rows too old says what is wrong.
                begun, edits = self._clock(), self._edits
                self.last = snapshot(self._opened(), self.last)
                if edits == self._edits:
                    self._read_at = begun
        finally:
            self._refreshing = False


_lock = threading.Lock()
_known: dict[str, Known] = {}


def known_rows(url: str, opened: Callable[[], Database]) -> Known:
    """The one `Known` of this process for *url*: an edit here counts for all at once."""
    with _lock:
        if url not in _known:
            _known[url] = Known(opened)
        return _known[url]


def forget_rows() -> None:
    """Remember nothing, for tests that share a database."""
    with _lock:
        _known.clear()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for known in _known.values():
        known.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
