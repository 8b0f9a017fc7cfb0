"""How large a request may be."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

MAX_ADDRESS_BYTES: Final = 16 * 1024
"""Path and query string together."""
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
MAX_UPLOAD_BYTES: Final = 8 * 1024 * 1024
"""Where files are taken, which end in `UPLOADS`."""
UPLOADS: Final = ("/import",)


def limit_of(path: str) -> int:
    """How many bytes the body of a request to *path* may have."""
    return MAX_UPLOAD_BYTES if path.endswith(UPLOADS) else MAX_BODY_BYTES


def address_is_too_long(scope: Scope) -> bool:
    """Whether path and query string are more than `MAX_ADDRESS_BYTES`."""
    path = scope.get("raw_path") or scope["path"].encode()
    return len(path) + len(scope.get("query_string", b"")) > MAX_ADDRESS_BYTES


def announced(headers: Headers) -> int | None:
    """The length of the body, if the request says it; -1 for nonsense."""
    text = headers.get("content-length")
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def too_large(limit: int) -> str:
    """What whoever sends more than *limit* bytes is told."""
    return f"the request is too large: at most {limit // 1024 // 1024} MB are taken here"


def bounded(receive: Receive, limit: int) -> Receive:
    """*receive*, which fails after *limit* bytes, whatever was announced."""
    seen = 0

    async def receive_some() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                # What reads bodies lets this through as it is, to whoever answers errors.
                raise HTTPException(413, too_large(limit))
        return message

    return receive_some
