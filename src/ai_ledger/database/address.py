"""Addresses: the URLs of databases, and what may be told of them."""

from __future__ import annotations

import re

from ai_ledger.errors import ConfigurationError


def refuse_unclear(url: str) -> None:
    """
    Refuse a URL of which it cannot be told where its password ends, or what is meant.

    Raises:
        ConfigurationError: Says how to write it, without quoting a password.
    """
    # The rest of such a password would be taken for a host and told to everyone.
    scheme, _, rest = url.partition("://")
    place, _, options = rest.partition("?")
    unclear = "@" in options or re.match(r"[^:/]*:[^@]*@[^/]*@", place)
    if scheme.startswith("sqlite"):
        if options:
            raise ConfigurationError(f"an SQLite ledger has no options: {options!r} in its URL")
        return
    if unclear:
        raise ConfigurationError("the ledger's database URL: an @ in a password is written %40")
    server = place.rpartition("@")[2].partition("/")[0]
    port = server.rpartition("]")[2].partition(":")[2]
    # Not quoted: it may be the second half of a password.
    if port and not (port.isdecimal() and int(port) < 65536):
        raise ConfigurationError("the ledger's database URL: its port is no number up to 65535")


def without_password(url: str) -> str:
    """*url* for logs: without password and options."""
    # Not urlsplit, which takes a password with a slash in it for a path.
    scheme, _, rest = url.partition("://")
    login = re.match(r"([^:/?#]*)(:.*)?@", rest, re.DOTALL)
    place = re.split("[?#]", rest[login.end() :] if login else rest, maxsplit=1)[0]
    shown = f"{login[1]}{':***' if login[2] else ''}@" if login else ""
    return f"{scheme}://{shown}{place}"


def to_type(url: str) -> str:
    """*url* as a user would type it: without the driver, each password as ``***`` to fill in."""
    scheme, _, rest = url.partition("://")
    place = without_password(url).partition("://")[2]
    options = re.sub(
        r"(?i)([^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", r"\1***", rest.partition("?")[2]
    )
    return f"{scheme.partition('+')[0]}://{place}{'?' if options else ''}{options}"
