"""The pages of settings."""

from __future__ import annotations

from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.access import ROLES, Role
from ai_ledger.errors import AILedgerError, InvalidValue
from ai_ledger.web.edits import SHOWN
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import done, moved, path_of, render
from ai_ledger.web.settings import erasure
from ai_ledger.web.settings import tokens as access_tokens
from ai_ledger.web.settings.history import history, kinds
from ai_ledger.web.settings.once import Once
from ai_ledger.web.settings.stored import stored
from ai_ledger.web.visit import visit_of

EXPIRIES: Final = (7, 30, 90, 365)


def page(request: Request) -> Response:
    """What is stored, and erasing what is old."""
    desk = visit_of(request).desk
    return _render(request, "settings/page.html", found=stored(desk), erasure=None, days=None)


@posted
def erase(request: Request, fields: Fields) -> Response:
    """First say how many calls there are; then, when that was confirmed, erase them."""
    visit = visit_of(request)
    desk = visit.desk
    days = fields.whole("days")
    if days is None:
        raise InvalidValue("days", None, "a number of days")
    if "confirmed" not in fields:
        return _render(
            request,
            "settings/page.html",
            found=stored(desk),
            erasure=erasure.rehearse(desk, days),
            days=days,
        )
    erased = erasure.erase(desk, days, fields.raw("confirmed"))
    message = visit.language.gettext("Erased the content of %(calls)s calls.")
    return done(
        request,
        message % {"calls": visit.language.number(erased.calls)},
        back=path_of(request, "settings"),
    )


def tokens(request: Request) -> Response:
    """Access tokens."""
    return _tokens(request)


@posted
def add_token(request: Request, fields: Fields) -> Response:
    """Make a token, and show its text this once."""
    desk = visit_of(request).desk
    desk.require("admin", everywhere=True)
    role = fields.text("role") or "viewer"
    once, name = _once(request), fields.raw("once")
    if not once.take(name):
        # The page that showed the text was loaded again.
        return moved(request, path_of(request, "settings_tokens"))
    try:
        made = access_tokens.add(
            desk,
            fields.text("name") or "",
            role=cast("Role", role),
            org_id=fields.text("org_id"),
            prompts=fields.flag("prompts"),
            days=_days(fields),
        )
    except AILedgerError:
        once.give_back(name)
        raise
    return _tokens(request, made=made)


def revoke_token(request: Request) -> Response:
    """Make a token worth nothing."""
    visit = visit_of(request)
    revoked = access_tokens.revoke(visit.desk, request.path_params["token_id"])
    message = visit.language.gettext("Revoked the access token of %(name)s.")
    return done(request, message % {"name": revoked.name}, back=path_of(request, "settings_tokens"))


def changes(request: Request) -> Response:
    """Who changed what."""
    visit = visit_of(request)
    asked = request.query_params
    kind, by = asked.get("kind") or None, (asked.get("by") or "").strip() or None
    before = asked.get("before") or ""
    found = history(
        visit.desk,
        kind=kind,
        by=by,
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
        limit=SHOWN,
    )
    return _render(
        request,
        "settings/changes.html",
        found=found,
        kinds=kinds(visit.desk),
        kind=kind,
        by=by,
        later=bool(before),
    )


def _tokens(request: Request, made: access_tokens.MadeToken | None = None) -> Response:
    desk = visit_of(request).desk
    return _render(
        request,
        "settings/tokens.html",
        tokens=access_tokens.tokens(desk),
        made=made,
        first=_is_first(request),
        roles=ROLES,
        expiries=EXPIRIES,
        now=desk.house.clock(),
        once=Once.name(),
    )


def _once(request: Request) -> Once:
    return visit_of(request).desk.house.kept("forms of tokens", Once)


def _is_first(request: Request) -> bool:
    """Whether whoever makes a token now has come in without one, and will not any more."""
    desk = visit_of(request).desk
    signs_in = any(getattr(route, "name", "") == "sign_in" for route in request.app.routes)
    return signs_in and desk.access.token_id is None and not desk.house.tokens.any()


def _days(fields: Fields) -> int | None:
    days = fields.whole("days")
    if days is not None and not 1 <= days <= access_tokens.MAX_DAYS:
        raise InvalidValue("days", days, f"a whole number from 1 to {access_tokens.MAX_DAYS:,}")
    return days


def _render(request: Request, template: str, **values: Any) -> Response:
    access = visit_of(request).access
    rules = access.may("admin") and access.org_id is None
    return render(request, template, rules=rules, **values)


routes: list[BaseRoute] = [
    Page("/settings", page, name="settings"),
    Route("/settings/erasure", erase, methods=["POST"], name="settings_erasure"),
    Page("/settings/tokens", tokens, name="settings_tokens"),
    Route("/settings/tokens", add_token, methods=["POST"], name="settings_tokens_add"),
    Route(
        "/settings/tokens/{token_id:int}/revoke",
        revoke_token,
        methods=["POST"],
        name="settings_tokens_revoke",
    ),
    Page("/settings/changes", changes, name="settings_changes", takes=("kind", "by", "before")),
]
