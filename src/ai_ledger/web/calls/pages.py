"""The pages of calls."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ai_ledger.errors import InvalidValue
from ai_ledger.pricing.price import RATE_FIELDS
from ai_ledger.records import STATUSES, USAGE_SOURCES, CallRecord
from ai_ledger.web.calls import changes
from ai_ledger.web.calls.api import totals_of
from ai_ledger.web.calls.detail import price_of, reading_of
from ai_ledger.web.calls.filter import CallFilter, Listing
from ai_ledger.web.calls.tail import Events, Tail, behind_of
from ai_ledger.web.filters import TEXTS, parameter_of
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.frame.errors import told
from ai_ledger.web.language import Labels
from ai_ledger.web.parameters import Page, only
from ai_ledger.web.patience import patient
from ai_ledger.web.periods import RANGES
from ai_ledger.web.rendering import done, is_partial, part_of, path_of, render, text_of
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

SIZES: Final = (25, 50, 100)
_OFFERED: Final = ("request_model", "provider", "function", "business_type", "operation")
"""Fields whose values are offered while one types: totals are kept by them."""
_MOST_OFFERED: Final = 50
_FORM: Final = frozenset(CallFilter.model_fields)
_IN_SIGHT: Final = frozenset(
    ("days", "first", "last", "status", "request_model", "user_id", "search")
)
"""Fields of the form that stand above the others, which are folded."""


def page(request: Request) -> Response:
    """A page of the list."""
    # Without a script a form sends every field; an address says only what was filled in.
    kept = [(name, value) for name, value in request.query_params.multi_items() if value != ""]
    if len(kept) < len(request.query_params.multi_items()):
        address = path_of(request, "calls")
        return RedirectResponse(f"{address}?{urlencode(kept)}" if kept else address, 303)
    visit = visit_of(request)
    asked, wrong = _understood(request, visit.desk)
    values: dict[str, Any] = {
        "asked": asked,
        "shape": asked.shape,
        "ranges": RANGES,
        "sizes": SIZES,
        "statuses": STATUSES,
        "sources": USAGE_SOURCES,
        "texts": [name for name in TEXTS if visit.desk.scope is None or name != "org_id"],
        "may_change": visit.access.may("operator"),
        "chips": [] if wrong else _chips(asked, Labels(visit.language)),
        "hidden_mistakes": not _IN_SIGHT.issuperset(wrong),
        "typed": {name: request.query_params.get(name) for name in wrong},
        "problems": [told(error, visit.language) for error in wrong.values()],
    }
    if wrong:
        # Calls of another filter than the one that was asked for would be taken for its own.
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return render(
            request, "calls/page.html", status=status, found=None, is_fresh=False, **values
        )
    stats = visit.desk.stats
    with patient():
        since, until = asked.times(visit.desk)
        found = stats.browse(
            asked.where(stats),
            asked.cursor,
            asked.limit,
            since=since,
            until=until,
            order=asked.order,
            descending=asked.descending,
            last=asked.end,
            deleted=asked.deleted,
        )
        # With deleted ones, a list that is empty: undoing brings them back into it.
        is_fresh = not found.calls and not any(
            stats.browse(limit=1, deleted=deleted).calls for deleted in (False, True)
        )
    return render(
        request,
        "calls/page.html",
        found=found,
        is_fresh=is_fresh and not asked.deleted,
        **values,
    )


def _chips(asked: Listing, labels: Labels) -> list[dict[str, Any]]:
    """What the folded fields say: each one's name, value, and the address without it."""
    found: list[dict[str, Any]] = []
    for name, said in asked.query.items():
        if name in _IN_SIGHT:
            continue
        for value in said if isinstance(said, list) else [said]:
            kept = [each for each in said if each != value] if isinstance(said, list) else []
            fields = name in ("unset", "empty")
            found.append(
                {
                    "field": labels.typed(name) or name,
                    "value": labels.field(value) if fields else labels.choice(name, value),
                    "without": {**asked.shape, name: kept},
                }
            )
    return found


def _understood(request: Request, desk: Desk) -> tuple[Listing, dict[str, InvalidValue]]:
    """What the form asks for, and which of its fields say nothing that can be, with the reason."""
    said = request.query_params.multi_items()
    wrong: dict[str, InvalidValue] = {}
    while True:
        try:
            asked = Listing.read(QueryParams(said))
            asked.times(desk)
        except InvalidValue as error:
            rest = [(name, value) for name, value in said if name != error.field]
            # Parts of a page are asked for by scripts, and places in a list by links.
            if is_partial(request) or error.field not in _FORM or len(rest) == len(said):
                raise
            wrong[error.field] = error
            said = rest
        else:
            return asked, wrong


def totals(request: Request) -> Response:
    """What the filtered calls add up to."""
    asked = CallFilter.read(request.query_params)
    return render(
        request,
        "calls/totals.html",
        layout=_layout(request),
        asked=asked,
        figures=totals_of(visit_of(request).desk, asked),
        most=changes.MAX_FILTERED,
    )


