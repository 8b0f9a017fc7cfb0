"""The pages of quotas and of the switches of models."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.errors import AlreadyThere, EditConflict, InvalidValue, NotFound
from ai_ledger.policies.quotas.quota import name_of
from ai_ledger.web.budgets import quota
from ai_ledger.web.edits import WayBack
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import done, part_of, path_of, render
from ai_ledger.web.visit import Visit, visit_of

if TYPE_CHECKING:
    from ai_ledger.policies.quotas import Quota
    from ai_ledger.web.budgets.quota import QuotaRow


def table_values(request: Request) -> dict[str, Any]:
    """What the tables of quotas and switches are made of."""
    desk = visit_of(request).desk
    return {
        "quotas": quota.rows(desk),
        "switches": quota.switches(desk) if desk.scope is None else [],
        "now": desk.house.clock(),
        "local": _local(visit_of(request)),
    }


def tables_part(request: Request) -> Response:
    """Quotas and switches alone, for the page to renew."""
    return render(request, "budgets/quotas.html", **table_values(request))


def quota_page(request: Request) -> Response:
    """One quota: its form or its facts, what is used, and who changed it."""
    desk = visit_of(request).desk
    org_id, model = _named(request)
    edits = _history(lambda: quota.history(desk, org_id, model))
    try:
        found = quota.detail(desk, org_id, model)
    except NotFound:
        if not edits:
            raise
        found = None  # it was removed, and its history is still to be read
    return render(
        request,
        "budgets/quota.html",
        org_id=org_id,
        model=model,
        quota=found,
        edits=edits,
        now=desk.house.clock(),
        local=_local(visit_of(request)),
    )


def switch_page(request: Request) -> Response:
    """The switch of one model, and who changed it."""
    desk = visit_of(request).desk
    model = request.query_params.get("model", "")
    edits = _history(lambda: quota.switch_history(desk, model))
    return render(request, "budgets/switch.html", switch=quota.switch_of(desk, model), edits=edits)


def save(request: Request, form: Fields) -> Response:
    """Make or change a quota, as its form says."""
    visit = visit_of(request)
    visit.desk.require("admin", everywhere=True)
    org_id, model = form.raw("org_id").strip(), form.raw("model").strip()
    before = _stored(visit, org_id, model)
    version = form.whole("version")
    _ = visit.language.gettext
    if before is not None and version == 0:
        there = _("There is a quota for %(name)s already. It is: %(now)s.")
        values = {"name": name_of(org_id, model), "now": _now(visit, before)}
        raise AlreadyThere(there % values)
    saved = _quicker(
        visit,
        lambda: quota.save(visit.desk, org_id, model, _typed(visit, form, before), version),
        lambda: _now(visit, _stored(visit, org_id, model)),
    )
    message = (
        _("Quota %(name)s was made. It holds within two seconds.")
        if before is None
        else _("Quota %(name)s was changed. It holds within two seconds.")
    )
    return _done(request, saved, message, seen=None if before is None else before.version)


def allow(request: Request, form: Fields) -> Response:
    """Enable or disable a quota."""
    visit = visit_of(request)
    org_id, model, enabled = form.raw("org_id"), form.raw("model"), form.flag("enabled")
    seen = form.whole("version")
    saved = _quicker(
        visit,
        lambda: quota.allow(visit.desk, org_id, model, enabled=enabled, version=seen),
        lambda: _now(visit, _stored(visit, org_id, model)),
    )
    _ = visit.language.gettext
    message = (
        _("The calls of %(name)s are allowed again.")
        if enabled
        else _("The calls of %(name)s are refused from now on.")
    )
    return _done(request, saved, message, seen=seen)


def remove(request: Request, form: Fields) -> Response:
    """Take a quota away."""
    visit = visit_of(request)
    org_id, model = form.raw("org_id"), form.raw("model")
    gone = _quicker(
        visit,
        lambda: quota.remove(visit.desk, org_id, model, form.whole("version")),
        lambda: _now(visit, _stored(visit, org_id, model)),
    )
    message = visit.language.gettext("Quota %(name)s was removed.")
    return _done(request, gone, message)


def undo(request: Request, form: Fields) -> Response:
    """Take the last edit of a quota back."""
    visit = visit_of(request)
    visit.desk.require("admin", everywhere=True)
    org_id, model, way = form.raw("org_id"), form.raw("model"), WayBack.posted(form)
    undone = _quicker(
        visit,
        lambda: quota.undo(visit.desk, org_id, model, way),
        lambda: _now(visit, _stored(visit, org_id, model)),
    )
    message = visit.language.gettext("%(name)s is what it was before")
    name = name_of(undone.org_id, undone.model)
    return done(request, message % {"name": name}, back=path_of(request, "budgets"))


def set_switch(request: Request, form: Fields) -> Response:
    """Switch a model off or on, and bound its calls in flight."""
    visit = visit_of(request)
    visit.desk.require("admin", everywhere=True)
    model = form.raw("model").strip()
    off = form.raw("off") == "1" if "off" in form else None
    seen = form.whole("version")
    saved = _quicker(
        visit,
        lambda: quota.set_switch(
            visit.desk,
            model,
            off=off,
            max_concurrent=form.whole("max_concurrent"),
            version=seen,
        ),
        lambda: _switch_now(visit, model),
    )
    _ = visit.language.gettext
    message = (
        _("Model %(name)s is switched off for everybody.")
        if saved.off
        else _("Model %(name)s is switched on.")
    )
    told, back = message % {"name": saved.model}, path_of(request, "budgets")
    if saved.version == seen:
        return done(request, told, back=back)
    way = WayBack.of(quota.switch_history(visit.desk, saved.model, 1), saved.version)
    fields = {"model": saved.model, **way.fields}
    return done(request, told, back=back, undo=path_of(request, "switch_undo"), fields=fields)


def undo_switch(request: Request, form: Fields) -> Response:
    """Take the last edit of a model's switch back."""
    visit = visit_of(request)
    visit.desk.require("admin", everywhere=True)
    model, way = form.raw("model"), WayBack.posted(form)
    undone = _quicker(
        visit,
        lambda: quota.undo_switch(visit.desk, model, way),
        lambda: _switch_now(visit, model),
    )
    message = visit.language.gettext("%(name)s is what it was before")
    return done(request, message % {"name": undone.model}, back=path_of(request, "budgets"))


