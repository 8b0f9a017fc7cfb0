"""A handler of a signal raises at any moment of a call: nothing stays locked, or held, for ever."""

from __future__ import annotations

import _thread
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interrupting import SIGNAL, moments_of, with_signal_at

from ai_ledger import Budget, Ledger
from ai_ledger.database.turns import Turns
from ai_ledger.interruptions import acquire
from ai_ledger.policies.budgets.holds import Holds
from ai_ledger.policies.budgets.panel import Panel
from ai_ledger.policies.budgets.workers import Workers
from ai_ledger.records import CallRecord, new_id, utc_now


class TimeLimit(Exception):
    """As a worker raises it in a task that takes too long."""


def handler(*_: object) -> None:
    raise TimeLimit


# Of finalizers that a signal has come into.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    before = signal.signal(SIGNAL, handler)
    yield
    signal.signal(SIGNAL, before)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def in_thread(step: Callable[[], object]) -> None:
    """Do *step* where no signal comes; it has to end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            step()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert failures == []


def test_a_lock_is_known_to_be_taken() -> None:
    """
    Whoever is interrupted while it waits for a lock either has it and knows, or has it not.
    """
    lock, got = threading.Lock(), list[bool]()
    lock.acquire()
    main = threading.get_ident()

    def give() -> None:
        wait_for(lambda: sys._current_frames()[main].f_code is acquire.__code__)
        _thread.interrupt_main(SIGNAL)  # which does not wake it
        lock.release()

    giver = threading.Thread(target=give)
    giver.start()
    with pytest.raises(TimeLimit):
        acquire(lock, 60, got)
    giver.join()
    assert lock.locked() is (True in got)


def test_turns_end(tmp_path: Path) -> None:
    """
    Whoever is interrupted on its way into SQLite or out of it is out, and others may write.
    """
    turns, path = Turns(), tmp_path / "ledger.db"

    def write() -> None:
        with turns.inside(path, writes=True, timeout_s=5):
            pass

    for moment in range(moments_of(write)):
        with_signal_at(moment, write, TimeLimit)
        in_thread(write)
        assert turns._inside == {}


def test_turns_do_not_keep_the_lock_of_all(tmp_path: Path) -> None:
    """
    Who waits for another thread to note that it is out is interrupted as soon as it need not.
    """
    turns, path = Turns(), tmp_path / "ledger.db"
    main, taken = threading.get_ident(), threading.Event()

    def stands_still() -> bool:
        before = sys._current_frames()[main]
        where = before.f_code, before.f_lasti
        time.sleep(0.02)
        now = sys._current_frames()[main]
        return taken.is_set() and where == (now.f_code, now.f_lasti)

    def hold() -> None:
        with turns._lock:
            taken.set()
            wait_for(stands_still)
            _thread.interrupt_main(SIGNAL)

    def write() -> None:
        with turns.inside(path, writes=True, timeout_s=5):
            pass

    holder = threading.Thread(target=hold)
    holder.start()
    with pytest.raises(TimeLimit):
        taken.wait(60)
        write()
    holder.join()
    in_thread(write)
    assert turns._inside == {}


def hard_budget() -> Budget:
    return Budget(
        tokens=10**9, name="hard", each="user_id", max_output_tokens=10, unseen_input_tokens=10
    )


def panel_of(budget: Budget) -> Panel:
    assert budget.panel is not None
    return budget.panel


def call(user: str) -> CallRecord:
    return CallRecord(id=new_id(), started_at=utc_now(), request_model="m", user_id=user)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_first", [True, False], ids=["no thread yet", "threads that rest"])
def test_calls_that_ask_the_store(tmp_path: Path, is_first: bool) -> None:
    """
    Interrupted at whichever moment, the next call is asked and answered, and all that the
    interrupted one holds comes back.
    """
    budget, users = hard_budget(), itertools.count()
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]) as ledger:
        with ledger.call("m", user_id="first"):
            pass
        holds = panel_of(budget).holds

        def ask() -> None:
            budget.check(call(f"u{next(users)}"), None)

        if is_first:
            holds._pool = None
        count = moments_of(ask)
        assert count > 20
        for moment in range(count):
            if is_first:
                holds._pool = None
            with_signal_at(moment, ask, TimeLimit)
            in_thread(ask)
            wait_for(lambda: not holds.slow.locked())

        def is_whole() -> bool:
            with holds.lock:
                held = [part for each in holds.held.values() for part in each.parts]
                return sum(slab.calls for slab in holds.slabs.values()) == len(held)

        wait_for(is_whole)


def test_what_is_free_here_is_held_or_left(tmp_path: Path) -> None:
    """
    Interrupted at whichever moment, what a call has taken of a lease is what it holds.
    """
    budget = hard_budget()
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]) as ledger:
        with ledger.call("m", user_id="u"):
            pass
        assert ledger.flush(60)
        holds = panel_of(budget).holds
        holds.keeper.tick = lambda: None  # type: ignore[method-assign]

        def ask() -> None:
            budget.check(call("u"), None)

        def whole() -> int:
            (slab,) = holds.slabs.values()
            parts = [part for hold in holds.held.values() for part in hold.parts]
            assert slab.calls == len(parts)
            return slab.free + sum(part.amount for part in parts)

        with holds.slow:
            before = whole()
            for moment in range(moments_of(ask)):
                with_signal_at(moment, ask, TimeLimit)
                assert whole() == before
                for call_id in list(holds.held):
                    holds.abandon(call_id)
            assert whole() == before
        del holds.keeper.tick


def test_a_call_that_is_given_up_while_the_store_is_asked(tmp_path: Path) -> None:
    """
    What the store grants afterwards comes back, and nobody has to wait for it.
    """
    budget = hard_budget()
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]) as ledger:
        with ledger.call("m", user_id="first"):
            pass
        assert ledger.flush(60)
        holds = panel_of(budget).holds
        entered = threading.Event()
        enter = holds.enter

        def noted() -> str | None:
            entered.set()
            return enter()

        def interrupt() -> None:
            assert entered.wait(60)
            os.kill(os.getpid(), SIGNAL)

        holds.enter = noted  # type: ignore[method-assign]
        with holds.slow:  # as if somebody else were asking
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(TimeLimit):
                ledger.call("m", user_id="second")
            thread.join()
        del holds.enter
        wait_for(lambda: not holds.slow.locked())
        in_thread(lambda: ledger.call("m", user_id="third").__exit__(None, None, None))
        assert ledger.flush(60)
        wait_for(lambda: not holds.held)
        assert sum(slab.calls for slab in holds.slabs.values()) == 0


@pytest.mark.parametrize("close", [Holds.closed, lambda holds: let_go(holds)])
def test_closing(tmp_path: Path, close: Callable[[Holds], object]) -> None:
    """
    Interrupted at whichever moment, nothing stays locked.
    """
    budget, users = hard_budget(), itertools.count()
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]) as ledger:
        with ledger.call("m", user_id="first"):
            pass
        holds = panel_of(budget).holds

        def ask() -> None:
            asked = call(f"u{next(users)}")
            budget.check(asked, None)
            holds.abandon(asked.id)

        ask()
        for moment in range(moments_of(lambda: close(holds))):
            ask()
            with_signal_at(moment, lambda: close(holds), TimeLimit)
            wait_for(lambda: not (holds.slow.locked() or holds.probing.locked()))
        in_thread(ask)


def let_go(holds: Holds) -> None:
    with holds.let_go():
        pass


def test_workers_end_with_who_has_them() -> None:
    """
    Their threads are as many as were needed, at the most that many, and end when nobody is left.
    """
    workers, gate = Workers(2), threading.Event()
    own = workers._own
    others = [threading.Thread(target=workers.run, args=(lambda: gate.wait(60),)) for _ in range(5)]
    for each in others:
        each.start()
    wait_for(lambda: len(own) == 2)
    gate.set()
    for each in others:
        each.join(60)
    assert workers.run(lambda: 1) == 1
    assert len(own) == 2
    others.clear()
    del workers, each
    wait_for(lambda: not own)


def test_who_works_does_not_wait_for_a_worker() -> None:
    """
    A call that is made by a warning of a budget has its answer, and errors are raised.
    """
    workers = Workers(1)
    assert workers.run(lambda: workers.run(lambda: 1)) == 1

    def fail() -> None:
        raise TimeLimit

    with pytest.raises(TimeLimit):
        workers.run(fail)
    with pytest.raises(TimeLimit):
        workers.submit(fail).result(60)
