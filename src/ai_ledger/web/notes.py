"""`note`: what people do in the console to things that keep no history of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ai_ledger.database.changes import note_change

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ai_ledger.web.house import Desk


def note(
    desk: Desk,
    kind: str,
    key: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """
    Put what a reader has done into the history, signed with their name.

    For what has none of its own: calls that were deleted, restored, or priced again.
    ``note(desk, "calls", "org acme", None, {"deleted": 12, "filter": {…}})``.

    Args:
        desk: Whose.
        kind: What sort of thing; at most 32 characters.
        key: Which, or which many.
        before: What it was, as JSON takes it; without prompts, answers and secrets.
        after: What it became, or what was done.

    Raises:
        SinkUnavailable: The database is away.
    """

    def work(connection: Connection) -> None:
        note_change(
            connection, kind, key, before=before, after=after, by=desk.by, at=desk.house.clock()
        )

    desk.house.database.writing(work)
