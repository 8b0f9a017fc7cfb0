"""`Guard`: what every request passes before anything else of the console sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ai_ledger.access import Access
from ai_ledger.errors import AILedgerError, NotFound
from ai_ledger.web.guard import sizes
from ai_ledger.web.guard.answer import Answer
from ai_ledger.web.guard.hosts import Hosts
from ai_ledger.web.guard.known import Auth, Found, Known
from ai_ledger.web.guard.sites import SAFE, why_foreign, why_unread
from ai_ledger.web.house import House
from ai_ledger.web.problems import problem
from ai_ledger.web.rendering import is_partial, path_of
from ai_ledger.web.seats import QUESTIONS, QUESTIONS_EACH, Seats, aside, who_is

HEALTH: Final = "/healthz"
_METRICS: Final = "/metrics"
# Besides letters and digits: RFC 3986, 3.3.
_PLAIN: Final = "/:@!$&'()*+,;="
# Ids of calls may be longer than numbers, and are no longer than this.
_MAX_DIGITS: Final = 1_000
# Without these nobody could sign in, or read the page on which they do.
_DOOR: Final = ("/sign-in", "/sign-out", "/preferences")

# Questions over calls that no total may cover. So many at a time that other pages find a thread.
_SLOW: Final = (
    "/calls", "/costs", "/stats", "/reports", "/suggestions", "/unpriced", "/metrics",
)  # fmt: skip
_BUSY: Final = (
    "so many long questions are being answered that this one has to wait: ask again in a moment, "
    "and for fewer days if you asked for many"
)


class Guard:
    """
    Lets in who is known, and says who it is: ``request.state.access`` and ``.house``.

    Args:
        app: What is guarded.
        house: Whose tokens count.
        auth: Says who somebody is, instead of tokens; ``None`` for nobody.
        hosts: Names under which the console is reached, besides those of loopback.
        anonymous: What somebody on this machine may do who shows no token, as long as
            there are none.
        on_error: Makes the answer that tells of an error.

    Raises:
        InvalidValue: One of *hosts* is no name of a host.
    """

    def __init__(
        self,
        app: ASGIApp,
        house: House,
        *,
        auth: Auth | None = None,
        hosts: Sequence[str] = (),
        anonymous: Access | None = None,
        on_error: Callable[[Request, Exception], Response],
    ) -> None:
        self._app: Final = app
        self._house: Final = house
        self._hosts: Final = Hosts(hosts)
        self._known: Final = Known(house, auth, anonymous)
        self._on_error: Final = on_error
        self._seats: Final = Seats(QUESTIONS, QUESTIONS_EACH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See in each request who it is, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = route_path(scope)
        head = scope["method"] == "HEAD"
        scope = {
            **scope,
            "method": "GET" if head else scope["method"],
            # Paths are made by the console's own routes, wherever it is mounted: without
            # these, a route of the program around it with the same name would be taken.
            "router": scope["app"].router,
            "app_root_path": scope.get("root_path", ""),
            "state": {
                **scope.get("state", {}),
                "house": self._house,
                "access": None,
                "session": False,
            },
        }
        request = Request(scope)

        async def still() -> bool:
            # What is public, such as the page to sign in, has nobody whose access ends.
            access: Access | None = scope["state"]["access"]
            if access is None:
                return True
            # Of another organisation, or without prompts, it is not what was begun.
            return (await self._known.find(request)).access == access

        hashed = path.startswith("/static/") and scope.get("query_string", b"")[:2] == b"v="
        answer = Answer(send, head=head, forever=hashed, still=still)
        limited = sizes.bounded(receive, sizes.limit_of(path))
        try:
            refusal = self._refusal(request, path) or await self._door(request, path)
            await self._answered(refusal, request, path, limited, answer)
        except Exception as error:
            if answer.over:
                return
            if not answer.started:
                response = await aside("guard", partial(self._on_error, request, error))
                await response(scope, limited, answer)
                if isinstance(error, AILedgerError):
                    return
            # For the log of the server.
            raise

    async def _answered(
        self, refusal: Response | None, request: Request, path: str, receive: Receive, send: Answer
    ) -> None:
        access: Access | None = request.scope["state"]["access"]
        if refusal is not None or access is None or not is_slow(path):
            await (refusal or self._app)(request.scope, receive, send)
            return
        who = who_is(access)
        if not self._seats.take(who):
            busy = HTTPException(503, _BUSY, headers={"Retry-After": "5"})
            response = await aside("guard", partial(self._on_error, request, busy))
            await response(request.scope, receive, send)
            return
        # What is sent has been found; however slowly it is taken, nobody waits for that.
        send.on_start = partial(self._seats.leave, who)
        try:
            await self._app(request.scope, receive, send)
        finally:
            send.begun()

    def _refusal(self, request: Request, path: str) -> Response | None:
        """Why a request is refused whoever sends it."""
        headers = request.headers
        if sizes.address_is_too_long(request.scope):
            limit = sizes.MAX_ADDRESS_BYTES // 1024
            said = f"the address is too long: at most {limit} kB are read"
            return self._too_large(request, HTTPException(414, said))
        if any(len(part) > _MAX_DIGITS and part.isdigit() for part in path.split("/")):
            # Routes make a number of it before they look whether it can be one.
            raise NotFound("there is nothing of this kind")
        if path == HEALTH:
            return None
        names = headers.getlist("host")
        if len(names) != 1 or not self._hosts.know(names[0]):
            shown = repr(names[0][:80]) if len(names) == 1 else "no name, or several"
            return problem(
                421,
                f"the console is not known by {shown}: name its hosts with "
                "`ai-ledger serve --allow-host NAME`, or create_app(…, hosts=[NAME])",
            )
        limit, length = sizes.limit_of(path), sizes.announced(headers)
        if length == -1:
            return problem(400, "Content-Length is no number")
        if length is not None and length > limit:
            said, close = sizes.too_large(limit), {"Connection": "close"}
            return self._too_large(request, HTTPException(413, said, headers=close))
        if request.method not in SAFE:
            return _refused_change(request, path, length)
        # Metrics are read by whatever somebody has set up for it.
        reason = None if path == _METRICS else why_unread(headers)
        if reason is not None:
            said = f"other sites may only link to the console, and {reason}"
            return problem(403, said)
        return None

    def _too_large(self, request: Request, error: HTTPException) -> Response:
        # What people send is sent by a script of the page, which shows them what it is told.
        if is_partial(request):
            return self._on_error(request, error)
        return problem(error.status_code, error.detail, headers=dict(error.headers or {}))

    async def _door(self, request: Request, path: str) -> Response | None:
        """What somebody gets who is not let in; else the request says who it is."""
        if path == HEALTH or path.startswith("/static/"):
            return None
        if self._known.signs_in and path in _DOOR:
            return None
        found = await self._known.find(request)
        request.scope["state"].update(access=found.access, session=found.session)
        if found.access is not None:
            return None
        return self._unknown(request, path, found)

    def _unknown(self, request: Request, path: str, found: Found) -> Response:
        if self._known.signs_in and _is_page(request, path) and not found.wrong:
            there = path_of(request, "sign_in")
            if request.method != "GET":
                return RedirectResponse(there, 303)
            query = request.url.query
            back = _sent_path(request.scope) + (f"?{query}" if query else "")
            return RedirectResponse(f"{there}?{urlencode({'next': back})}", 303)
        detail = (
            "nobody is known by this access token: it may have expired or been revoked"
            if found.wrong
            else "show an access token, as a Bearer token in the Authorization header; "
            "`ai-ledger tokens add` makes one"
            if self._known.signs_in
            else "the program that this console is part of does not know you"
        )
        challenge = 'Bearer error="invalid_token"' if found.wrong else "Bearer"
        return problem(401, detail, headers={"WWW-Authenticate": challenge})


def route_path(scope: Scope) -> str:
    """The path within the console, wherever it is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    rest = path[len(root) :] if root and path.startswith(root) else path
    return rest if not rest or rest.startswith("/") else path


