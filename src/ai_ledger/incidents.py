"""Incidents: what went wrong inside the ledger itself, counted by reason, logged once each."""

from __future__ import annotations

import logging
import threading
from typing import Final

from ai_ledger.secrets import scrub

log: Final = logging.getLogger("ai_ledger")


class Incidents:
    """Counts by reason. The first of each reason is logged, so a fault cannot flood the log."""

    def __init__(self) -> None:
        # Reentrant, because a finalizer may have something to note in the middle of a note.
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}

    def note(self, reason: str, error: BaseException | None = None, *, quote: bool = True) -> None:
        """Count *reason*, and log it when it is new, with what *error* says. Never raises."""
        with self._lock:
            first = reason not in self._counts
            self._counts[reason] = self._counts.get(reason, 0) + 1
        if first:
            told = f": {type(error).__name__}" if error else ""
            if error and quote:
                told += f": {scrub(str(error))[:300]}"
            log.warning("%s%s (further ones are only counted)", reason, told)

    def after_fork_in_child(self) -> None:
        """Start anew: what was noted is the parent's, and its lock may never be opened here."""
        self._lock = threading.RLock()
        self._counts = {}

    def counts(self) -> dict[str, int]:
        """How often each reason came up."""
        with self._lock:
            return dict(self._counts)
