"""Where a page of calls begins, as SQL: orders, and what lies behind a place in one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from ai_ledger.bounds import label
from ai_ledger.database.tables.calls import records
from ai_ledger.money import to_nano
from ai_ledger.sinks.base import Place
from ai_ledger.sinks.sql.conditions import column_of


def ordered(order: str, *, descending: bool, backwards: bool = False) -> list[ColumnElement[Any]]:
    """By *order*, then by id; calls without the value last, or first when read *backwards*."""
    up = descending == backwards
    columns: list[ColumnElement[Any]] = [_column(order), records.c.id]
    by: list[ColumnElement[Any]] = columns if up else [each.desc() for each in columns]
    if order == "started_at":
        return by
    # Databases disagree on where NULL stands.
    missing = sa.case((columns[0].is_(None), 1), else_=0)
    return [missing.desc() if backwards else missing, *by]


def beyond(
    after: Place, order: str, *, descending: bool, backwards: bool = False
) -> ColumnElement[bool]:
    """Behind the place *after*, in the direction that is read."""
    up = descending == backwards
    column, call_id = _column(order), records.c.id
    last = label(after[1])
    later_id = call_id > last if up else call_id < last
    if after[0] is None:
        # Behind a call without the value there are others of them; backwards, all with it too.
        return sa.or_(column.is_not(None), later_id) if backwards else column.is_(None) & later_id
    value: Any = to_nano(Decimal(after[0])) if order == "cost" else after[0]  # type: ignore[arg-type]
    farther = column > value if up else column < value
    # Written so that an index on the column is enough to find the place.
    here = column >= value if up else column <= value
    behind = sa.and_(here, sa.or_(farther, later_id))
    if order == "started_at" or backwards:
        return behind
    return sa.or_(behind, column.is_(None))


def _column(order: str) -> ColumnElement[Any]:
    return records.c.started_at if order == "started_at" else column_of(order)
