"""Who sends a request: by a program's own auth, a token, a session, or as nobody in particular."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request

from ai_ledger.access import Access
from ai_ledger.database.address import without_password
from ai_ledger.web.guard.hosts import is_loopback, split
from ai_ledger.web.house import House
from ai_ledger.web.seats import aside

Auth: TypeAlias = Callable[[Request], "Access | Awaitable[Access | None] | None"]
"""Says what whoever sends a request may do; ``None`` when nobody knows them."""

# Not "__Host-…", which browsers take over TLS alone: where a proxy ends TLS, a request does
# not show it, so that both names would have to be good everywhere, which defends nothing.
_COOKIE: Final = "ai_ledger_session"

# Headers that only something in between adds: then who asks may be on any machine.
_FORWARDED: Final = frozenset(
    {
        "forwarded", "via", "cdn-loop", "proxy-connection", "x-real-ip", "x-client-ip",
        "x-cluster-client-ip", "true-client-ip", "client-ip", "fastly-client-ip", "fly-client-ip",
        "x-original-host", "x-original-url", "x-rewrite-url", "x-scheme", "x-proxy-user-ip",
        "x-envoy-external-address", "x-envoy-original-path", "x-amzn-trace-id",
        "x-remote-ip", "x-remote-addr", "x-originating-ip", "x-appengine-user-ip",
    }
)  # fmt: skip
_FORWARDED_PREFIXES: Final = ("x-forwarded", "cf-", "x-azure-", "x-arr-")
# The default of nginx adds none of them, but speaks the old HTTP, as no browser does.
_PROXIES_SPEAK: Final = "1.0"


@dataclass(frozen=True)
class Found:
    """
    Who sends a request.

    Args:
        access: What they may do; ``None`` for nobody.
        session: Whether the browser's cookie said it.
        wrong: Whether they showed a token that is worth nothing.
    """

    access: Access | None
    session: bool = False
    wrong: bool = False


class Known:
    """
    Finds out who sends a request; asks the database in a thread, so that no other one waits.

    Args:
        house: Whose tokens and sessions count.
        auth: Asked instead of them, if there is one.
        anonymous: What somebody on this machine may do without a token, as long as there is
            none but revoked ones.
    """

    def __init__(self, house: House, auth: Auth | None, anonymous: Access | None) -> None:
        self._house: Final = house
        self._auth: Final = auth
        self._anonymous: Final = anonymous
        self._cookie: Final = session_cookie(house)
        self.signs_in: Final = auth is None
        """Whether people sign in here, with tokens."""

    async def find(self, request: Request) -> Found:
        """
        Who sends *request*. Whatever *auth* raises is raised: nobody comes in by accident.

        Raises:
            AILedgerError: The store is away.
        """
        if self._auth is not None:
            return Found(await _asked(self._auth, request))
        return await aside("guard", partial(self._by_token, request))

    def _by_token(self, request: Request) -> Found:
        shown = request.headers.getlist("authorization")
        bearer = [each[7:].strip() for each in shown if each[:7].lower() == "bearer "]
        if bearer:
            access = self._house.tokens.find(bearer[0]) if len(shown) == 1 else None
            return Found(access, wrong=access is None)
        cookie = request.cookies.get(self._cookie)
        if cookie:
            access = self._house.sessions.access_of(cookie)
            if access is not None:
                return Found(access, session=True)
        if self._anonymous is not None and _is_local(request) and not self._house.tokens.any():
            return Found(self._anonymous)
        return Found(None)


def session_cookie(house: House) -> str:
    """
    The name of the cookie that browsers have for the console of *house*.

    Cookies are those of a host with all its ports, and each ledger has its own sessions.
    """
    ledger = without_password(house.url).encode()
    return f"{_COOKIE}_{hashlib.sha256(ledger).hexdigest()[:8]}"


async def _asked(auth: Auth, request: Request) -> Access | None:
    called: Any = auth
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(
        getattr(called, "__call__", None)  # noqa: B004  # an object whose call is a coroutine
    ):
        found = await called(request)
    else:
        # It may ask a database, too.
        found = await run_in_threadpool(called, request)
        if inspect.isawaitable(found):
            found = await found
    if found is not None and not isinstance(found, Access):
        raise TypeError(f"auth gave {type(found).__name__}: expected an Access, or None")
    return found


def _is_local(request: HTTPConnection) -> bool:
    """Whether somebody on this machine asks, by one of the names of loopback."""
    peer = request.client
    host = split(request.headers.get("host", ""))
    if peer is None or host is None or request.scope.get("http_version") == _PROXIES_SPEAK:
        return False
    names = request.headers.keys()
    if any(name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES) for name in names):
        return False
    return is_loopback(peer.host) and is_loopback(host[0])
