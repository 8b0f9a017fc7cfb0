"""`Leading`: the first values by cost, calls or tokens, as the database finds them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.engine import Connection

from ai_ledger.bounds import value_of_key
from ai_ledger.query import Query
from ai_ledger.sinks.sql.rowsums import costs_in_rows
from ai_ledger.sinks.sql.totals import NARROW, Answer, Plan, costs_in_totals
from ai_ledger.totals import Group, Totals

# What a line of the answer is about.
_VALUE: Final = 0
_WHOLE: Final = 1
_COUNT: Final = 2


class Leading(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who comes first of very many.

    Args:
        values: How many values there are.
        whole: The sums of all of them.
        groups: Every value that is among the first by cost in some currency, by calls or
            by tokens, in no order. Like those of `SQLSink.costs`, they know these numbers only.
    """

    values: int
    whole: Totals
    groups: list[Group]

    @classmethod
    def of(cls, groups: list[Group]) -> Leading:
        """Of *groups* that are all there are."""
        whole = Totals.of(group.totals for group in groups)
        return cls(values=len(groups), whole=whole, groups=groups)


def leading(
    connection: Connection, query: Query, field: str, planned: Plan | None, *, limit: int
) -> Leading:
    """
    The first *limit* values of *field* in each ranking; the others stay in the database.

    A hundred thousand sessions would take the interpreter many seconds, in which no
    other thread of the program gets on. Not for MariaDB and MySQL, which would add the
    rows up once for each time that their sums are named.

    Args:
        connection: Of SQLite or PostgreSQL.
        query: Which calls.
        field: Or ``tags.<key>``.
        planned: How totals answer it, without a rest; ``None`` for from the rows.
        limit: How many of each ranking.
    """
    sums = (
        costs_in_rows(connection.dialect.name, query, field)
        if planned is None
        else costs_in_totals(connection, query, planned)
    ).cte("sums")
    each = (
        sa.select(
            sums.c.key,
            sa.func.sum(sums.c.calls).label("calls"),
            sa.func.sum(sums.c.input_tokens + sums.c.output_tokens).label("tokens"),
        )
        .group_by(sums.c.key)
        .cte("each_value")
    )
    numbers = [sums.c[name] for name in NARROW]
    lines = sa.union_all(
        # Not a join: SQLite has no index of either side and would go through all pairs.
        sa.select(sa.literal(_VALUE), sums.c.key, sums.c.money, *numbers).where(
            sums.c.key.in_(_first(sums, each, limit))
        ),
        sa.select(
            sa.literal(_WHOLE), sa.literal(""), sums.c.money, *map(sa.func.sum, numbers)
        ).group_by(sums.c.money),
        sa.select(
            sa.literal(_COUNT),
            sa.literal(""),
            sa.literal(""),
            sa.func.count(),
            *(sa.literal(0) for _ in numbers[1:]),
        ).select_from(each),
    )
    values, whole, ones = 0, Answer(), Answer()
    for line in connection.execute(lines):
        what, key, money, figures = _parts(tuple(line))
        if what == _VALUE:
            ones.add_narrow((value_of_key(key),), 0, money, figures)
        elif what == _WHOLE:
            whole.add_narrow((), 0, money, figures)
        else:
            values = figures[0]
    return Leading(
        values=values,
        whole=Totals.of(group.totals for group in whole.groups()),
        groups=ones.groups(),
    )


def _parts(line: tuple[Any, ...]) -> tuple[int, str, str, tuple[Any, ...]]:
    return line[0], line[1], line[2], line[3:]


def _first(sums: sa.CTE, each: sa.CTE, limit: int) -> sa.CompoundSelect[Any]:
    """The keys that come first in some ranking."""
    # Among equals those with more calls, and then by name: as `ranked` has it.
    by_calls: tuple[ColumnElement[Any], ...] = (each.c.calls.desc(), each.c.key == "", each.c.key)
    most_calls = sa.select(each.c.key).order_by(*by_calls).limit(limit)
    most_tokens = sa.select(each.c.key).order_by(each.c.tokens.desc(), *by_calls).limit(limit)
    # Amounts of different currencies are not compared: each has a ranking of its own.
    costs = (
        sa.select(
            sums.c.key,
            sa.func.row_number()
            .over(partition_by=sums.c.money, order_by=(sums.c.cost_nano.desc(), *by_calls))
            .label("place"),
        )
        .join_from(sums, each, each.c.key == sums.c.key)
        .where(sums.c.money != "")
        .subquery("costs")
    )
    # Each limit stands in a query of its own, since SQLite takes none inside a union.
    return sa.union(
        sa.select(most_calls.subquery("most_calls").c.key),
        sa.select(most_tokens.subquery("most_tokens").c.key),
        sa.select(costs.c.key).where(costs.c.place <= limit),
    )
