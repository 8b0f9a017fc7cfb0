"""`Edit`: one change of something that people edit, as it is told; `taken_back` undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NamedTuple,
    Self,
    TypeAlias,
    TypeVar,
)

from fastapi import Query
from pydantic import Field

from ai_ledger.database.changes import MAX_CHANGES, changes_before
from ai_ledger.errors import EditConflict, InvalidValue
from ai_ledger.stats.results import Result

if TYPE_CHECKING:
    from ai_ledger.database.changes import Change
    from ai_ledger.database.engine import Database
    from ai_ledger.web.forms import Fields

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]

SHOWN: Final = 50
"""How many edits a page has."""

HowMany: TypeAlias = Annotated[
    int, Query(ge=1, le=MAX_CHANGES, description="How many edits, the newest ones.")
]
"""The parameter ``limit`` of every history; 100, if left out."""


class Edit(Result):
    """Who changed something, when, and from what to what."""

    id: int
    changed_at: datetime
    changed_by: str | None = Field(description="Null when nobody said who.")
    before: dict[str, Any] | None = Field(description="Null when it was made.")
    after: dict[str, Any] | None = Field(description="Null when it was removed.")

    @classmethod
    def of(cls, change: Change) -> Self:
        """*change*, which is what is stored, to be told."""
        return cls(**{name: getattr(change, name) for name in cls.model_fields})


def edits_of(changes: Iterable[Change]) -> list[Edit]:
    """*changes* to be told, in their order."""
    return [Edit.of(change) for change in changes]


class WayBack(NamedTuple):
    """
    The undo of one edit, as a page offers it.

    Args:
        edit: The number of the edit, which the history never gives again. A version is
            counted from 1 again where something is made anew, and so is no name of an edit.
        version: The one that the edit led to, for what is written to be compared with.
    """

    edit: int
    version: int

    @classmethod
    def of(cls, edits: Sequence[Edit], version: int) -> Self:
        """That of the newest of *edits*, which led to *version*."""
        return cls(edits[0].id, version)

    @classmethod
    def posted(cls, form: Fields) -> Self:
        """
        That which was offered with `fields`.

        Raises:
            InvalidValue: One of them is not there, or no whole number.
        """
        version, edit = form.whole("version"), form.whole("edit")
        if version is None:
            raise InvalidValue("version", None, "the version that the edit led to")
        if edit is None:
            raise InvalidValue("edit", None, "the number of the edit")
        return cls(edit, version)

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a form that name the edit."""
        return {name: str(value) for name, value in self._asdict().items()}


def taken_back(
    what: str,
    history: Sequence[Change],
    way: WayBack,
    *,
    edit: Callable[[Row], T],
    add: Callable[[Row], T],
    remove: Callable[[], T],
) -> T:
    """
    Make something what it was before its last edit; this is an edit, too.

    Only the last edit is ever taken back, and only if it is the one that was offered: what
    anybody has made, edited or removed since stays as it is.

    Args:
        what: As errors call it.
        history: Its edits, the newest first; one is enough.
        way: The one that was offered.
        edit: Gives it these fields again, if it is still at the version of *way*.
        add: Adds it again with these fields, after it was removed.
        remove: Removes it, after it was made, if it is still at the version of *way*.

    Raises:
        EditConflict: It was never edited, or has been edited or removed since.
    """
    if not history:
        raise EditConflict(f"{what} has no edit that could be taken back")
    last = history[0]
    if last.id != way.edit:
        raise EditConflict(_edited_since(what, last))
    if last.before is None:
        return remove()
    if last.after is None:
        return add(last.before)
    return edit(last.before)


def with_successors(
    database: Database, history: Sequence[Change], named: Callable[[Row], object]
) -> Sequence[Change]:
    """
    *history*, and in front of a removal the last edit since of what has its name, if any.

    For kinds that are known by a number, which is another one when they are added again.

    Args:
        database: Whose history it is.
        history: The edits of one thing, the newest first.
        named: What people know it by, of the fields that an edit keeps.
    """
    if not history or (gone := history[0].before) is None or history[0].after is not None:
        return history
    before: int | None = None
    while True:
        with database.reading() as connection:
            page = changes_before(
                connection, kind=history[0].kind, before=before, limit=MAX_CHANGES
            )
        for each in page:
            if each.id <= history[0].id:
                return history
            if named(gone) in [named(side) for side in (each.before, each.after) if side]:
                return [each, *history]
        if len(page) < MAX_CHANGES:
            return history
        before = page[-1].id


def _edited_since(what: str, last: Change) -> str:
    when = last.changed_at.isoformat(timespec="seconds")
    if last.after is None:
        who = f"{last.changed_by} removed it" if last.changed_by else "it was removed"
        return f"{what} is not there any more: {who} at {when}"
    who = f"{last.changed_by} changed it" if last.changed_by else "it was changed"
    return (
        f"{what} has another edit by now: {who} at {when}. Read it again, and edit what it is now"
    )
