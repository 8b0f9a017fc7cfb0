"""Forgetting: taking somebody's content and identity out of what still waits."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from ai_ledger.errors import InvalidValue
from ai_ledger.journal.folder import Folder, held, write_all
from ai_ledger.journal.lines import decode, encode
from ai_ledger.journal.memory import MemorySegment
from ai_ledger.journal.segment import Segment
from ai_ledger.records import CallRecord

_LINES = 2_000
_BYTES = 1024 * 1024


class Forgetting:
    """
    One request to forget, and the ids of the calls it met.

    Args:
        matches: Whose calls are meant.
        forgotten: The record to keep in place of one.
        max_bytes: Of a line.
    """

    def __init__(
        self,
        matches: Callable[[CallRecord], bool],
        forgotten: Callable[[CallRecord], CallRecord],
        max_bytes: int,
    ) -> None:
        self.calls: set[str] = set()
        self._matches = matches
        self._forgotten = forgotten
        self._max_bytes = max_bytes

    def line(self, line: bytes) -> bytes:
        """*line*, or the one to put in its place."""
        new = self._new(line)
        return line if new is None else encode(new, self._max_bytes)

    def memory(self, memory: MemorySegment) -> None:
        """Rewrite what waits in memory."""
        position = 0
        while True:
            lines, position = memory.read(position, _LINES, _BYTES)
            if not lines:
                return
            memory.rewrite({at: new for at, text in lines if (new := self.line(text)) != text})

    def segment(self, folder: Folder, segment: Segment) -> list[CallRecord]:
        """
        Rewrite *segment*, to which nothing is appended any more.

        Every line keeps its place and its length, blanks filling the gap, so
        that cursors stay right. The old file is gone when this returns.

        Returns:
            Records that became longer than their line, which is blank now.

        Raises:
            OSError: It could not be read or written. The old file is as it was.
        """
        hidden = f".{segment.name}.new"
        folder.remove(hidden)
        fd = folder.create(hidden)
        held.lock(fd)
        homeless: list[CallRecord] = []
        changed = False
        try:
            write_all(fd, os.pread(segment.fd, segment.start, 0))
            position = segment.start
            while True:
                lines, end = segment.read(position, _LINES, _BYTES)
                if not lines:
                    break
                texts: list[bytes] = []
                for _, text in lines:
                    new = self._new(text)
                    if new is not None:
                        changed = True
                        coded = encode(new, self._max_bytes)[:-1]
                        if len(coded) > len(text):
                            homeless.append(new)
                            coded = b""
                        text = coded.ljust(len(text))
                    texts.append(text)
                write_all(fd, b"\n".join(texts) + b"\n")
                position = end
            _check_whole(segment, position)
            # The last line may have come without its newline.
            os.ftruncate(fd, segment.size)
            if changed:
                folder.replace(hidden, segment.name)
        except OSError:
            held.close(fd)
            folder.remove(hidden)
            raise
        if changed:
            segment.swap(fd)
        else:
            held.close(fd)
            folder.remove(hidden)
        return homeless

    def _new(self, line: bytes) -> CallRecord | None:
        try:
            record = decode(line)
        except InvalidValue:
            return None
        if not self._matches(record):
            return None
        self.calls.add(record.id)
        return self._forgotten(record)


def _check_whole(segment: Segment, position: int) -> None:
    if position != segment.size:
        raise OSError(errno.EIO, "could not be read to its end", segment.name)
