"""The headers that all answers of the console have."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message

POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
"""What a page may load: nothing inline, and nothing of another host."""

ALWAYS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Nothing to other hosts. "no-referrer" would also have browsers send "Origin: null" with
    # the console's own forms, which over plain HTTP is all that tells where they come from.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def protect(start: Message, *, forever: bool) -> None:
    """
    Put them on an answer that begins.

    Args:
        start: Its ``http.response.start``.
        forever: It is a file whose address has its hash, so it may be kept.
    """
    headers = MutableHeaders(raw=start["headers"])
    for name, value in ALWAYS.items():
        headers[name] = value
    for name in [name for name in headers if name.lower().startswith("access-control-")]:
        # No other site reads anything here.
        del headers[name]
    if forever:
        headers["Cache-Control"] = "public, max-age=31536000, immutable"
    else:
        # Who asks again may be somebody else, or know less.
        headers.setdefault("Cache-Control", "no-store")
