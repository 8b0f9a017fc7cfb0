"""What the tests of reports share: a store of each kind that needs no server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_ledger.sinks import Store, open_sink


@pytest.fixture(params=["memory", "jsonl", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    known = {"jsonl": f"jsonl:///{tmp_path}/calls", "sqlite": f"sqlite:///{tmp_path}/ledger.db"}
    store = open_sink(known.get(request.param, "memory:"))
    assert isinstance(store, Store)
    yield store
    getattr(store, "close", lambda: None)()
