"""A ledger with calls, and the console over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from starlette.testclient import TestClient
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import app, create_app

Visitor: TypeAlias = Callable[..., TestClient]

# Its routes are worked out anew for each application, which takes longer than most tests. It
# knows no ledger: what stands behind it comes with each request.
app._api = cache(app._api)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in SQLite with nothing in it."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", journal=tmp_path / "journal") as ledger:
        yield ledger
    close_databases()


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """The ledger with the calls of `sample`."""
    ledger.store.write(sample.calls())
    return ledger


@pytest.fixture
def visitor(ledger: Ledger) -> Iterator[Visitor]:
    """``visitor(role="viewer", org_id="acme")``: a client of the console with this access."""
    clients: list[TestClient] = []

    def visit(clock: Any = lambda: sample.NOW, **access: Any) -> TestClient:
        who = Access(**{"name": "tester", "role": "admin", "prompts": True, **access})
        console = create_app(ledger, auth=lambda request: who, clock=clock)
        client = TestClient(
            console,
            base_url="http://127.0.0.1",
            # As browsers say it of the console's own pages.
            headers={"Sec-Fetch-Site": "same-origin"},
            raise_server_exceptions=False,
        )
        clients.append(client)
        return client

    yield visit
    for client in clients:
        client.close()
