"""Who changed what, and when: one history for everything that people edit."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.tables.changes import changes
from ai_ledger.errors import InvalidValue
from ai_ledger.records import utc_now
from ai_ledger.validation import MAX_LISTED, checked_limit, is_id

MAX_CHANGES: Final = MAX_LISTED

Row: TypeAlias = Mapping[str, Any]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """
    One edit of one thing.

    Args:
        id: Counts up.
        changed_at: Aware, UTC.
        changed_by: Who; ``None`` when nobody said.
        kind: ``provider``, ``model``, ``budget``, ``quota``, ``word``, ``alert_rule`` …
        key: Which of that kind.
        before: What it was; ``None`` when it was made.
        after: What it became; ``None`` when it was removed.
    """

    id: int
    changed_at: datetime
    changed_by: str | None
    kind: str
    key: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def note_change(
    connection: Connection,
    kind: str,
    key: str,
    *,
    before: Row | None,
    after: Row | None,
    by: str | None,
    at: datetime | None = None,
) -> None:
    """
    Put an edit into the history, in the transaction that makes it.

    Args:
        connection: That of the transaction.
        kind: What sort of thing, in the singular.
        key: Which.
        before: What it was; values that JSON, dates and `Decimal` can hold.
        after: What it became.
        by: Who says so.
        at: When; now, if left out.
    """
    connection.execute(
        sa.insert(changes).values(
            changed_at=at or utc_now(),
            changed_by=None if by is None else label(by),
            kind=kind,
            key=label(key),
            before=_text(before),
            after=_text(after),
        )
    )


def erase_notes(connection: Connection, kind: str, keys: Sequence[str]) -> None:
    """
    Take out of the history of some things what people wrote about them.

    Args:
        connection: That of the transaction which erases what the things themselves say.
        kind: What sort of things; their edits say it in ``note``.
        keys: Which, a thousand at the most.
    """
    of_them = sa.and_(changes.c.kind == kind, changes.c.key.in_([label(key) for key in keys]))
    for row in connection.execute(sa.select(changes).where(of_them)).all():
        edit = _change(row)
        without = {
            side: _text(said and {**said, "note": None})
            for side, said in (("before", edit.before), ("after", edit.after))
        }
        connection.execute(sa.update(changes).where(changes.c.id == row.id).values(without))


def changes_of(connection: Connection, kind: str, key: str, *, limit: int = 100) -> list[Change]:
    """
    The history of one thing, newest first.

    Raises:
        InvalidValue: *limit* is no whole number from 1 to `MAX_CHANGES`.
    """
    statement = (
        sa.select(changes)
        .where(changes.c.kind == kind, changes.c.key == label(key))
        .order_by(changes.c.id.desc())
        .limit(checked_limit(limit, MAX_CHANGES))
    )
    return [_change(row) for row in connection.execute(statement)]


def last_changes(connection: Connection, kind: str, keys: Sequence[str]) -> dict[str, Change]:
    """
    The last edit of each of some things that have a history, by key.

    Args:
        connection: To read on.
        kind: What sort of things.
        keys: Which, a thousand at the most.
    """
    newest = (
        sa.select(sa.func.max(changes.c.id).label("id"))
        .where(changes.c.kind == kind, changes.c.key.in_([label(key) for key in keys]))
        .group_by(changes.c.key)
        .subquery()
    )
    statement = sa.select(changes).join(newest, changes.c.id == newest.c.id)
    return {row.key: _change(row) for row in connection.execute(statement)}


def changes_before(
    connection: Connection,
    *,
    kind: str | None = None,
    by: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Change]:
    """
    The history of everything, newest first.

    Args:
        connection: To read on.
        kind: Only of this sort of thing.
        by: Only what this person did.
        before: Only changes with a lower id: that of the last one of the page before.
        limit: How many, 1 to `MAX_CHANGES`.

    Raises:
        InvalidValue: *limit* or *before* is no whole number that can be.
    """
    statement = (
        sa.select(changes).order_by(changes.c.id.desc()).limit(checked_limit(limit, MAX_CHANGES))
    )
    if kind is not None:
        statement = statement.where(changes.c.kind == label(kind))
    if by is not None:
        statement = statement.where(changes.c.changed_by == label(by))
    if before is not None:
        if not is_id(before):
            raise InvalidValue("before", before, "the id of a change")
        statement = statement.where(changes.c.id < before)
    return [_change(row) for row in connection.execute(statement)]


def kinds_of_changes(connection: Connection) -> list[str]:
    """The kinds that have a history, in the order of letters."""
    found: list[str] = []
    # One step of the index for each kind: DISTINCT would read every change there is.
    after = ""
    while True:
        kind = connection.scalar(
            sa.select(sa.func.min(changes.c.kind)).where(changes.c.kind > after)
        )
        if kind is None:
            return found
        found.append(kind)
        after = kind


def _change(row: Any) -> Change:
    return Change(
        id=row.id,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        kind=row.kind,
        key=row.key,
        before=None if row.before is None else msgspec.json.decode(row.before),
        after=None if row.after is None else msgspec.json.decode(row.after),
    )


def editor(by: object) -> str | None:
    """
    Who makes an edit, as it is stored: *by*, or `whoever` if it is ``None``.

    Raises:
        InvalidValue: *by* is no text, or has nothing to read in it.
    """
    if by is None:
        by = whoever()
        return None if by is None else label(by)
    if not isinstance(by, str) or not by.strip():
        raise InvalidValue("by", by, "a name, or None for the user of this process")
    return label(by)


def whoever() -> str | None:
    """The user of this process, for edits that do not say who makes them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def _text(row: Row | None) -> str | None:
    return None if row is None else msgspec.json.encode(dict(row), order="sorted").decode()
