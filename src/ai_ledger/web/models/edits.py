"""Edits of the catalogue: signed, by admins of all organisations, and taken back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, TypeAlias

from ai_ledger.catalog import Catalog, ImportReport, ModelEntry, ProviderEntry
from ai_ledger.catalog.entries import Kind
from ai_ledger.catalog.files import read_catalog
from ai_ledger.database.changes import MAX_CHANGES, Change, changes_before
from ai_ledger.database.versions import require_version
from ai_ledger.errors import InvalidValue
from ai_ledger.web.edits import WayBack, taken_back
from ai_ledger.web.house import Desk
from ai_ledger.web.models.shapes import CatalogImport, ImportedEntry
from ai_ledger.web.models.variables import refuse_variables

Entry: TypeAlias = ProviderEntry | ModelEntry
Action: TypeAlias = Literal["enable", "disable", "remove"]

ACTIONS: Final = ("enable", "disable", "remove")
_FILE: Final = "catalog.toml"


def add(desk: Desk, kind: Kind, name: str, fields: Mapping[str, Any]) -> Entry:
    """
    Add an entry.

    Raises:
        AccessDenied: The reader is no admin of all organisations. So for all edits.
        AlreadyThere: There is one of this name.
        InvalidValue: A field cannot be so, or names a variable that is no key.
    """
    desk.require("admin", everywhere=True)
    refuse_variables(kind, fields)
    catalog = desk.house.catalog
    if kind == "provider":
        return catalog.add_provider(name, by=desk.by, **fields)
    return catalog.add_model(name, by=desk.by, **fields)


def edit(desk: Desk, kind: Kind, name: str, version: int, fields: Mapping[str, Any]) -> Entry:
    """
    Change fields of an entry.

    Raises:
        NotFound: There is none.
        EditConflict: Somebody else has changed it since.
        InvalidValue: A field cannot be so, or newly names a variable that is no key.
    """
    desk.require("admin", everywhere=True)
    catalog = desk.house.catalog
    if kind == "provider":
        refuse_variables(kind, fields, catalog.provider(name).fields())
        return catalog.edit_provider(name, version=version, by=desk.by, **fields)
    refuse_variables(kind, fields, catalog.model(name).fields())
    return catalog.edit_model(name, version=version, by=desk.by, **fields)


def switch(desk: Desk, kind: Kind, name: str, action: Action, version: int | None) -> Entry:
    """
    Enable, disable or remove an entry.

    Raises:
        NotFound: There is none.
        EditConflict: Somebody else has changed it since.
    """
    desk.require("admin", everywhere=True)
    switched: Entry = getattr(desk.house.catalog, f"{action}_{kind}")(
        name, by=desk.by, version=version
    )
    return switched


def add_price(desk: Desk, name: str, version: int, price: Mapping[str, Any]) -> ModelEntry:
    """
    Add a price to a model; those that are there stay.

    Raises:
        NotFound: There is no such model.
        EditConflict: Somebody else has changed it since.
        AlreadyThere: There is one from the same day.
        PriceError: It is wrong.
    """
    desk.require("admin", everywhere=True)
    catalog = desk.house.catalog
    model = catalog.model(name)
    return catalog.edit_model(
        model.name, version=version, by=desk.by, prices=[*model.prices, dict(price)]
    )


def undo(desk: Desk, kind: Kind, name: str, way: WayBack) -> Entry:
    """
    Make an entry what it was before its last edit, if that is the one of *way*.

    If that edit made it the default provider, the one that was it before is so again.

    Raises:
        NotFound: There is none.
        EditConflict: It has been edited since.
    """
    desk.require("admin", everywhere=True)
    catalog = desk.house.catalog
    entry: Entry = catalog.provider(name) if kind == "provider" else catalog.model(name)
    changes = catalog.history(kind, entry.name, limit=1)
    what = f"{kind} {entry.name!r}"
    require_version(what, way.version, entry.version, entry.updated_by, entry.updated_at)
    heir: ProviderEntry | None = None
    if changes and isinstance(entry, ProviderEntry):
        heir = _demoted_by(desk, entry, changes[0])

    def put(before: dict[str, Any]) -> Entry:
        fields = {field: value for field, value in before.items() if field != "version"}
        return edit(desk, kind, entry.name, way.version, fields)

    undone = taken_back(
        what,
        changes,
        way,
        edit=put,
        # What is removed is there still, with a mark.
        add=put,
        remove=lambda: switch(desk, kind, entry.name, "remove", way.version),
    )
    if heir is not None and catalog.default_provider() is None:
        edit(desk, "provider", heir.name, heir.version, {"default": True})
    return undone


def _demoted_by(desk: Desk, entry: ProviderEntry, edit: Change) -> ProviderEntry | None:
    """The provider that was the default until *edit* made it this one, if it can be so again."""
    if not entry.default or (edit.before or {}).get("default"):
        return None
    with desk.house.database.reading() as connection:
        since = changes_before(connection, kind="provider", limit=MAX_CHANGES)
    # Demoted in the same transaction, and nobody else since: this one is the default still.
    for each in reversed(since):
        was, now = each.before or {}, each.after or {}
        if each.id > edit.id and was.get("default") and not now.get("default"):
            heir = desk.house.catalog.provider(each.key)
            return None if heir.status == "deleted" else heir
    return None


def import_text(desk: Desk, text: str, *, dry_run: bool) -> CatalogImport:
    """
    Make the entries of *text*, which is TOML, what it says, all or none.

    Raises:
        ConfigurationError: It cannot be read.
        InvalidValue: An entry is wrong; names it and the field.
    """
    desk.require("admin", everywhere=True)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidValue("text", "…", "a text that UTF-8 can hold") from None
    with TemporaryDirectory(prefix="ai-ledger-") as folder:
        # Only its owner may enter; the name is the one that errors say.
        path = Path(folder) / _FILE
        path.write_bytes(data)
        _refuse_variables_of(path, desk.house.catalog)
        report = desk.house.catalog.import_toml(path, dry_run=dry_run, by=desk.by)
    return _told(report)


def export_text(desk: Desk) -> str:
    """
    The catalogue as TOML; keys are references.

    Raises:
        AccessDenied: The reader is confined to an organisation.
    """
    desk.require("viewer", everywhere=True)
    return desk.house.catalog.export_toml()


def _refuse_variables_of(path: Path, catalog: Catalog) -> None:
    known = {
        (type(each), each.name.lower()): each.fields()
        for each in (*catalog.providers(deleted=True), *catalog.models(deleted=True))
    }
    for entry in read_catalog(path):
        old = known.get((type(entry), entry.name.lower()))
        refuse_variables(entry.name, entry.fields(), old)


def _told(report: ImportReport) -> CatalogImport:
    return CatalogImport(
        dry_run=report.dry_run,
        added=[
            ImportedEntry(kind=each.kind, name=each.name, fields=list(each.fields))
            for each in report.added
        ],
        changed=[
            ImportedEntry(kind=each.kind, name=each.name, fields=list(each.fields))
            for each in report.changed
        ],
        unchanged=report.unchanged,
    )
