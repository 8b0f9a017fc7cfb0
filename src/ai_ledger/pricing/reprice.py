"""Pricing stored calls again, by the prices of now, with the old cost kept as a correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from ai_ledger.money import from_nano, to_nano
from ai_ledger.pricing.table import PriceTable, is_stated
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange, Store
from ai_ledger.totals import is_unpriced

_Sums = dict[str, int]


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that one price entry charges anew."""

    price_id: str
    calls: int
    before: dict[str, Decimal]
    """What these calls cost until now, by currency; unpriced ones are not in it."""
    after: dict[str, Decimal]


class RepriceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What pricing again changed, or would change."""

    dry_run: bool
    checked: int
    """Calls that were looked at."""
    changed: int
    """Calls with another cost than before, newly priced ones included."""
    newly_priced: int
    """Calls that had no cost and have one now."""
    unpriced: int
    """Calls that should have a cost and have none, before and after; see `totals.is_unpriced`."""
    kept_stated: int
    """Calls whose cost the provider or the caller stated."""
    kept_without_price: int
    """Calls that have a cost but no price any more; they keep it."""
    before: dict[str, Decimal]
    """The cost of all calls that were looked at, by currency."""
    after: dict[str, Decimal]
    prices: list[PriceChange]
    """The changed calls by the price that charges them now, in the order of its id."""
    stopped: bool = False
    """Whether somebody stopped it before all calls were looked at."""


def reprice(
    store: Store,
    table: PriceTable,
    *,
    scope: str | None,
    since: datetime | None,
    until: datetime | None = None,
    where: Mapping[str, Any] | None = None,
    dry_run: bool = True,
    now: datetime,
    go_on: Callable[[int], bool] | None = None,
) -> RepriceReport:
    """
    Price the calls in *store* by *table*. Applying it twice changes nothing the second time.

    A call is changed when its amount or currency is another, not when the same
    amount now comes from an entry with another id. A cost is never taken away:
    a call whose price is gone keeps what it was charged.

    Args:
        store: Read and corrected in batches, in bounded memory.
        table: The prices of now.
        scope: The organisation, or ``None`` for all.
        since: Aware; calls that started then or later.
        until: Aware; calls that started before.
        where: Which calls; see `Query.build`.
        dry_run: Say what would change, and change nothing.
        now: Aware; when the corrections are made.
        go_on: Asked after each batch, with how many calls were looked at by then;
            what was corrected stays when it says no.

    Raises:
        InvalidValue: *since*, *until* or *where* is wrong.
        SinkError: The store is away; what was corrected until then stays.
    """
    query = Query.build(scope=scope, since=since, until=until, where=where)
    tally = _Tally()
    for batch in store.scan(query):
        changes = [change for record in batch if (change := tally.look_at(record, table, now))]
        if changes and not dry_run:
            store.correct_costs(changes)
        if go_on is not None and not go_on(tally.checked):
            return tally.report(dry_run=dry_run, stopped=True)
    return tally.report(dry_run=dry_run)


class _Tally:
    """Counts what happens to each call."""

    def __init__(self) -> None:
        self._checked = self._changed = self._newly_priced = 0
        self._unpriced = self._kept_stated = self._kept_without_price = 0
        self._before: _Sums = {}
        self._after: _Sums = {}
        self._calls: dict[str, int] = {}
        self._price_before: dict[str, _Sums] = {}
        self._price_after: dict[str, _Sums] = {}

    @property
    def checked(self) -> int:
        return self._checked

    def look_at(self, record: CallRecord, table: PriceTable, now: datetime) -> CostChange | None:
        self._checked += 1
        _count(self._before, record)
        fresh = record
        if is_stated(record):
            self._kept_stated += 1
        else:
            fresh = table.priced(record)
            if record.cost is not None and fresh.cost is None:
                self._kept_without_price += 1
                fresh = record
            elif fresh.cost is None:
                self._unpriced += is_unpriced(fresh)
        _count(self._after, fresh)
        if (fresh.cost, fresh.currency) == (record.cost, record.currency):
            return None
        self._changed += 1
        self._newly_priced += record.cost is None
        price_id = fresh.price_id or ""
        self._calls[price_id] = self._calls.get(price_id, 0) + 1
        _count(self._price_before.setdefault(price_id, {}), record)
        _count(self._price_after.setdefault(price_id, {}), fresh)
        return CostChange(
            call_id=record.id,
            corrected_at=now,
            old_cost=record.cost,
            old_currency=record.currency,
            old_price_id=record.price_id,
            cost=fresh.cost,
            currency=fresh.currency,
            price_id=fresh.price_id,
        )

    def report(self, *, dry_run: bool, stopped: bool = False) -> RepriceReport:
        return RepriceReport(
            dry_run=dry_run,
            checked=self._checked,
            changed=self._changed,
            newly_priced=self._newly_priced,
            unpriced=self._unpriced,
            kept_stated=self._kept_stated,
            kept_without_price=self._kept_without_price,
            before=_amounts(self._before),
            after=_amounts(self._after),
            prices=[
                PriceChange(
                    price_id=price_id,
                    calls=self._calls[price_id],
                    before=_amounts(self._price_before[price_id]),
                    after=_amounts(self._price_after[price_id]),
                )
                for price_id in sorted(self._calls)
            ],
            stopped=stopped,
        )


def _count(sums: _Sums, record: CallRecord) -> None:
    if record.cost is not None and record.currency is not None:
        sums[record.currency] = sums.get(record.currency, 0) + to_nano(record.cost)


def _amounts(sums: _Sums) -> dict[str, Decimal]:
    return {currency: from_nano(nano) for currency, nano in sorted(sums.items())}
