"""Kills at random moments, with a living neighbour on the same journal."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("store", "rounds"),
    [
        pytest.param("table", 12),
        pytest.param("jsonl", 6),
        pytest.param("sqlite", 3),
        pytest.param("table", 200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param("sqlite", 200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param("jsonl", 200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(
            "postgresql",
            200,
            marks=[pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.postgres],
        ),
    ],
)
def test_kill_loop(open_bench: Any, nothing_lost: dict[str, int], store: str, rounds: int) -> None:
    """
    Lost 0 of all acknowledged, doubled 0, and the store is intact.
    """
    bench = open_bench(store)
    chance = random.Random(rounds)
    neighbour = bench.start("run_until_stopped")
    try:
        bench.wait_for(1)
        for _ in range(rounds):
            victim = bench.start("run_until_stopped")
            # At any moment, that of its start included.
            time.sleep(chance.uniform(0.15, 0.5))
            victim.send_signal(signal.SIGKILL)
            victim.communicate(timeout=60)
        assert neighbour.poll() is None
    finally:
        neighbour.kill()
        neighbour.communicate(timeout=60)

    assert bench.account() == nothing_lost


def test_a_call_cut_off_is_unfinished(open_bench: Any) -> None:
    """
    A process that is killed in mid-call leaves an unfinished record in place of nothing.
    """
    bench = open_bench("sqlite")
    bench.run("cut_off", 5)
    bench.drain()

    assert sorted(status for _, status in bench.stored()) == ["success"] * 5 + ["unfinished"]


@pytest.mark.parametrize("processes", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_on_one_file(
    open_bench: Any, nothing_lost: dict[str, int], processes: int
) -> None:
    """
    Several processes on one SQLite file: lost 0, and a reader meets no error meanwhile.
    """
    bench = open_bench("sqlite")
    writers = [bench.start("end_by_return", 500) for _ in range(processes)]
    try:
        while any(writer.poll() is None for writer in writers):
            bench.stored(at_rest=False)
            time.sleep(0.05)
    finally:
        for writer in writers:
            writer.communicate(timeout=60)

    assert bench.account() == nothing_lost
    assert len(bench.stored()) == 500 * processes
