"""Stores with the calls of organisations whose names differ as little as names can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.databases import fresh_database

from ai_ledger.sinks import Store, open_sink

STORES = [
    "memory",
    "jsonl",
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]


@pytest.fixture(params=STORES, scope="module")
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """An empty store of each kind, shared by the tests of a file."""
    folder: Path = tmp_path_factory.mktemp("store")
    if request.param in ("postgresql", "mariadb"):
        from ai_ledger.database.upgrade import upgrade

        with fresh_database(request.param) as url:
            upgrade(url)
            sink = open_sink(url)
            yield sink
            sink.close()
        return
    urls = {
        "memory": "memory:",
        "jsonl": f"jsonl:///{folder}/calls",
        "sqlite": f"sqlite:///{folder}/ledger.db",
    }
    sink = open_sink(urls[request.param])
    yield sink
    if hasattr(sink, "close"):
        sink.close()
