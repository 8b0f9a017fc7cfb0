"""What every fault test needs: a store, a program to run on it, and the account afterwards."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ai_ledger.delivery import Delivery
from ai_ledger.query import Query

PROGRAM = Path(__file__).with_name("program.py")
POSTGRES = os.environ.get("AI_LEDGER_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")


class Bench:
    """One store, one journal, and the calls that programs say have returned."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.journal = folder / "journal"
        self.acks = folder / "acks"

    def start(self, way: str, count: int = 1) -> subprocess.Popen[bytes]:
        """Run the program in a process of its own."""
        arguments = [way, self.url, str(self.journal), str(self.acks), str(count)]
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self, way: str, count: int, timeout: float = 60) -> str:
        """Run the program to its end; what it said on stderr."""
        with self.start(way, count) as process:
            _, errors = process.communicate(timeout=timeout)
        return errors.decode()

    @property
    def acknowledged(self) -> list[str]:
        """Ids of the calls that had returned; an id cut short by a kill is left out."""
        lines = self.acks.read_text().splitlines() if self.acks.exists() else []
        return [line for line in lines if len(line) == 36]

    def wait_for(self, calls: int) -> None:
        """Wait until so many calls have returned in programs that are still running."""
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < calls:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} of {calls} calls"
            time.sleep(0.02)

    @property
    def raised(self) -> list[str]:
        """What came out of the library into the program."""
        return [line for line in self.acks.read_text().splitlines() if line.startswith("raised")]

    def drain(self) -> None:
        """Be the next process: adopt what is left, and deliver it."""
        sink = program().open_sink(self.url)
        delivery = Delivery([sink], folder=self.journal)
        assert delivery.flush(60) is True
        assert delivery.close() is True

    def stored(self, *, at_rest: bool = True) -> list[tuple[str, str]]:
        """(id, status) of every call in the store, whose totals agree while nobody writes."""
        sink = program().open_sink(self.url)
        if self.url.startswith("table:"):
            import sqlite3

            db = sqlite3.connect(sink.path)
            rows = db.execute("SELECT id, status FROM calls").fetchall()
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            db.close()
            return rows
        query = Query.build(scope=None)
        rows = [(each.id, each.status) for batch in sink.scan(query) for each in batch]
        if at_rest:
            assert sum(group.totals.calls for group in sink.aggregate(query)) == len(rows)
        if hasattr(sink, "close"):
            sink.close()
        return rows

    def account(self) -> dict[str, int]:
        """What the figures are about, once all programs have ended."""
        self.drain()
        rows = self.stored()
        finished = {id for id, status in rows if status == "success"}
        acknowledged = self.acknowledged
        assert acknowledged
        return {
            "lost": len(set(acknowledged) - finished),
            "doubled": len(rows) - len({id for id, _ in rows}),
            "raised": len(self.raised),
            "left in the journal": len(list(self.journal.glob("*.segment"))),
        }

    def settled_account(self, calls: int) -> dict[str, int]:
        """The account once a child that nobody waits for has made so many calls and is gone."""
        self.wait_for(calls)
        deadline = time.monotonic() + 30
        while (account := self.account()) != NOTHING_LOST and time.monotonic() < deadline:
            time.sleep(0.1)
        return account


NOTHING_LOST = {"lost": 0, "doubled": 0, "raised": 0, "left in the journal": 0}


def program() -> Any:
    """The program as a module."""
    if "faults_program" not in sys.modules:
        spec = importlib.util.spec_from_file_location("faults_program", PROGRAM)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["faults_program"] = module
        spec.loader.exec_module(module)
    return sys.modules["faults_program"]


@pytest.fixture
def nothing_lost() -> dict[str, int]:
    """The account of a store that has everything once."""
    return NOTHING_LOST


@pytest.fixture
def open_bench(tmp_path: Path, postgres_url: Callable[[], str]) -> Callable[[str], Bench]:
    """A bench on a kind of store: table, sqlite, jsonl, postgresql."""

    def open_bench(store: str) -> Bench:
        urls = {
            "table": lambda: f"table:{tmp_path}/table.db",
            "sqlite": lambda: f"sqlite:///{tmp_path}/ledger.db",
            "jsonl": lambda: f"jsonl:///{tmp_path}/usage",
            "postgresql": postgres_url,
        }
        return Bench(urls[store](), tmp_path)

    return open_bench


@pytest.fixture
def postgres_url() -> Iterator[Callable[[], str]]:
    """A database of one's own on the server, made when asked for and dropped afterwards."""
    made: list[str] = []

    def make() -> str:
        from ai_ledger.database.upgrade import upgrade

        name = f"faults_{uuid.uuid4().hex[:12]}"
        _on_server(f"CREATE DATABASE {name}")
        made.append(name)
        url = POSTGRES.rpartition("/")[0] + f"/{name}"
        upgrade(url)
        return url

    yield make
    for name in made:
        _on_server(f"DROP DATABASE {name} WITH (FORCE)")


def _on_server(statement: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=30)
    except psycopg.OperationalError as error:
        if os.environ.get("AI_LEDGER_TEST_POSTGRES"):
            raise
        pytest.skip(f"no PostgreSQL server: {error}")
    with connection:
        connection.execute(statement)
