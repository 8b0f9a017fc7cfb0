"""What a slow, absent or locked sink costs the caller: nothing, measured at the 99th percentile."""

from __future__ import annotations

import gc
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ai_ledger import CallRecord, Ledger, Sink, SinkUnavailable, TrackedClient
from benchmarks.bench_calls import ask, clients

TARGET = 0.05


class _Quiet:
    """A durable sink that takes everything at once."""

    name = "quiet"

    def write(self, records: Sequence[CallRecord]) -> None:
        return


class _Slow:
    name = "slow"

    def write(self, records: Sequence[CallRecord]) -> None:
        time.sleep(1.0)


class _Down:
    name = "down"

    def write(self, records: Sequence[CallRecord]) -> None:
        raise SinkUnavailable("connection refused")


def _p99_pairs(cases: dict[str, Callable[[], Any]], calls: int, rounds: int) -> dict[str, float]:
    """The median over *rounds* of each case's p99, in seconds; the cases take turns."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            times: list[float] = []
            gc.collect()
            gc.disable()
            for _ in range(calls):
                started = time.perf_counter()
                call()
                times.append(time.perf_counter() - started)
            gc.enable()
            found[name].append(statistics.quantiles(times, n=100)[98])
    return {name: statistics.median(values) for name, values in found.items()}


def run(quick: bool) -> list[dict[str, Any]]:
    """The caller's p99 with each kind of trouble, as a ratio to the quiet case."""
    calls, rounds = (300, 5) if quick else (1_000, 15)
    bare, _ = clients()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        locked = sqlite3.connect(folder / "locked.db", isolation_level=None)
        Ledger(f"sqlite:///{folder / 'locked.db'}", journal=folder / "first").close(10)
        ledgers: dict[str, Ledger] = {}

        def ledger(case: str, sink: Sink | str) -> Callable[[], Any]:
            options: dict[str, Any] = {"journal": folder / case, "exit_timeout": 0.1}
            if isinstance(sink, str):
                ledgers[case] = Ledger(sink, **options)
            else:
                ledgers[case] = Ledger(sinks=[sink], **options)
            client = TrackedClient(bare, ledger=ledgers[case])
            return lambda: ask(client)

        cases = {
            "quiet": ledger("quiet", _Quiet()),
            "a sink that sleeps 1 s a batch": ledger("slow", _Slow()),
            "a sink that is down": ledger("down", _Down()),
            "a PostgreSQL that refuses": ledger(
                "refused", "postgresql://nobody@127.0.0.1:1/nothing"
            ),
            "a locked SQLite file": ledger("locked", f"sqlite:///{folder / 'locked.db'}"),
        }
        for call in cases.values():
            for _ in range(50):
                call()
        time.sleep(2)  # until everything is imported
        locked.execute("BEGIN IMMEDIATE")
        figures = _p99_pairs(cases, calls, rounds)
        locked.execute("ROLLBACK")
        locked.close()
        for each in ledgers.values():
            each.close(0.1)
    quiet = figures.pop("quiet")
    return [
        {
            "name": f"caller's p99, {name}",
            "ours": round(seconds * 1e6, 1),
            "baseline": round(quiet * 1e6, 1),
            "ratio": round(seconds / quiet, 3),
            "target": f"<= {1 + TARGET}",
            "met": seconds / quiet <= 1 + TARGET,
            "unit": "µs",
        }
        for name, seconds in figures.items()
    ]


if __name__ == "__main__":
    for row in run(quick=True):
        print(row)
