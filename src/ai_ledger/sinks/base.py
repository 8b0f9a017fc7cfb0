"""The contracts: a sink takes records, a store can also be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from ai_ledger.errors import RecordRefused
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.totals import Group


@runtime_checkable
class Sink(Protocol):
    """
    Anything with ``write(records)``.

    A sink is called from one thread, in batches, and never at the same time.
    It need not be quick, and may fail: records are kept in the journal until
    it has taken them. Beside ``write``, these are honoured when present:

    - ``close()``: called once, after the last batch.
    - ``durable`` (default true): false means that records are not kept for it
      while it is away.
    - ``name``: how health and log lines call it; the class's name otherwise.
    - ``marks()``: asked when a call begins, in the caller's thread, so it must be quick:
      gives tags for the record, whose names begin with ``ai_ledger.``, or ``None``. For
      what is gone when the record is delivered.
    """

    def write(self, records: Sequence[CallRecord]) -> None:
        """
        Store *records*; all of them when it returns.

        The same record may come again (its ``id`` tells), and one with the
        status ``unfinished`` may be followed by the finished one.

        Raises:
            SinkUnavailable: Try the same batch again later.
            RecordRefused: At least one of them will never be accepted.
        """
        ...


class SomeRefused(RecordRefused):
    """
    Raised by a sink that is not durable when it has taken the others.

    Args:
        count: How many it has not.
        error: What it met with one of them.
    """

    def __init__(self, count: int, error: Exception) -> None:
        super().__init__(f"{count} not taken: {type(error).__name__}: {error}")
        self.count = count


class CostChange(msgspec.Struct, frozen=True, kw_only=True):
    """A call's cost before and after it was priced again."""

    call_id: str
    corrected_at: datetime
    old_cost: Decimal | None
    old_currency: str | None
    old_price_id: str | None
    cost: Decimal | None
    currency: str | None
    price_id: str | None


Place: TypeAlias = tuple[datetime | Decimal | float | None, str]
"""Where a call stands in an order: the value that it is ordered by, and its ``id``."""


@runtime_checkable
class Store(Sink, Protocol):
    """A sink that can be asked. Everything it answers is confined to the query's scope."""

    def calls(
        self,
        query: Query,
        *,
        limit: int = 100,
        offset: int = 0,
        after: Place | None = None,
        backwards: bool = False,
        order: str = "started_at",
        descending: bool = True,
        content: bool = True,
    ) -> list[CallRecord]:
        """
        One page of calls. Those without the value that is ordered by come last.

        Args:
            query: Which calls.
            limit: At most this many, and never more than 10,000.
            offset: Leave out this many first.
            after: Go on behind this place, whether or not a call stands there.
            backwards: Read from the end: the last calls, or with *after* the ones
                right before that place; in the same order as ever. By
                ``started_at``, any page is as fast as the first.
            order: ``started_at`` or one of `query.NUMBER_FIELDS`.
            descending: Largest or newest first.
            content: With prompts and answers; without them a page is small,
                whatever was asked and answered.
        """
        ...

    def scan(self, query: Query, *, batch_size: int = 1000) -> Iterator[list[CallRecord]]:
        """All calls meant by *query*, oldest first, in batches, in bounded memory."""
        ...

    def call(self, scope: str | None, call_id: str) -> CallRecord | None:
        """The call with this id, deleted or not, if it is within *scope*."""
        ...

    def aggregate(
        self, query: Query, by: tuple[str, ...] = (), edges: tuple[datetime, ...] = ()
    ) -> list[Group]:
        """
        Totals of the calls meant by *query*.

        Args:
            query: Which calls.
            by: Fields to group by: `query.GROUP_FIELDS` or ``tags.<key>``.
            edges: Aware datetimes, ascending: one group for each interval
                between two of them. Fewer than two: one interval, the query's.
        """
        ...

    def delete(self, query: Query, *, at: datetime) -> int:
        """Mark the calls meant by *query* as deleted; how many were. Totals follow."""
        ...

    def restore(self, query: Query) -> int:
        """Undo `delete` for the calls meant by *query* (built with ``deleted=True``)."""
        ...

    def forget(self, query: Query) -> int:
        """
        Erase content and identity of the calls meant by *query*, deleted ones
        included; how many there were. Counts, tokens and costs stay.
        """
        ...

    def correct_costs(self, changes: Sequence[CostChange]) -> int:
        """
        Give calls a new cost and keep the old one as a correction; how many changed.

        A call whose cost is no longer the old one is left alone, so applying the
        same changes twice changes nothing. Totals follow.
        """
        ...

    def corrections(self, scope: str | None, call_id: str) -> list[CostChange]:
        """The corrections of one call, oldest first."""
        ...
