"""However a process ends, and whatever it forks, the calls that had returned are stored once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

ENDINGS = (
    "by_return",
    "by_exception",
    "by_sys_exit",
    "by_os_exit",
    "by_exec",
    "by_abort",
    "by_segfault",
    "by_kill",
    "by_sigterm",
    "by_sigterm_handled",
    "by_sigint",
    "by_sighup",
    "by_late_atexit",
    "with_a_daemon_thread",
    "with_a_thread_pool",
    "with_a_process_pool",
    "by_cancelling_asyncio",
)
FORKS = (
    "and_return",
    "and_os_exit",
    "and_kill",
    "and_die_first",
    "by_multiprocessing",
    "by_spawn",
    "by_pool",
    "while_busy",
    "before_serving",
    "to_daemonise",
)
EXIT_SECONDS = 3.0
# What the start of Python and its imports take where the cores are busy, and
# still less than the time for which a sink hangs here.
START_SECONDS = 20.0
STORES = ("sqlite", "jsonl", pytest.param("postgresql", marks=pytest.mark.postgres))


@pytest.mark.parametrize("way", ENDINGS)
def test_ending(open_bench: Any, nothing_lost: dict[str, int], way: str) -> None:
    """
    Lost 0, doubled 0, raised 0, and no exit slower than its deadline.
    """
    bench = open_bench("table")
    started = time.monotonic()
    errors = bench.run(f"end_{way}", 100)

    assert time.monotonic() - started < EXIT_SECONDS + START_SECONDS
    assert bench.account() == nothing_lost, errors
    assert "ai_ledger" not in errors


@pytest.mark.parametrize("way", FORKS)
def test_fork(open_bench: Any, nothing_lost: dict[str, int], way: str) -> None:
    """
    Lost 0, doubled 0, hung 0.
    """
    bench = open_bench("table")
    errors = bench.run(f"fork_{way}", 100)
    account = bench.settled_account(200) if way == "and_die_first" else bench.account()

    assert account == nothing_lost, errors
    assert "ai_ledger" not in errors


@pytest.mark.parametrize(
    ("way", "seconds"),
    [
        pytest.param("end_by_return", 0, id="gone"),
        pytest.param("end_by_exception", 60, id="hanging"),
        pytest.param("fork_by_multiprocessing", 60, id="hanging for children too"),
    ],
)
def test_ending_without_the_sink(
    open_bench: Any, nothing_lost: dict[str, int], way: str, seconds: int
) -> None:
    """
    The exit keeps its deadline, says in one line what is left, and the next process delivers it.
    """
    bench = open_bench("table")
    store, bench.url = bench.url, f"away:{seconds}"
    started = time.monotonic()
    errors = bench.run(way, 10)
    processes = 2 if way == "fork_by_multiprocessing" else 1

    assert time.monotonic() - started < processes * (EXIT_SECONDS + START_SECONDS)
    lines = [line for line in errors.splitlines() if line.startswith("ai-ledger:")]
    assert len(lines) == (3 if way == "fork_by_multiprocessing" else 1)
    assert lines[-1].endswith(f"calls not delivered, kept in {bench.journal} and sent next time")
    bench.url = store
    assert bench.account() == nothing_lost


@pytest.mark.parametrize(
    "way",
    [
        "end_by_return",
        "end_by_exception",
        "end_by_sigterm_handled",
        "end_with_a_thread_pool",
        "fork_and_return",
        "fork_by_multiprocessing",
        "fork_by_spawn",
    ],
)
def test_ending_without_a_journal(open_bench: Any, tmp_path: Path, way: str) -> None:
    """
    A ledger in memory delivers everything when a process ends in an orderly way.
    """
    bench = open_bench("table")
    bench.url = f"screen:{tmp_path}/screen"
    errors = bench.run(way, 100)

    seen = (tmp_path / "screen").read_text().split()
    assert sorted(seen) == sorted(bench.acknowledged), errors


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("way", ["end_by_return", "end_by_kill", "fork_by_multiprocessing"])
def test_stores(open_bench: Any, nothing_lost: dict[str, int], store: str, way: str) -> None:
    """
    The same on the stores that people use.
    """
    bench = open_bench(store)
    errors = bench.run(way, 100)

    assert bench.account() == nothing_lost, errors


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "way", [*(f"end_{way}" for way in ENDINGS), *(f"fork_{way}" for way in FORKS)]
)
def test_everywhere(open_bench: Any, nothing_lost: dict[str, int], store: str, way: str) -> None:
    """
    Every way on every store, 2,000 records each.
    """
    bench = open_bench(store)
    errors = bench.run(way, 2_000, timeout=200)
    account = bench.settled_account(4_000) if way == "fork_and_die_first" else bench.account()

    assert account == nothing_lost, errors
