"""``/metrics``: the one page that no person reads."""

from __future__ import annotations

from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.errors import AILedgerError, MissingExtra
from ai_ledger.web.problems import problem_of
from ai_ledger.web.visit import visit_of


def page(request: Request) -> Response:
    """All metrics, as text or, for who asks for it, as OpenMetrics."""
    try:
        # Scrapers put parameters of their own into the address; none of them is a filter here.
        desk = visit_of(request).desk
        # Sums over all organisations are for those who see all of them.
        desk.require("viewer", everywhere=True)
        try:
            from prometheus_client import exposition

            from ai_ledger.web.metrics.exposition import exposition_of
        except ImportError as error:
            raise MissingExtra("/metrics", "metrics") from error
        choose = cast("Any", exposition).choose_encoder
        encoded, media_type = choose(request.headers.get("accept", ""))
        body: bytes = encoded(exposition_of(desk.house))
    except AILedgerError as error:
        # Whoever comes for metrics reads no pages.
        return problem_of(error)
    return Response(body, media_type=media_type, headers={"Cache-Control": "no-store"})


routes: list[BaseRoute] = [Route("/metrics", page, name="metrics")]