def _done(
    request: Request,
    row: Quota | QuotaRow,
    message: str,
    *,
    seen: int | None = None,
) -> Response:
    """The answer to an edit, which offers to take it back: not one that changed nothing."""
    told, back = message % {"name": name_of(row.org_id, row.model)}, path_of(request, "budgets")
    if row.version == seen:
        return done(request, told, back=back)
    desk = visit_of(request).desk
    way = WayBack.of(quota.history(desk, row.org_id, row.model, 1), row.version)
    fields = {"org_id": row.org_id, "model": row.model, **way.fields}
    return done(request, told, back=back, undo=path_of(request, "quota_undo"), fields=fields)


def _named(request: Request) -> tuple[str, str]:
    return request.query_params.get("org_id", ""), request.query_params.get("model", "")


def _history(ask: Callable[[], list[Any]]) -> list[Any]:
    try:
        return ask()
    except NotFound:
        return []


def _stored(visit: Visit, org_id: str, model: str) -> Quota | None:
    try:
        return quota.row_of(visit.desk, org_id, model)
    except NotFound:
        return None


def _quicker(visit: Visit, edit: Callable[[], Any], now: Callable[[], str]) -> Any:
    """What *edit* gives; if somebody else was quicker, say so, and what it is now."""
    try:
        return edit()
    except (EditConflict, AlreadyThere) as conflict:
        _ = visit.language.gettext
        message = _("Somebody else was quicker. It is now: %(now)s. Read it again, then edit.")
        raise EditConflict(message % {"now": now()}) from conflict
    except NotFound as gone:
        raise EditConflict(
            visit.language.gettext("Somebody else was quicker: it is not there any more.")
        ) from gone


def _now(visit: Visit, row: Quota | None) -> str:
    """What a row is, in a few words."""
    _ = visit.language.gettext
    if row is None:
        return _("removed")
    parts = [_("allowed") if row.enabled else _("not allowed")]
    if row.tokens:
        parts.append(_("%(number)s tokens") % {"number": visit.language.number(row.tokens)})
    if row.rates:
        parts.append(row.rates)
    if row.max_concurrent:
        parts.append(_("%(number)s in flight") % {"number": row.max_concurrent})
    who = _("changed by %(who)s, %(when)s") % {
        "who": row.updated_by or "—",
        "when": visit.language.moment(row.updated_at),
    }
    return ", ".join([*parts, who])


def _switch_now(visit: Visit, model: str) -> str:
    _ = visit.language.gettext
    try:
        found = quota.switch_of(visit.desk, model)
    except NotFound:
        return _("switched on")
    state = _("switched off") if found.off else _("switched on")
    return f"{state}, {found.updated_by or '—'}"


def _typed(visit: Visit, form: Fields, before: Quota | None) -> dict[str, Any]:
    """What the form says; a time that was not touched stays what it is to the microsecond."""
    local = _local(visit)
    typed: dict[str, Any] = {
        "enabled": form.flag("enabled"),
        "min_interval_s": form.number("min_interval_s") or 0.0,
        "tokens": form.whole("tokens") or 0,
        "rates": form.text("rates") or "",
        "max_concurrent": form.whole("max_concurrent") or 0,
        "shared": form.flag("shared"),
    }
    for name in ("valid_from", "valid_until"):
        known = None if before is None else getattr(before, name)
        text = form.text(name)
        if known is not None and text == local(known):
            typed[name] = known
        else:
            typed[name] = None if text is None else _moment(visit, name, text)
    return typed


def _moment(visit: Visit, name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=visit.language.tz)
    except ValueError:
        raise InvalidValue(name, text, "a day and a time, such as 2026-04-01T00:00") from None


def _local(visit: Visit) -> Callable[[datetime | None], str]:
    """A time as a field of a form has it, by the clock of the console."""

    def local(moment: datetime | None) -> str:
        if moment is None:
            return ""
        return f"{moment.astimezone(visit.language.tz):%Y-%m-%dT%H:%M:%S}"

    return local


routes: list[BaseRoute] = [
    Page("/budgets/quotas", part_of("budgets")(tables_part), name="quotas"),
    Page("/budgets/quota", quota_page, name="quota", takes=("org_id", "model")),
    Page("/budgets/switch", switch_page, name="switch", takes=("model",)),
    Route("/budgets/quota/save", posted(save), methods=["POST"], name="quota_save"),
    Route("/budgets/quota/allow", posted(allow), methods=["POST"], name="quota_allow"),
    Route("/budgets/quota/remove", posted(remove), methods=["POST"], name="quota_remove"),
    Route("/budgets/quota/undo", posted(undo), methods=["POST"], name="quota_undo"),
    Route("/budgets/switch/save", posted(set_switch), methods=["POST"], name="switch_save"),
    Route("/budgets/switch/undo", posted(undo_switch), methods=["POST"], name="switch_undo"),
]
