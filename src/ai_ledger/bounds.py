"""Bounds on text: what a record may hold, and texts that every sink can store."""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX_LABEL_CHARS: Final = 255
"""Ids, names and tags. Fits an indexed column on every database."""
MAX_TAGS: Final = 32
MAX_ERROR_CHARS: Final = 2_000
MAX_TEXT_BYTES: Final = 1024 * 1024
"""Each of request and response content, unless the ledger is told otherwise."""


def storable(text: str) -> str:
    """*text* with NUL and lone surrogates replaced by U+FFFD: PostgreSQL and UTF-8 refuse them."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # A pair of surrogates that stands for one character is joined, a lone one replaced.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def label(text: str) -> str:
    """*text* as an id or a name: storable, and cut to 255 characters with a hash of the whole."""
    if text.isascii() and "\x00" not in text and len(text) <= MAX_LABEL_CHARS:
        return text
    text = storable(text)
    if len(text) <= MAX_LABEL_CHARS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: MAX_LABEL_CHARS - 19]}...{digest}"


def key_of(value: str | None) -> str:
    """
    *value* as part of a key of a table, which cannot be NULL.

    Empty for none; a backslash is put before the empty text and before texts
    that start with one.
    """
    if value is None:
        return ""
    return "\\" + value if not value or value[0] == "\\" else value


def value_of_key(key: str) -> str | None:
    """What `key_of` was given."""
    if not key:
        return None
    return key[1:] if key[0] == "\\" else key


def cut(text: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """*text* within *max_bytes* of UTF-8; what is cut is marked with its length and SHA-256."""
    # A character takes at most four bytes, so short texts need no encoding to be measured.
    if len(text) * 4 <= max_bytes or (len(text) <= max_bytes and text.isascii()):
        return text
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    digest = hashlib.sha256(encoded).hexdigest()
    mark = f"… [cut: {len(encoded)} bytes in all, sha256 {digest}]"
    room = max(0, max_bytes - len(mark.encode()))
    return encoded[:room].decode(errors="ignore") + mark


def whole_bytes(text: str) -> int | None:
    """How many bytes *text* had before `cut` shortened it; ``None`` when it did not."""
    found = _MARK.search(text, max(0, len(text) - 160))
    return int(found[1]) if found else None


_MARK: Final = re.compile(r"… \[cut: ([0-9]{1,18}) bytes in all, sha256 [0-9a-f]{64}\]\Z")
