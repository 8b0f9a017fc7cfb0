"""Erasing what old calls said and whose they were: first how many, then for good."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from ai_ledger.errors import InvalidValue
from ai_ledger.query import Query
from ai_ledger.web.notes import note
from ai_ledger.web.recent import recent_of

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

MAX_DAYS = 3_650


class Erasure(BaseModel):
    """What an erasure does, or has done."""

    before: datetime = Field(description="Calls that began before this.")
    calls: int = Field(description="How many there are, deleted ones included.")
    erased: bool = Field(description="Whether it is done; else only said.")


def rehearse(desk: Desk, days: int) -> Erasure:
    """
    How many calls are older than *days* days; nothing is erased.

    Raises:
        AccessDenied: This needs an administrator of all.
    """
    desk.require("admin", everywhere=True)
    before = _before(desk, days)
    found = sum(
        group.totals.calls
        for deleted in (False, True)
        for group in desk.house.reader.aggregate(
            Query.build(scope=None, until=before, deleted=deleted)
        )
    )
    return Erasure(before=before, calls=found, erased=False)


def erase(desk: Desk, days: int, confirmed: str) -> Erasure:
    """
    Erase content and identity of the calls that are older than *days* days, for good.

    Counts, tokens and costs stay, so totals do not change.

    Args:
        desk: Of whoever does it.
        days: How old calls may be at the most.
        confirmed: The number of days once more, as they typed it.

    Raises:
        AccessDenied: This needs an administrator of all.
        InvalidValue: It was not confirmed.
    """
    desk.require("admin", everywhere=True)
    if confirmed.strip() != str(days):
        raise InvalidValue("confirmed", confirmed, f"{days}, the number of days once more")
    before = _before(desk, days)
    try:
        erased = desk.house.store.forget(Query.build(scope=None, until=before))
    finally:
        # Answers that are kept for a while may name who was erased.
        recent_of(desk.house).clear()
    note(
        desk,
        "calls",
        f"before {before.isoformat()}",
        None,
        {"forgotten": erased, "days": days},
    )
    return Erasure(before=before, calls=erased, erased=True)


def _before(desk: Desk, days: int) -> datetime:
    if not 1 <= days <= MAX_DAYS:
        raise InvalidValue("days", days, f"a whole number from 1 to {MAX_DAYS:,}")
    return desk.house.clock() - timedelta(days=days)
