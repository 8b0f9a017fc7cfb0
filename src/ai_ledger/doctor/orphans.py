"""What dead processes left in a journal: segments that nobody has locked."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """A segment whose writer is gone. The next process that opens the ledger delivers it."""

    name: str
    bytes: int
    age_seconds: float
    """Since it was last written."""


def orphans(folder: Path) -> list[Orphan]:
    """
    The segments in *folder* that nobody has locked, oldest first. Changes nothing.

    The lock of each is tried for a moment, so a process that looks for segments
    to adopt at that very moment takes it two seconds later.
    """
    try:
        import fcntl
    except ImportError:
        return []  # without file locks there is no journal either
    found: list[Orphan] = []
    for path in sorted(folder.glob("*.segment")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # delivered and removed meanwhile
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
        except OSError:
            continue  # its writer lives
        finally:
            os.close(fd)
        age = max(0.0, time.time() - status.st_mtime)
        found.append(Orphan(name=path.name, bytes=status.st_size, age_seconds=round(age, 1)))
    return sorted(found, key=lambda orphan: -orphan.age_seconds)
