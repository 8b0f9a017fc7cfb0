"""Adoption: taking over the segments of processes that are no more."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Collection
from typing import Final

import msgspec

from ai_ledger.journal.folder import Folder, held
from ai_ledger.journal.lines import finished_id, unfinished_id
from ai_ledger.journal.segment import (
    FORMAT,
    Header,
    Segment,
    cursor_name,
    is_temporary,
    parsed_name,
)

log: Final = logging.getLogger("ai_ledger")

_LINES: Final = 5_000
_BYTES: Final = 1024 * 1024
_ABANDONED_SECONDS: Final = 60.0


def adopt(folder: Folder, known: Collection[str], most: int) -> tuple[list[Segment], bool]:
    """
    Lock and open every segment whose writer is dead; oldest first.

    A writer's segments are taken in their order, and not at all when the first
    is taken by somebody else: only together do they tell which calls ended.

    Args:
        folder: The journal's.
        known: Names that this process has open already.
        most: Begin with no further writer when there are so many segments.

    Returns:
        The segments, and whether some were left for want of room.
    """
    names = sorted(name for name in folder.names() if parsed_name(name) and name not in known)
    adopted: list[Segment] = []
    for _, group in itertools.groupby(names, key=lambda name: (parsed_name(name) or name)[0]):
        if len(adopted) >= most:
            return adopted, True
        segments: list[Segment] = []
        for name in group:
            segment = _opened(folder, name)
            if segment is None:
                break
            segments.append(segment)
        _match(segments)
        adopted += segments
    return adopted, False


def sweep(folder: Folder) -> None:
    """Remove what processes left that died while they made or removed a segment."""
    names = set(folder.names())
    for name in names:
        if is_temporary(name) and folder.age(name) > _ABANDONED_SECONDS:
            folder.remove(name)
        elif name.endswith(".cursors"):
            segment = name.removesuffix(".cursors") + ".segment"
            if parsed_name(segment) and segment not in names and not folder.size(segment):
                folder.remove(name)


def saved_cursors(folder: Folder, segment: Segment) -> dict[str, tuple[int, int]]:
    """How far each sink had come in *segment*: bytes and records. Empty when nobody wrote it."""
    try:
        saved = msgspec.json.decode(
            folder.read(cursor_name(segment.name)) or b"{}", type=dict[str, tuple[int, int]]
        )
    except (ValueError, RecursionError):
        return {}
    return {
        key: _rewound(segment, position, done)
        for key, (position, done) in saved.items()
        if segment.start <= position <= segment.size and 0 <= done <= segment.records
    }


def _rewound(segment: Segment, position: int, done: int) -> tuple[int, int]:
    """
    The cursor, at the latest before the first call that turned out to have no end.

    While its process lived that beginning was passed over. What is sent again
    behind it does no harm.
    """
    first = min(segment.unmatched, default=position)
    if first >= position:
        return position, done
    count, at = 0, segment.start
    while at < first:
        lines, at = segment.read(at, _LINES, _BYTES)
        count += sum(line.offset < first and unfinished_id(line.text) is None for line in lines)
    return first, count


def _locked(folder: Folder, name: str) -> int | None:
    """The file *name*, if nobody holds it and it still is there."""
    try:
        fd = folder.open(name)
    except OSError:
        return None
    if held.lock(fd) and folder.is_same(name, fd):
        return fd
    held.close(fd)
    return None


def _opened(folder: Folder, name: str) -> Segment | None:
    fd = _locked(folder, name)
    if fd is None:
        return None
    size = os.fstat(fd).st_size
    first, newline, _ = os.pread(fd, 4096, 0).partition(b"\n")
    try:
        header = msgspec.json.decode(first, type=Header)
    except (ValueError, RecursionError):
        # Without a header every line has to prove itself; the first one will be set aside.
        return Segment(name, fd, start=0, size=size)
    if header.ai_ledger_journal > FORMAT:
        log.warning("journal segment %s is of a newer version and was left alone", name)
        held.close(fd)
        return None
    return Segment(name, fd, start=len(first) + len(newline), size=size)


def _match(segments: list[Segment]) -> None:
    """Find the calls that began and never ended, and count what there is to deliver."""
    begun: dict[str, tuple[Segment, int]] = {}
    for segment in segments:
        position = segment.start
        while True:
            lines, position = segment.read(position, _LINES, _BYTES)
            if not lines:
                break
            for line in lines:
                call = unfinished_id(line.text)
                if call is not None:
                    begun[call] = (segment, line.offset)
                    continue
                segment.records += 1
                if begun:
                    begun.pop(finished_id(line.text) or "", None)
    for segment in segments:
        segment.unmatched = frozenset(at for owner, at in begun.values() if owner is segment)
        segment.records += len(segment.unmatched)
