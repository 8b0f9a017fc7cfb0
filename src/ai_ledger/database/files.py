"""The SQLite file: private, no symbolic link, and on a disk that can lock."""

from __future__ import annotations

import os
import stat
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
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise ConfigurationError(f"{path} is a symbolic link: name the file itself") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is no regular file")
        if os.geteuid() not in (0, status.st_uid):
            raise ConfigurationError(f"{path} belongs to another user")
        if status.st_size == 0:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    _refuse_planted(path, status.st_uid)


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
