"""Under which names the console is reached: what keeps DNS rebinding out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from ai_ledger.errors import InvalidValue

_HOST: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})(?::([0-9]{1,5}))?")


class Hosts:
    """
    The names that a request may have in its ``Host``, besides those of loopback.

    A page of somebody else's can have a name of its own point at 127.0.0.1, and then
    the browser takes what is there for a part of that page. It cannot choose the name
    in ``Host``, so an unknown one is refused.

    Args:
        names: ``my.example`` at any port, ``my.example:8443`` at this one,
            ``*.my.example`` for what is below it, ``*`` for all there are, which is
            only good where something in front sees to it.

    Raises:
        InvalidValue: One of them is no name of a host.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._all = False
        self._exact: set[str] = set()
        self._below: list[str] = []
        for name in (names,) if isinstance(names, str) else names:
            plain = name.strip().lower()
            if plain == "*":
                self._all = True
            elif plain.startswith("*.") and split(plain[2:]) is not None:
                self._below.append(plain[1:])
            elif (parts := split(plain)) is not None:
                self._exact.add(_joined(*parts))
            else:
                raise InvalidValue(
                    "hosts", name, "names of hosts, such as my.example, without a scheme or a path"
                )

    def know(self, host: str) -> bool:
        """Whether *host*, as a request has it, is one of them."""
        parts = split(host)
        if parts is None:
            return False
        name = parts[0]
        if self._all or is_loopback(name) or {name, _joined(*parts)} & self._exact:
            return True
        return any(name.endswith(below) for below in self._below)


def split(host: str) -> tuple[str, str | None] | None:
    """Name and port of a ``Host`` header, in small letters; ``None`` if it is none."""
    match = _HOST.fullmatch(host.strip().lower())
    if match is None:
        return None
    name, port = match[1], match[2]
    if name.startswith("["):
        return (name, port) if _is_address(name[1:-1]) else None
    # A dot at the end is that of the root: the same name.
    name = name.removesuffix(".")
    return (name, port) if name and not name.startswith(".") and ".." not in name else None


def is_loopback(name: str) -> bool:
    """Whether *name*, without a port, means this machine on every machine."""
    name = name.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


def _joined(name: str, port: str | None) -> str:
    return name if port is None else f"{name}:{int(port)}"
