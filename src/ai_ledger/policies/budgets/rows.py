"""What the ledger's rows say was used of a budget, added up by the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import key_of
from ai_ledger.database.tables.calls import records, tags
from ai_ledger.money import MAX_NANO
from ai_ledger.query import TAG_PREFIX, AnyOf, Query
from ai_ledger.sinks.sql.conditions import column_of, everything
from ai_ledger.terms import TOKENS, Terms

Sums = dict[tuple[str, str], list[int]]
"""Whose and period → used, 0, calls, uncounted; as `charges.SUMS`."""


def sums_of_rows(connection: Connection, terms: Terms, since: datetime | None) -> Sums:
    """
    Every account that calls which started at *since* or later belong to.

    Deleted calls are among them, for they were paid for.

    Args:
        connection: Inside a transaction.
        terms: What is counted, for whom.
        since: Aware; ``None`` is without a beginning.
    """
    found: Sums = {}
    for period, begin, end in _periods(connection, terms, since):
        for key, sums in _period(connection, terms, begin, end).items():
            found[key, period] = sums
    return found


def _periods(
    connection: Connection, terms: Terms, since: datetime | None
) -> Iterator[tuple[str, datetime | None, datetime | None]]:
    """Each period that has calls, and the part of it behind *since*."""
    if terms.per == "total":
        yield "total", since, None
        return
    if terms.per == "window":
        begin, end = terms.bounds_of("window") or (None, None)
        yield "window", begin, end
        return
    at = since
    while True:
        # In order, and not min(): PostgreSQL without statistics of a table that was just
        # filled (autovacuum off) takes any index for min() and reads all of it, each time.
        first = connection.execute(
            sa.select(records.c.started_at)
            .where(*_matching(terms, connection, at, None))
            .order_by(records.c.started_at)
            .limit(1)
        ).scalar()
        if first is None:
            return
        period = terms.period_of(first)
        if period is None:  # a clock that was centuries off; nothing sensible lies behind it
            if first.year > 1901:
                return
            at = datetime(1901, 1, 2, tzinfo=first.tzinfo)
            continue
        bounds = terms.bounds_of(period)
        assert bounds is not None
        yield period, bounds[0] if since is None else max(since, bounds[0]), bounds[1]
        at = bounds[1]


def _period(
    connection: Connection, terms: Terms, since: datetime | None, until: datetime | None
) -> dict[str, list[int]]:
    whose, joined = _whose(terms)
    where = _matching(terms, connection, since, until)
    numbers = _numbers(terms)
    found: dict[str, list[int]] = {}
    for row in connection.execute(
        sa.select(whose, *numbers).select_from(joined).where(*where).group_by(whose)
    ):
        used = int(row.amount or 0)
        if terms.unpriced_as is not None:
            input_nano, output_nano = terms.unpriced_as
            used += int(row.free_input or 0) * input_nano + int(row.free_output or 0) * output_nano
        key = "" if terms.each is None else key_of(row[0])
        found[key] = [used, 0, int(row.calls), int(row.uncounted or 0)]
    if terms.rates:
        # One by one, since each amount is rounded by itself.
        cost, code = records.c.cost_nano, records.c.currency
        for row in connection.execute(
            sa.select(whose, code, cost, sa.func.count().label("times"))
            .select_from(joined)
            .where(*where, code.in_(terms.rates), cost.is_not(None))
            .group_by(whose, code, cost)
        ):
            key = "" if terms.each is None else key_of(row[0])
            found[key][0] += (terms.converted(row.cost_nano, row.currency) or 0) * row.times
    for sums in found.values():
        sums[0] = max(-MAX_NANO, min(MAX_NANO, sums[0]))
    return found


def _matching(
    terms: Terms, connection: Connection, since: datetime | None, until: datetime | None
) -> list[sa.ColumnElement[bool]]:
    query = Query.build(
        scope=None,
        since=since,
        until=until,
        where={field: AnyOf(values) for field, values in terms.where.items()},
    )
    return everything(query, connection.dialect.name)


def _whose(terms: Terms) -> tuple[sa.ColumnElement[Any], sa.FromClause]:
    if terms.each is None:
        # A column would have to be in the rows; groups by a constant are not portable.
        return sa.cast(sa.null(), sa.String(1)).label("whose"), records
    if not terms.each.startswith(TAG_PREFIX):
        return column_of(terms.each).label("whose"), records
    own = tags.alias("own")
    key = terms.each.removeprefix(TAG_PREFIX)
    joined = records.outerjoin(own, sa.and_(own.c.call_id == records.c.id, own.c.key == key))
    return own.c.value.label("whose"), joined


def _numbers(terms: Terms) -> list[sa.ColumnElement[Any]]:
    """Sums that say what `Terms.amount_of` says of each row."""
    r = records.c
    no_tokens = sa.and_(r.input_tokens.is_(None), r.output_tokens.is_(None))
    both = sa.func.coalesce(r.input_tokens, 0) + sa.func.coalesce(r.output_tokens, 0)
    free = sa.or_(
        r.status.in_(("blocked", "circuit_open")),
        sa.and_(r.status == "failed", r.usage_source == "unknown"),
    )
    zero = sa.literal_column("0", sa.BigInteger())
    one = sa.literal_column("1", sa.BigInteger())
    if terms.unit == TOKENS:
        amount: sa.ColumnElement[Any] = both
        unknown = no_tokens
        no_price = sa.false()
    else:
        amount = sa.case((r.currency == terms.unit, r.cost_nano), else_=zero)
        no_price = sa.or_(r.cost_nano.is_(None), r.currency.is_(None))
        foreign = sa.and_(
            sa.not_(no_price), r.currency != terms.unit, r.currency.not_in(list(terms.rates))
        )
        unpriced = no_price if terms.unpriced_as is None else sa.and_(no_price, no_tokens)
        unknown = sa.or_(foreign, unpriced)
    return [
        sa.func.sum(amount).label("amount"),
        sa.func.sum(sa.case((no_price, r.input_tokens), else_=zero)).label("free_input"),
        sa.func.sum(sa.case((no_price, r.output_tokens), else_=zero)).label("free_output"),
        sa.func.count().label("calls"),
        sa.func.sum(sa.case((sa.and_(unknown, sa.not_(free)), one), else_=zero)).label("uncounted"),
    ]
