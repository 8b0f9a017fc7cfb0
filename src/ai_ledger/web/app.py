"""`create_app`: the console as one ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ai_ledger._version import __version__
from ai_ledger.errors import AILedgerError
from ai_ledger.records import utc_now
from ai_ledger.web import (
    alerts,
    budgets,
    calls,
    costs,
    frame,
    metrics,
    models,
    overview,
    reports,
    settings,
    sign_in,
    words,
)
from ai_ledger.web.frame.errors import answer_to, problem_to
from ai_ledger.web.guard import HEALTH, Auth, Guard, Hosts
from ai_ledger.web.house import House
from ai_ledger.web.parameters import known_parameters
from ai_ledger.web.problems import PROBLEMS
from ai_ledger.web.rendering import STATIC
from ai_ledger.web.static_files import Static

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, tzinfo

    from ai_ledger.access import Access
    from ai_ledger.ledger import Ledger

ROOMS = (overview, calls, costs, reports, budgets, alerts, models, words, settings, metrics)
"""Each has ``routes``, its pages, and ``router``, its part of the API."""

ERRORS = (AILedgerError, HTTPException, RequestValidationError)
"""What is answered as a page or a problem. Of anything else the guard tells, and it is logged."""


def create_app(
    ledger: Ledger,
    *,
    auth: Auth | None = None,
    hosts: Sequence[str] = (),
    tz: str | tzinfo = "UTC",
    anonymous: Access | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Starlette:
    """
    The console of *ledger*: pages at ``/``, JSON at ``/api/v1``.

    Mount it anywhere: ``app.mount("/ai-ledger", create_app(ledger, hosts=["my.example"]))``.

    Args:
        ledger: With an SQL store.
        auth: Says who somebody is, for programs that know their users: takes the
            request, gives an `Access`, or ``None`` for nobody; may be a coroutine.
            Left out, people sign in with access tokens.
        hosts: Names under which it is reached, besides those of loopback: see `Hosts`.
        tz: Whose days and hours are told.
        anonymous: What somebody on this machine may do without a token, as long as
            there is none.
        clock: Says what time it is; aware.

    Raises:
        ConfigurationError: The ledger has no SQL store.
        InvalidValue: One of *hosts* is no name of a host.
    """
    # Middleware is made with the first request, which is late to be told of a typing error.
    Hosts(hosts)
    house = House(ledger, tz=tz, clock=clock)
    routes: list[BaseRoute] = [
        Mount("/static", Static(directory=STATIC), name="static"),
        Mount("/api/v1", _api(), name="api"),
        Route(HEALTH, _health, name="healthz"),
        *frame.routes,
    ]
    if auth is None:
        routes += sign_in.routes
    for room in ROOMS:
        routes += room.routes
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(
                cast("Any", Guard),
                house=house,
                auth=auth,
                hosts=hosts,
                anonymous=anonymous,
                on_error=answer_to,
            )
        ],
        exception_handlers=dict.fromkeys(ERRORS, answer_to),
    )
    # For whoever made it, to close it.
    app.state.house = house
    return app


def _api() -> FastAPI:
    api = FastAPI(
        title="ai-ledger",
        version=__version__,
        openapi_url="/openapi.json",
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        responses=PROBLEMS,
        exception_handlers=cast("Any", dict.fromkeys((*ERRORS, Exception), problem_to)),
    )
    for room in ROOMS:
        api.include_router(room.router, dependencies=[Depends(known_parameters)])
    return api


async def _health(request: Request) -> Response:
    """Whether the console runs; of what stands behind it, nothing."""
    return PlainTextResponse("ok")
