"""Memory: a list of calls that can be asked like a database. For tests and experiments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange, Place
from ai_ledger.sinks.scan import check_page, forgotten, is_within, matches, page, without_content
from ai_ledger.totals import Group, group_records


class MemorySink:
    """
    Calls in a dictionary by id, in the order they came.

    Threads may share one instance. Nothing outlives the process.
    """

    name = "memory"
    durable = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, CallRecord] = {}
        self._corrections: dict[str, list[CostChange]] = {}

    def after_fork_in_child(self) -> None:
        """Take a lock of its own: a thread of the parent may hold the other one."""
        self._lock = threading.Lock()

    @property
    def records(self) -> list[CallRecord]:
        """All calls, in the order they came."""
        with self._lock:
            return list(self._records.values())

    def write(self, records: Sequence[CallRecord]) -> None:
        """Keep *records*; the first finished one with an id wins."""
        with self._lock:
            for record in records:
                known = self._records.get(record.id)
                if known is None:
                    self._records[record.id] = record
                elif known.status == "unfinished" != record.status:
                    # A call that was deleted while it ran stays deleted.
                    deleted_at = known.deleted_at or record.deleted_at
                    self._records[record.id] = record.replace(deleted_at=deleted_at)

    def _matching(self, query: Query) -> list[CallRecord]:
        return [record for record in self.records if matches(query, record)]

    def _change(
        self, meant: Callable[[CallRecord], bool], changed: Callable[[CallRecord], CallRecord]
    ) -> int:
        # Found and changed under one lock, or what another thread does meanwhile is lost.
        with self._lock:
            found = [record for record in self._records.values() if meant(record)]
            for record in found:
                self._records[record.id] = changed(record)
        return len(found)

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
        """One page of calls; see `Store.calls`."""
        check_page(limit, offset, after, order)
        found = page(
            self._matching(query),
            limit=limit,
            offset=offset,
            after=after,
            backwards=backwards,
            order=order,
            descending=descending,
        )
        return found if content else list(without_content(found))

    def scan(self, query: Query, *, batch_size: int = 1000) -> Iterator[list[CallRecord]]:
        """All calls meant by *query*, oldest first."""
        found = sorted(self._matching(query), key=lambda record: (record.started_at, record.id))
        for start in range(0, len(found), batch_size):
            yield found[start : start + batch_size]

    def call(self, scope: str | None, call_id: str) -> CallRecord | None:
        """The call with this id, if it is within *scope*."""
        with self._lock:
            record = self._records.get(call_id)
        return record if record is not None and is_within(scope, record) else None

    def aggregate(
        self, query: Query, by: tuple[str, ...] = (), edges: tuple[datetime, ...] = ()
    ) -> list[Group]:
        """Totals; see `Store.aggregate`."""
        return group_records(self._matching(query), by, edges)

    def delete(self, query: Query, *, at: datetime) -> int:
        """Mark calls as deleted."""
        return self._change(
            lambda record: matches(query, record), lambda record: record.replace(deleted_at=at)
        )

    def restore(self, query: Query) -> int:
        """Undo `delete`."""
        return self._change(
            lambda record: matches(query, record), lambda record: record.replace(deleted_at=None)
        )

    def forget(self, query: Query) -> int:
        """Erase content and identity, deleted calls included."""
        return self._change(
            lambda record: matches(query, record, deleted=record.deleted_at is not None), forgotten
        )

    def correct_costs(self, changes: Sequence[CostChange]) -> int:
        """Give calls a new cost; see `Store.correct_costs`."""
        changed = 0
        with self._lock:
            for change in changes:
                record = self._records.get(change.call_id)
                if record is None or (record.cost, record.currency, record.price_id) != (
                    change.old_cost,
                    change.old_currency,
                    change.old_price_id,
                ):
                    continue
                self._records[record.id] = record.replace(
                    cost=change.cost, currency=change.currency, price_id=change.price_id
                )
                self._corrections.setdefault(record.id, []).append(change)
                changed += 1
        return changed

    def corrections(self, scope: str | None, call_id: str) -> list[CostChange]:
        """The corrections of one call, oldest first."""
        if self.call(scope, call_id) is None:
            return []
        with self._lock:
            return list(self._corrections.get(call_id, ()))
