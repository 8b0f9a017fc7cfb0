"""The SQLite file: private, no symbolic link, and on a disk that can lock."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ai_ledger.errors import ConfigurationError

# On these, locks and shared memory do not hold between machines, and the
# write-ahead log needs both: https://www.sqlite.org/wal.html
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "fuse.sshfs"}
)


def make_private(path: Path) -> None:
    """
    Make the file *path* when it is missing, readable by its owner alone.

    SQLite gives the files beside it (``-wal``, ``-shm``) the mode of this one.

    Raises:
        ConfigurationError: This or a file beside it is a symbolic link, no regular
            file or someone else's; or it is on a network file system.
        OSError: The folder is missing or cannot be written.
    """
    kind = file_system(path.parent)
    if kind in _NETWORK:
        raise ConfigurationError(
            f"{path} is on a network file system ({kind}), where SQLite loses data: "
            "choose a local path, or a PostgreSQL or MariaDB server"
        )
    with suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))
    # A file that is there is looked at and not opened: to close it again would take
    # away every lock that this process holds on it, those of SQLite included.
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        raise ConfigurationError(f"{path} is a symbolic link: name the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is no regular file")
    if os.geteuid() not in (0, status.st_uid):
        raise ConfigurationError(f"{path} belongs to another user")
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    if status.st_size == 0:
        path.chmod(0o600)
    _refuse_planted(path, status.st_uid)


def is_open_elsewhere(path: Path, locks: str | None = None) -> bool:
    """
    Whether another process has the SQLite file *path* open, as far as anyone can tell.

    Everybody who has a file with a write-ahead log open holds a lock on the file
    ``-shm`` beside it. Only Linux tells of it without the file being opened.

    Args:
        path: The file.
        locks: The text of ``/proc/locks``; read when not given.
    """
    try:
        beside = os.stat(f"{path}-shm")
        if locks is None:
            locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    # 1: POSIX  ADVISORY  READ 4711 fe:01:1234567 128 128
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[5].rpartition(":")[2] == str(beside.st_ino):
            device = fields[5].split(":")
            here = (os.major(beside.st_dev), os.minor(beside.st_dev))
            if (int(device[0], 16), int(device[1], 16)) == here and fields[4] != str(os.getpid()):
                return True
    return False


def _refuse_planted(path: Path, owner: int) -> None:
    # SQLite takes what it finds there for the newest part of the database.
    for suffix in ("-wal", "-shm", "-journal"):
        beside = Path(f"{path}{suffix}")
        try:
            status = os.lstat(beside)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
            raise ConfigurationError(f"{beside} is no regular file of the ledger's owner")


def file_system(folder: Path, mounts: str | None = None) -> str | None:
    """
    The kind of file system that *folder* is on, or ``None`` where nobody says.

    Args:
        folder: Any folder.
        mounts: The text of ``/proc/self/mounts``; read when not given.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    place = folder.resolve()
    best, kind = -1, None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = Path(fields[1].replace("\\040", " "))
        # The last of several mounts on one place is the one that is seen.
        if len(mount.parts) >= best and place.is_relative_to(mount):
            best, kind = len(mount.parts), fields[2]
    return kind
