"""Forms of the pages of costs: pricing calls again, stopping that, taking it back."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.bounds import label
from ai_ledger.errors import InvalidValue
from ai_ledger.web.costs.repricing import repricing_of
from ai_ledger.web.costs.run import Asked
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.periods import Period, day_of, moment_of
from ai_ledger.web.rendering import done, path_of
from ai_ledger.web.visit import visit_of


def _reprice(request: Request, form: Fields) -> Response:
    visit = visit_of(request)
    desk, say = visit.desk, visit.language.gettext
    desk.require("admin", everywhere=True)
    since, until = _span(request, form)
    model = form.text("model")
    apply = form.flag("apply")
    run = repricing_of(desk.house).begin(
        desk,
        Asked(
            since=since,
            until=until,
            model=None if model is None else label(model),
            unpriced_only=form.raw("which") != "all",
            dry_run=not apply,
        ),
        wait_s=0.3,
    )
    if run.state == "running":
        message = say("Calls are being priced again.") if apply else say("Looking at the calls.")
    else:
        message = say("Calls were priced again.") if apply else say("Nothing was changed yet.")
    return done(request, message, back=path_of(request, "costs_unpriced"))


def _stop(request: Request, form: Fields) -> Response:
    visit = visit_of(request)
    repricing_of(visit.desk.house).stop(visit.desk)
    return done(
        request,
        visit.language.gettext("It stops after the calls that it is at."),
        back=path_of(request, "costs_unpriced"),
    )


def _take_back(request: Request, form: Fields) -> Response:
    visit = visit_of(request)
    language = visit.language
    begun_at = moment_of("begun_at", form.text("begun_at"))
    if begun_at is None:
        raise InvalidValue("begun_at", None, "the moment at which a re-pricing began")
    run = repricing_of(visit.desk.house).take_back(visit.desk, begun_at, wait_s=0.3)
    text = language.ngettext(
        "%(num)s call has its old cost again.",
        "%(num)s calls have their old cost again.",
        run.changed,
    )
    if run.state == "running":
        text = language.gettext("The old costs are being brought back.")
    return done(
        request,
        text % {"num": language.number(run.changed)},
        back=path_of(request, "costs_unpriced"),
    )


def _span(request: Request, form: Fields) -> tuple[datetime | None, datetime | None]:
    """The days of the form, or the moments of a run that was shown; without any, all time."""
    if "since" in form or "until" in form:
        return moment_of("since", form.text("since")), moment_of("until", form.text("until"))
    first, last = day_of("first", form.text("first")), day_of("last", form.text("last"))
    if first is None and last is None:
        return None, None
    desk = visit_of(request).desk
    period = Period.of(days=None, first=first, last=last, now=desk.house.clock(), tz=desk.tz)
    return period.since, period.until


routes: list[BaseRoute] = [
    Route("/costs/reprice", posted(_reprice), methods=["POST"], name="costs_reprice"),
    Route("/costs/reprice/stop", posted(_stop), methods=["POST"], name="costs_reprice_stop"),
    Route(
        "/costs/reprice/take-back",
        posted(_take_back),
        methods=["POST"],
        name="costs_reprice_take_back",
    ),
]
