"""The run of re-pricing in the database: one at a time, whoever is first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.databases import EACH, ledger_of
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.errors import EditConflict
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web.costs.run import Asked, Run
from ai_ledger.web.costs.runs import Runs
from ai_ledger.web.house import House


@pytest.fixture(params=EACH)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """That of an empty ledger."""
    with (
        ledger_of(request.param, tmp_path) as url,
        Ledger(url, journal=tmp_path / "journal") as ledger,
    ):
        house = House(ledger, clock=lambda: sample.NOW)
        yield house
        house.close()
        close_databases()


def a_run() -> Run:
    return Run(Asked(dry_run=False), "ann", sample.NOW)


def test_one_of_many_that_begin_at_once(house):
    """
    The others are refused, also beside a run that is over and is replaced.
    """
    many = 6
    together = threading.Barrier(many)

    def begins(run: Run) -> Run | None:
        together.wait(60)
        try:
            Runs(house).begin(run)
        except EditConflict:
            return None
        return run

    for _ in range(5):
        with ThreadPoolExecutor(many) as pool:
            begun = list(filter(None, pool.map(begins, [a_run() for _ in range(many)])))
        assert len(begun) == 1
        last = Runs(house).last()
        assert last is not None
        assert (last.id, last.state) == (begun[0].id, "running")
        begun[0].state = "done"
        Runs(house).end(begun[0])


def test_from_the_begin_to_the_end(house):
    """
    Progress is seen, a stop is heard, and an end is final.
    """
    runs, run = Runs(house), a_run()
    assert runs.last() is None
    runs.begin(run)

    run.checked = 7
    assert runs.go_on(run)
    told = runs.last()
    assert told is not None
    assert told.checked == 7
    runs.stop(run.id)
    assert not runs.go_on(run)
    run.state, run.ended_at = "stopped", sample.NOW
    runs.end(run)
    runs.stop(run.id)

    assert runs.last() == run.told()
    assert not runs.go_on(run)
