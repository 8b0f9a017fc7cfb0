"""The journal: this process's segments, those it adopted, and memory for when there is no disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, TypeAlias

import msgspec

from ai_ledger.errors import InvalidValue, SinkUnavailable
from ai_ledger.journal.adoption import adopt, saved_cursors, sweep
from ai_ledger.journal.appending import LATE, Appending, Fsync, log
from ai_ledger.journal.folder import Folder
from ai_ledger.journal.lines import decode, encode, unfinished_id
from ai_ledger.journal.memory import MemorySegment
from ai_ledger.journal.segment import Segment, cursor_name
from ai_ledger.records import CallRecord

__all__ = ["AnySegment", "Batch", "Fsync", "Journal", "Mark"]

AnySegment: TypeAlias = Segment | MemorySegment
Mark: TypeAlias = tuple[AnySegment, int, int]
"""A place that cursors can be compared with: segment, generation, position."""

_STRETCH: Final = 32
# Each takes an open file from a program that may not have many to spare.
_ORPHANS: Final = 32
_BREATH_SECONDS: Final = 0.00005


class Batch(NamedTuple):
    """Some records of one segment, and where their sink's cursor goes once they are stored."""

    segment: AnySegment
    generation: int
    end: int
    lines: int
    """How many lines they were, unreadable ones included."""
    records: list[CallRecord]
    is_last: bool
    """Whether nothing stood behind it when it was read."""


