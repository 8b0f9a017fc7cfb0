"""What budgets add to a tracked call that needs no round trip, beside the bare SDK call."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai_ledger import Budget, Ledger
from ai_ledger.policies.budgets.panel import Panel
from ai_ledger.records import CallRecord, new_id, utc_now
from benchmarks.bench_calls import _MESSAGES, ask, clients

TARGET = 0.01


def _median(step: Callable[[], Any], rounds: int) -> float:
    """Of the processor's time, since a wait for others says nothing of the step."""
    for _ in range(20):
        step()
    times: list[float] = []
    for _ in range(rounds):
        started = time.thread_time()
        step()
        times.append(time.thread_time() - started)
    return statistics.median(times)


def _asked(ledger: Ledger) -> Callable[[], None]:
    """All that the budgets of *ledger* do in the caller's thread for one call."""
    request = {"model": "qwen-plus", "messages": _MESSAGES}
    begun = CallRecord(id=new_id(), started_at=utc_now(), request_model="qwen-plus", user_id="u-42")
    ended = begun.replace(status="success", input_tokens=120, output_tokens=48)
    policies = [policy for policy in ledger.policies if isinstance(policy, Budget)]
    panel = policies[0].panel
    assert isinstance(panel, Panel)

    def step() -> None:
        for policy in policies:
            policy.check(begun, request)
        for policy in policies:
            policy.review(ended, None)
        for policy in policies:
            policy.settle(ended)
        panel.holds.charged((begun.id,))

    return step


def run(quick: bool) -> list[dict[str, Any]]:
    """The figures: what one budget and three add, as a share of the bare call."""
    rounds = 500 if quick else 5_000
    bare, _ = clients()
    plain = _median(lambda: ask(bare), rounds)
    rows: list[dict[str, Any]] = []
    for name, budgets in (
        ("one budget", [Budget("1000000 CNY")]),
        (
            "three budgets",
            [
                Budget("1000000 CNY", per="day"),
                Budget(tokens=10**12),
                Budget("1000000 CNY", each="user_id"),
            ],
        ),
    ):
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}", policies=budgets)
            ours = _median(_asked(ledger), rounds)
            ledger.close(30)
        rows.append(
            {
                "name": f"added per call by {name}",
                "ours": round(ours * 1e6, 2),
                "baseline": round(plain * 1e6, 1),
                "ratio": round(ours / plain, 4),
                "target": f"<= {TARGET}",
                "met": ours / plain <= TARGET,
                "unit": "µs",
            }
        )
    return rows


if __name__ == "__main__":
    for row in run(quick=True):
        print(row)
