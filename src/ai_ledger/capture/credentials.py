"""Credentials of a request: what must not come back in the account of its failure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

# What is known to be harmless, and not what is known to be secret: gateways call their
# keys as they please.
_HARMLESS_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    }
)
_HARMLESS_QUERY: Final = frozenset({"api-version"})
# Shorter ones would take words out of the message.
_SHORTEST: Final = 8
_TOKEN: Final = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z]).{16,}")


def credentials_of(client: Any, request: Any) -> tuple[str, ...]:
    """
    Everything sent with *request* that may be a credential, the longest first.

    That is each header and query parameter that is not known to be harmless, and of the
    client's base URL the login and the parts of the path that look like a token.

    Args:
        client: The SDK's client.
        request: The HTTP request; ``None`` when it was never built.
    """
    found: set[str] = set()
    for text in (*_of_base_url(client), *(() if request is None else _of_request(request))):
        found.update((text, unquote(text), *re.split(r"[\s;,=]+", text)))
    return tuple(sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True))


def _of_request(request: Any) -> Iterator[str]:
    for name, value in request.headers.items():
        if name.lower() not in _HARMLESS_HEADERS and not name.lower().startswith("x-stainless-"):
            yield value
    for part in request.url.query.decode().split("&"):
        name, _, value = part.partition("=")
        if name not in _HARMLESS_QUERY:
            yield value


def _of_base_url(client: Any) -> Iterator[str]:
    url = client.base_url
    yield url.userinfo.decode()
    yield from url.userinfo.decode().split(":")
    yield from filter(_TOKEN.fullmatch, url.path.split("/"))
