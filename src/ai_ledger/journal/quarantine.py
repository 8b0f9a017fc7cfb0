"""Quarantine: records that no sink will take, set aside for a person to look at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ai_ledger.errors import InvalidValue
from ai_ledger.journal.folder import Folder, held, write_all
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.secrets import scrub

NAME: Final = "quarantine.jsonl"
_MAX_FRAGMENT: Final = 64 * 1024
_MAX_BYTES: Final = 64 * 1024 * 1024


class Quarantine:
    """
    One file of JSON lines, shared by all processes of the folder.

    Each line says ``at``, ``reason`` and ``sink``, and holds either the
    ``record`` or, of a line that could not be read, the ``fragment`` with its
    length in ``bytes`` and its ``sha256``.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def add_record(self, record: CallRecord, *, sink: str, reason: str) -> None:
        """
        Set *record* aside.

        Raises:
            OSError: No room for it.
        """
        self._append({"reason": scrub(reason), "sink": sink, "record": record})

    def add_fragment(self, text: bytes, *, segment: str, reason: str) -> None:
        """
        Set aside a line that could not be read.

        Raises:
            OSError: No room for it.
        """
        self._append(
            {
                "reason": reason,
                "segment": segment,
                "bytes": len(text),
                "sha256": hashlib.sha256(text).hexdigest(),
                "fragment": text[:_MAX_FRAGMENT].decode("utf-8", "backslashreplace"),
            }
        )

    def count(self) -> int:
        """How many lines there are."""
        return (self._folder.read(NAME) or b"").count(b"\n")

    def forget(
        self, matches: Callable[[CallRecord], bool], forgotten: Callable[[CallRecord], CallRecord]
    ) -> set[str]:
        """
        Put *forgotten* records in place of those that *matches* means; their ids.

        Fragments lose their text, since nobody can tell whose it is.
        """
        if not self._folder.size(NAME):
            return set()
        changed: set[str] = set()
        fd = self._opened()
        try:
            lines: list[bytes] = []
            for line in (self._folder.read(NAME) or b"").splitlines():
                new, call = _forgotten_line(line, matches, forgotten)
                if call is not None:
                    changed.add(call)
                lines.append(new + b"\n")
            self._folder.write(NAME, b"".join(lines))
        finally:
            held.close(fd)
        return changed

    def _append(self, entry: dict[str, Any]) -> None:
        fd = self._opened()
        try:
            size = os.fstat(fd).st_size
            if size > _MAX_BYTES:
                # What was set aside long ago is full of it: keep the account, drop the text.
                entry = {**entry, "record": getattr(entry.get("record"), "id", None)}
                entry.pop("fragment", None)
            line = msgspec.json.encode({"at": utc_now(), **entry}) + b"\n"
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
            os.lseek(fd, 0, os.SEEK_END)
            try:
                write_all(fd, line)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            held.close(fd)

    def _opened(self) -> int:
        """The file, locked, and still the one that has the name."""
        while True:
            try:
                fd = self._folder.open(NAME)
            except FileNotFoundError:
                try:
                    fd = self._folder.create(NAME)
                except FileExistsError:
                    continue
            held.lock(fd, wait=True)
            if self._folder.is_same(NAME, fd):
                return fd
            held.close(fd)


def _forgotten_line(
    line: bytes,
    matches: Callable[[CallRecord], bool],
    forgotten: Callable[[CallRecord], CallRecord],
) -> tuple[bytes, str | None]:
    try:
        entry: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    except (ValueError, RecursionError):
        return b'{"reason":"unreadable"}', None
    if "fragment" in entry:
        entry["fragment"] = None
    try:
        record = CallRecord.from_json(msgspec.json.encode(entry.get("record")))
    except InvalidValue:
        return msgspec.json.encode(entry), None
    if not matches(record):
        return msgspec.json.encode(entry), None
    # A refusal may quote what it refused.
    entry |= {"record": forgotten(record), "reason": "refused"}
    return msgspec.json.encode(entry), record.id
