"""Who changed what, and when: one history for everything that people edit."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.tables.changes import changes
from ai_ledger.errors import InvalidValue
from ai_ledger.records import utc_now
from ai_ledger.validation import MAX_LISTED, checked_limit

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
    return [
        Change(
            id=row.id,
            changed_at=row.changed_at,
            changed_by=row.changed_by,
            kind=row.kind,
            key=row.key,
            before=None if row.before is None else msgspec.json.decode(row.before),
            after=None if row.after is None else msgspec.json.decode(row.after),
        )
        for row in connection.execute(statement)
    ]


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
