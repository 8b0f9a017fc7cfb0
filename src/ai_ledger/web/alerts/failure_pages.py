"""The pages of calls that failed and need a person."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.alerts.alert import MARK_STATES, MarkState
from ai_ledger.errors import InvalidValue
from ai_ledger.web.alerts import answers
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.language import Language
from ai_ledger.web.parameters import Page
from ai_ledger.web.periods import RANGES
from ai_ledger.web.rendering import done, part_of, path_of, render
from ai_ledger.web.visit import visit_of

_SHOWN: Final = 100
_LIST: Final = ("state", "days")


def page(request: Request) -> Response:
    """Failed calls."""
    return render(request, "alerts/failures.html", **list_values(request))


def list_part(request: Request) -> Response:
    """The list alone, for the page to renew."""
    return render(request, "alerts/failures_list.html", **list_values(request))


def list_values(request: Request) -> dict[str, Any]:
    """What the list of failed calls is made of."""
    desk = visit_of(request).desk
    asked = request.query_params.get("state", "open")
    state: MarkState | None = None if asked == "all" else asked if asked in MARK_STATES else "open"
    text = request.query_params.get("days", "7")
    days = int(text) if text in {str(each) for each in RANGES} else 7
    found = answers.failures(desk, days=days, state=state, limit=_SHOWN)
    return {
        "failures": found,
        "state": state or "all",
        "days": days,
        "ranges": RANGES,
        "full": len(found) == _SHOWN,
        "now": desk.house.clock(),
    }


def mark(request: Request, form: Fields) -> Response:
    """Mark the failed calls that are ticked, or the one whose button it is."""
    visit = visit_of(request)
    language = visit.language
    if "marked" in form:
        marked = answers.take_marks_back(visit.desk, form.raw("marked"))
        message = language.ngettext(
            "%(num)s call is marked as before.",
            "%(num)s calls are marked as before.",
            marked.marked,
        )
    else:
        state: Any = form.raw("state")
        if state not in MARK_STATES:
            raise InvalidValue("state", state, f"one of {', '.join(MARK_STATES)}")
        marked = answers.mark(visit.desk, form.texts("call"), state, note=form.text("note"))
        message = {
            "open": language.ngettext(
                "%(num)s call is open again.", "%(num)s calls are open again.", marked.marked
            ),
            "acknowledged": language.ngettext(
                "%(num)s call is marked as seen to.",
                "%(num)s calls are marked as seen to.",
                marked.marked,
            ),
            "ignored": language.ngettext(
                "%(num)s call is ignored.", "%(num)s calls are ignored.", marked.marked
            ),
        }[state]
    message %= {"num": marked.marked}
    return done(
        request,
        message + left_alone(language, marked.left),
        back=path_of(request, "failures"),
        undo=path_of(request, "failures_mark") if marked.marked else None,
        fields={"marked": marked.name},
    )


def left_alone(language: Language, number: int) -> str:
    """What is said of those that had changed meanwhile; nothing when there are none."""
    if not number:
        return ""
    message = language.ngettext(
        "%(num)s had changed meanwhile and was left alone.",
        "%(num)s had changed meanwhile and were left alone.",
        number,
    )
    return f" {message % {'num': number}}"


routes: list[BaseRoute] = [
    Page("/alerts/failures", page, name="failures", takes=_LIST),
    Page(
        "/alerts/failures/list", part_of("failures")(list_part), name="failures_list", takes=_LIST
    ),
    Route("/alerts/failures/mark", posted(mark), methods=["POST"], name="failures_mark"),
]
