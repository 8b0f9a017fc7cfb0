"""A private folder of append-only line files, shared by processes: what JSON Lines stands on."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import BinaryIO

from ai_ledger.errors import SinkUnavailable

_sync = getattr(os, "fdatasync", os.fsync)


class DayFiles:
    """
    Files named ``<kind>_YYYY-MM-DD.jsonl`` in one folder, 0600 in 0700.

    Appending happens under a shared lock and rewriting under the exclusive one
    (``flock`` on ``.lock``), so a rewrite never loses what another process adds,
    and a process that dies leaves no lock behind. Nothing is kept open between
    two operations, so there is nothing for a fork to inherit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, kind: str, day: date) -> Path:
        """Where the lines of *kind* for *day* are."""
        return self.folder / f"{kind}_{day.isoformat()}.jsonl"

    def days(self, kind: str, since: datetime | None, until: datetime | None) -> list[date]:
        """The days that have a file and that *since* (inclusive) to *until* touches, ascending."""
        found: list[date] = []
        with self._disk(self.folder):
            try:
                names = os.listdir(self.folder)
            except FileNotFoundError:
                return []
        for name in names:
            if name.startswith(f"{kind}_") and name.endswith(".jsonl"):
                try:
                    day = date.fromisoformat(name[len(kind) + 1 : -len(".jsonl")])
                except ValueError:
                    continue
                start = datetime.combine(day, time(), UTC)
                if (until is None or start < until) and (
                    since is None or start + timedelta(days=1) > since
                ):
                    found.append(day)
        return sorted(found)

    @contextmanager
    def locked(self, *, exclusive: bool) -> Generator[None]:
        """
        Hold the folder's lock; makes the folder when it is missing.

        Not reentrant: whoever holds it and asks again waits for itself.
        """
        with self._disk(self.folder):
            self._prepare()
            fd = self._open(self.folder / ".lock", os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
                yield
            finally:
                os.close(fd)

    def append(self, kind: str, day: date, lines: bytes) -> None:
        """
        Add whole *lines* in one write and wait until they are on the disk.

        To be called with the lock held.

        Raises:
            SinkUnavailable: The disk refused; a part may have been written, whose
                last line is cut short. Readers skip it.
        """
        path = self.path(kind, day)
        with self._disk(path):
            fd = self._open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                size = os.fstat(fd).st_size
                # A writer that was killed leaves half a line: without a newline
                # before it, the first record of this batch would be glued to that.
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    lines = b"\n" + lines
                if os.write(fd, lines) != len(lines):
                    raise SinkUnavailable(f"{path}: only a part could be written")
                _sync(fd)
            finally:
                os.close(fd)
            if not size:
                self._sync_folder()

    def replace(self, kind: str, day: date, lines: Iterable[bytes]) -> None:
        """
        Put *lines* in the place of a whole file, or change nothing at all.

        To be called with the exclusive lock held.
        """
        path = self.path(kind, day)
        # The lock is exclusive, so a file of this name was left by a process that died.
        temporary = self.folder / f".{path.name}.new"
        with self._disk(temporary):
            temporary.unlink(missing_ok=True)
            fd = self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                with open(fd, "wb") as file:
                    file.writelines(lines)
                    file.flush()
                    _sync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            self._sync_folder()

    @contextmanager
    def reading(self, kind: str, day: date) -> Generator[BinaryIO | None]:
        """The file for *day*, open for reading, or ``None`` when there is none."""
        path = self.path(kind, day)
        with self._disk(path):
            try:
                fd = self._open(path, os.O_RDONLY)
            except FileNotFoundError:
                yield None
                return
            with open(fd, "rb") as file:
                yield file

    def _prepare(self) -> None:
        # One by one: mkdir(parents=True) would leave the others to the umask.
        missing = [each for each in (self.folder, *self.folder.parents) if not each.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        # Where others may write, somebody else's link or folder could send our
        # records anywhere.
        for info in (os.lstat(self.folder), os.stat(self.folder)):
            if info.st_uid not in (os.geteuid(), 0):
                raise SinkUnavailable(f"{self.folder}: belongs to another user")

    def _open(self, path: Path, flags: int) -> int:
        # Not blocking, or a planted pipe would hold us up until somebody writes to it.
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path, flags, 0o600)
        info = os.fstat(fd)
        foreign = flags & os.O_ACCMODE != os.O_RDONLY and info.st_uid not in (os.geteuid(), 0)
        if foreign or not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise SinkUnavailable(f"{path}: not a file of our own")
        return fd

    def _sync_folder(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    @contextmanager
    def _disk(self, path: Path) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise SinkUnavailable(f"{path}: {error.strerror or error}") from error
