"""Appending: the caller's side of the journal, one lock and one write for each line."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from ai_ledger.errors import ConfigurationError
from ai_ledger.journal.folder import Folder
from ai_ledger.journal.limits import Limits
from ai_ledger.journal.lines import decode, encode, without_content
from ai_ledger.journal.memory import MemorySegment
from ai_ledger.journal.overflow import CALLS_TAG, Overflow
from ai_ledger.journal.quarantine import Quarantine
from ai_ledger.journal.segment import Segment, create_segment, new_writer
from ai_ledger.records import CallRecord

log: Final = logging.getLogger("ai_ledger")

Fsync: TypeAlias = Literal["never", "second", "always"]

LATE: Final = "recorded after the end"
"""Why a call was dropped: no file took it, and nobody delivers what is in memory."""

_RETRY_SECONDS: Final = 1.0
_NEARLY_FULL: Final = 0.8


class Appending:
    """
    Where records are written: this process's segments, and memory when there is no room.

    `begin` and `end` are for the threads that make calls. See `Journal`.
    """

    def __init__(self, folder: Path | None, limits: Limits, *, fsync: Fsync = "never") -> None:
        self.path = folder
        self.limits = limits
        self.bytes = 0
        """In all segments of the folder, as far as is known."""
        self.dropped: dict[str, int] = {}
        self.keys: dict[str, bool] = {}
        """Sinks by key; whether each is durable."""
        self._fsync = fsync
        self._reset()

    def _reset(self) -> None:
        # Re-entrant, because the garbage collector may end a call (an abandoned
        # stream) in the middle of an append of the same thread.
        self.lock = threading.RLock()
        self._busy = False
        self._deferred: deque[tuple[CallRecord, bytes, bool]] = deque()
        self._folder: Folder | None = None
        self._opened = False
        self._closed = False
        self.is_ending = False
        """Whether the process is about to end, and its lock with it."""
        self._retry_at = 0.0
        self._writer = new_writer()
        self._sequence = 0
        self._current: Segment | None = None
        self._own: list[Segment] = []
        self._open: dict[str, tuple[Segment | None, bytes]] = {}
        self._failing = False
        self.memory = MemorySegment(self.limits.memory_bytes)
        self._overflow = Overflow()
        # By sink: records in segments that were let go of at the end.
        self._left: dict[str, int] = {}
        for key in self.keys:
            self.memory.positions[key] = self.memory.done[key] = 0

    @property
    def mode(self) -> Literal["journal", "memory"]:
        """Whether records go to the disk."""
        return (
            "memory" if self.path is None or (self._opened and self._folder is None) else "journal"
        )

    @property
    def quarantine(self) -> Quarantine | None:
        """Where records are set aside; ``None`` without a folder."""
        return Quarantine(self._folder) if self._folder else None

    def add_sink(self, key: str, *, durable: bool) -> None:
        """Keep a cursor for the sink *key*. Before the first record."""
        self.keys[key] = durable
        self.memory.positions[key] = self.memory.done[key] = 0

    # The caller's side

    def begin(self, record: CallRecord) -> None:
        """Note that a call begins."""
        if not self._closed:
            record = _claiming_nothing(record)
            self._put(record, encode(record, self.limits.record_bytes), begins=True)

    def end(self, record: CallRecord, *, refuse: bool = False) -> bool:
        """
        Keep the account of a call that is over.

        Args:
            record: The account.
            refuse: Answer false when there is no room, in place of adding it up.
        """
        limits = self.limits
        record = _claiming_nothing(record)
        if (
            self.bytes > limits.journal_bytes * _NEARLY_FULL
            and self._folder is not None
            and (record.request_content is not None or record.response_content is not None)
        ):
            self.count("texts left out: the journal is nearly full")
            record = without_content(record)
        return self._put(record, encode(record, limits.record_bytes), refuse=refuse)

    def _put(
        self, record: CallRecord, line: bytes, *, begins: bool = False, refuse: bool = False
    ) -> bool:
        with self.lock:
            if self._busy:
                self._deferred.append((record, line, begins))
                return True
            self._busy = True
            try:
                kept = self._keep(record, line, begins, refuse)
                while self._deferred:
                    self._keep(*self._deferred.popleft(), False)
            finally:
                self._busy = False
        return kept

    def _keep(self, record: CallRecord, line: bytes, begins: bool, refuse: bool) -> bool:
        segment = self._write(line, begins)
        if begins:
            self._open[record.id] = (segment, line)
            return True
        if segment is None and self._closed:
            self.count(LATE)
        elif segment is None and not self.memory.append(line):
            if refuse:
                return False
            self.count("no room: kept as a sum only")
            # Not the record itself, whose odd fields are mended in its line.
            self._overflow.add(decode(line))
        self._open.pop(record.id, None)
        return True

    def _write(self, line: bytes, begins: bool) -> Segment | None:
        """The segment that took *line*; ``None`` when it has to stay in memory."""
        segment = self._writable()
        if segment is None:
            return None
        if self.bytes + len(line) > self.limits.journal_bytes:
            return None
        try:
            segment.append(line)
            if self._fsync == "always":
                os.fdatasync(segment.fd)
        except OSError as error:
            self._failed(error)
            return None
        self.bytes += len(line)
        if not begins:
            segment.records += 1
        if self._failing:
            self._failing = False
            log.warning("the journal can be written again")
        if self._closed and not self.is_ending:
            self._release(segment)
        return segment

    def _writable(self) -> Segment | None:
        segment = self._current
        if segment is not None and not segment.sealed and segment.size < self.limits.segment_bytes:
            return segment
        if self._opened and self._folder is None:
            return None
        usable = None if segment is None or segment.sealed else segment
        if time.monotonic() < self._retry_at:
            return usable
        self.open()
        if self._folder is None:
            return None
        try:
            return self._rotated()
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            if error.errno == errno.ENOENT:
                self._reopen()
            self._failed(error)
            return usable

    def _rotated(self) -> Segment:
        assert self._folder is not None
        self._sequence += 1
        segment = create_segment(self._folder, self._writer, self._sequence)
        if self._fsync == "always":
            self._folder.sync()
        for key in self.keys:
            segment.positions[key] = segment.start
            segment.done[key] = 0
        self._own.append(segment)
        self._current = segment
        self.bytes += segment.size
        return segment

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            log.warning(
                "the journal in %s cannot be written (%s): memory for now", self.path, error
            )

    def open(self) -> None:
        """Open the folder, once. Where that fails, memory serves for good, and the log says so."""
        with self.lock:
            if self._opened:
                return
            self._opened = True
            if self.path is not None:
                self._reopen()

    def _reopen(self) -> None:
        assert self.path is not None
        old, self._folder = self._folder, None
        if old is not None:
            old.close()
        try:
            self._folder = Folder(self.path)
        except (OSError, ConfigurationError) as error:
            log.warning(
                "no journal: %s. Records wait in memory, and are lost with the process", error
            )

    def count(self, reason: str, calls: int = 1) -> None:
        """Count what was given up, by reason."""
        with self.lock:
            self.dropped[reason] = self.dropped.get(reason, 0) + calls

    def _release(self, segment: Segment) -> None:
        """After `close`: a line that comes late is left for whoever comes next."""
        self._own.remove(segment)
        self._current = None
        self._leave(segment)

    def _leave(self, segment: Segment) -> None:
        for key, done in segment.done.items():
            self._left[key] = self._left.get(key, 0) + max(0, segment.records - done)
        segment.close()


def _claiming_nothing(record: CallRecord) -> CallRecord:
    # The tag multiplies a price: only the journal's own sums may have it.
    tags: Any = record.tags
    # What a caller gives may be no dictionary at all, which `encode` mends.
    if not isinstance(tags, dict) or CALLS_TAG not in tags:
        return record
    return record.replace(
        tags={name: tag for name, tag in record.tags.items() if name != CALLS_TAG}
    )
