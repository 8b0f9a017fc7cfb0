"""Canaries: secrets that are like no other text, and the search for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

MARKER: Final = "marker5150"
"""What has to be found, to show that the search looks in the right place."""


def canary(name: str) -> str:
    """A secret of no known form, recognised wherever a part of it is left."""
    return f"7Qcanary{name}9f3Bd81Zk"


def found(texts: Iterable[bytes | str]) -> set[str]:
    """The words with a canary in them."""
    words: set[str] = set()
    for text in texts:
        read = text.decode("latin-1") if isinstance(text, bytes) else text
        at = read.lower().find("canary")
        while at >= 0:
            words.add(read[max(0, at - 40) : at + 40])
            at = read.lower().find("canary", at + 1)
    return words


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below *folder*, hidden ones included, byte by byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
