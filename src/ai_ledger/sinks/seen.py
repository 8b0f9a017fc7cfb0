"""What a sink has taken already, for sinks that only count."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ai_ledger.records import CallRecord

WINDOW: Final = 20_000
"""Ids that are remembered: far more than one batch, which is what may come again."""


class Seen:
    """
    The ids of the last calls, so that a record that comes again is left out.

    A call that was given up as ``unfinished`` and ends after all is let through once more.
    """

    def __init__(self, most: int = WINDOW) -> None:
        self._most: Final = most
        self._finished: OrderedDict[str, bool] = OrderedDict()

    def is_new(self, record: CallRecord) -> bool:
        """Whether *record* says something that was not said yet; it is remembered."""
        finished = record.status != "unfinished"
        known = self._finished.get(record.id)
        if known is not None and (known or not finished):
            return False
        self._finished[record.id] = finished
        if len(self._finished) > self._most:
            self._finished.popitem(last=False)
        return True
