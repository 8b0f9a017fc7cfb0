"""Whether a request comes from a page of the console's own, where that matters."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from ai_ledger.web.guard.hosts import split

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS: Final = {"http": "80", "https": "443"}


def why_foreign(scheme: str, headers: Headers) -> str | None:
    """
    Why a request that changes something is refused; ``None`` if it is not.

    Browsers say where a request comes from in ``Sec-Fetch-Site``, or where they do not
    (plain HTTP to another machine, old ones) in ``Origin``; pages cannot change either.
    As net/http's CrossOriginProtection in Go 1.25 and Datasette do it, with one
    difference: a request with neither must show that it is of no browser, by a header
    that forms cannot send.

    Args:
        scheme: Over which it came.
        headers: Of the request.
    """
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    if len(sites) > 1 or len(origins) > 1:
        return "it says twice where it comes from"
    if sites:
        # "none" is somebody who typed the address, or asked to send the same form again.
        if sites[0] in ("same-origin", "none"):
            return None
        return "it comes from a page of another site"
    if origins:
        if _is_own(origins[0], scheme, headers.get("host", "")):
            return None
        return "it comes from a page of another site"
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    bearer = headers.get("authorization", "").lower().startswith("bearer ")
    if bearer or kind == "application/json":
        return None
    return (
        "it does not say which page it comes from; programs send a Bearer token in the "
        "Authorization header, or JSON with Content-Type: application/json"
    )


def why_unread(headers: Headers) -> str | None:
    """
    Why a request that only reads is refused; ``None`` if it is not.

    What a page of another site has a browser load, it cannot read, since no origin is
    allowed; it would only keep the console at work. A link that somebody follows is good,
    and so is what does not say that it comes from a browser.

    Args:
        headers: Of the request.
    """
    if not {"cross-site", "same-site"} & set(headers.getlist("sec-fetch-site")):
        return None
    # Frames are navigated too, and show nothing of the console.
    kinds = set(headers.getlist("sec-fetch-dest"))
    if headers.getlist("sec-fetch-mode") == ["navigate"] and kinds <= {"document"}:
        return None
    return "it comes from a page of another site"


def _is_own(origin: str, scheme: str, host: str) -> bool:
    try:
        found = urlsplit(origin)
    except ValueError:
        return False
    own, came = split(host), split(found.netloc)
    if own is None or came is None or found.scheme not in _PORTS:
        return False
    if scheme == "https" and found.scheme != "https":
        return False
    # Behind a proxy that ends TLS the scheme is http here and https there, and so the
    # port that is left out is that of the browser's scheme.
    usual = _PORTS[found.scheme]
    return (own[0], own[1] or usual) == (came[0], came[1] or usual)
