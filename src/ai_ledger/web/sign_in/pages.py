"""The page to sign in on, and signing in and out."""

from __future__ import annotations

import math
from typing import Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ai_ledger.access.sessions import LASTS
from ai_ledger.web.guard.known import session_cookie
from ai_ledger.web.rendering import moved, path_of, render
from ai_ledger.web.sign_in.failures import Failures
from ai_ledger.web.visit import house_of

_MAX_TOKEN_CHARS: Final = 200
_failures: Final = Failures()


def page(request: Request) -> Response:
    """The form; or on to where one wanted to go, for whoever is signed in already."""
    back = _back(request, request.query_params.get("next"))
    cookie = _cookie(request)
    if cookie and house_of(request).sessions.access_of(cookie) is not None:
        return RedirectResponse(back, 303)
    return _form(request, back)


async def sign_in(request: Request) -> Response:
    """Take a token, and give a cookie for it."""
    form = await request.form()
    token, back = form.get("token"), form.get("next")
    return await run_in_threadpool(
        _signed_in,
        request,
        token.strip() if isinstance(token, str) else "",
        _back(request, back if isinstance(back, str) else None),
    )


def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    house, cookie = house_of(request), _cookie(request)
    if cookie:
        house.sessions.close(cookie)
    response = moved(request, path_of(request, "sign_in"))
    response.delete_cookie(
        session_cookie(house), path=_root(request), httponly=True, samesite="strict"
    )
    return response


def _signed_in(request: Request, token: str, back: str) -> Response:
    house = house_of(request)
    access = house.tokens.find(token) if len(token) <= _MAX_TOKEN_CHARS else None
    if access is None or access.token_id is None:
        wait_s = _failures.note(request.client.host if request.client else "")
        if wait_s is None:
            return _form(request, back, wrong=True, status=401)
        wait_s = math.ceil(wait_s)
        response = _form(request, back, wait_s=wait_s, status=429)
        response.headers["Retry-After"] = str(wait_s)
        return response
    response = RedirectResponse(back, 303)
    response.set_cookie(
        session_cookie(house),
        house.sessions.open(access.token_id),
        max_age=int(LASTS.total_seconds()),
        path=_root(request),
        secure=_over_tls(request),
        httponly=True,
        samesite="strict",
    )
    # The browser forgets the session that it had, and nobody else should have it.
    before = _cookie(request)
    if before:
        house.sessions.close(before)
    return response


def _cookie(request: Request) -> str | None:
    return request.cookies.get(session_cookie(house_of(request)))


def _form(
    request: Request, back: str, *, status: int = 200, wrong: bool = False, wait_s: int = 0
) -> Response:
    return render(
        request, "sign_in/page.html", status=status, back=back, wrong=wrong, wait_s=wait_s
    )


def _root(request: Request) -> str:
    """The path that all of the console's begin with."""
    return path_of(request, "overview")


def _over_tls(request: Request) -> bool:
    # Behind a proxy that ends TLS only the browser knows.
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")


def _back(request: Request, path: str | None) -> str:
    """*path*, if it is one of the console's; never another site."""
    root = _root(request)
    if path is None or not path.startswith(root) or path.startswith("//"):
        return root
    # Browsers take \\ for / and leave out tabs and line breaks.
    if "\\" in path or not path.isprintable() or not path.isascii():
        return root
    try:
        parts = urlsplit(path)
    except ValueError:
        return root
    return (
        root if parts.scheme or parts.netloc or parts.path == path_of(request, "sign_in") else path
    )


routes: list[BaseRoute] = [
    Route("/sign-in", page, methods=["GET"], name="sign_in"),
    Route("/sign-in", sign_in, methods=["POST"], name="sign_in_post"),
    Route("/sign-out", sign_out, methods=["POST"], name="sign_out"),
]
