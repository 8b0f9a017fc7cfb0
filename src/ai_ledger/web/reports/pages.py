"""The pages of reports: the list, and one report to be read and printed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.errors import InvalidValue
from ai_ledger.web.costs.question import PARAMETERS, question_of
from ai_ledger.web.costs.tabs import common
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.parameters import Page
from ai_ledger.web.periods import RANGES, Period, day_of
from ai_ledger.web.rendering import done, part_of, path_of, render
from ai_ledger.web.reports.files import as_html, download, printable
from ai_ledger.web.reports.reports import KEPT_EACH, Reports
from ai_ledger.web.visit import visit_of


def listed(request: Request) -> Response:
    """The reports that are kept, and a form that makes another one."""
    desk = visit_of(request).desk
    question = question_of(request, desk)
    return render(
        request,
        "reports/list.html",
        **common(request, question, "costs_reports"),
        reports=Reports(desk).list(),
        kept_reports=KEPT_EACH,
        may_delete=desk.access.may("operator"),
    )


def rows(request: Request) -> Response:
    """The list alone."""
    desk = visit_of(request).desk
    return render(
        request,
        "reports/rows.html",
        reports=Reports(desk).list(),
        kept_reports=KEPT_EACH,
        may_delete=desk.access.may("operator"),
        scoped=desk.scope is not None,
    )


def report(request: Request) -> Response:
    """One report, to be read and printed; or its file, with ``format``."""
    stored = Reports(visit_of(request).desk).get(request.path_params["report_id"])
    asked = request.query_params.get("format")
    if asked is None:
        return render(request, "reports/report.html", **printable(request, stored))
    if asked == "csv" or asked == "json":
        return download(stored, asked)
    if asked == "html":
        return as_html(request, stored)
    raise InvalidValue("format", asked, "json, csv or html")


def _make(request: Request, form: Fields) -> Response:
    visit = visit_of(request)
    desk = visit.desk
    days = form.whole("days")
    period = Period.of(
        days=days,
        first=None if days else day_of("first", form.text("first")),
        last=None if days else day_of("last", form.text("last")),
        now=desk.house.clock(),
        tz=desk.tz,
        default=RANGES[-1],
    )
    Reports(desk).make(period)
    return done(
        request,
        visit.language.gettext("The report is made."),
        back=path_of(request, "costs_reports"),
    )


def _delete(request: Request, form: Fields) -> Response:
    visit = visit_of(request)
    id = form.raw("id")
    Reports(visit.desk).delete(id)
    return done(
        request,
        visit.language.gettext("The report is deleted."),
        back=path_of(request, "costs_reports"),
        undo=path_of(request, "report_restore"),
        fields={"id": id},
    )


def _restore(request: Request, form: Fields) -> Response:
    visit = visit_of(request)
    Reports(visit.desk).restore(form.raw("id"))
    return done(
        request,
        visit.language.gettext("The report is back."),
        back=path_of(request, "costs_reports"),
    )


routes: list[BaseRoute] = [
    Page("/costs/reports", listed, name="costs_reports", takes=PARAMETERS),
    Page("/costs/reports/rows", part_of("costs_reports")(rows), name="costs_reports_rows"),
    Route("/reports/make", posted(_make), methods=["POST"], name="report_make"),
    Route("/reports/delete", posted(_delete), methods=["POST"], name="report_delete"),
    Route("/reports/restore", posted(_restore), methods=["POST"], name="report_restore"),
    Page("/reports/{report_id}", report, name="report", takes=("format",)),
]
