"""Pricing again: what it would change, what it changes, and that it does so once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ai_ledger.errors import InvalidValue
from ai_ledger.pricing import PriceChange, PriceTable, RepriceReport, reprice
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange
from ai_ledger.sinks.memory import MemorySink

START = datetime(2025, 11, 3, tzinfo=UTC)
NOW = datetime(2025, 12, 1, tzinfo=UTC)


@pytest.fixture
def table() -> PriceTable:
    """Today's prices."""
    table = PriceTable()
    table.add("dear", input=2, output=2)
    table.add("new", input=1, output=1, currency="CNY")
    return table


@pytest.fixture
def store() -> MemorySink:
    """Calls of two organisations, each with a million tokens in, priced as they once were."""
    old = {"cost": Decimal(1), "currency": "USD", "price_id": "old:dear"}
    calls = [
        {"request_model": "dear", **old},
        {"request_model": "dear", **old, "org_id": "b"},
        {"request_model": "dear", **old, "cost": Decimal(2)},
        {"request_model": "dear", **old, "price_id": "provider"},
        {"request_model": "dear", **old, "price_id": None},
        {"request_model": "gone", **old},
        {"request_model": "new"},
        {"request_model": "unknown"},
        {"request_model": "dear", "status": "blocked", "input_tokens": None},
    ]
    sink = MemorySink()
    sink.write(
        [
            CallRecord(
                **{
                    "id": f"{number:02}",
                    "started_at": START + timedelta(hours=number),
                    "org_id": "a",
                    "input_tokens": 1_000_000,
                    "output_tokens": 0,
                    "usage_source": "reported",
                    **fields,
                }
            )
            for number, fields in enumerate(calls)
        ]
    )
    return sink


def expected(*, dry_run: bool) -> RepriceReport:
    """What is to be said about all calls of organisation a."""
    return RepriceReport(
        dry_run=dry_run,
        checked=8,
        changed=2,
        newly_priced=1,
        unpriced=1,
        kept_stated=2,
        kept_without_price=1,
        before={"USD": Decimal(6)},
        after={"CNY": Decimal(1), "USD": Decimal(7)},
        prices=[
            PriceChange(
                price_id="own:dear", calls=1, before={"USD": Decimal(1)}, after={"USD": Decimal(2)}
            ),
            PriceChange(price_id="own:new", calls=1, before={}, after={"CNY": Decimal(1)}),
        ],
    )


def test_a_dry_run_says_what_would_change_and_changes_nothing(store, table):
    """
    It is the default.
    """
    before = store.records

    report = reprice(store, table, scope="a", since=None, now=NOW)

    assert report == expected(dry_run=True)
    assert store.records == before


def test_it_changes_what_it_said_and_keeps_the_old_cost(store, table):
    """
    Within the scope alone; what it replaces stays readable as a correction.
    """
    before = store.records
    report = reprice(store, table, scope="a", since=None, now=NOW, dry_run=False)

    changed = [new for old, new in zip(before, store.records, strict=True) if old != new]
    assert report == expected(dry_run=False)
    assert changed == [
        before[0].replace(cost=Decimal(2), price_id="own:dear"),
        before[6].replace(cost=Decimal(1), currency="CNY", price_id="own:new"),
    ]
    assert store.corrections(None, "00") == [
        CostChange(
            call_id="00",
            corrected_at=NOW,
            old_cost=Decimal(1),
            old_currency="USD",
            old_price_id="old:dear",
            cost=Decimal(2),
            currency="USD",
            price_id="own:dear",
        )
    ]


def test_a_second_time_changes_nothing(store, table):
    """
    Prices applied already are no change, and leave no second correction.
    """
    reprice(store, table, scope=None, since=None, now=NOW, dry_run=False)
    before = store.records

    report = reprice(store, table, scope=None, since=None, now=NOW, dry_run=False)

    assert (report.changed, report.before, report.prices) == (0, report.after, [])
    assert store.records == before
    assert len(store.corrections(None, "00")) == 1


def test_it_looks_at_what_was_asked_for(store, table):
    """
    Times and filters confine it as they do any query.
    """
    report = reprice(
        store,
        table,
        scope=None,
        since=START + timedelta(hours=1),
        until=START + timedelta(hours=7),
        where={"model": ["dear", "new"]},
        now=NOW,
    )

    assert (report.checked, report.changed) == (5, 2)


def test_totals_follow(store, table):
    """
    After pricing again, sums are those of the new costs.
    """
    reprice(store, table, scope=None, since=None, now=NOW, dry_run=False)

    (group,) = store.aggregate(Query.build(scope=None))

    assert group.totals.cost_nano == {"USD": 9 * 10**9, "CNY": 10**9}
    assert group.totals.unpriced_calls == 1


def test_a_naive_time_is_refused(store, table):
    """
    A person's mistake is said before anything is read.
    """
    with pytest.raises(InvalidValue, match="since"):
        reprice(store, table, scope=None, since=START.replace(tzinfo=None), now=NOW)


def test_a_failure_that_nobody_counted_is_not_unpriced(table):
    """
    Pricing again calls unpriced what reports do.
    """
    sink = MemorySink()
    sink.write(
        [
            CallRecord(id="1", started_at=START, request_model="dear", status="failed"),
            CallRecord(id="2", started_at=START, request_model="dear", status="timeout"),
        ]
    )
    report = reprice(sink, table, scope=None, since=None, now=NOW)
    (group,) = sink.aggregate(Query.build(scope=None))

    assert report.unpriced == group.totals.unpriced_calls == 1
