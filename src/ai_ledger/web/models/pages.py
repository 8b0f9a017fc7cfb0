"""The pages of models."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.catalog.checks import MAX_MODEL_NAME
from ai_ledger.catalog.entries import API_TYPES, KINDS, PROVIDER_TYPES, Kind
from ai_ledger.currencies import CURRENCIES
from ai_ledger.errors import InvalidValue
from ai_ledger.web.edits import WayBack
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.models import drafts, edits, shelf, trials
from ai_ledger.web.models.edits import ACTIONS
from ai_ledger.web.models.shapes import ProviderView
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import attachment, done, is_partial, moved, path_of, render
from ai_ledger.web.unpriced import answered_by
from ai_ledger.web.visit import visit_of

VIEWS: Final = ("models", "providers", "prices", "file")
STATUSES: Final = ("enabled", "disabled", "deleted")
MAX_FILE_BYTES: Final = 1_000_000
SHOWN: Final = 500


def page(request: Request) -> Response:
    """Models, providers, prices, or the catalogue as a file."""
    desk = visit_of(request).desk
    asked = request.query_params
    view = asked.get("view", "models")
    view = view if view in VIEWS else "models"
    status = asked.get("status")
    filters = {
        "q": (asked.get("q") or "").strip()[:200],
        "provider": (asked.get("provider") or "")[:200],
        "status": status if status in STATUSES else "",
    }
    values: dict[str, Any] = {
        "view": view,
        "report": None,
        "filters": filters,
        "now": desk.house.clock(),
    }
    if view == "models":
        found = shelf.models(
            desk,
            text=filters["q"],
            provider=filters["provider"] or None,
            status=filters["status"] or None,
        )
        values |= {
            "models": found[:SHOWN],
            "total": len(found),
            "strangers": shelf.strangers(desk),
            "providers": desk.house.catalog.providers(),
        }
    elif view == "providers":
        values["providers"] = shelf.providers(desk, deleted=filters["status"] == "deleted")
    elif view == "prices":
        values |= _prices(request)
    return render(request, "models/page.html", **values)


def _prices(request: Request) -> dict[str, Any]:
    visit = visit_of(request)
    asked = request.query_params
    model = (asked.get("model") or "").strip()[:MAX_MODEL_NAME]
    provider = (asked.get("provider") or "").strip()[:64]
    at = drafts.day_start(visit.desk, "at", asked.get("at") or None) or visit.desk.house.clock()
    return {
        "asked": {"model": model, "provider": provider, "at": asked.get("at") or ""},
        "at": at,
        "current": shelf.price_at(visit.desk, model, provider or None, at) if model else None,
        "prices": shelf.prices(visit.desk, model=model or None, provider=provider or None),
    }


def entry(request: Request) -> Response:
    """Everything about one provider or model, with its form."""
    desk = visit_of(request).desk
    kind = _kind(request.query_params.get("kind"))
    name = request.query_params.get("name", "")
    found = shelf.provider(desk, name) if kind == "provider" else shelf.model(desk, name)
    values: dict[str, Any] = {
        "kind": kind,
        "entry": found,
        "now": desk.house.clock(),
        "today": desk.house.clock().astimezone(desk.tz).date().isoformat(),
        "draft": None if desk.scope is not None else drafts.of(found),
        "history": [] if desk.scope is not None else shelf.history(desk, kind, found.name),
        "models": shelf.models(desk, provider=found.name) if kind == "provider" else [],
    }
    return render(request, "models/entry.html", **values, **_choices(request))


def new(request: Request) -> Response:
    """A form for a new provider or model, with what is known of it filled in."""
    desk = visit_of(request).desk
    desk.require("admin", everywhere=True)
    asked = request.query_params
    kind = _kind(asked.get("kind") or "model")
    choices = _choices(request)
    name = (asked.get("name") or "")[:MAX_MODEL_NAME]
    provider = (asked.get("provider") or "")[:64]
    if kind == "model" and name and not provider:
        provider = (answered_by(desk, name) or "")[:64]
    known = {each.name.lower() for each in cast("list[ProviderView]", choices["providers"])}
    return render(
        request,
        "models/new.html",
        kind=kind,
        draft=drafts.empty(kind, name, provider),
        unknown_provider=provider if provider and provider.lower() not in known else None,
        **choices,
    )


def _save(request: Request, form: Fields) -> Response:
    """Add or change a provider or a model."""
    visit = visit_of(request)
    desk, _ = visit.desk, visit.language.gettext
    desk.require("admin", everywhere=True)
    kind = _kind(form.text("kind"))
    name = form.text("name") or ""
    fields = drafts.provider(form) if kind == "provider" else drafts.model(form)
    version = form.whole("version")
    if version is not None:
        saved = edits.edit(desk, kind, name, version, fields)
        return _done(request, kind, saved, _("%(name)s: changed"), seen=version)
    prices = drafts.prices(desk, form) if kind == "model" else []
    if kind == "model":
        _add_provider_too(request, form, str(fields["provider"]))
        fields["prices"] = prices
    added = edits.add(desk, kind, name, fields)
    return moved(request, _entry_path(request, kind, added.name))


def _add_provider_too(request: Request, form: Fields, name: str) -> None:
    if not form.flag("with_provider"):
        return
    desk = visit_of(request).desk
    if name.lower() not in {each.name.lower() for each in desk.house.catalog.providers()}:
        edits.add(desk, "provider", name, {})


def _switch(request: Request, form: Fields) -> Response:
    """Enable, disable or remove a provider or a model."""
    visit = visit_of(request)
    _ = visit.language.gettext
    kind = _kind(form.text("kind"))
    action = form.text("action")
    if action not in ACTIONS:
        raise InvalidValue("action", action, f"one of {', '.join(ACTIONS)}")
    seen = form.whole("version")
    switched = edits.switch(visit.desk, kind, form.text("name") or "", action, seen)
    message = {
        "enable": _("%(name)s is enabled: calls are let through"),
        "disable": _("%(name)s is disabled: calls are refused"),
        "remove": _("%(name)s is removed: no longer listed, and calls are refused"),
    }[action]
    return _done(request, kind, switched, message, seen=seen)


def _add_price(request: Request, form: Fields) -> Response:
    """Add a price to a model."""
    visit = visit_of(request)
    _ = visit.language.gettext
    visit.desk.require("admin", everywhere=True)
    prices = drafts.prices(visit.desk, form)
    version = form.whole("version")
    if not prices or version is None:
        raise InvalidValue("input", None, "at least one rate")
    model = edits.add_price(visit.desk, form.text("name") or "", version, prices[0])
    message = _("%(name)s has a new price. Calls of before keep their cost until re-priced.")
    return _done(request, "model", model, message, seen=version)


def _undo(request: Request, form: Fields) -> Response:
    """Take the last edit of an entry back."""
    visit = visit_of(request)
    _ = visit.language.gettext
    visit.desk.require("admin", everywhere=True)
    kind, way = _kind(form.text("kind")), WayBack.posted(form)
    undone = edits.undo(visit.desk, kind, form.text("name") or "", way)
    return done(
        request,
        _("%(name)s is what it was before") % {"name": undone.name},
        back=_entry_path(request, kind, undone.name),
    )


def _test(request: Request, form: Fields) -> Response:
    """Try a model, or all enabled ones of a provider."""
    desk = visit_of(request).desk
    kind, name = _kind(form.text("kind")), form.text("name") or ""
    operation = form.text("operation") or "chat"
    if operation not in ("chat", "embeddings"):
        raise InvalidValue("operation", operation, "chat or embeddings")
    if kind == "provider":
        results = trials.try_provider(desk, name)
    else:
        results = [trials.try_model(desk, name, operation)]
    part = "models/trial.html" if is_partial(request) else "models/outcome.html"
    back = _entry_path(request, kind, name)
    return render(request, part, results=results, back=back, report=None, digest=None)


def _import(request: Request, form: Fields) -> Response:
    """Say what a file would change, or change it."""
    visit = visit_of(request)
    desk, _ = visit.desk, visit.language.gettext
    desk.require("admin", everywhere=True)
    _name, data = form.file("file", MAX_FILE_BYTES)
    digest = drafts.digest_of(data)
    rehearsed = form.text("apply")
    if rehearsed is not None and rehearsed != digest:
        raise InvalidValue("file", "another", "the file that was rehearsed: rehearse it first")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidValue("file", "…", "a TOML file in UTF-8") from None
    report = edits.import_text(desk, text, dry_run=rehearsed is None)
    part = "models/report.html" if is_partial(request) else "models/outcome.html"
    back = path_of(request, "models") + "?view=file"
    return render(request, part, report=report, digest=digest, back=back, results=None)


def export(request: Request) -> Response:
    """The catalogue as a file."""
    text = edits.export_text(visit_of(request).desk)
    return Response(
        text,
        media_type="application/toml",
        headers=attachment("catalog.toml"),
    )


def _kind(text: str | None) -> Kind:
    if text not in KINDS:
        raise HTTPException(404, "there is nothing of this kind")
    return cast("Kind", text)


def _entry_path(request: Request, kind: Kind, name: str) -> str:
    return f"{path_of(request, 'catalog_entry')}?{urlencode({'kind': kind, 'name': name})}"


def _choices(request: Request) -> dict[str, Any]:
    return {
        "providers": visit_of(request).desk.house.catalog.providers(),
        "api_types": API_TYPES,
        "provider_types": PROVIDER_TYPES,
        "currencies": sorted(CURRENCIES, key=lambda code: (code not in ("CNY", "USD"), code)),
    }


def _done(
    request: Request, kind: Kind, entry: edits.Entry, message: str, *, seen: int | None
) -> Response:
    """The answer to an edit, which offers to take it back: not one that changed nothing."""
    told, back = message % {"name": entry.name}, _entry_path(request, kind, entry.name)
    if entry.version == seen:
        return done(request, told, back=back)
    way = WayBack.of(
        shelf.history(visit_of(request).desk, kind, entry.name, limit=1), entry.version
    )
    fields = {"kind": kind, "name": entry.name, **way.fields}
    return done(request, told, back=back, undo=path_of(request, "catalog_undo"), fields=fields)


routes: list[BaseRoute] = [
    Page("/models", page, name="models", takes=("view", "q", "provider", "status", "model", "at")),
    Page("/models/entry", entry, name="catalog_entry", takes=("kind", "name")),
    Page("/models/new", new, name="catalog_new", takes=("kind", "name", "provider")),
    Page("/models/catalog.toml", export, name="catalog_export"),
    Route("/models/save", posted(_save), methods=["POST"], name="catalog_save"),
    Route("/models/switch", posted(_switch), methods=["POST"], name="catalog_switch"),
    Route("/models/price", posted(_add_price), methods=["POST"], name="catalog_price"),
    Route("/models/undo", posted(_undo), methods=["POST"], name="catalog_undo"),
    Route("/models/test", posted(_test), methods=["POST"], name="catalog_test"),
    Route("/models/import", posted(_import), methods=["POST"], name="catalog_import"),
]
"""Names stand in forms and queries, since they have slashes."""
