"""Choosing language and theme."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ai_ledger.web.language import LANGUAGES
from ai_ledger.web.rendering import path_of
from ai_ledger.web.visit import LANGUAGE_COOKIE, THEME_COOKIE

_A_YEAR = 365 * 24 * 3600


async def preferences(request: Request) -> Response:
    """Keep a language or a theme in a cookie, and go back to where the reader was."""
    form = await request.form()
    response = RedirectResponse(_back(request), 303)
    for cookie, name, allowed in (
        (LANGUAGE_COOKIE, "language", tuple(LANGUAGES)),
        (THEME_COOKIE, "theme", ("light", "dark", "auto")),
    ):
        value = form.get(name)
        if isinstance(value, str) and value in allowed:
            response.set_cookie(
                cookie,
                value,
                max_age=_A_YEAR,
                path=path_of(request, "overview"),
                httponly=True,
                samesite="strict",
            )
    return response


def _back(request: Request) -> str:
    """The path of the page that the form stands on; never another site's."""
    came = urlsplit(request.headers.get("referer", ""))
    if came.netloc != request.headers.get("host") or came.path.startswith("//"):
        return path_of(request, "overview")
    return (came.path or "/") + (f"?{came.query}" if came.query else "")


routes: list[BaseRoute] = [Route("/preferences", preferences, methods=["POST"], name="preferences")]
