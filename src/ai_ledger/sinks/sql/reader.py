"""Reading: pages of calls, and totals from whatever answers them soonest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.calls import contents, corrections, records, tags
from ai_ledger.errors import InvalidValue
from ai_ledger.money import from_nano
from ai_ledger.query import GROUP_FIELDS, Query, field_name, in_utc
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange, Place
from ai_ledger.sinks.scan import MAX_LIMIT, check_page
from ai_ledger.sinks.sql.conditions import conditions
from ai_ledger.sinks.sql.leading import Leading, leading
from ai_ledger.sinks.sql.places import beyond, ordered
from ai_ledger.sinks.sql.rows import record_of
from ai_ledger.sinks.sql.rowsums import sums_of_rows
from ai_ledger.sinks.sql.totals import Answer, plan, sums_of_totals
from ai_ledger.totals import Group

_IDS_AT_ONCE: Final = 1_000

_DERIVED = ("duration_us", "duration_bucket", "first_token_us")
_BARE = sa.select(*(column for column in records.columns if column.name not in _DERIVED))
_WHOLE = _BARE.add_columns(contents.c.request_content, contents.c.response_content).select_from(
    records.outerjoin(contents, contents.c.call_id == records.c.id)
)


class Reader:
    """
    Answers queries, each within one short transaction.

    Args:
        database: Whose tables are known to be there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def calls(
        self,
        query: Query,
        *,
        limit: int,
        offset: int,
        after: Place | None = None,
        backwards: bool = False,
        order: str,
        descending: bool,
        content: bool = True,
    ) -> list[CallRecord]:
        """One page of calls; see `Store.calls`."""
        check_page(limit, offset, after, order)
        where = conditions(query, self._database.kind)
        if after is not None:
            where.append(beyond(after, order, descending=descending, backwards=backwards))
        statement = (
            (_WHOLE if content else _BARE)
            .where(*where)
            .order_by(*ordered(order, descending=descending, backwards=backwards))
        )
        with self._database.reading() as connection:
            found = self._records(connection, statement.limit(limit).offset(offset))
        return found[::-1] if backwards else found

    def scan(self, query: Query, *, batch_size: int) -> Iterator[list[CallRecord]]:
        """All calls, oldest first, a transaction a batch."""
        after: Place | None = None
        size = max(1, min(batch_size, MAX_LIMIT))
        while True:
            found = self.calls(
                query, limit=size, offset=0, after=after, order="started_at", descending=False
            )
            if found:
                yield found
            if len(found) < size:
                return
            after = (found[-1].started_at, found[-1].id)

    def call(self, scope: str | None, call_id: str) -> CallRecord | None:
        """The call with this id, if it is within *scope*."""
        statement = _WHOLE.where(records.c.id == label(call_id), *_within(scope))
        with self._database.reading() as connection:
            found = self._records(connection, statement)
        return found[0] if found else None

    def corrections(self, scope: str | None, call_id: str) -> list[CostChange]:
        """The corrections of one call, oldest first."""
        statement = (
            sa.select(corrections)
            .join(records, records.c.id == corrections.c.call_id)
            .where(corrections.c.call_id == label(call_id), *_within(scope))
            .order_by(corrections.c.id)
        )
        with self._database.reading() as connection:
            return [_change(row) for row in connection.execute(statement).mappings()]

    def aggregate(
        self,
        query: Query,
        by: tuple[str, ...],
        edges: tuple[datetime, ...],
        *,
        narrow: bool = False,
    ) -> list[Group]:
        """
        Totals: from the kept ones where they cover the question, else from the rows.

        Where it is *narrow*, only calls, those that succeeded, tokens in and out, cost and
        unpriced calls are read, and the other numbers stay zero.
        """
        by = tuple(field_name(field, GROUP_FIELDS) for field in by)
        for edge in edges:
            if edge.tzinfo is None:
                raise InvalidValue("edges", edge, "datetimes with a time zone")
        edges = tuple(map(in_utc, edges))
        answer = Answer()
        with self._database.reading() as connection:
            planned = plan(query, by, edges)
            if planned is not None:
                sums_of_totals(connection, query, planned, answer, narrow=narrow)
            for part in planned.rest if planned is not None else _intervals(query, edges):
                sums_of_rows(
                    connection, self._database.kind, query, by, part, answer, narrow=narrow
                )
        return answer.groups()

    def leading(self, query: Query, field: str, limit: int) -> Leading:
        """Who comes first; see `SQLSink.leading`."""
        field = field_name(field, GROUP_FIELDS)
        planned = plan(query, (field,), ())
        if self._database.kind == "mysql" or (planned is not None and planned.rest):
            return Leading.of(self.aggregate(query, (field,), (), narrow=True))
        if planned is not None and not planned.spans:  # a time without length
            return Leading.of([])
        with self._database.reading() as connection:
            return leading(connection, query, field, planned, limit=limit)

    def _records(self, connection: Connection, statement: sa.Select[Any]) -> list[CallRecord]:
        rows = connection.execute(statement).mappings().all()
        labels: dict[str, dict[str, str]] = {row["id"]: {} for row in rows}
        ids = list(labels)
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = sa.select(tags).where(tags.c.call_id.in_(ids[start : start + _IDS_AT_ONCE]))
            for call_id, key, value in connection.execute(some):
                labels[call_id][key] = value
        return [record_of(dict(row), labels[row["id"]]) for row in rows]


def _intervals(
    query: Query, edges: Sequence[datetime]
) -> list[tuple[datetime | None, datetime | None, int]]:
    if len(edges) < 2:
        return [(None, None, 0)]
    return [
        (since, until, interval)
        for interval, (since, until) in enumerate(pairwise(edges))
        if since < until
        and (query.since is None or until > query.since)
        and (query.until is None or since < query.until)
    ]


def _within(scope: str | None) -> list[ColumnElement[bool]]:
    return [] if scope is None else [records.c.org_id == label(scope)]


def _change(row: Any) -> CostChange:
    old, new = row["old_cost_nano"], row["cost_nano"]
    return CostChange(
        call_id=row["call_id"],
        corrected_at=row["corrected_at"],
        old_cost=None if old is None else from_nano(old),
        old_currency=row["old_currency"],
        old_price_id=row["old_price_id"],
        cost=None if new is None else from_nano(new),
        currency=row["currency"],
        price_id=row["price_id"],
    )
