"""The pages of words."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.errors import InvalidValue, NotFound
from ai_ledger.policies.words.files import ENCODINGS
from ai_ledger.policies.words.rows import ACTIONS, MATCHES, Action
from ai_ledger.web.digits import whole_number
from ai_ledger.web.edits import WayBack
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import attachment, done, is_partial, path_of, render
from ai_ledger.web.visit import visit_of
from ai_ledger.web.words import lists, trial
from ai_ledger.web.words.shapes import MAX_TEXT_CHARS, Found, WordView

VIEWS: Final = ("list", "try", "file")
PAGE_SIZE: Final = 50
_MAX_TOLD: Final = 50
_MEDIA: Final = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def page(request: Request) -> Response:
    """The list, a field to try a text, or the list as a file."""
    visit = visit_of(request)
    asked = request.query_params
    view = asked.get("view", "list")
    view = view if view in VIEWS else "list"
    values: dict[str, Any] = {"view": view, "report": None, "missing": trial.missing()}
    if view == "list":
        values |= _listed(request)
        values["settings"] = lists.settings(visit.desk)
    elif view == "try":
        values |= {"text": "", "org": "", "found": None}
    return render(request, "words/page.html", **values)


def _listed(request: Request) -> dict[str, Any]:
    desk = visit_of(request).desk
    asked = request.query_params
    action, active = asked.get("action", ""), asked.get("active", "")
    filters = {
        "q": (asked.get("q") or "").strip()[:100],
        "whose": asked.get("whose", "") if asked.get("whose") == "all" else "",
        "org": (asked.get("org") or "").strip()[:255],
        "action": action if action in ACTIONS else "",
        "active": active if active in ("yes", "no") else "",
    }
    after = asked.get("after", "")
    orgs = lists.orgs_of(desk, filters["org"] or None, for_all=filters["whose"] == "all")
    found, total, next_id = lists.page(
        desk,
        orgs,
        contains=filters["q"] or None,
        active={"yes": True, "no": False}.get(filters["active"]),
        action=cast("Action", filters["action"]) if filters["action"] else None,
        after=whole_number(after) or 0,
        limit=PAGE_SIZE,
    )
    return {
        "filters": filters,
        "filtered": any(filters.values()),
        "after": after,
        "words": found,
        "total": total,
        "next": next_id,
    }


def word(request: Request) -> Response:
    """One word: its form, and its history."""
    desk = visit_of(request).desk
    try:
        id = int(request.path_params["word_id"])
        found = lists.word(desk, id)
    except OverflowError:
        raise HTTPException(404, "there is no such word") from None
    try:
        history = lists.history(desk, found.id)
    except NotFound:
        history = []
    return render(request, "words/word.html", word=found, history=history)


def _add(request: Request, form: Fields) -> Response:
    """Add a word."""
    visit = visit_of(request)
    fields = {**_fields(form), "org_id": form.text("org_id")}
    added = lists.add(visit.desk, form.raw("word"), fields, literal=form.flag("literal"))
    message = visit.language.gettext("%(word)s is in the list")
    return _done(request, added, message, back=path_of(request, "words"))


def _edit(request: Request, form: Fields) -> Response:
    """Change a word."""
    visit = visit_of(request)
    id, version = _which(form)
    before = lists.word(visit.desk, id)
    after = lists.edit(
        visit.desk,
        id,
        version,
        {"word": form.raw("word"), **_fields(form)},
        literal=form.flag("literal") or form.raw("word").strip() == before.word,
    )
    message = visit.language.gettext("%(word)s: changed")
    return _done(request, after, message, back=path_of(request, "word", word_id=id), seen=version)


def _switch(request: Request, form: Fields) -> Response:
    """Look for a word from now on, or no longer."""
    visit = visit_of(request)
    _ = visit.language.gettext
    id, version = _which(form)
    active = form.flag("active")
    after = lists.edit(visit.desk, id, version, {"active": active})
    message = _("%(word)s is looked for") if active else _("%(word)s is no longer looked for")
    return _done(request, after, message, back=path_of(request, "words"), seen=version)


def _remove(request: Request, form: Fields) -> Response:
    """Remove a word."""
    visit = visit_of(request)
    id, version = _which(form)
    removed = lists.remove(visit.desk, id, version)
    message = visit.language.gettext("%(word)s is removed")
    return _done(request, removed, message, back=path_of(request, "words"))


def _undo(request: Request, form: Fields) -> Response:
    """Take the last edit of a word back."""
    visit = visit_of(request)
    visit.desk.require("admin")
    way, (id, _version) = WayBack.posted(form), _which(form)
    undone = lists.undo(visit.desk, id, way)
    message = visit.language.gettext("%(name)s is what it was before")
    return done(request, message % {"name": undone.word}, back=path_of(request, "words"))


def _done(
    request: Request,
    word: WordView,
    message: str,
    *,
    back: str,
    seen: int | None = None,
) -> Response:
    """
    The answer to an edit, which offers to take it back.

    Args:
        request: That of the form.
        word: As the edit left it, or took it away.
        message: What was done.
        back: The page for browsers without scripts.
        seen: The version before; where it is the same still, nothing was changed, and
            the edit before is not this reader's to take back.
    """
    told = message % {"word": word.word}
    if word.version == seen:
        return done(request, told, back=back)
    way = WayBack.of(lists.history(visit_of(request).desk, word.id, 1), word.version)
    fields = {"id": str(word.id), **way.fields}
    return done(request, told, back=back, undo=path_of(request, "words_undo"), fields=fields)


def _settings(request: Request, form: Fields) -> Response:
    """Switch fuzzy matching on or off."""
    visit = visit_of(request)
    _ = visit.language.gettext
    fuzzy, seen = form.flag("fuzzy"), form.whole("version")
    after = lists.set_fuzzy(visit.desk, fuzzy, seen)
    return done(
        request,
        _("Fuzzy matching is on") if fuzzy else _("Fuzzy matching is off"),
        back=path_of(request, "words"),
        undo=None if after.version == seen else path_of(request, "words_settings"),
        fields={"fuzzy": "" if fuzzy else "1", "version": str(after.version)},
    )


def _check(request: Request, form: Fields) -> Response:
    """Say what would become of a prompt with a text; it is stored nowhere."""
    desk = visit_of(request).desk
    # A browser sends each end of a line as two characters, which were one when counted.
    text = form.raw("text").replace("\r\n", "\n")
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidValue("text", f"{len(text):,} characters", f"at most {MAX_TEXT_CHARS:,}")
    org = form.text("org_id")
    found = trial.tried(desk, text, org)
    values: dict[str, Any] = {
        "text": text,
        "org": org or "",
        "found": found,
        "pieces": trial.pieces(text, found),
        "named": _named(request, found),
    }
    if is_partial(request):
        return render(request, "words/found.html", **values)
    return render(request, "words/page.html", view="try", missing=trial.missing(), **values)


def _import(request: Request, form: Fields) -> Response:
    """Say what a file would change, or change it."""
    desk = visit_of(request).desk
    desk.require("admin")
    name, data = form.file("file", lists.MAX_FILE_BYTES)
    digest = sha256(data).hexdigest()
    rehearsed = form.text("apply")
    if rehearsed is not None and rehearsed != digest:
        raise InvalidValue("file", "another", "the file that was rehearsed: rehearse it first")
    encoding = form.text("encoding") or "utf-8"
    if encoding not in ENCODINGS:
        raise InvalidValue("encoding", encoding, f"one of {', '.join(ENCODINGS)}")
    report = lists.import_file(
        desk,
        name,
        data,
        org=form.text("org_id"),
        dry_run=rehearsed is None,
        keep_good=form.flag("keep_good"),
        encoding=encoding,
        action=_action(form),
        variants=form.flag("variants"),
    )
    part = "words/report.html" if is_partial(request) else "words/outcome.html"
    return render(request, part, report=report, digest=digest, missing=False)


def export(request: Request) -> Response:
    """The words as a file."""
    desk = visit_of(request).desk
    asked = request.query_params
    kind = asked.get("format", "csv")
    if kind not in _MEDIA:
        raise HTTPException(404, "there is no such format")
    data = lists.export(desk, lists.orgs_of(desk, asked.get("org") or None), kind)
    return Response(
        data,
        media_type=_MEDIA[kind],
        headers=attachment(f"words.{kind}"),
    )


def _action(form: Fields) -> Action | None:
    text = form.text("action")
    if text is None:
        return None
    if text not in ACTIONS:
        raise InvalidValue("action", text, f"one of {', '.join(ACTIONS)}")
    return text


def _fields(form: Fields) -> dict[str, Any]:
    action = _action(form) or "block"
    match = form.text("match") or "exact"
    if match not in MATCHES:
        raise InvalidValue("match", match, f"one of {', '.join(MATCHES)}")
    return {
        "action": action,
        "match": match,
        # Of other actions the field is not shown; what stands in it is not meant.
        "replacement": form.text("replacement") if action == "replace" else None,
        "variants": form.flag("variants"),
        "note": form.text("note"),
    }


def _which(form: Fields) -> tuple[int, int]:
    id, version = form.whole("id"), form.whole("version")
    if id is None or version is None:
        raise InvalidValue("version", version, "the word, and the version of it that was seen")
    return id, version


def _named(request: Request, found: Found) -> dict[int, WordView]:
    """The words that were found, by id; those that are gone meanwhile are not in it."""
    named: dict[int, WordView] = {}
    for hit in found.hits:
        if hit.word_id in named or len(named) >= _MAX_TOLD:
            continue
        try:
            named[hit.word_id] = lists.word(visit_of(request).desk, hit.word_id)
        except NotFound:
            continue
    return named


routes: list[BaseRoute] = [
    Page(
        "/words",
        page,
        name="words",
        takes=("view", "q", "whose", "org", "action", "active", "after"),
    ),
    Page("/words/export", export, name="words_export", takes=("format", "org")),
    Route("/words/add", posted(_add), methods=["POST"], name="words_add"),
    Route("/words/edit", posted(_edit), methods=["POST"], name="words_edit"),
    Route("/words/switch", posted(_switch), methods=["POST"], name="words_switch"),
    Route("/words/remove", posted(_remove), methods=["POST"], name="words_remove"),
    Route("/words/undo", posted(_undo), methods=["POST"], name="words_undo"),
    Route("/words/settings", posted(_settings), methods=["POST"], name="words_settings"),
    Route("/words/check", posted(_check), methods=["POST"], name="words_check"),
    Route("/words/import", posted(_import), methods=["POST"], name="words_import"),
    Page("/words/{word_id:int}", word, name="word"),
]
