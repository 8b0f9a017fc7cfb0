"""`Edit`: one change of something that people edit, as it is told; `taken_back` undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, TypeAlias, TypeVar

from fastapi import Query
from pydantic import Field

from ai_ledger.database.changes import MAX_CHANGES
from ai_ledger.errors import EditConflict
from ai_ledger.stats.results import Result

if TYPE_CHECKING:
    from ai_ledger.database.changes import Change

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]

SHOWN: Final = 50
"""How many edits a page has."""

REMOVED: Final = 0
"""The version of what is not there."""

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


def taken_back(
    what: str,
    history: Sequence[Change],
    version: int,
    *,
    edit: Callable[[Row], T],
    add: Callable[[Row], T],
    remove: Callable[[], T],
) -> T:
    """
    Make something what it was before its last edit; this is an edit, too.

    The page that offers it sends the version that the edit led to, which is `REMOVED` where
    there is none any more. Whoever edits or removes here names it, so that nothing is taken
    back but that edit.

    Args:
        what: As errors call it.
        history: Its edits, the newest first; one is enough.
        version: The one that the edit led to.
        edit: Gives it these fields again.
        add: Adds it again with these fields, after it was removed.
        remove: Removes it, after it was made.

    Raises:
        EditConflict: It was never edited, or was removed since.
    """
    if not history:
        raise EditConflict(f"{what} has no edit that could be taken back")
    last = history[0]
    if last.before is None:
        return remove()
    if last.after is None:
        # What is not there has no version that could be compared.
        if version != REMOVED:
            who = f"{last.changed_by} removed it" if last.changed_by else "it was removed"
            when = last.changed_at.isoformat(timespec="seconds")
            raise EditConflict(f"{what} is not there any more: {who} at {when}")
        return add(last.before)
    return edit(last.before)
