"""Every page and every GET route of the API answers, with whatever versions are installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.policies.quotas import Quotas
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app
from ai_ledger.web.app import ROOMS, _api

API = "/api/v1"
PARTS = {
    "call_id": "call-00003",
    "session_id": "session-0",
    "user_id": "user-1",
    "device_id": "device-1",
}
"""Ids that the sample has. What else has an id is not there yet, and is then 404."""
QUERIES = {
    "/calls": {"function": "search", "tag": "team=red"},
    "/calls/values": {"days": "7"},
    "/calls/one": {"id": "call-00003"},
    f"{API}/calls/one": {"id": "call-00003"},
    "/costs": {"by": "function", "request_model": "qwen-plus"},
    "/budgets/quota": {"org_id": "acme", "model": "qwen-plus"},
    "/budgets/switch": {"model": "qwen-plus"},
    "/alerts/rules/new": {"kind": "failure_rate"},
    "/models/entry": {"kind": "model", "name": "qwen-plus"},
    "/models/new": {"kind": "model"},
    f"{API}/calls": {"limit": "5", "function": "search", "tag": "team=red", "order": "cost"},
    f"{API}/calls/totals": {"function": "search", "min_cost": "0.001"},
    f"{API}/calls/export": {"format": "csv", "function": "search"},
    f"{API}/stats/summary": {"by": "function", "user_id": "user-1"},
    f"{API}/costs": {"by": "function", "request_model": "qwen-plus"},
    f"{API}/quota/history": {"org_id": "acme", "model": "qwen-plus"},
    f"{API}/quota": {"org_id": "acme", "model": "qwen-plus"},
    f"{API}/model-switch": {"model": "qwen-plus"},
    f"{API}/model-switch/history": {"model": "qwen-plus"},
}
ENDLESS = ("/calls/live", f"{API}/calls/live")
"""Streams, which have tests of their own."""
NOT_THERE = ("/models/entry", f"{API}/reprice")
"""404 in a ledger that has calls and a quota alone."""


def _paths() -> list[str]:
    pages = [
        route.path
        for room in ROOMS
        for route in room.routes
        if isinstance(route, Route) and "GET" in (route.methods or ())
    ]
    operations = [API + path for path, item in _api().openapi()["paths"].items() if "get" in item]
    return [path for path in (*pages, *operations) if path not in ENDLESS]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The console over the calls of `sample`, for an administrator."""
    folder = tmp_path_factory.mktemp("smoke")
    who = Access(name="ada", role="admin", prompts=True)
    with Ledger(f"sqlite:///{folder / 'ledger.db'}", journal=folder / "journal") as ledger:
        ledger.store.write(sample.calls())
        quotas = Quotas(ledger)
        quotas.set("acme", "qwen-plus", tokens=1_000)
        quotas.set_switch("qwen-plus", max_concurrent=9)
        app = create_app(ledger, auth=lambda request: who, clock=lambda: sample.NOW)
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            yield client
        app.state.house.close()
    close_databases()


@pytest.mark.parametrize("path", _paths())
def test_it_answers(client: TestClient, path: str) -> None:
    """
    200 with something to read; 404 for what this ledger has none of.
    """
    parts = [piece.strip("{}").partition(":")[0] for piece in path.split("/") if "{" in piece]
    there = path not in NOT_THERE and all(name in PARTS for name in parts)
    address = "/".join(
        PARTS.get(piece.strip("{}").partition(":")[0], "7") if "{" in piece else piece
        for piece in path.split("/")
    )

    answer = client.get(address, params=QUERIES.get(path))

    if there:
        assert (answer.status_code, bool(answer.content)) == (200, True)
    elif path.endswith("/history"):
        # That of what was removed is still told; of what never was, there is none.
        assert answer.status_code in (200, 404)
    else:
        assert answer.status_code == 404


def test_filters_stand_beside_other_parameters(client: TestClient) -> None:
    """
    A route takes a model of filters and single parameters together, and minds both.
    """
    wanted: dict[str, Any] = {"function": "search", "user_id": "user-2", "limit": 2}

    found = client.get(f"{API}/calls", params=wanted).json()

    assert [(each["function"], each["user_id"]) for each in found["calls"]] == [
        ("search", "user-2"),
        ("search", "user-2"),
    ]


def test_a_form_is_read(ledger: Ledger) -> None:
    """
    Signing in posts a form, and is answered with a cookie that the next page knows.
    """
    app = create_app(ledger)
    text = app.state.house.tokens.add("ada", role="admin", by="ann")[0]
    own = {"Sec-Fetch-Site": "same-origin"}
    with TestClient(app, base_url="http://127.0.0.1", headers=own) as browser:
        entered = browser.post("/sign-in", data={"token": text}, follow_redirects=False)

        assert entered.status_code == 303
        assert browser.get("/settings").status_code == 200
