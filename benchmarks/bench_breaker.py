"""What a circuit breaker adds to a call, beside the bare SDK call on an in-process transport."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ai_ledger import Ledger, TrackedClient
from ai_ledger.errors import CircuitOpen
from ai_ledger.policies import Breaker
from ai_ledger.records import CallRecord, new_id, utc_now
from benchmarks.bench_calls import ask, clients

TARGET = 0.01
REFUSAL_TARGET = 0.5
MANY = 1_000


class Timed(Breaker):
    """A breaker that notes how long it was busy with each call, in place."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.times: list[float] = []
        self._asked = 0.0

    def check(self, call: CallRecord, request: Mapping[str, Any] | None = None) -> None:
        started = time.perf_counter()
        super().check(call, request)
        self._asked = time.perf_counter() - started

    def settle(self, record: CallRecord) -> None:
        started = time.perf_counter()
        super().settle(record)
        self.times.append(self._asked + time.perf_counter() - started)


def _break(breaker: Breaker, provider: str) -> None:
    for _ in range(10):
        breaker.settle(
            CallRecord(id=new_id(), started_at=utc_now(), provider=provider, status="timeout")
        )


def _seconds(*functions: Callable[[], Any], rounds: int) -> list[float]:
    """The median of each of *functions*, taken in turn so that drift hits all of them."""
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 20):
        for side, function in enumerate(functions):
            started = time.perf_counter()
            function()
            if number >= 20:
                times[side].append(time.perf_counter() - started)
    return [statistics.median(each) for each in times]


def _refused(client: Any) -> None:
    try:
        ask(client)
    except CircuitOpen:
        return
    raise AssertionError("it was not refused")


def run(quick: bool) -> list[dict[str, Any]]:
    """The figures: the breaker's own time in a call that it admits, and a call that it refuses."""
    rounds = 400 if quick else 3_000
    bare, _ = clients()
    quiet, busy, crowded, broken = (
        Timed(),
        Timed(),
        Timed(per="user_id", max_keys=MANY),
        Breaker(open_s=3600),
    )
    _break(busy, "another")
    _break(broken, "openai")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")

        def tracked(breaker: Breaker) -> Any:
            return TrackedClient(bare, ledger=ledger, policies=[breaker], provider="openai")

        users = iter(range(10**9))
        well, beside, of_many, out = map(tracked, (quiet, busy, crowded, broken))
        plain, _, _, _, refusal = _seconds(
            lambda: ask(bare),
            lambda: ask(well),
            lambda: ask(beside),
            # Each call is of another user, so that a circuit is made and one is forgotten.
            lambda: ask(of_many.with_context(user_id=str(next(users)))),
            lambda: _refused(out),
            rounds=rounds,
        )
        ledger.close(30)
    rows = [
        (f"added by a breaker, {name}", statistics.median(breaker.times), TARGET)
        for name, breaker in (
            ("all are well", quiet),
            ("another provider is left alone", busy),
            ("a circuit for each of many users", crowded),
        )
    ]
    rows.append(("a call that a breaker refuses, beside one that is made", refusal, REFUSAL_TARGET))
    return [
        {
            "name": name,
            "ours": round(seconds * 1e6, 2),
            "baseline": round(plain * 1e6, 1),
            "ratio": round(seconds / plain, 4),
            "target": f"<= {target}",
            "met": seconds / plain <= target,
            "unit": "µs",
        }
        for name, seconds, target in rows
    ]


if __name__ == "__main__":
    for row in run(quick=True):
        print(row)
