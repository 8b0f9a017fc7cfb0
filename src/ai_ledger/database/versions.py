"""Versions: an edit names the one that it saw, and is refused when there is another by now."""

from __future__ import annotations

from datetime import datetime

from ai_ledger.errors import EditConflict


def require_version(
    what: str, seen: int | None, now: int, by: str | None, at: datetime | None
) -> None:
    """
    Refuse an edit of something that has been edited since it was read.

    Args:
        what: What is to be edited, as the error calls it: ``provider 'acme'``.
        seen: The version that the edit names; ``None``: whichever there is.
        now: The version that there is, read in the transaction of the edit.
        by: Who made this one, if that is known.
        at: When that was.

    Raises:
        EditConflict: They differ; says who was quicker, and when.
    """
    if seen is None or seen == now:
        return
    when = f" at {at.isoformat(timespec='seconds')}" if at else " since"
    who = f"{by} changed it" if by else "it was changed"
    raise EditConflict(
        f"{what} is at version {now}, not {seen}: {who}{when}. "
        "Read it again, and edit what it is now"
    )
