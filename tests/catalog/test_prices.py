"""Prices of the catalogue: before all others, for the calls that they are about."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from ai_ledger import Ledger, PriceTable
from ai_ledger.catalog import Catalog
from ai_ledger.database.engine import database_url
from ai_ledger.database.tables.catalog import models
from ai_ledger.errors import InvalidValue
from ai_ledger.pricing import stored
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.testing.clock import FakeClock

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def own() -> PriceTable:
    """A price file's one price, for any provider."""
    table = PriceTable()
    table.add("qwen-plus", input=1, output=1, currency="USD")
    return table


def fill(catalog: Catalog) -> None:
    catalog.add_provider("aliyun")
    catalog.add_provider("reseller")
    catalog.add_model(
        "qwen-plus",
        provider="aliyun",
        api_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        prices=[
            {"currency": "CNY", "input": 4, "output": 8},
            {"currency": "CNY", "input": 2, "output": 4, "valid_from": "2026-01-01"},
        ],
    )


def clock_of(ledger: Ledger) -> FakeClock:
    """The clock by which the ledger's prices grow old, from now on."""
    clock = FakeClock()
    assert isinstance(ledger.prices, stored.LedgerPrices)
    ledger.prices._stored._prices.clock = clock.monotonic
    return clock


def costs(ledger: Ledger) -> list[tuple[Decimal | None, str | None, str | None]]:
    assert ledger.flush(30)
    found = ledger.store.calls(Query.build(scope=None))
    return [
        (each.cost, each.currency, each.price_id)
        for each in sorted(found, key=lambda record: record.id)
    ]


def test_delivered_calls(sql_url: str) -> None:
    """
    A call is charged by the catalogue's price of its time, and by the next one after an edit.
    """
    catalog = Catalog(sql_url)
    fill(catalog)
    with Ledger(sql_url, prices=own()) as ledger:
        call = {"model": "qwen-plus", "input_tokens": 1_000_000, "output_tokens": 0}
        ledger.record(**call, started_at=NOW)
        ledger.record(**call, started_at=NOW - timedelta(days=300))
        assert ledger.flush(30)
        model = catalog.model("qwen-plus")
        catalog.edit_model(
            "qwen-plus",
            version=1,
            prices=[*model.prices, {"currency": "CNY", "input": 1, "valid_from": "2026-04-01"}],
        )
        ledger.record(**call, started_at=NOW)
        assert costs(ledger) == [
            (Decimal(2), "CNY", "catalog:aliyun/qwen-plus@2026-01-01"),
            (Decimal(4), "CNY", "catalog:aliyun/qwen-plus"),
            (Decimal(1), "CNY", "catalog:aliyun/qwen-plus@2026-04-01"),
        ]


def test_pricing_again(sql_url: str) -> None:
    """
    Stored calls get the catalogue's price, and keep it when they are priced once more.
    """
    with Ledger(sql_url, prices=own()) as ledger:
        ledger.record("qwen-plus", input_tokens=1_000_000, output_tokens=0, started_at=NOW)
        assert costs(ledger) == [(Decimal(1), "USD", "own:qwen-plus")]
        fill(Catalog(ledger))
        report = ledger.reprice(dry_run=False)
        assert (report.changed, report.after) == (1, {"CNY": Decimal(2)})
        assert ledger.reprice(dry_run=False).changed == 0
        assert costs(ledger) == [(Decimal(2), "CNY", "catalog:aliyun/qwen-plus@2026-01-01")]


@pytest.mark.parametrize(
    ("fields", "price_id"),
    [
        ({}, "catalog:aliyun/qwen-plus@2026-01-01"),
        ({"provider": "aliyun"}, "catalog:aliyun/qwen-plus@2026-01-01"),
        ({"provider": "ALIYUN"}, "catalog:aliyun/qwen-plus@2026-01-01"),
        (
            {"provider": "dashscope", "server_address": "dashscope.aliyuncs.com"},
            "catalog:aliyun/qwen-plus@2026-01-01",
        ),
        ({"response_model": "qwen-plus-2025-07-28"}, "catalog:aliyun/qwen-plus@2026-01-01"),
        ({"request_model": "QWEN-PLUS"}, "catalog:aliyun/qwen-plus@2026-01-01"),
        ({"provider": "dashscope"}, "own:qwen-plus"),
        ({"provider": "reseller"}, "own:qwen-plus"),
        ({"provider": "reseller", "server_address": "dashscope.aliyuncs.com"}, "own:qwen-plus"),
        ({"request_model": "qwen-max"}, None),
    ],
)
def test_which_calls(ledger: Ledger, fields: dict, price_id: str | None, tmp_path: Path) -> None:
    """
    Calls to the model at its provider, known by name, by host or by nothing else at all.
    """
    fill(Catalog(ledger))
    with Ledger(ledger.urls[0], prices=own()) as other:
        record = CallRecord(
            **{"id": "1", "started_at": NOW, "request_model": "qwen-plus", **fields}
        )
        price = other.prices.price_of(record)
    assert (price and price.id) == price_id


def test_the_table(ledger: Ledger) -> None:
    """
    A ledger's table lists the catalogue's prices first, finds them first, and takes more.
    """
    before = len(ledger.prices)
    fill(Catalog(ledger))
    table = ledger.prices
    assert isinstance(table, PriceTable)
    assert len(table) == len(list(table)) == before + 2
    assert [price.origin for price in table][:2] == ["catalog", "catalog"]
    found = table.find("aliyun", "qwen-plus", NOW)
    assert found is not None
    assert found.id == "catalog:aliyun/qwen-plus@2026-01-01"
    assert table.add("house", input=1, output=1) == table.find(None, "house", NOW)
    with pytest.raises(InvalidValue, match="time zone"):
        table.find(None, "qwen-plus", datetime(2026, 1, 1))


