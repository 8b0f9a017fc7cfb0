"""Rows: providers and models in the database, and their edits, each in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label, storable
from ai_ledger.catalog.checks import checked_model, checked_provider
from ai_ledger.catalog.entries import Kind, ModelEntry, ProviderEntry
from ai_ledger.database.changes import note_change
from ai_ledger.database.engine import Again
from ai_ledger.database.tables.catalog import edits, models, providers
from ai_ledger.database.versions import require_version
from ai_ledger.errors import AlreadyThere, InvalidValue, NotFound
from ai_ledger.records import utc_now

Entry: TypeAlias = ProviderEntry | ModelEntry

_TABLES: Final = {"provider": providers, "model": models}
_JSON: Final = ("settings", "parameters", "prices")


def kind_of(entry: Entry) -> Kind:
    """What sort of thing *entry* is."""
    return "provider" if isinstance(entry, ProviderEntry) else "model"


def read(connection: Connection, kind: Kind, name: str, *, lock: bool = False) -> Entry | None:
    """The entry of this name, removed ones included; ``None`` when there never was one."""
    table = _TABLES[kind]
    statement = sa.select(table).where(table.c.name == name)
    if lock:
        statement = statement.with_for_update()
    row = connection.execute(statement).mappings().first()
    return None if row is None else _entry(kind, row)


def found(connection: Connection, kind: Kind, name: str, *, lock: bool = False) -> Entry:
    """
    The entry of this name.

    Raises:
        NotFound: There never was one.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidValue("name", name, "a text")
    name = storable(name)
    entry = read(connection, kind, name, lock=lock)
    if entry is None:
        raise NotFound(f"there is no {kind} {name[:200]!r} in the catalogue")
    return entry


def read_all(connection: Connection, kind: Kind, *, deleted: bool) -> list[Entry]:
    """All entries: providers in their order, models by provider and name."""
    table = _TABLES[kind]
    first = table.c.sort_order if kind == "provider" else table.c.provider
    statement = sa.select(table).order_by(first, table.c.name)
    if not deleted:
        statement = statement.where(table.c.status != "deleted")
    return [_entry(kind, row) for row in connection.execute(statement).mappings()]


def take_turn(connection: Connection) -> None:
    """
    Wait until no other edit is in progress, in this process or another one.

    First of all in each transaction: what an edit has read, such as who is the
    default, holds until it is written.
    """
    counted = connection.execute(
        sa.update(edits).where(edits.c.id == 1).values(number=edits.c.number + 1)
    )
    if counted.rowcount:
        return
    try:
        connection.execute(sa.insert(edits).values(id=1, number=1))
    except exc.IntegrityError:
        # Another one was the first ever; this transaction is spoilt.
        raise Again from None


def add(connection: Connection, entry: Entry, by: str | None) -> Entry:
    """
    Write a new entry; one that was removed comes back as *entry*.

    Raises:
        AlreadyThere: There is one of this name.
        InvalidValue: A model's provider is not in the catalogue.
    """
    kind = kind_of(entry)
    before = read(connection, kind, entry.name, lock=True)
    if before is not None and before.status != "deleted":
        raise AlreadyThere(f"there is a {kind} {entry.name!r} already")
    return save(connection, before, entry, by)


def edit(
    connection: Connection,
    kind: Kind,
    name: str,
    changes: Mapping[str, Any],
    *,
    version: int | None,
    by: str | None,
) -> Entry:
    """
    Change some fields of an entry. What changes nothing is no edit.

    Raises:
        NotFound: There is no such entry.
        EditConflict: It is no longer at *version*.
        InvalidValue: A field cannot be so.
    """
    before = found(connection, kind, name, lock=True)
    require_version(
        f"{kind} {before.name!r}", version, before.version, before.updated_by, before.updated_at
    )
    checked = checked_provider if kind == "provider" else checked_model
    return save(connection, before, checked(name, {**before.fields(), **changes}), by)


