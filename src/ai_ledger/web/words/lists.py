"""The words that a reader sees and may change: their own organisation's, and those for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import msgspec

from ai_ledger.bounds import label
from ai_ledger.database.changes import Change
from ai_ledger.errors import AccessDenied, InvalidValue, NotFound
from ai_ledger.policies.words import Word, WordList
from ai_ledger.policies.words import WordSettings as StoredSettings
from ai_ledger.policies.words.files import Bounds, ImportReport, csv_of, import_words
from ai_ledger.policies.words.rows import DRAFT_FIELDS, Action
from ai_ledger.web.edits import SHOWN, Edit, WayBack, edits_of, taken_back, with_successors
from ai_ledger.web.house import Desk
from ai_ledger.web.words.shapes import ImportLine, Settings, WordImport, WordView

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
BOUNDS: Final = Bounds(lines=50_000, unpacked_bytes=64 * 1024 * 1024)
MAX_LINES_TOLD: Final = 200
MAX_EXPORTED: Final = 200_000
SUFFIXES: Final = (".csv", ".txt", ".xlsx")

Orgs: TypeAlias = tuple[str | None, ...] | None


def orgs_of(desk: Desk, org: str | None = None, *, for_all: bool = False) -> Orgs:
    """
    Whose words a reader asks for; ``None`` for everybody's.

    Args:
        desk: The reader's.
        org: Only this organisation's.
        for_all: Only those for all organisations.
    """
    if for_all:
        return (None,)
    if desk.scope is None:
        return None if org is None else (label(org),)
    if org is None:
        return (None, desk.scope)
    # Another one's are as if there were none.
    return (desk.scope,) if label(org) == desk.scope else ()


def page(
    desk: Desk,
    orgs: Orgs,
    *,
    contains: str | None = None,
    active: bool | None = None,
    action: Action | None = None,
    after: int = 0,
    limit: int = 50,
) -> tuple[list[WordView], int, int | None]:
    """A page of words, the newest first; how many there are; where the next page goes on."""
    words = _rows(desk)
    filters: dict[str, Any] = {"contains": contains, "active": active, "action": action}
    found = words.list(
        everybody=orgs is None, orgs=orgs, after=after, newest=True, limit=limit + 1, **filters
    )
    more = len(found) > limit
    found = found[:limit]
    total = words.count(orgs=orgs, **filters)
    return [view(desk, each) for each in found], total, found[-1].id if more else None


def word(desk: Desk, id: int) -> WordView:
    """
    One word.

    Raises:
        NotFound: There is none that this reader may see.
    """
    return view(desk, _seen(desk, id))


def view(desk: Desk, word: Word) -> WordView:
    """*word* as this reader is told of it."""
    told = desk.scope is None or word.org_id == desk.scope
    values = msgspec.structs.asdict(word)
    if not told:
        values |= {"note": None, "created_by": None, "updated_by": None}
    return WordView(**values, editable=told and desk.access.may("admin"))


def history(desk: Desk, id: int, limit: int = SHOWN) -> list[Edit]:
    """
    Who changed a word, the newest first; also of one that was removed.

    Raises:
        NotFound: There never was one that is this reader's.
    """
    return edits_of(_history(desk, id, limit))


def add(desk: Desk, text: str, fields: Mapping[str, Any], *, literal: bool = False) -> WordView:
    """
    Add a word; a confined reader's is their organisation's.

    Raises:
        AccessDenied: The reader may not.
        AlreadyThere: The organisation has this word.
        InvalidValue: A field cannot be so.
    """
    org = owned(desk, fields.get("org_id"))
    added = _rows(desk).add(text, by=desk.by, literal=literal, **{**fields, "org_id": org})
    return view(desk, added)


def edit(
    desk: Desk, id: int, version: int | None, fields: Mapping[str, Any], *, literal: bool = False
) -> WordView:
    """
    Change a word.

    Raises:
        NotFound: There is none that this reader may see.
        AccessDenied: The reader may not change it.
        EditConflict: Somebody has changed it meanwhile.
    """
    _mine(desk, id)
    return view(desk, _rows(desk).edit(id, version=version, by=desk.by, literal=literal, **fields))


def remove(desk: Desk, id: int, version: int | None) -> WordView:
    """
    Remove a word; its history stays.

    Raises:
        NotFound: There is none that this reader may see.
        AccessDenied: The reader may not change it.
        EditConflict: Somebody has changed it meanwhile.
    """
    _mine(desk, id)
    return view(desk, _rows(desk).remove(id, version=version, by=desk.by))


def undo(desk: Desk, id: int, way: WayBack) -> WordView:
    """
    Make a word what it was before its last edit, if that is the one of *way*.

    One that was removed is added again, with another id.

    Raises:
        NotFound: There never was one that is this reader's.
        AccessDenied: The reader may not change it.
        EditConflict: It has been edited since, or added again.
        AlreadyThere: Another word has become what it was.
    """
    desk.require("admin")

    def named(fields: Mapping[str, Any]) -> tuple[object, object]:
        return fields.get("org_id"), fields.get("word")

    def fields_of(before: Mapping[str, Any]) -> dict[str, Any]:
        return {name: before[name] for name in DRAFT_FIELDS if name in before}

    def add_again(before: dict[str, Any]) -> WordView:
        fields = fields_of(before)
        return add(desk, fields.pop("word"), fields, literal=True)

    return taken_back(
        f"word {id}",
        with_successors(desk.house.database, _history(desk, id, 1), named),
        way,
        edit=lambda before: edit(desk, id, way.version, fields_of(before), literal=True),
        add=add_again,
        remove=lambda: remove(desk, id, way.version),
    )


def settings(desk: Desk) -> Settings:
    """How the filter is set."""
    return _settings(desk, _rows(desk).settings())


def set_fuzzy(desk: Desk, fuzzy: bool, version: int | None) -> Settings:
    """
    Switch fuzzy matching on or off, for all organisations and programs.

    Raises:
        AccessDenied: The reader is no admin of all organisations.
        EditConflict: Somebody has changed it meanwhile.
    """
    desk.require("admin", everywhere=True)
    return _settings(desk, _rows(desk).set_fuzzy(fuzzy, version=version, by=desk.by))


def owned(desk: Desk, org: object) -> str | None:
    """
    Whose words a reader may add, if they ask for *org*; ``None`` for all organisations.

    Raises:
        AccessDenied: They are no admin, or confined to another one.
    """
    desk.require("admin")
    if org is not None and not isinstance(org, str):
        raise InvalidValue("org_id", org, "a text, or nothing")
    wanted = label(org) if org else None
    if desk.scope is None:
        return wanted
    if wanted not in (None, desk.scope):
        raise AccessDenied(f"{desk.by} is confined to {desk.scope!r}, and edits its words alone")
    return desk.scope


def import_file(
    desk: Desk,
    name: str,
    data: bytes,
    *,
    org: str | None,
    dry_run: bool,
    keep_good: bool = False,
    encoding: str = "utf-8",
    action: Action | None = None,
    variants: bool = False,
) -> WordImport:
    """
    Add and update words from the content of a file.

    Args:
        desk: The reader's.
        name: The file's; its end says of which kind it is.
        data: Its content.
        org: For lines that name no organisation.
        dry_run: Only say what would become of each line.
        keep_good: Take the good lines although others are refused.
        encoding: Of a text file.
        action: Where the file names none.
        variants: For new words: traditional and simplified spellings count.

    Raises:
        AccessDenied: The reader may not.
        ConfigurationError: The file cannot be read.
    """
    owner = owned(desk, org)
    suffix = Path(name[-300:]).suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidValue("file", name[-80:], f"a name that ends in {', '.join(SUFFIXES)}")
    if len(data) > MAX_FILE_BYTES:
        raise InvalidValue("file", name[-80:], f"at most {MAX_FILE_BYTES:,} bytes")
    defaults: dict[str, Any] = {"variants": True} if variants else {}
    if action is not None:
        defaults["action"] = action
    with TemporaryDirectory(prefix="ai-ledger-") as folder:
        # Only its owner may enter; the name is the one that errors say.
        path = Path(folder) / f"words{suffix}"
        path.write_bytes(data)
        report = import_words(
            _rows(desk),
            path,
            encoding=encoding,
            org_id=owner,
            defaults=defaults,
            keep_good=keep_good,
            dry_run=dry_run,
            by=desk.by,
            confined=desk.scope is not None,
            bounds=BOUNDS,
        )
    return _told(report, dry_run)


def export(desk: Desk, orgs: Orgs, kind: str) -> bytes:
    """
    The words of *orgs* as a file that ``import`` reads: ``csv``, or JSON lines.

    Formulas are made harmless in CSV; JSON lines are faithful.
    """
    found = _rows(desk).list(everybody=orgs is None, orgs=orgs, limit=MAX_EXPORTED)
    if kind == "csv":
        hidden = desk.scope is not None
        return csv_of(
            msgspec.structs.replace(each, note=None) if hidden and each.org_id is None else each
            for each in found
        )
    lines = (
        view(desk, each).model_dump_json(include=set(DRAFT_FIELDS)).encode() + b"\n"
        for each in found
    )
    return b"".join(lines)


def _rows(desk: Desk) -> WordList:
    return desk.house.words.rows


def _seen(desk: Desk, id: int) -> Word:
    found = _rows(desk).get(id)
    if desk.scope is not None and found.org_id not in (None, desk.scope):
        raise NotFound(f"there is no word {id}")
    return found


def _mine(desk: Desk, id: int) -> Word:
    found = _seen(desk, id)
    desk.require("admin", everywhere=found.org_id != desk.scope)
    return found


def _history(desk: Desk, id: int, limit: int) -> list[Change]:
    changes = _rows(desk).history(id, limit=limit)
    if not changes or (desk.scope is not None and _owners(changes) != {desk.scope}):
        raise NotFound(f"there is no word {id}")
    return changes


def _owners(changes: Iterable[Change]) -> set[str | None]:
    return {
        side.get("org_id")
        for each in changes
        for side in (each.before, each.after)
        if side is not None
    }


def _settings(desk: Desk, found: StoredSettings) -> Settings:
    return Settings(
        fuzzy=found.fuzzy,
        version=found.version,
        updated_at=found.updated_at,
        updated_by=found.updated_by if desk.scope is None else None,
    )


def _told(report: ImportReport, dry_run: bool) -> WordImport:
    counts = report.counts()
    ordered = sorted(report.lines, key=lambda line: line.outcome != "refused")
    return WordImport(
        dry_run=dry_run,
        written=report.written,
        added=counts.get("added", 0),
        updated=counts.get("updated", 0),
        unchanged=counts.get("unchanged", 0),
        refused=counts.get("refused", 0),
        ignored=[each[:100] for each in report.ignored[:20]],
        lines=[
            ImportLine(
                number=line.number,
                word=line.word[:200],
                outcome=line.outcome,
                reason=line.reason,
            )
            for line in ordered[:MAX_LINES_TOLD]
        ],
    )
