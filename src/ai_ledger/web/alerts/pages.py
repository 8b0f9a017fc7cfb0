"""The pages of alerts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.alerts.alert import STATES, State
from ai_ledger.errors import EditConflict, InvalidValue
from ai_ledger.web.alerts import answers, failure_pages, rule_pages, rules
from ai_ledger.web.alerts.answers import Answer
from ai_ledger.web.alerts.sentence import sentences
from ai_ledger.web.alerts.shown import AlertRow, alert_detail
from ai_ledger.web.digits import whole_number
from ai_ledger.web.edits import SHOWN, edits_of
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.links import calls_query
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import done, part_of, path_of, render
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.web.visit import Visit

TO_SEE_TO: Final[tuple[State, ...]] = ("open", "acknowledged")
_LED_TO_BY: Final[dict[Answer, State]] = {
    answer: state for state, answer in answers.LEADS_TO.items()
}
_SHOWN: Final = 100
_LIST: Final = ("state", "rule")


def page(request: Request) -> Response:
    """What needs a person."""
    return render(request, "alerts/page.html", **list_values(request))


def list_part(request: Request) -> Response:
    """The list alone, for the page to renew."""
    return render(request, "alerts/list.html", **list_values(request))


def list_values(request: Request) -> dict[str, Any]:
    """What the list of alerts is made of."""
    visit = visit_of(request)
    desk = visit.desk
    state, rule = _state(request), request.query_params.get("rule", "")[:255]
    states = TO_SEE_TO if state == "" else STATES if state == "all" else (state,)
    found = answers.listed(desk, states, rule=rule or None, limit=_SHOWN)
    query = {"state": state, "rule": rule}
    return {
        "alerts": found,
        "state": state,
        "rule": rule,
        "query": {name: value for name, value in query.items() if value},
        "full": len(found) == _SHOWN,
        "has_rules": bool(found) or bool(rules.rules(desk)),
        "now": desk.house.clock(),
        "looked_at": desk.house.alerts.looked_at,
        "is_watching": desk.house.alerts.is_watching,
        "behind": _behind(visit),
        **told(visit),
    }


def alert_page(request: Request) -> Response:
    """One alert: what was found, who was told, what people did."""
    visit = visit_of(request)
    desk = visit.desk
    alert = alert_detail(desk, request.path_params["alert_id"])
    return render(
        request,
        "alerts/alert.html",
        alert=alert,
        edits=edits_of(desk.alerts.history("alert", alert.id, limit=SHOWN)),
        now=desk.house.clock(),
        behind=_behind(visit),
        **told(visit),
    )


def answer(what: Answer) -> Callable[[Request, Fields], Response]:
    """The action of one button of one alert."""

    def work(request: Request, form: Fields) -> Response:
        visit = visit_of(request)
        alert_id = request.path_params["alert_id"]
        visit.desk.require("operator")
        before = visit.desk.alerts.get(alert_id)
        version = form.whole("version")
        try:
            if form.flag("undoing"):
                changed = answers.give_back(visit.desk, alert_id, _LED_TO_BY[what], version)
            else:
                note = form.text("note")
                changed = answers.answer(visit.desk, alert_id, what, note=note, version=version)
        except EditConflict as conflict:
            if version in (None, visit.desk.alerts.get(alert_id).version):
                raise  # nobody was quicker: it is not to be
            raise _quicker(visit, alert_id) from conflict
        undo = answers.LEADS_TO[before.state] if before.state != changed.state else None
        said = _said(visit, changed.state) % {"number": alert_id}
        return done(
            request,
            said,
            back=path_of(request, "alerts"),
            undo=None if undo is None else path_of(request, f"alert_{undo}", alert_id=alert_id),
            fields={"version": str(changed.version), "undoing": "1"},
        )

    return work


def answer_several(request: Request, form: Fields) -> Response:
    """The buttons over the list: for all alerts that are ticked."""
    visit = visit_of(request)
    language = visit.language
    what = form.raw("what")
    if what == "undo":
        answered = answers.take_back(visit.desk, form.raw("answered"))
        message = language.ngettext(
            "%(num)s alert is what it was.", "%(num)s alerts are what they were.", answered.answered
        )
    else:
        if what not in ("ack", "ignore", "resolve", "reopen"):
            raise InvalidValue("what", what, "ack, ignore, resolve, reopen or undo")
        chosen = dict(_chosen(text) for text in form.texts("alert"))
        answered = answers.answer_all(visit.desk, chosen, what, note=form.text("note"))
        message = language.ngettext(
            "%(num)s alert was answered.", "%(num)s alerts were answered.", answered.answered
        )
    message %= {"num": answered.answered}
    missed = ""
    if answered.missed:
        missed = " " + language.ngettext(
            "%(num)s was not come to, since the database went away.",
            "%(num)s were not come to, since the database went away.",
            answered.missed,
        ) % {"num": answered.missed}
    return done(
        request,
        message + failure_pages.left_alone(language, answered.left) + missed,
        back=path_of(request, "alerts"),
        undo=path_of(request, "alerts_answer") if answered.answered else None,
        fields={"what": "undo", "answered": answered.name},
    )


def evaluate(request: Request, form: Fields) -> Response:
    """Look at all rules once."""
    visit = visit_of(request)
    visit.desk.require("operator")
    raised = visit.desk.alerts.evaluate()
    message = visit.language.ngettext(
        "All rules were looked at: %(num)s new alert.",
        "All rules were looked at: %(num)s new alerts.",
        len(raised),
    )
    return done(request, message % {"num": len(raised)}, back=path_of(request, "alerts"))


def told(visit: Visit) -> dict[str, Any]:
    """How alerts are told: ``sentence(alert)``, and ``measure(alert, "value")``."""
    say = sentences(visit.desk, visit.language)

    def measure(alert: AlertRow, name: str) -> str:
        return say.measure(alert, getattr(alert, name))

    return {"sentence": say, "measure": measure}


def _behind(visit: Visit) -> Callable[[AlertRow], dict[str, list[str]] | None]:
    def behind(alert: AlertRow) -> dict[str, list[str]] | None:
        calls = alert.calls
        if calls.since is None and not calls.where:
            return None
        where = dict(calls.where)
        if alert.kind == "unpriced":  # the status says nothing beside it
            where.pop("status", None)
        return calls_query(where, calls.since, calls.until, visit.desk.tz)

    return behind


def _state(request: Request) -> Any:
    state = request.query_params.get("state", "")
    return state if state in (*STATES, "all") else ""


def _chosen(text: str) -> tuple[int, int | None]:
    """``7:3``: alert 7, seen at version 3."""
    alert, _, seen = text.partition(":")
    number, version = whole_number(alert), whole_number(seen)
    if number is None or (seen and version is None):
        raise InvalidValue("alert", text, "the number of an alert and its version, such as 7:3")
    return number, version


def _said(visit: Visit, state: str) -> str:
    _ = visit.language.gettext
    return {
        "open": _("Alert %(number)s is open again."),
        "acknowledged": _("Alert %(number)s is acknowledged."),
        "ignored": _("Alert %(number)s is ignored."),
        "resolved": _("Alert %(number)s is resolved."),
    }[state]


def _quicker(visit: Visit, alert_id: int) -> EditConflict:
    """That somebody else was quicker, and what the alert is now."""
    _ = visit.language.gettext
    alert = visit.desk.alerts.get(alert_id)
    state = {
        "open": _("open"),
        "acknowledged": _("acknowledged"),
        "ignored": _("ignored"),
        "resolved": _("resolved"),
    }[alert.state]
    message = _("Somebody else was quicker: alert %(number)s is %(state)s by now, by %(who)s.")
    who = alert.changed_by or _("itself")
    return EditConflict(message % {"number": alert_id, "state": state, "who": who})


routes: list[BaseRoute] = [
    Page("/alerts", page, name="alerts", takes=_LIST),
    Page("/alerts/list", part_of("alerts")(list_part), name="alerts_list", takes=_LIST),
    Route("/alerts/answer", posted(answer_several), methods=["POST"], name="alerts_answer"),
    Route("/alerts/evaluate", posted(evaluate), methods=["POST"], name="alerts_evaluate"),
    *failure_pages.routes,
    *rule_pages.routes,
    Page("/alerts/{alert_id:int}", alert_page, name="alert"),
    Route("/alerts/{alert_id:int}/ack", posted(answer("ack")), methods=["POST"], name="alert_ack"),
    Route(
        "/alerts/{alert_id:int}/ignore",
        posted(answer("ignore")),
        methods=["POST"],
        name="alert_ignore",
    ),
    Route(
        "/alerts/{alert_id:int}/resolve",
        posted(answer("resolve")),
        methods=["POST"],
        name="alert_resolve",
    ),
    Route(
        "/alerts/{alert_id:int}/reopen",
        posted(answer("reopen")),
        methods=["POST"],
        name="alert_reopen",
    ),
]