def save(connection: Connection, before: Entry | None, entry: Entry, by: str | None) -> Entry:
    """Write *entry* in place of *before*, with its line in the history."""
    kind = kind_of(entry)
    if before is not None and before.fields() == entry.fields():
        return before
    if isinstance(entry, ModelEntry):
        _require_provider(connection, entry, before)
    now = utc_now()
    entry = msgspec.structs.replace(
        entry,
        version=1 if before is None else before.version + 1,
        updated_at=now,
        updated_by=None if by is None else label(by),
    )
    if before is None:
        _insert(connection, kind, entry)
    else:
        _update(connection, kind, before, entry)
    note_change(
        connection,
        kind,
        entry.name,
        before=None if before is None or before.status == "deleted" else _plain(before),
        after=None if entry.status == "deleted" else _plain(entry),
        by=by,
        at=now,
    )
    if isinstance(entry, ProviderEntry) and entry.default:
        _demote_others(connection, entry, by)
    return entry


def _plain(entry: Entry) -> dict[str, Any]:
    return {"version": entry.version, **entry.fields()}


def _insert(connection: Connection, kind: Kind, entry: Entry) -> None:
    table = _TABLES[kind]
    # Calls are compared without regard to capitals.
    alike = sa.select(table.c.name).where(table.c.name_key == _name_key(entry))
    name = connection.execute(alike).scalar()
    if name is not None:
        raise AlreadyThere(f"there is a {kind} {str(name)!r} already")
    try:
        connection.execute(sa.insert(table).values(_values(entry)))
    except exc.IntegrityError as error:
        # Another program, which does not take its turn.
        raise AlreadyThere(f"there is a {kind} {entry.name!r} already") from error


def _update(connection: Connection, kind: Kind, before: Entry, entry: Entry) -> None:
    table = _TABLES[kind]
    done = connection.execute(
        sa.update(table)
        .where(table.c.name == before.name, table.c.version == before.version)
        .values(_values(entry))
    )
    if done.rowcount != 1:
        # Cannot be while the row is locked, except on a database that locks no rows.
        raise Again


def _demote_others(connection: Connection, entry: ProviderEntry, by: str | None) -> None:
    """Take the default from whoever has it: at most one provider is."""
    statement = sa.select(providers).where(
        providers.c.is_default.is_(True), providers.c.name != entry.name
    )
    for row in connection.execute(statement.with_for_update()).mappings().all():
        other = cast("ProviderEntry", _entry("provider", row))
        save(connection, other, msgspec.structs.replace(other, default=False), by)


def _require_provider(connection: Connection, entry: ModelEntry, before: Entry | None) -> None:
    if isinstance(before, ModelEntry) and before.provider == entry.provider:
        return
    provider = read(connection, "provider", entry.provider)
    if provider is None or provider.status == "deleted":
        known = [each.name for each in read_all(connection, "provider", deleted=False)][:20]
        listed = ", ".join(known) or "none yet: add it first"
        raise InvalidValue("provider", entry.provider, f"a provider of the catalogue ({listed})")


def _name_key(entry: Entry) -> str:
    return label(entry.name.lower())


def _values(entry: Entry) -> dict[str, Any]:
    plain = entry.to_dict()
    values = {
        name: msgspec.json.encode(value).decode() if name in _JSON else value
        for name, value in plain.items()
    }
    values["updated_at"] = entry.updated_at
    values["name_key"] = _name_key(entry)
    if "default" in values:
        values["is_default"] = values.pop("default")
    return values


def _entry(kind: Kind, row: Mapping[Any, Any]) -> Entry:
    values = {
        # Some names are a text of SQLAlchemy's own, which msgspec does not take for one.
        str(name): msgspec.json.decode(value) if name in _JSON else value
        for name, value in row.items()
        if name != "name_key"
    }
    if kind == "provider":
        values["default"] = values.pop("is_default")
        return ProviderEntry.from_dict(values)
    return ModelEntry.from_dict(values)


def statuses(
    connection: Connection,
) -> tuple[list[tuple[str, str, str | None]], list[tuple[str, str, str, str | None]]]:
    """Of each provider name, status and base URL; of each model name, status, provider and URL."""
    known = [
        (row.name, row.status, _base_url(row.settings))
        for row in connection.execute(
            sa.select(providers.c.name, providers.c.status, providers.c.settings)
        )
    ]
    listed = [
        (row.name, row.status, row.provider, row.api_url)
        for row in connection.execute(
            sa.select(models.c.name, models.c.status, models.c.provider, models.c.api_url)
        )
    ]
    return known, listed


def _base_url(settings: str) -> str | None:
    try:
        found_url = msgspec.json.decode(settings, type=dict[str, Any]).get("base_url")
    except msgspec.MsgspecError:
        return None
    return found_url if isinstance(found_url, str) else None
