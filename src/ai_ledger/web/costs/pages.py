"""The pages of costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ai_ledger.errors import SinkUnavailable
from ai_ledger.stats import Basis, Forecast, Suggestions
from ai_ledger.web.costs.actions import routes as actions
from ai_ledger.web.costs.advice import found_suggestions
from ai_ledger.web.costs.ahead import found_forecast
from ai_ledger.web.costs.leaders import (
    Leaders,
    found_leaders,
    leaders_in,
    models_side_by_side,
    total_of,
    unpriced,
)
from ai_ledger.web.costs.overtime import SPLITS, OverTime, found_over_time, over_time_of
from ai_ledger.web.costs.question import (
    DEFAULT_DAYS,
    LIMITS,
    MAX_LIMIT,
    PARAMETERS,
    RANKINGS,
    Question,
    question_of,
)
from ai_ledger.web.costs.repricing import repricing_of
from ai_ledger.web.costs.tabs import common
from ai_ledger.web.filters import parameter_of
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import part_of, render
from ai_ledger.web.visit import visit_of

PATIENCE_S: Final = 0.05
"""How long a page waits for an answer that takes long; it shows the rest without it."""
WITHOUT_SCRIPT_S: Final = 20.0

_Gather: TypeAlias = Callable[[Request, Question, float], dict[str, Any]]


def breakdown(request: Request) -> Response:
    """Who and what drives costs: the total, and a list that may come later."""
    return _told(request, "costs/breakdown.html", "costs", _rows, _patience(request))


def rows(request: Request) -> Response:
    """The list of the page above, as soon as it is there."""
    return _told(request, "costs/rows.html", "costs", _rows, PATIENCE_S)


def over_time(request: Request) -> Response:
    """Costs by day, stacked."""
    return _told(request, "costs/time.html", "costs_time", _over_time, _patience(request))


def charts(request: Request) -> Response:
    """The charts of the page above, as soon as they are there."""
    return _told(request, "costs/charts.html", "costs_time", _over_time, PATIENCE_S)


def models(request: Request) -> Response:
    """What a call costs, model beside model."""
    desk = visit_of(request).desk
    question = question_of(request, desk)
    found = models_side_by_side(desk, question)
    dearest: dict[str, Any] = {}
    for each in found.models:
        if each.currency is not None and each.average_cost is not None:
            dearest[each.currency] = max(each.average_cost, dearest.get(each.currency, 0))
    return render(
        request,
        "costs/models.html",
        **common(request, question, "costs_models"),
        found=found,
        dearest=dearest,
    )


def forecast(request: Request) -> Response:
    """What this month will have cost."""
    return _told(request, "costs/forecast.html", "costs_forecast", _forecast, _patience(request))


def forecasted(request: Request) -> Response:
    """The forecast, as soon as it is there."""
    return _told(request, "costs/forecasted.html", "costs_forecast", _forecast, PATIENCE_S)


def suggestions(request: Request) -> Response:
    """Where money could be saved."""
    return _told(
        request, "costs/suggestions.html", "costs_suggestions", _suggested, _patience(request)
    )


def suggested(request: Request) -> Response:
    """The suggestions, as soon as they are there."""
    return _told(request, "costs/suggested.html", "costs_suggestions", _suggested, PATIENCE_S)


def unpriced_calls(request: Request) -> Response:
    """Calls that no cost is known of, and pricing them again."""
    desk = visit_of(request).desk
    run = repricing_of(desk.house).last() if desk.scope is None else None
    return render(request, "costs/unpriced.html", run=run, **_unpriced(request))


def unpriced_rows(request: Request) -> Response:
    """The list of the page above, renewed when something has changed."""
    return render(request, "costs/unpriced_rows.html", **_unpriced(request))


def _unpriced(request: Request) -> dict[str, Any]:
    desk = visit_of(request).desk
    question = question_of(request, desk)
    return {
        **common(request, question, "costs_unpriced"),
        "found": unpriced(desk, question),
        "may_reprice": desk.access.may("admin") and desk.scope is None,
    }


def repricing(request: Request) -> Response:
    """How far the run of re-pricing is."""
    desk = visit_of(request).desk
    desk.require("viewer", everywhere=True)
    run = repricing_of(desk.house).last()
    response = render(
        request,
        "costs/repricing.html",
        run=run,
        may_reprice=desk.access.may("admin"),
    )
    # Whoever watched it run hears when it has ended, so that the list is renewed.
    watched = request.query_params.get("watched")
    if run is not None and run.state != "running" and watched == run.id:
        response.headers["HX-Trigger"] = "repriced"
    return response


def _patience(request: Request) -> float:
    return WITHOUT_SCRIPT_S if request.query_params.get("wait") == "1" else PATIENCE_S


def _told(
    request: Request, template: str, tab: str, gather: _Gather, patience_s: float
) -> Response:
    """A page, or the part of one that comes later: what *gather* has after *patience_s*."""
    question = question_of(request, visit_of(request).desk)
    values = {**common(request, question, tab), **gather(request, question, patience_s)}
    return render(request, template, **values)


def _over_time(request: Request, question: Question, patience_s: float) -> dict[str, Any]:
    """The charts that *question* asks for, or that they are still being counted."""
    visit = visit_of(request)
    desk, language = visit.desk, visit.language
    found: OverTime | None = None
    problem = None
    try:
        if question.by in SPLITS:
            found = over_time_of(desk, question)
        else:
            # First which values are the dearest, then what they cost each day.
            question = replace(question, ranked_by="cost", limit=MAX_LIMIT)
            leading = found_leaders(desk, question)
            if leading.wait(patience_s):
                pending = found_over_time(desk, question, leaders_in(leading, question))
                if pending.wait(patience_s):
                    found = pending.value
    except SinkUnavailable as error:
        problem = str(error)
    return {
        "found": found,
        "problem": problem,
        "total": None if found is None else found.total,
        "charts": None
        if found is None
        else found.charts(
            [language.day(day, short=True) for day in found.days],
            others=language.gettext("Others"),
            unset=language.gettext("not set"),
        ),
    }


def _rows(request: Request, question: Question, patience_s: float) -> dict[str, Any]:
    """The list that *question* asks for, or that it is still being counted."""
    desk = visit_of(request).desk
    found = found_leaders(desk, question)
    leaders: Leaders | None = None
    problem = None
    if found.wait(patience_s):
        try:
            leaders = leaders_in(found, question)
        except SinkUnavailable as error:
            problem = str(error)
    return {
        "leaders": leaders,
        "total": leaders.total if leaders else total_of(desk, question),
        "problem": problem,
        "rankings": RANKINGS,
        "limits": LIMITS,
    }


def _forecast(request: Request, question: Question, patience_s: float) -> dict[str, Any]:
    """The forecast that *question* asks for, or that it is still being counted."""
    desk = visit_of(request).desk
    # Groups are judged one by one, of what has few values.
    by = question.by if question.by in SPLITS else SPLITS[0]
    # The totals answer for one field: with a filter on another one, there are no groups.
    grouped = not question.filters
    pending = found_forecast(desk, by if grouped else None, question)
    found: Forecast | None = None
    problem = None
    if pending.wait(patience_s):
        try:
            found = pending.value
        except SinkUnavailable as error:
            problem = str(error)
    return {
        "found": found,
        "problem": problem,
        "last_day": None if found is None else found.month_end - timedelta(hours=1),
        "by": by if grouped else None,
        "splits": [field for field in SPLITS if field != "org_id" or desk.scope is None],
    }


def _suggested(request: Request, question: Question, patience_s: float) -> dict[str, Any]:
    """The suggestions for the days of *question*, or that they are still being counted."""
    desk = visit_of(request).desk
    days = question.period.days or DEFAULT_DAYS
    found = found_suggestions(desk, days)
    advice: Suggestions | None = None
    problem = None
    if found.wait(patience_s):
        try:
            advice = found.value
        except SinkUnavailable as error:
            problem = str(error)
    return {"advice": advice, "problem": problem, "days": days, "basis_of": _basis_of}


def _basis_of(basis: Basis) -> dict[str, list[str]]:
    """The calls behind a suggestion, as parameters of the page of calls."""
    found: dict[str, list[str]] = {}
    for field, value in basis.where.items():
        name, text = parameter_of(field, value)
        found.setdefault(name, []).append(text)
    return found


routes: list[BaseRoute] = [
    Page("/costs", breakdown, name="costs", takes=PARAMETERS),
    Page("/costs/rows", part_of("costs")(rows), name="costs_rows", takes=PARAMETERS),
    Page("/costs/time", over_time, name="costs_time", takes=PARAMETERS),
    Page(
        "/costs/time/charts", part_of("costs_time")(charts), name="costs_charts", takes=PARAMETERS
    ),
    Page("/costs/models", models, name="costs_models", takes=PARAMETERS),
    Page("/costs/forecast", forecast, name="costs_forecast", takes=PARAMETERS),
    Page(
        "/costs/forecast/found",
        part_of("costs_forecast")(forecasted),
        name="costs_forecasted",
        takes=PARAMETERS,
    ),
    Page("/costs/suggestions", suggestions, name="costs_suggestions", takes=PARAMETERS),
    Page(
        "/costs/suggestions/found",
        part_of("costs_suggestions")(suggested),
        name="costs_suggested",
        takes=PARAMETERS,
    ),
    Page("/costs/unpriced", unpriced_calls, name="costs_unpriced", takes=(*PARAMETERS, "watched")),
    Page(
        "/costs/unpriced/rows",
        part_of("costs_unpriced")(unpriced_rows),
        name="costs_unpriced_rows",
        takes=PARAMETERS,
    ),
    Page(
        "/costs/repricing",
        part_of("costs_unpriced")(repricing),
        name="costs_repricing",
        takes=("watched",),
    ),
    *actions,
]
