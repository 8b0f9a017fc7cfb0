"""Totals from the rows, for the questions that no kept total covers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.engine import Connection

from ai_ledger.database.tables.calls import records, tags
from ai_ledger.query import TAG_PREFIX, Query
from ai_ledger.records import STATUSES, TOKEN_FIELDS
from ai_ledger.sinks.sql.conditions import conditions, within
from ai_ledger.sinks.sql.totals import Answer

Part = tuple[datetime | None, datetime | None, int]
"""From, to, and the index of the interval that both lie in."""

_c = records.c
_NO_COST = sa.or_(_c.cost_nano.is_(None), _c.currency.is_(None))


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(column), 0)


_MONEY: Final = sa.case((_NO_COST, ""), else_=_c.currency)
# The words of `totals.is_unpriced`.
_UNPRICED: Final = sa.and_(
    _c.cost_nano.is_(None),
    _c.status.not_in(("blocked", "circuit_open")),
    sa.or_(_c.status != "failed", _c.usage_source != "unknown"),
)
# In the order of schema.TOTAL_NUMBERS.
_NUMBERS: Final = (
    sa.func.count(),
    *(_count(_c.status == status) for status in STATUSES),
    *(_sum(_c[name]) for name in TOKEN_FIELDS),
    _sum(sa.case((_NO_COST, 0), else_=_c.cost_nano)),
    _sum(_c.duration_us),
    sa.func.count(_c.duration_us),
    _sum(_c.first_token_us),
    sa.func.count(_c.first_token_us),
    _count(_UNPRICED),
    _count(_c.usage_source.in_(("counted", "estimated"))),
    _count(_c.usage_source == "unknown"),
    _count(_c.user_id.is_(None)),
    _sum(_c.retries),
)


def sums_of_rows(
    connection: Connection,
    kind: str,
    query: Query,
    by: tuple[str, ...],
    part: Part,
    answer: Answer,
) -> None:
    """Add to *answer* the calls meant by *query* that started within *part*, grouped *by*."""
    since, until, interval = part
    source: sa.FromClause = records
    keys: list[ColumnElement[Any]] = []
    for place, field in enumerate(by):
        if field.startswith(TAG_PREFIX):
            tag = tags.alias(f"tag_{place}")
            name = field.removeprefix(TAG_PREFIX)
            source = source.outerjoin(
                tag, sa.and_(tag.c.call_id == records.c.id, tag.c.key == name)
            )
            keys.append(tag.c.value.label(f"key_{place}"))
        else:
            keys.append(records.c[field].label(f"key_{place}"))
    # One bound each way and no more: SQLite would use the first that it meets.
    bounds = within(_later(since, query.since), _earlier(until, query.until))
    unbound = msgspec.structs.replace(query, since=None, until=None)
    where = [*conditions(unbound, kind), *bounds]
    money = _MONEY.label("money")
    sums = (
        sa.select(*keys, money, *_NUMBERS)
        .select_from(source)
        .where(*where)
        .group_by(*keys, sa.text("money") if kind != "mysql" else money)
    )
    width = len(keys)
    for row in connection.execute(sums):
        answer.add(tuple(row[:width]), interval, row[width], row[width + 1 :])
    buckets = (
        sa.select(*keys, _c.duration_bucket, sa.func.count())
        .select_from(source)
        .where(*where, _c.duration_bucket.is_not(None))
        .group_by(*keys, _c.duration_bucket)
    )
    for row in connection.execute(buckets):
        answer.add_duration(tuple(row[:width]), interval, row[width], row[width + 1])


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one and other else one or other


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other