def _sent_path(scope: Scope) -> str:
    """The whole path as an address has it, whatever signs are in it."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"], safe=_PLAIN)
    return quote(raw, safe=_PLAIN + "%")


def is_slow(path: str) -> bool:
    """Whether what is asked at *path*, within the console, may take seconds."""
    return path.removeprefix("/api/v1").startswith(_SLOW)


def is_api(path: str) -> bool:
    """Whether *path*, within the console, is one of the API's."""
    return path.startswith("/api/")


def _is_page(request: Request, path: str) -> bool:
    """Whether a browser wants to show what it gets, and can so be sent elsewhere."""
    accepted = request.headers.get("accept", "*/*")
    shows = "text/html" in accepted or "*/*" in accepted
    # Prometheus would take anything for an answer, and finds no metrics where people sign in.
    return shows and not is_api(path) and path != _METRICS and not is_partial(request)


def _refused_change(request: Request, path: str, length: int | None) -> Response | None:
    reason = why_foreign(request.scope["scheme"], request.headers)
    if reason is not None:
        return problem(403, f"this request changes something, and {reason}")
    has_body = bool(length) or "transfer-encoding" in request.headers
    if not is_api(path) or not has_body or path.endswith(sizes.UPLOADS):
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return None
    return problem(415, "bodies are JSON here: send Content-Type: application/json")