def test_what_is_removed(ledger: Ledger) -> None:
    """
    A disabled model's price stays for the calls that it answered; a removed one's does not.
    """
    catalog = Catalog(ledger)
    fill(catalog)

    def found() -> str:
        price = ledger.prices.find("aliyun", "qwen-plus", NOW)
        return price.origin if price else "none"

    catalog.disable_model("qwen-plus")
    assert found() == "catalog"
    catalog.remove_model("qwen-plus")
    assert found() != "catalog"
    catalog.enable_model("qwen-plus")
    assert found() == "catalog"


def test_seldom_asked(ledger: Ledger, monkeypatch) -> None:
    """
    The database is asked once for many calls, again after half a minute, or when told to.
    """
    fill(Catalog(ledger))
    asked: list[object] = []
    load = stored.StoredPrices._load
    monkeypatch.setattr(
        stored.StoredPrices, "_load", lambda self: (asked.append(self), load(self))[1]
    )
    clock = clock_of(ledger)
    for _ in range(50):
        ledger.prices.find("aliyun", "qwen-plus", NOW)
    assert len(asked) == 1
    clock.advance(stored.REFRESH_S + 1)
    for _ in range(50):
        assert ledger.prices.find("aliyun", "qwen-plus", NOW) is not None
    for thread in threading.enumerate():
        if thread.name == "ai-ledger prices":
            thread.join(60)
    assert len(asked) == 2
    ledger.prices.refresh()  # type: ignore[attr-defined]
    ledger.prices.find("aliyun", "qwen-plus", NOW)
    assert len(asked) == 3


def test_nobody_waits_for_prices_that_are_read_again(ledger: Ledger, monkeypatch) -> None:
    """
    The old ones hold until the new ones are there, and never take the place of an edit.
    """
    catalog = Catalog(ledger)
    fill(catalog)
    clock = clock_of(ledger)
    assert ledger.prices.find("aliyun", "qwen-plus", NOW) is not None
    load, go_on, readers = stored.StoredPrices._load, threading.Event(), list[str]()

    def slowly(self: stored.StoredPrices) -> stored._Read:
        readers.append(threading.current_thread().name)
        read = load(self)
        if len(readers) == 1:
            assert go_on.wait(60)
        return read

    monkeypatch.setattr(stored.StoredPrices, "_load", slowly)
    clock.advance(stored.REFRESH_S + 1)
    assert ledger.prices.find("aliyun", "qwen-plus", NOW) is not None
    catalog.add_model(
        "new", provider="aliyun", prices=[{"currency": "CNY", "input": 1, "output": 1}]
    )
    assert ledger.prices.find("aliyun", "new", NOW) is not None
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "ai-ledger prices":
            thread.join(60)
    assert ledger.prices.find("aliyun", "new", NOW) is not None
    assert sorted(readers) == sorted(["ai-ledger prices", threading.current_thread().name])


def test_thousands_of_models_are_read_quickly() -> None:
    """
    The work grows with their number, and not with its square.
    """
    rows = [
        (f"m-{number}", "p", None, '[{"currency": "USD", "input": "1", "output": "1"}]')
        for number in range(3_000)
    ]
    started = time.thread_time()
    read = stored._Read(rows, ["p"])
    assert time.thread_time() - started < 5
    assert len(read.prices) == 3_000


def test_a_database_that_is_away(tmp_path: Path, caplog) -> None:
    """
    It changes nothing: the other prices hold, and no file is made by asking.
    """
    with Ledger(
        "postgresql://ledger@127.0.0.1:1/none", prices=own(), journal=tmp_path / "j"
    ) as away:
        price = away.prices.find(None, "qwen-plus", NOW)
        away.close(0)
    assert price is not None
    assert price.id == "own:qwen-plus"
    with Ledger(f"sqlite:///{tmp_path}/none.db", prices=own()) as empty:
        assert empty.prices.find(None, "qwen-plus", NOW) == price
        assert not (tmp_path / "none.db").exists()
    assert caplog.text == ""


def test_what_somebody_else_wrote(ledger: Ledger, caplog) -> None:
    """
    A row that cannot be read is told, and the others hold.
    """
    catalog = Catalog(ledger)
    fill(catalog)
    catalog.add_model("odd", provider="aliyun", prices=[{"input": 1, "output": 1}])
    engine = sa.create_engine(database_url(ledger.urls[0]))
    with engine.begin() as connection:
        connection.execute(
            sa.update(models).where(models.c.name == "odd").values(prices='[{"input": "much"}]')
        )
    engine.dispose()
    ledger.prices.refresh()  # type: ignore[attr-defined]

    assert ledger.prices.find("aliyun", "odd", NOW) is None
    price = ledger.prices.find("aliyun", "qwen-plus", NOW)
    assert price is not None
    assert price.origin == "catalog"
    assert "odd" in caplog.text


def test_ledgers_without_a_database(tmp_path: Path) -> None:
    """
    A ledger without an SQL store has the table that it was given, and nothing else.
    """
    table = own()
    with Ledger(f"jsonl:///{tmp_path}/calls", prices=table) as ledger:
        assert ledger.prices is table
        ledger.record("qwen-plus", input_tokens=1, output_tokens=1, started_at=utc_now())
