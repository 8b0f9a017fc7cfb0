"""The pages of overview."""

from __future__ import annotations

from datetime import date
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ai_ledger.errors import InvalidValue
from ai_ledger.web.alerts.sentence import sentences
from ai_ledger.web.alerts.shown import AlertRow, alert_row
from ai_ledger.web.digits import whole_number
from ai_ledger.web.frame.errors import told
from ai_ledger.web.overview.dashboard import ALERTS, dashboard
from ai_ledger.web.overview.view import View
from ai_ledger.web.parameters import Page
from ai_ledger.web.periods import MAX_DAYS, PERIOD, RANGES, Period, day_of
from ai_ledger.web.rendering import is_partial, part_of, render
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

DEFAULT_DAYS = 7


def page(request: Request) -> Response:
    """The page itself; days that cannot be stay in its form, with what is wrong beside them."""
    visit = visit_of(request)
    typed = {name: request.query_params.get(name, "") for name in ("first", "last")}
    try:
        period, problem = _period(request, visit.desk), None
    except InvalidValue as error:
        if is_partial(request):
            raise
        period, problem = _of_days(visit.desk, None), told(error, visit.language)
    if problem is None:
        typed = {"first": period.first.isoformat(), "last": period.last.isoformat()}
    return render(
        request,
        "overview/page.html",
        status=HTTPStatus.OK if problem is None else HTTPStatus.UNPROCESSABLE_ENTITY,
        ranges=RANGES,
        typed=typed,
        problem=problem,
        **_values(request, period),
    )


def board(request: Request) -> Response:
    """What of it renews itself."""
    period = _period(request, visit_of(request).desk)
    return render(request, "overview/board.html", **_values(request, period))


def _values(request: Request, period: Period) -> dict[str, Any]:
    visit = visit_of(request)
    found = dashboard(visit.desk, period)
    say = sentences(visit.desk, visit.language) if found.alerts.alerts else None
    return {
        "told": {} if say is None else {alert.id: say(alert) for alert in _newest(visit.desk)},
        "period": period,
        "board": found,
        "view": View(found, visit.language),
    }


def _newest(desk: Desk) -> list[AlertRow]:
    return [alert_row(each) for each in desk.alerts.list(limit=ALERTS, by_urgency=True)]


def _period(request: Request, desk: Desk) -> Period:
    text = request.query_params.get("days", "").strip()
    days = whole_number(text) if text else None
    if text and days is None:
        raise InvalidValue("days", text, f"a whole number from 1 to {MAX_DAYS}")
    return _of_days(
        desk,
        days,
        first=day_of("first", request.query_params.get("first", "").strip()),
        last=day_of("last", request.query_params.get("last", "").strip()),
    )


def _of_days(
    desk: Desk, days: int | None, *, first: date | None = None, last: date | None = None
) -> Period:
    return Period.of(
        days=days,
        first=first,
        last=last,
        now=desk.house.clock(),
        tz=desk.tz,
        default=DEFAULT_DAYS,
    )


routes: list[BaseRoute] = [
    Page("/", page, name="overview", takes=PERIOD),
    Page("/overview/board", part_of("overview")(board), name="overview_board", takes=PERIOD),
]
