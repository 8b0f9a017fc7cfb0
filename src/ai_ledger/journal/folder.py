"""The journal's folder: private to its owner, reached without following links."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

from ai_ledger.errors import ConfigurationError

_FILE_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW if hasattr(os, "O_NOFOLLOW") else 0


class Folder:
    """
    One open directory. Every name is looked up in it, so nobody can swap it underneath.

    Args:
        path: Made when missing, 0700 whatever the umask says.

    Raises:
        ConfigurationError: It is a link, belongs to somebody else or others may
            write to it; or this system has no file locks.
        OSError: It cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        if fcntl is None:
            raise ConfigurationError("a journal needs POSIX file locks, which are missing here")
        self.path = path
        _make(path)
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _FILE_FLAGS)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ConfigurationError(f"the journal folder {path} is not a folder") from error
            raise
        status = os.fstat(self.fd)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            os.close(self.fd)
            raise ConfigurationError(
                f"the journal folder {path} belongs to somebody else or others may write to it"
            )

    def create(self, name: str) -> int:
        """A new file, 0600 whatever the umask says, open for reading and appending."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
        fd = os.open(name, flags, 0o600, dir_fd=self.fd)
        os.fchmod(fd, 0o600)
        return fd

    def open(self, name: str) -> int:
        """
        An existing file of ours, open for reading and writing.

        Raises:
            OSError: Missing, a link, not a plain file or not ours.
        """
        fd = os.open(name, os.O_RDWR | os.O_NONBLOCK | _FILE_FLAGS, dir_fd=self.fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            os.close(fd)
            raise PermissionError(errno.EPERM, "not a plain file of ours", name)
        return fd

    def replace(self, old: str, new: str) -> None:
        """Rename *old* to *new*, over what was there."""
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Delete *name* if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def write(self, name: str, content: bytes) -> None:
        """Make *content* the whole of *name*, at once or not at all."""
        hidden = f".{name}.{os.getpid()}"
        self.remove(hidden)
        fd = self.create(hidden)
        try:
            write_all(fd, content)
        except OSError:
            self.remove(hidden)
            raise
        finally:
            os.close(fd)
        self.replace(hidden, name)

    def read(self, name: str) -> bytes | None:
        """The whole of *name*; ``None`` when it is missing or not ours."""
        try:
            fd = self.open(name)
        except OSError:
            return None
        try:
            chunks: list[bytes] = []
            while chunk := os.read(fd, 1 << 20):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            os.close(fd)

    def names(self) -> list[str]:
        """What is in it."""
        return os.listdir(self.fd)

    def is_same(self, name: str, fd: int) -> bool:
        """Whether *name* still is the file behind *fd*."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(fd))

    def size(self, name: str) -> int:
        """Bytes in *name*; 0 when it is missing."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_size
        except OSError:
            return 0

    def age(self, name: str) -> float:
        """Seconds since *name* was written; 0 when it is missing."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return 0.0
        return time.time() - found.st_mtime

    def sync(self) -> None:
        """Put the names themselves on the disk."""
        os.fsync(self.fd)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


class HeldFiles:
    """
    The locked files of this process, so that a forked child can let go of them.

    A lock belongs to the open file, which parent and child share: a child that
    kept it open would keep the lock when the parent is long dead.
    """

    def __init__(self) -> None:
        # Re-entrant: a finalizer may end a call, and begin a segment, at any moment.
        self._guard = threading.RLock()
        self._fds: set[int] = set()
        self._is_held = False

    def lock(self, fd: int, *, wait: bool = False) -> bool:
        """Take the lock on the file behind *fd*, if it is free or *wait* says so."""
        assert fcntl is not None
        with self._guard:
            self._fds.add(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            return False
        return True

    def close(self, fd: int) -> None:
        """Close *fd*; its lock goes with it."""
        with self._guard:
            self._fds.discard(fd)
            os.close(fd)

    def before_fork(self) -> None:
        """Let nobody open or close until the fork is over."""
        self._is_held = self._guard.acquire(timeout=1.0)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._is_held:
            self._guard.release()

    def after_fork_in_child(self) -> None:
        """Close what the parent holds. That gives no lock away: the parent has it open too."""
        self._guard = threading.RLock()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


held: Final = HeldFiles()


def write_all(fd: int, content: bytes) -> None:
    """
    Append *content* in one write.

    Raises:
        OSError: Not all of it found room; what was written of it is still there.
    """
    if os.write(fd, content) != len(content):
        raise OSError(errno.ENOSPC, "short write")


def _make(path: Path) -> None:
    missing: list[Path] = []
    while not path.exists() and not path.is_symlink():
        missing.append(path)
        path = path.parent
    for each in reversed(missing):
        try:
            os.mkdir(each, 0o700)
        except FileExistsError:
            continue
        os.chmod(each, 0o700)