class Journal(Appending):
    """
    Where records wait until every sink has them.

    `begin` and `end` are for the threads that make calls; they hold one lock
    for one write. All else is for the threads that deliver.

    Args:
        folder: Shared by the processes of one ledger. ``None``: keep records in
            memory, and say nothing about it.
        limits: When to give in, and how.
        fsync: Whether each line is forced to the disk.
    """

    def _reset(self) -> None:
        super()._reset()
        self.hurry = 0
        """How many wait in `flush`."""
        self.scans = 0
        """How many times orphans were looked for."""
        self.has_more_orphans = False
        """Whether the last look round left some for the next."""
        self._adopted: list[Segment] = []
        self._tidying = threading.Lock()

    # The delivering side

    def next_batch(self, key: str, max_records: int | None = None) -> Batch | None:
        """The next records for the sink *key*; ``None`` when it has them all."""
        max_records = max_records or self.limits.batch_records
        waiting = [
            segment
            for segment in self._segments()
            if segment.positions.get(key, segment.size) < segment.size
        ]
        for segment in waiting:
            generation, size = segment.generation, segment.size
            position = segment.positions[key]
            # Of two lines a call, one is passed over.
            lines, end = segment.read(position, 2 * max_records, self.limits.batch_bytes)
            if segment.generation != generation:
                # Emptied since, which only those see who ask on behalf of another thread.
                continue
            records: list[CallRecord] = []
            meant = 0
            for number, (offset, text) in enumerate(lines):
                self.breathe(number)
                if len(records) == max_records:
                    end = offset
                    break
                if unfinished_id(text) is not None and not self._is_unmatched(segment, offset):
                    continue
                meant += 1
                if text.isspace():
                    # Its record was forgotten and stands elsewhere.
                    continue
                try:
                    records.append(decode(text))
                except InvalidValue:
                    self._set_aside(segment, offset, text)
            if end > position:
                is_last = segment is waiting[-1] and end >= size
                return Batch(segment, generation, end, meant, records, is_last)
        return None

    def breathe(self, number: int) -> None:
        """
        Let other threads run for a moment, every few records.

        A thread that waits for the interpreter gets it after five milliseconds
        otherwise. Even ``sleep(0)`` does not help: this thread would be back
        before the other has woken up. Left out while somebody waits in `flush`.
        """
        if number % _STRETCH == _STRETCH - 1 and not self.hurry:
            time.sleep(_BREATH_SECONDS)

    def _segments(self) -> list[AnySegment]:
        with self.lock:
            return [self.memory, *self._own, *self._adopted]

    @staticmethod
    def _is_unmatched(segment: AnySegment, offset: int) -> bool:
        # Memory holds a beginning only when it is the last thing known of a call.
        return isinstance(segment, MemorySegment) or offset in segment.unmatched

    def _set_aside(self, segment: AnySegment, offset: int, text: bytes) -> None:
        if offset in segment.bad:
            return
        segment.bad.add(offset)
        quarantine = self.quarantine
        try:
            if quarantine is not None:
                quarantine.add_fragment(text, segment=segment.name, reason="unreadable line")
        except OSError as error:
            log.warning("an unreadable line of the journal could not be set aside: %s", error)
            quarantine = None
        if quarantine is None:
            self.count("unreadable line in the journal")
        else:
            log.warning("an unreadable line of %s was set aside", segment.name)

    def acknowledge(self, key: str, batch: Batch) -> None:
        """The sink *key* has all records of *batch*."""
        segment = batch.segment
        with self.lock:
            if segment.generation != batch.generation:
                return
            segment.positions[key] = batch.end
            segment.done[key] += batch.lines
            if isinstance(segment, Segment):
                segment.unsaved = True

    def _save_cursors(self, segment: Segment) -> None:
        cursors = {
            key: (segment.positions[key], segment.done[key])
            for key, durable in self.keys.items()
            if durable
        }
        segment.unsaved = False
        # Without it a crash means that more is sent twice, which does no harm.
        try:
            if self._folder is not None and segment.fd >= 0:
                self._folder.write(cursor_name(segment.name), msgspec.json.encode(cursors))
        except OSError as error:
            log.debug("cursors of %s could not be saved: %s", segment.name, error)

    def pending(self, key: str) -> int:
        """How many records the sink *key* still has to take."""
        with self.lock:
            return self._left.get(key, 0) + sum(
                max(0, segment.records - segment.done[key])
                for segment in self._segments()
                if key in segment.done
            )

    def oldest(self, key: str) -> CallRecord | None:
        """The first record that the sink *key* still has to take."""
        batch = self.next_batch(key, 50)
        return batch.records[0] if batch and batch.records else None

    def marks(self) -> list[Mark]:
        """Where the segments end now."""
        return [(each, each.generation, each.size) for each in self._segments()]

    def adopted_marks(self) -> list[Mark]:
        """Where the adopted segments end."""
        with self.lock:
            return [(each, each.generation, each.size) for each in self._adopted]

    @property
    def is_delivered(self) -> bool:
        """Whether every sink has every record that this process put in, also after `close`."""
        with self.lock:
            return (
                not self._overflow
                and LATE not in self.dropped
                and not any(self.pending(key) for key in self.keys)
            )

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was ever put into it."""
        return not self._opened and not self._open and self.memory.size == 0

    def reached(self, key: str, marks: list[Mark]) -> bool:
        """Whether the sink *key* has everything that stands before *marks*."""
        return all(
            segment.generation != generation or segment.positions.get(key, position) >= position
            for segment, generation, position in marks
        )

    # Housekeeping

    def tidy(self, waiting: Collection[str], *, scan: bool) -> bool:
        """
        Give back what all sinks have; look for orphans.

        Args:
            waiting: The sinks that are waited for: all but those that are not
                durable and hang.
            scan: Look into the folder as well.

        Returns:
            Whether it was done; false when another thread is at it.
        """
        if not self._tidying.acquire(blocking=False):
            return False
        try:
            self._trim(waiting)
            if scan:
                self._scan()
        finally:
            self._tidying.release()
        return True

    def _trim(self, waiting: Collection[str]) -> None:
        if waiting:
            self.memory.trim(min(self.memory.positions[key] for key in waiting))
        self._store_sums()
        # A writer's segments go in order, so that no call's end goes before its beginning.
        kept: set[str] = set()
        for segment in list(self._adopted):
            if segment.writer not in kept and self._is_done(segment, waiting):
                self._remove(segment, self._adopted, waiting)
            else:
                kept.add(segment.writer)
        for segment in list(self._own):
            if not self._is_done(segment, waiting):
                break
            if segment is self._current:
                self._truncate(segment, waiting)
            else:
                self._remove(segment, self._own, waiting)
        for segment in (*self._own, *self._adopted):
            if segment.unsaved:
                self._save_cursors(segment)

    def _is_done(self, segment: AnySegment, waiting: Collection[str]) -> bool:
        return all(segment.positions.get(key, segment.size) >= segment.size for key in waiting)

    def _truncate(self, segment: Segment, waiting: Collection[str]) -> None:
        if segment.size == segment.start:
            return
        assert self._folder is not None
        with self.lock:
            if not self._is_done(segment, waiting) or self._begun_in(segment):
                return
            # The cursors first: they must never point behind what a new line begins.
            self._folder.remove(cursor_name(segment.name))
            self.bytes -= segment.size - segment.start
            self._count_missed(segment, waiting)
            try:
                segment.truncate()
            except OSError as error:
                self._failed(error)
                segment.sealed = True

    def _remove(self, segment: Segment, group: list[Segment], waiting: Collection[str]) -> None:
        with self.lock:
            self._count_missed(segment, waiting)
            for call in self._begun_in(segment):
                _, line = self._open[call]
                self._open[call] = (self._write(line, True), line)
            group.remove(segment)
            self.bytes -= segment.size
        assert self._folder is not None
        self._folder.remove(segment.name)
        self._folder.remove(cursor_name(segment.name))
        segment.close()

    def _count_missed(self, segment: Segment, waiting: Collection[str]) -> None:
        for key, done in segment.done.items():
            if key not in waiting and done < segment.records:
                self.count(f"missed by {key}, which hangs", segment.records - done)

    def _begun_in(self, segment: Segment) -> list[str]:
        return [call for call, (where, _) in self._open.items() if where is segment]

    def _store_sums(self) -> None:
        with self.lock:
            if not self._overflow or self.memory.bytes > self.memory.max_bytes // 2:
                return
            for record in self._overflow.take():
                line = encode(record, self.limits.record_bytes)
                if self._write(line, False) is None and not self.memory.append(line):
                    self._overflow.add(record)

    def _scan(self) -> None:
        self.open()
        folder = self._folder
        if folder is None:
            self.scans += 1
            return
        with self.lock:
            current = self._current
            if current is not None and not folder.is_same(current.name, current.fd):
                # Somebody removed it. What it holds can still be read, but would
                # not outlive this process, so it gets no more.
                current.sealed = True
                self._reopen_if_gone(folder)
            known = {segment.name for segment in (*self._own, *self._adopted)}
        try:
            sweep(folder)
            found, self.has_more_orphans = adopt(folder, known, _ORPHANS - len(self._adopted))
            self.bytes = sum(
                folder.size(name) for name in folder.names() if name.endswith(".segment")
            )
        except OSError as error:
            log.debug("the journal's folder could not be read: %s", error)
            found, self.has_more_orphans = [], False
        for segment in found:
            saved = saved_cursors(folder, segment)
            for key, durable in self.keys.items():
                nothing = (segment.start, 0)
                everything = (segment.size, segment.records)
                # A sink without memory is not told what a dead process had to say.
                position, done = saved.get(key, nothing) if durable else everything
                segment.positions[key], segment.done[key] = position, done
        with self.lock:
            self._adopted += found
            self.scans += 1

    def _reopen_if_gone(self, folder: Folder) -> None:
        assert self.path is not None
        try:
            gone = not os.path.samestat(os.stat(self.path), os.fstat(folder.fd))
        except OSError:
            gone = True
        if gone:
            self._reopen()

    def sync(self) -> None:
        """Force to the disk what was written since the last time."""
        with self.lock:
            folder = self._folder
            changed = [each for each in self._own if each.start < each.size != each.synced]
        if folder is None or not changed:
            return
        try:
            if any(segment.synced == 0 for segment in changed):
                folder.sync()
            for segment in changed:
                size = segment.size
                # Opened anew: a duplicate would carry the lock into a child forked meanwhile.
                fd = folder.open(segment.name)
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
                segment.synced = size
        except FileNotFoundError:
            pass  # delivered meanwhile
        except OSError as error:
            self._failed(error)

    def forget(
        self, matches: Callable[[CallRecord], bool], forgotten: Callable[[CallRecord], CallRecord]
    ) -> int:
        """
        Put *forgotten* records in place of those that *matches* means, wherever they wait.

        Own, adopted and orphaned segments, memory, the quarantine. Segments of
        other processes that live are theirs to change.

        Returns:
            How many calls were changed.

        Raises:
            SinkUnavailable: The disk would not let some file be rewritten, which is
                as it was. All else is done; asking again does the rest.
        """
        from ai_ledger.journal.forgetting import Forgetting

        work = Forgetting(matches, forgotten, self.limits.record_bytes)
        failures: list[OSError] = []
        with self._tidying:
            self._scan()
            with self.lock:
                self._open = {
                    call: (segment, work.line(line)) for call, (segment, line) in self._open.items()
                }
                if self._current is not None and self._current.size > self._current.start:
                    # Nothing is appended to what is being rewritten.
                    self._current.sealed = True
                work.memory(self.memory)
            if self._folder is not None:
                for segment in (*self._own, *self._adopted):
                    if segment is not self._current or segment.sealed:
                        try:
                            homeless = work.segment(self._folder, segment)
                        except OSError as error:
                            failures.append(error)
                            continue
                        for record in homeless:
                            self._put(record, encode(record, self.limits.record_bytes))
                try:
                    if self.quarantine is not None:
                        work.calls |= self.quarantine.forget(matches, forgotten)
                except OSError as error:
                    failures.append(error)
        if failures:
            raise SinkUnavailable(
                f"not everything in the journal could be forgotten: {failures[0]}"
            ) from failures[0]
        return len(work.calls)

    def give_up_open_calls(self) -> None:
        """At the end: calls that are still open are delivered as they stand, unfinished."""
        with self.lock:
            for _, line in self._open.values():
                self.memory.append(line)

    def close(self, waiting: Collection[str]) -> None:
        """Remove what all sinks have; leave the rest for whoever comes next."""
        with self._tidying:
            self._trim(waiting)
            with self.lock:
                self._closed = True
                if self._is_done(self.memory, waiting):
                    # `give_up_open_calls` put them there.
                    self._open.clear()
                while self._own and self._is_done(self._own[0], waiting):
                    if self._begun_in(self._own[0]):
                        break
                    self._remove(self._own[0], self._own, waiting)
                for segment in (*self._own, *self._adopted):
                    self._save_cursors(segment)
                    self._leave(segment)
                self._own.clear()
                self._adopted.clear()
                self._current = None
                if self._folder is not None:
                    self._folder.close()
                self._folder = None
                # A late record opens it again.
                self._opened = False

    def after_fork_in_child(self) -> None:
        """What waits belongs to the parent: start anew. `held` closes its files."""
        if self._folder is not None:
            self._folder.close()
        self.bytes = 0
        self.dropped = {}
        self._reset()
