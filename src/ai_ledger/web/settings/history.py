"""Who changed what: the history of everything that people edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ai_ledger.database.changes import changes_before, kinds_of_changes
from ai_ledger.stats.results import Result
from ai_ledger.web.edits import Edit

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk


class KeyedEdit(Edit):
    """An edit, and what it was that was changed."""

    kind: str
    key: str = Field(description="Which one of its kind.")


class History(Result):
    """A page of edits, the newest first."""

    changes: list[KeyedEdit]
    next: int | None = Field(description="For `before`: the rest. None when there is none.")


def history(
    desk: Desk, *, kind: str | None, by: str | None, before: int | None, limit: int
) -> History:
    """
    A page of the history of everything.

    Raises:
        AccessDenied: This needs an administrator of all.
    """
    desk.require("admin", everywhere=True)
    with desk.house.database.reading() as connection:
        found = changes_before(connection, kind=kind, by=by, before=before, limit=limit)
    return History(
        changes=[KeyedEdit.of(each) for each in found],
        next=found[-1].id if len(found) == limit else None,
    )


def kinds(desk: Desk) -> list[str]:
    """What there is a history of; as `history`."""
    desk.require("admin", everywhere=True)
    with desk.house.database.reading() as connection:
        return kinds_of_changes(connection)
