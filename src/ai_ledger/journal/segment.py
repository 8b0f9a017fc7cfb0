"""A segment: one file of the journal, written by one process, read by cursors."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Final, NamedTuple

import msgspec

from ai_ledger.journal.folder import Folder, held, write_all

FORMAT: Final = 1
_NAME: Final = re.compile(r"([0-9a-f]{12,16}-\d+-[0-9a-f]{8})-(\d{6,})\.segment")
_TEMPORARY: Final = re.compile(r"\..+\.(?:segment\.new|cursors\.\d+|jsonl\.\d+)")
_READ: Final = 256 * 1024
# Longer than any record may be: what goes on further without a newline is no line of ours.
_MAX_LINE: Final = 16 * 1024 * 1024


class Line(NamedTuple):
    """One line of a segment, without its newline."""

    offset: int
    text: bytes


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a segment: which format it has, and who wrote it, for the reader's eyes."""

    ai_ledger_journal: int
    writer: str = ""
    pid: int = 0
    created_at: float = 0.0
    boot_id: str = ""


class Segment:
    """
    An open, locked file of the journal.

    Its writer appends under the journal's lock. Any thread may read what stands
    before ``size``. For every sink there is a cursor: ``positions`` in bytes,
    ``done`` in records.
    """

    def __init__(self, name: str, fd: int, *, start: int, size: int) -> None:
        self.name = name
        self.writer, self.sequence = parsed_name(name) or (name, 0)
        self.fd = fd
        self.start = start
        """Where the first line after the header begins."""
        self.size = size
        self.synced = 0
        """How much of it was forced to the disk, when that is done now and then."""
        self.records = 0
        """How many of its lines are to be delivered."""
        self.positions: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.unmatched: frozenset[int] = frozenset()
        """Adopted segments only: where calls began that ended nowhere."""
        self.unsaved = False
        """Whether a cursor moved since they were last saved."""
        self.sealed = False
        """Nothing more may be appended: a failed write could not be taken back."""
        self.generation = 0
        """Counts truncations, so that an old position is not taken for a new one."""
        self.bad: set[int] = set()
        """Offsets of unreadable lines that were set aside."""
        self._lock = threading.Lock()

    def append(self, line: bytes) -> None:
        """
        Write *line*, all of it or nothing. The caller holds the journal's lock.

        Raises:
            OSError: No room, or the disk is gone. The segment is as it was.
        """
        length = len(line)
        try:
            write_all(self.fd, line)
        except BaseException:  # also what a handler of a signal has raised
            try:
                os.ftruncate(self.fd, self.size)
            except OSError:
                self.sealed = True
            raise
        # No function is called after the write and before this.
        self.size += length

    def truncate(self) -> None:
        """Drop all lines, which nobody needs. The caller holds the journal's lock."""
        os.ftruncate(self.fd, self.start)
        self.size = self.start
        self.synced = 0
        self.records = 0
        self.generation += 1
        self.unsaved = False
        self.bad.clear()
        for key in self.positions:
            self.positions[key] = self.start
            self.done[key] = 0

    def read(self, position: int, max_lines: int, max_bytes: int) -> tuple[list[Line], int]:
        """Lines from *position* on, at least one if there is one, and where the next begins."""
        end = self.size
        block = self._read(position, min(max_bytes, end - position))
        while b"\n" not in block and len(block) < _MAX_LINE:
            more = self._read(position + len(block), min(_READ, end - position - len(block)))
            if not more:
                break
            block += more
        texts = block.split(b"\n")
        # What stands behind the last newline is read next time, unless it is all there is:
        # the last line of a dead process may be torn, and anything may be after a fault.
        tail = texts.pop()
        if not texts:
            return ([Line(position, tail)], position + len(tail)) if tail else ([], position)
        lines: list[Line] = []
        for text in texts[:max_lines]:
            lines.append(Line(position, text))
            position += len(text) + 1
        return lines, position

    def _read(self, offset: int, count: int) -> bytes:
        with self._lock:
            return os.pread(self.fd, count, offset) if self.fd >= 0 and count > 0 else b""

    def swap(self, fd: int) -> None:
        """Go on with another file that has the same lines at the same places."""
        with self._lock:
            old, self.fd = self.fd, fd
        held.close(old)

    def close(self) -> None:
        """Let go of the file and its lock."""
        with self._lock:
            fd, self.fd = self.fd, -1
        if fd >= 0:
            held.close(fd)


def new_writer() -> str:
    """A name for this process as a writer of segments: ordered by time, never used before."""
    return f"{time.time_ns() // 1000:012x}-{os.getpid()}-{os.urandom(4).hex()}"


def create_segment(folder: Folder, writer: str, sequence: int) -> Segment:
    """
    A new segment: complete and locked before anybody can see it.

    Raises:
        OSError: No room for it.
    """
    name = f"{writer}-{sequence:06d}.segment"
    hidden = f".{name}.new"
    fd = folder.create(hidden)
    try:
        held.lock(fd)
        header = msgspec.json.encode(
            Header(
                ai_ledger_journal=FORMAT,
                writer=writer,
                pid=os.getpid(),
                created_at=time.time(),
                boot_id=_boot_id(),
            )
        )
        write_all(fd, header + b"\n")
        folder.replace(hidden, name)
    except OSError:
        held.close(fd)
        folder.remove(hidden)
        raise
    start = len(header) + 1
    return Segment(name, fd, start=start, size=start)


def parsed_name(name: str) -> tuple[str, int] | None:
    """Writer and sequence, if *name* is that of a segment."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def is_temporary(name: str) -> bool:
    """Whether *name* is that of a file which is being made."""
    return _TEMPORARY.fullmatch(name) is not None


def cursor_name(name: str) -> str:
    """Where the cursors of the segment *name* are kept."""
    return name.removesuffix(".segment") + ".cursors"


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
