"""Places: which provider of the catalogue a call was made at."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit


class Places:
    """
    The catalogue's providers, by name and by the hosts that they answer at.

    Args:
        addresses: Providers' names, each with one URL that it answers at, or ``None``.
    """

    def __init__(self, addresses: Iterable[tuple[str, str | None]]) -> None:
        self._names: set[str] = set()
        found: dict[str, set[str]] = {}
        for name, url in addresses:
            self._names.add(name.lower())
            host = host_of(url)
            if host is not None:
                found.setdefault(host, set()).add(name.lower())
        # A gateway with several providers behind it tells none of them.
        self._hosts = {host: names.pop() for host, names in found.items() if len(names) == 1}

    def provider_at(self, provider: str | None, host: str | None) -> str | None:
        """
        The name, in lower case, of the provider that a call was made at.

        Args:
            provider: What the call's record says.
            host: The call's server address.

        Returns:
            ``None`` when it is none of the catalogue's, or cannot be told.
        """
        name = provider.lower() if provider else None
        if name in self._names:
            return name
        return self._hosts.get(host.lower().rstrip(".")) if host else None


def host_of(url: str | None) -> str | None:
    """The host of *url* if it has a name that can be told from others; ``None`` otherwise."""
    try:
        host = urlsplit(url or "").hostname
    except ValueError:
        return None
    host = host.lower().rstrip(".") if host else None
    # Different servers answer at the ports of one machine.
    if not host or host == "localhost":
        return None
    try:
        ip_address(host)
    except ValueError:
        return host
    return None
