"""What the catalogue's tests share: a provider on loopback, and a catalogue that names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ai_ledger import Ledger
from ai_ledger.catalog import Catalog, guard
from ai_ledger.testing import Provider

KEY = "7Qcanarykey9f3Bd81Zk"
"""What the variable holds that settings refer to."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch) -> None:
    """A busy machine is no database that is away."""
    monkeypatch.setattr(guard, "WAIT_S", 60.0)


@pytest.fixture
def catalog(sql_url: str) -> Catalog:
    """An empty catalogue in each database in turn."""
    return Catalog(sql_url)


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    """A ledger in a file, with a journal of its own."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        yield ledger


@pytest.fixture
def shop(ledger: Ledger, provider: Provider, monkeypatch) -> Catalog:
    """A catalogue with one model of the loopback provider, and its key in the environment."""
    monkeypatch.setenv("SHOP_KEY", KEY)
    catalog = Catalog(ledger)
    catalog.add_provider("shop", settings={"api_key": "env:SHOP_KEY"})
    catalog.add_model(
        "deepseek-chat",
        provider="shop",
        api_url=provider.base_url,
        timeout_s=20,
        parameters={"temperature": 0.5, "max_tokens": 64, "enable_thinking": False},
        prices=[{"currency": "CNY", "per": 1000, "input": "0.002", "output": "0.008"}],
    )
    return catalog
