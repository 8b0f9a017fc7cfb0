"""The pages of overview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ai_ledger.database.address import without_password
from ai_ledger.errors import InvalidValue
from ai_ledger.web.alerts.sentence import sentences
from ai_ledger.web.alerts.shown import AlertRow, alert_row
from ai_ledger.web.digits import whole_number
from ai_ledger.web.overview.dashboard import ALERTS, dashboard
from ai_ledger.web.overview.view import View
from ai_ledger.web.parameters import Page
from ai_ledger.web.periods import MAX_DAYS, PERIOD, RANGES, Period, day_of
from ai_ledger.web.rendering import part_of, render
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

DEFAULT_DAYS = 7


def page(request: Request) -> Response:
    """The page itself."""
    return render(request, "overview/page.html", ranges=RANGES, **_values(request))


def board(request: Request) -> Response:
    """What of it renews itself."""
    return render(request, "overview/board.html", **_values(request))


def _values(request: Request) -> dict[str, Any]:
    visit = visit_of(request)
    period = _period(request, visit.desk)
    found = dashboard(visit.desk, period)
    say = sentences(visit.desk, visit.language) if found.alerts.alerts else None
    return {
        "told": {} if say is None else {alert.id: say(alert) for alert in _newest(visit.desk)},
        "period": period,
        "board": found,
        "view": View(found, visit.language),
        # Where the ledger is, is for those who may see all of it.
        "url": without_password(visit.desk.house.url) if visit.desk.scope is None else "…",
    }


def _newest(desk: Desk) -> list[AlertRow]:
    return [alert_row(each) for each in desk.alerts.list(limit=ALERTS, by_urgency=True)]


def _period(request: Request, desk: Desk) -> Period:
    text = request.query_params.get("days", "").strip()
    days = whole_number(text) if text else None
    if text and days is None:
        raise InvalidValue("days", text, f"a whole number from 1 to {MAX_DAYS}")
    return Period.of(
        days=days,
        first=day_of("first", request.query_params.get("first", "").strip()),
        last=day_of("last", request.query_params.get("last", "").strip()),
        now=desk.house.clock(),
        tz=desk.tz,
        default=DEFAULT_DAYS,
    )


routes: list[BaseRoute] = [
    Page("/", page, name="overview", takes=PERIOD),
    Page("/overview/board", part_of("overview")(board), name="overview_board", takes=PERIOD),
]
