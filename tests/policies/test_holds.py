"""What a process has leased of a budget, call by call."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest

from ai_ledger import Budget, Ledger
from ai_ledger.errors import (
    BudgetExceeded,
    BudgetUnavailable,
    ConfigurationError,
    SinkUnavailable,
)
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.budgets.holds import Holds
from ai_ledger.policies.budgets.workers import Workers
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks.sql import shared


def call(**fields: Any) -> CallRecord:
    return CallRecord(**{"id": new_id(), "started_at": utc_now(), "request_model": "m", **fields})


@pytest.fixture
def budget(tmp_path: Any) -> Any:
    budget = Budget(tokens=1_000, max_output_tokens=100, unseen_input_tokens=0, warn_at=())
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]):
        yield budget


def holds_of(budget: Budget) -> Holds:
    assert budget.panel is not None
    return budget.panel.holds


def test_the_writer_hears_the_same_until_it_has_stored_the_row(budget: Budget) -> None:
    """
    A transaction that is done over takes the same off the lease, and then it is forgotten.
    """
    begun = call()
    budget.check(begun, None)
    budget.review(begun.replace(status="success", input_tokens=0, output_tokens=30), None)
    holds = holds_of(budget)
    first = holds.consumed([begun.id, "unknown"])
    assert [each.amount for each in first] == [30]
    budget.settle(begun.replace(status="success", input_tokens=0, output_tokens=90))
    assert holds.consumed([begun.id]) == first
    holds.charged([begun.id, "unknown"])
    assert holds.consumed([begun.id]) == []


def test_a_busy_file_is_asked_again(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A lock that others hold for long is no reason to refuse.
    """
    reserve, asked = Accounts.reserve, []

    def busy(self: Accounts, *args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        if len(asked) < 3:
            raise SinkUnavailable("OperationalError: database is locked")
        return reserve(self, *args, **kwargs)

    monkeypatch.setattr(Accounts, "reserve", busy)
    budget.check(call(), None)
    assert len(asked) == 3


def test_what_was_leased_is_no_longer_used_when_the_lease_is_over(budget: Budget) -> None:
    """
    Others may have it by then, so the store is asked.
    """
    holds = holds_of(budget)
    first = call()
    budget.check(first, None)
    budget.settle(first.replace(status="failed"))
    (slab,) = holds.slabs.values()
    assert slab.free >= 100
    slab.valid_until = 0.001
    second = call()
    key = budget.member.key(second)
    assert key is not None
    assert not holds.take(second.id, [(budget.member, key, 100)], None)
    budget.check(second, None)
    assert second.id in holds.held


def test_never_more_than_the_limit_is_held(budget: Budget) -> None:
    """
    Ten calls of a hundred each fit, and one that ends makes room for the next.
    """
    held = [call() for _ in range(10)]
    for each in held:
        budget.check(each, None)
    with pytest.raises(BudgetExceeded):
        budget.check(call(), None)
    budget.settle(held[0].replace(status="failed"))
    budget.check(call(), None)
    with pytest.raises(BudgetExceeded):
        budget.check(call(), None)


def test_a_limit_that_was_lowered_holds_at_once(tmp_path: Any) -> None:
    """
    What was leased while the limit was higher is not used by a budget with another one.
    """
    options: Any = {"name": "b", "max_output_tokens": 100, "unseen_input_tokens": 0, "warn_at": ()}
    high, low = Budget(tokens=100_000, **options), Budget(tokens=99, **options)
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        high.bind(ledger)
        high.check(call(), None)
        assert [slab.free for slab in holds_of(high).slabs.values()] == [900]
        with pytest.raises(ConfigurationError, match="several budgets in one store"):
            low.bind(ledger)
        holds_of(high)._bound.clear()  # as if the ledger that had it were gone
        low.bind(ledger)

        with pytest.raises(BudgetExceeded) as refused:
            low.check(call(), None)

        assert (refused.value.reserved, refused.value.limit) == (100, 99)


def test_the_end_of_a_call_that_was_never_checked(budget: Budget) -> None:
    """
    A call that another policy refused first, or of another process, gives nothing back.
    """
    budget.check(call(), None)
    holds = holds_of(budget)
    free = [slab.free for slab in holds.slabs.values()]
    stranger = call(status="success", input_tokens=5, output_tokens=5)

    budget.settle(stranger)
    assert budget.review(stranger, None) is None
    holds.charged([stranger.id])

    assert [slab.free for slab in holds.slabs.values()] == free
    assert len(holds.held) == 1


def test_a_clock_that_is_off_is_told(budget: Budget) -> None:
    """
    A call that says it started days ago is not admitted, and the refusal says why.
    """
    with pytest.raises(BudgetUnavailable, match="the clock of this machine is off"):
        budget.check(call(started_at=utc_now() - timedelta(days=70)), None)

    assert holds_of(budget).held == {}
    budget.check(call(), None)


def test_the_keeper_opens_nothing_behind_who_closes(budget: Budget) -> None:
    """
    When the databases were closed, its next round leaves the store alone.
    """
    budget.check(call(), None)
    holds = holds_of(budget)
    holds.abandon(next(iter(holds.held)))
    before = shared.shared_database(holds.url)
    holds.away = "the store was away"

    shared.close_databases()
    with holds.slow:
        holds.keeper.tick()

    assert shared._databases == {}
    assert [pool.checkedin() for pool in pools_of(before)] == [0, 0]
    budget.check(call(), None)
    assert list(shared._databases) == [holds.url]
    assert [pool.checkedin() for pool in pools_of(before)] == [0, 0]


def pools_of(database: Any) -> list[Any]:
    return [database.reader.pool, database.writer.pool]


def test_what_the_first_call_needs_is_imported_meanwhile(tmp_path: Any) -> None:
    """
    Opening a ledger with a budget imports in the background and connects to nothing.
    """
    program = f"""
import sys, time
from ai_ledger import Budget, Ledger
ledger = Ledger("sqlite:///{tmp_path}/ledger.db", policies=[Budget(tokens=1)], journal=False)
end = time.monotonic() + 60
while "ai_ledger.policies.budgets.accounts" not in sys.modules and time.monotonic() < end:
    time.sleep(0.01)
from ai_ledger.loading import loading
with loading:
    print("ai_ledger.policies.budgets.accounts" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert not (tmp_path / "ledger.db").exists()


def test_who_waits_in_line_hears_the_same_refusal(
    budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The store is asked once for all calls that waited meanwhile; who comes later asks anew.
    """
    reserve, asked = Accounts.reserve, list[Any]()

    def noted(self: Accounts, *args: Any, **kwargs: Any) -> Any:
        if args[0][0].needed:  # and not the keeper, who leases more in time
            asked.append(args)
        return reserve(self, *args, **kwargs)

    for _ in range(10):
        budget.check(call(), None)
    monkeypatch.setattr(Accounts, "reserve", noted)
    holds = holds_of(budget)
    line = [threading.Thread(target=refused, args=(budget,)) for _ in range(8)]
    waiting = threading.Semaphore(0)
    run = Workers.run

    def noted_run(self: Workers, *args: Any) -> Any:
        waiting.release()
        return run(self, *args)

    monkeypatch.setattr(Workers, "run", noted_run)
    with holds.slow:
        for thread in line:
            thread.start()
        for _ in line:
            assert waiting.acquire(timeout=60)
    for thread in line:
        thread.join(60)
    assert len(asked) == 1

    refused(budget)
    assert len(asked) == 2


def refused(budget: Budget) -> None:
    with pytest.raises(BudgetExceeded):
        budget.check(call(), None)