def values(request: Request) -> Response:
    """Names to choose from in the filter: those with most calls."""
    asked = CallFilter.read(request.query_params)
    desk = visit_of(request).desk
    fields = (*_OFFERED, *(("org_id",) if desk.scope is None else ()))
    with patient():
        since, until = asked.times(desk)
        offered = {
            field: [
                group.key[field]
                for group in desk.stats.summary(since, until, by=field).groups[:_MOST_OFFERED]
                if group.key[field]
            ]
            for field in fields
        }
    return render(request, "calls/values.html", offered=offered)


def call(request: Request) -> Response:
    """One call, as a page or as the inside of the panel."""
    visit = visit_of(request)
    call_id = request.path_params.get("call_id", request.query_params.get("id", ""))
    detail = visit.desk.call(call_id)
    record = detail.call
    whole = request.query_params.get("whole") == "1"
    price = price_of(visit.desk, record)
    return render(
        request,
        "calls/call.html",
        layout=_layout(request),
        call=record,
        detail=detail,
        asked_for=reading_of(record.request_content, whole=whole),
        answered=reading_of(record.response_content, whole=whole),
        price=price,
        rates=_rates(price),
        parameter_of=parameter_of,
        may_change=visit.access.may("operator"),
    )


def live(request: Request) -> Response:
    """Rows of calls as they come."""
    visit = visit_of(request)
    asked = CallFilter.read(request.query_params)
    with patient():
        tail = Tail(visit.desk, asked, behind_of(request))

    def row(record: CallRecord) -> str:
        return text_of(
            request,
            "calls/row.html",
            call=record,
            shape=asked.query,
            may_change=visit.access.may("operator"),
        )

    return Events(request, visit.desk, tail, row)


def delete(request: Request, fields: Fields) -> Response:
    """Delete the chosen calls."""
    visit = visit_of(request)
    if "expected" in fields:
        # All that the filter of the page means, with the number that the page has told.
        said = QueryParams(fields.raw("filter"))
        only(said, CallFilter.parameters())
        asked = CallFilter.read(said)
        deletion = changes.delete_all(visit.desk, asked, fields.whole("expected") or 0)
    elif "restored" in fields:
        deletion = changes.delete_again(visit.desk, fields.raw("restored"))
    else:
        deletion = changes.delete(visit.desk, fields.texts("ids"))
    count = deletion.count
    message = visit.language.ngettext(
        "%(count)s call deleted.", "%(count)s calls deleted.", count
    ) % {"count": visit.language.number(count)}
    return done(
        request,
        message,
        back=path_of(request, "calls"),
        undo=path_of(request, "calls_restore"),
        fields={"deleted_at": deletion.at.isoformat()},
    )


def restore(request: Request, fields: Fields) -> Response:
    """Bring the chosen calls back."""
    visit = visit_of(request)
    deleted_at = fields.text("deleted_at")
    if deleted_at is not None:
        restoration = changes.restore_deletion(visit.desk, _moment(deleted_at))
    else:
        restoration = changes.restore(visit.desk, fields.texts("ids"))
    count = restoration.count
    message = visit.language.ngettext(
        "%(count)s call restored.", "%(count)s calls restored.", count
    ) % {"count": visit.language.number(count)}
    return done(
        request,
        message,
        back=path_of(request, "calls"),
        undo=path_of(request, "calls_delete") if count and restoration.name else None,
        fields={"restored": restoration.name or ""},
    )


def first(request: Request) -> Response:
    """Asked by the page of a fresh ledger: shown anew as soon as there is a call."""
    with patient():
        is_there = bool(visit_of(request).desk.stats.browse(limit=1).calls)
    return Response(status_code=204, headers={"HX-Refresh": "true"} if is_there else None)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text[:40])
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidValue("deleted_at", text[:40], "the moment that a deletion was told with")
    return found


def _layout(request: Request) -> str:
    return "calls/part.html" if is_partial(request) else "frame/base.html"


def _rates(price: Any) -> list[tuple[str, Any]]:
    if price is None:
        return []
    names = (*RATE_FIELDS, "per_call")
    return [(name, getattr(price, name)) for name in names if getattr(price, name) is not None]


routes: list[BaseRoute] = [
    Page("/calls", page, name="calls", takes=Listing.parameters()),
    Page("/calls/totals", totals, name="calls_totals", takes=CallFilter.parameters()),
    Page(
        "/calls/values",
        part_of("calls")(values),
        name="calls_values",
        takes=CallFilter.parameters(),
    ),
    Page("/calls/first", part_of("calls")(first), name="calls_first"),
    Page("/calls/live", live, name="calls_live", takes=CallFilter.parameters()),
    Route("/calls/delete", posted(delete), methods=["POST"], name="calls_delete"),
    Route("/calls/restore", posted(restore), methods=["POST"], name="calls_restore"),
    # An id may be anything, also "..", "totals" or what servers on the way make another of: this
    # is where links lead. Plain ones may be written as a path.
    Page("/calls/one", call, name="call", takes=("id", "whole")),
    Page("/calls/{call_id:path}", call, name="call_at", takes=("whole",)),
]
