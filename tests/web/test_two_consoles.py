"""Consoles are processes like others: two agree, and one that is killed loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.browser.console import Console
from tests.databases import fresh_database
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.database.upgrade import upgrade
from ai_ledger.sinks.sql.shared import close_databases

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.timeout(300)

CALLS = 60


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A ledger with calls, in a file and on a server."""
    if request.param == "sqlite":
        fill(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    with fresh_database("postgresql") as server:
        upgrade(server)
        fill(server, tmp_path)
        yield server
        close_databases()


def fill(url: str, folder: Path) -> None:
    with Ledger(url, journal=folder / "journal") as ledger:
        ledger.store.write(sample.calls(CALLS))


@pytest.fixture
def consoles(url: str) -> Iterator[list[Console]]:
    """Two consoles over one ledger, each a process of its own."""
    both = [Console(url).start(), Console(url).start()]
    yield both
    for console in both:
        console.stop()


def seen(console: Console) -> dict[str, Any]:
    """What a console answers to those who ask for calls, sums, budgets and alerts."""
    with httpx.Client(base_url=f"{console.base}/api/v1", timeout=60) as client:
        answers = {
            path: client.get(path, params=parameters)
            for path, parameters in {
                "/calls": {"limit": 100, "first": "2026-05-01"},
                "/stats/summary": {
                    "since": "2026-05-01T00:00:00Z",
                    "until": "2026-06-01T00:00:00Z",
                },
                "/budgets": {},
                "/quotas": {},
                "/alert-rules": {},
                "/words": {},
            }.items()
        }
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(
        answers, 200
    )
    return {path: answer.json() for path, answer in answers.items()}


def change(console: Console) -> None:
    """Delete some calls, and make a quota, a rule and a word."""
    with httpx.Client(base_url=f"{console.base}/api/v1", timeout=60) as client:
        for answer in (
            client.post("/calls/delete", json={"ids": [f"call-{n:05}" for n in range(7)]}),
            client.put(
                "/quota",
                params={"org_id": "acme", "model": "qwen-plus"},
                json={"tokens": 1_000_000},
            ),
            client.post("/alert-rules", json={"name": "no price", "kind": "unpriced"}),
            client.post("/words", json={"word": "falcon", "action": "block"}),
        ):
            assert answer.status_code < 300, answer.text


def test_two_consoles_agree(consoles: list[Console]) -> None:
    """
    What one has changed the other shows, at once and in the same words.
    """
    one, other = consoles
    before = seen(one)
    assert before == seen(other)

    change(one)

    after = seen(one)
    assert after == seen(other)
    assert all(after[path] != before[path] for path in after if path != "/budgets")


def test_a_killed_console_has_lost_nothing(consoles: list[Console]) -> None:
    """
    What was answered with success is there after ``kill -9`` and a new start.
    """
    one, other = consoles
    change(one)
    after = seen(one)

    one.kill()

    assert seen(other) == after
    one.start()
    assert seen(one) == after


def test_a_call_recorded_in_a_console_that_is_killed_is_kept(
    consoles: list[Console], url: str, tmp_path: Path
) -> None:
    """
    A program that records goes on while consoles end, and what it recorded is shown by the next.
    """
    one, _ = consoles
    with Ledger(url, journal=tmp_path / "journal") as ledger:
        call = ledger.record("qwen-plus", input_tokens=5, output_tokens=1, user_id="late")
        one.kill()
        ledger.flush(30)
    one.start()

    with httpx.Client(base_url=f"{one.base}/api/v1", timeout=60) as client:
        found = client.get(f"/calls/{call.id}")

    assert (found.status_code, found.json()["call"]["user_id"]) == (200, "late")
