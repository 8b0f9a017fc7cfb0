"""Which addresses a webhook may reach: those of the public internet, unless allowed."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, TypeAlias

from ai_ledger.alerts.channel import NotSent

_IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds tell a machine its own credentials; nothing else listens there.
_METADATA: Final = frozenset(
    ipaddress.ip_address(each)
    for each in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)
# IPv6 networks whose addresses end in the IPv4 ones that they stand for.
_NAT64: Final = tuple(
    ipaddress.IPv6Network(each)
    for each in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")
)


class Forbidden(NotSent):
    """The host has an address that must not be reached."""


def checked_addresses(host: str, port: int, *, allow_private: bool) -> list[tuple[int, str]]:
    """
    The addresses of *host*, all of which may be reached: (family, address).

    Whoever connects uses these and does not look the name up a second time, when
    the answer may be another one.

    Args:
        host: A name, or an address in whatever spelling the system understands.
        port: Where to.
        allow_private: Admit what is not public. Credential services of clouds,
            multicast and the unspecified address are never admitted.

    Raises:
        Forbidden: One of its addresses must not be reached.
        NotSent: The name cannot be looked up.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSent(f"{host!r} cannot be looked up: {error}") from error
    addresses: list[tuple[int, str]] = []
    for family, _, _, _, where in found:
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        address = str(where[0])
        check_address(address, allow_private=allow_private)
        addresses.append((family, address))
    if not addresses:
        raise NotSent(f"{host!r} has no address")
    return list(dict.fromkeys(addresses))


def check_address(address: str, *, allow_private: bool) -> None:
    """
    Refuse *address* if it must not be reached.

    Raises:
        Forbidden: It must not.
    """
    try:
        given = ipaddress.ip_address(address)
    except ValueError as error:
        raise Forbidden(f"{address!r} is no address") from error
    if isinstance(given, ipaddress.IPv6Address) and given.scope_id is not None:
        given = ipaddress.IPv6Address(int(given))
    for each in (given, *_embedded(given)):
        if each in _METADATA or each.is_multicast or each.is_unspecified:
            raise Forbidden(f"{address} must not be reached: it is no host's")
        if not allow_private and not _is_public(each):
            raise Forbidden(f"{address} is not public: allow_private=True admits it")


def _is_public(address: _IP) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local:
            return False
        if _embedded(address):
            # What counts is the address that it stands for, which is looked at as well.
            return not address.is_loopback
    return address.is_global and not address.is_reserved


def _embedded(address: _IP) -> list[_IP]:
    """The IPv4 addresses that an IPv6 one stands for: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[_IP] = []
    if address.ipv4_mapped is not None:
        found.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if int(address) > 1 and any(address in network for network in _NAT64):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found
