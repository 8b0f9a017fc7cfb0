"""What waits in a journal's folder, of all processes that share it; for reading alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from ai_ledger.journal.segment import cursor_name, parsed_name

try:
    import fcntl
except ImportError:  # without file locks there is no journal either
    fcntl = None  # type: ignore[assignment]

_MAX_HEADER = 4_096
_MAX_CURSORS = 1024 * 1024


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A segment with records that a sink may still have to take."""

    name: str
    bytes: int
    """Behind the place that the slowest sink has reached."""
    age_seconds: float
    """Since it was last written."""
    orphaned: bool
    """Its writer is gone: the next process that opens the ledger delivers it."""


def waiting(folder: Path) -> list[Waiting]:
    """
    The segments in *folder* that hold something undelivered, oldest first. Changes nothing.

    How far a sink has come is what its process saved last, so that a little of what
    is counted may have arrived. The lock of each is tried for a moment, so a process
    that looks for segments to adopt at that very moment takes it two seconds later.
    """
    found: list[Waiting] = []
    for path in folder.glob("*.segment"):
        if parsed_name(path.name) is None:
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # delivered and removed meanwhile, or not ours
        try:
            status = os.fstat(fd)
            size = status.st_size - _reached(folder, path.name, fd)
            if size > 0:
                found.append(
                    Waiting(
                        name=path.name,
                        bytes=size,
                        age_seconds=round(max(0.0, time.time() - status.st_mtime), 1),
                        orphaned=_is_free(fd),
                    )
                )
        except OSError:
            continue
        finally:
            os.close(fd)
    return sorted(found, key=lambda each: -each.age_seconds)


def _reached(folder: Path, name: str, fd: int) -> int:
    """Up to which byte every sink has taken it; the header is nothing to be taken."""
    first, newline, _ = os.pread(fd, _MAX_HEADER, 0).partition(b"\n")
    start = len(first) + len(newline) if first.startswith(b'{"ai_ledger_journal"') else 0
    try:
        saved = os.open(folder / cursor_name(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return start
    try:
        cursors = msgspec.json.decode(
            os.read(saved, _MAX_CURSORS) or b"{}", type=dict[str, tuple[int, int]]
        )
    except (ValueError, RecursionError):
        return start
    finally:
        os.close(saved)
    return max(start, min((position for position, _ in cursors.values()), default=start))


def _is_free(fd: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    # Not left to the closing of the file: a child that is forked meanwhile has it open, too.
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
