"""Taking corrections of costs back: each keeps the cost that was before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from ai_ledger.database.tables.calls import corrections
from ai_ledger.money import from_nano
from ai_ledger.sinks.base import CostChange
from ai_ledger.web.house import House

_AT_ONCE: Final = 1_000


def corrections_at(house: House, at: datetime) -> int:
    """How many costs were corrected at that very moment."""
    statement = sa.select(sa.func.count()).where(corrections.c.corrected_at == at)
    with house.database.reading() as connection:
        return connection.scalar(statement) or 0


def take_back(
    house: House,
    at: datetime,
    *,
    now: datetime,
    go_on: Callable[[int, int], bool] = lambda looked_at, count: True,
) -> int:
    """
    Give the calls that were corrected *at* that moment the cost they had before; how many.

    Calls that were corrected again since are left alone, so doing it twice changes
    nothing the second time. The corrections stay, with those that take them back.

    Args:
        house: Whose calls.
        at: `CostChange.corrected_at`, which all corrections of one re-pricing share.
        now: When this is done.
        go_on: Asked after each batch, with how many corrections were looked at and how many
            calls have their old cost by then; what was taken back stays so when it says no.

    Raises:
        SinkUnavailable: The store is away; what was taken back until then stays so.
    """
    looked_at = count = 0
    for batch in _reversed(house, at, now):
        count += house.store.correct_costs(batch)
        looked_at += len(batch)
        if not go_on(looked_at, count):
            break
    return count


def _reversed(house: House, at: datetime, now: datetime) -> Iterator[list[CostChange]]:
    last = 0
    with house.database.reading() as connection:
        # What takes them back is not taken back in turn, though a clock may stand still.
        newest = connection.scalar(sa.select(sa.func.max(corrections.c.id))) or 0
    while True:
        statement = (
            sa.select(corrections)
            .where(
                corrections.c.id > last,
                corrections.c.id <= newest,
                corrections.c.corrected_at == at,
            )
            .order_by(corrections.c.id)
            .limit(_AT_ONCE)
        )
        with house.database.reading() as connection:
            rows = connection.execute(statement).mappings().all()
        if not rows:
            return
        last = rows[-1]["id"]
        yield [
            CostChange(
                call_id=row["call_id"],
                corrected_at=now,
                old_cost=None if row["cost_nano"] is None else from_nano(row["cost_nano"]),
                old_currency=row["currency"],
                old_price_id=row["price_id"],
                cost=None if row["old_cost_nano"] is None else from_nano(row["old_cost_nano"]),
                currency=row["old_currency"],
                price_id=row["old_price_id"],
            )
            for row in rows
        ]
