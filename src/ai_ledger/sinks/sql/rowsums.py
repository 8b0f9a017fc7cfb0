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
from ai_ledger.sinks.sql.conditions import IS_UNPRICED, conditions, within
from ai_ledger.sinks.sql.totals import NARROW, Answer, narrowed

Part = tuple[datetime | None, datetime | None, int]
"""From, to, and the index of the interval that both lie in."""

_c = records.c
_NO_COST = sa.or_(_c.cost_nano.is_(None), _c.currency.is_(None))


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(column), 0)


_MONEY: Final = sa.case((_NO_COST, ""), else_=_c.currency)
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
    _count(IS_UNPRICED),
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
    *,
    narrow: bool = False,
) -> None:
    """
    Add to *answer* the calls meant by *query* that started within *part*, grouped *by*.

    Nothing but `totals.NARROW` is read where it is *narrow*.
    """
    since, until, interval = part
    source, keys = _grouped(by)
    # One bound each way and no more: SQLite would use the first that it meets.
    bounds = within(_later(since, query.since), _earlier(until, query.until))
    unbound = msgspec.structs.replace(query, since=None, until=None)
    where = [*conditions(unbound, kind), *bounds]
    money = _MONEY.label("money")
    sums = (
        sa.select(*keys, money, *(narrowed(_NUMBERS) if narrow else _NUMBERS))
        .select_from(source)
        .where(*where)
        .group_by(*keys, sa.text("money") if kind != "mysql" else money)
    )
    width = len(keys)
    add = answer.add_narrow if narrow else answer.add
    for row in connection.execute(sums):
        add(tuple(row[:width]), interval, row[width], row[width + 1 :])
    if narrow:
        return
    buckets = (
        sa.select(*keys, _c.duration_bucket, sa.func.count())
        .select_from(source)
        .where(*where, _c.duration_bucket.is_not(None))
        .group_by(*keys, _c.duration_bucket)
    )
    for row in connection.execute(buckets):
        answer.add_duration(tuple(row[:width]), interval, row[width], row[width + 1])


def costs_in_rows(kind: str, query: Query, field: str) -> sa.Select[Any]:
    """
    The numbers of `totals.NARROW` by value of *field* and currency, none of which is empty.

    Columns: ``key`` as `key_of` makes it, ``money``, and the numbers by their names.
    """
    source, (column,) = _grouped((field,))
    money = _MONEY.label("money")
    sums = (
        sa.select(
            column,
            money,
            *(number.label(name) for name, number in zip(NARROW, narrowed(_NUMBERS), strict=True)),
        )
        .select_from(source)
        .where(*conditions(query, kind))
        .group_by(column, sa.text("money"))
        .subquery("rows")
    )
    value = sums.c[column.name]
    escaped = sa.or_(value == "", sa.func.substr(value, 1, 1) == "\\")
    key = sa.case((value.is_(None), ""), (escaped, sa.literal("\\") + value), else_=value)
    columns = [key.label("key"), sums.c.money, *(sums.c[name] for name in NARROW)]
    return sa.select(*columns)


def _grouped(by: tuple[str, ...]) -> tuple[sa.FromClause, list[ColumnElement[Any]]]:
    """What is read to group *by* these fields, and the columns."""
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
    return source, keys


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one and other else one or other


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other
