"""What is refreshed behind the callers' backs: who waits, and which reading holds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from ai_ledger.forks import Living
from ai_ledger.refreshed import Refreshed
from ai_ledger.testing.clock import FakeClock

REFRESH_S, MAX_AGE_S, RETRY_S = 10.0, 30.0, 20.0


class Source:
    """What is read: a number that others raise. A reading of it can be held, or fail."""

    def __init__(self) -> None:
        self.value = 0
        self.befores: list[int | None] = []
        """What each reading was told that was read before."""
        self.threads: list[str] = []
        self.trouble: Exception | None = None
        self.failures: list[Exception] = []
        """Of readings in the background."""
        self.clock = FakeClock()
        self._held: list[tuple[threading.Event, threading.Event]] = []

    def hold(self) -> tuple[threading.Event, threading.Event]:
        """The next reading sets the first event when it has read, and ends with the second."""
        held = threading.Event(), threading.Event()
        self._held.append(held)
        return held

    def read(self, before: int | None) -> int:
        self.befores.append(before)
        self.threads.append(threading.current_thread().name)
        value, trouble = self.value, self.trouble
        if self._held:
            has_read, may_end = self._held.pop(0)
            has_read.set()
            assert may_end.wait(60)
        if trouble is not None:
            raise trouble
        return value

    def refreshed(self, **options: Any) -> Refreshed[int]:
        return Refreshed(
            self.read,
            self.failures.append,
            name="behind",
            clock=self.clock.monotonic,
            **{"refresh_s": REFRESH_S, "max_age_s": MAX_AGE_S, "retry_s": RETRY_S, **options},
        )


@pytest.fixture
def source() -> Source:
    return Source()


def settled(refreshed: Refreshed[int]) -> int | None:
    """What is read when the reading in the background is over."""
    reading = refreshed.soon()
    assert reading is None or reading.wait(60)
    return refreshed.last


# Who reads


def test_one_reading_for_many_uses(source: Source) -> None:
    """
    While it is young, what was read is there, and nobody reads.
    """
    refreshed = source.refreshed()
    assert (refreshed.last, refreshed.current()) == (None, None)
    assert refreshed.catch_up() is None
    source.value = 1
    source.clock.advance(REFRESH_S - 0.1)

    assert [refreshed.current() for _ in range(50)] == [0] * 50
    assert refreshed.soon() is None
    assert refreshed.catch_up() is None
    assert source.threads == [threading.current_thread().name]


def test_read_again_behind_the_backs(source: Source) -> None:
    """
    When it is due, one thread reads in the background, and the others go on with what they have.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    has_read, may_end = source.hold()
    source.value = 1
    source.clock.advance(REFRESH_S)

    assert [refreshed.current() for _ in range(50)] == [0] * 50
    assert has_read.wait(60)
    source.clock.advance(REFRESH_S)
    assert [refreshed.current() for _ in range(50)] == [0] * 50
    reading = refreshed.soon()
    assert reading is not None
    may_end.set()
    assert reading.wait(60)
    assert refreshed.last == 1
    assert source.threads == [threading.current_thread().name, "behind"]


def test_it_is_as_old_as_the_beginning_of_its_reading(source: Source) -> None:
    """
    What changed while it was read may be missing in it.
    """
    refreshed = source.refreshed(refresh_s=MAX_AGE_S)
    has_read, may_end = source.hold()
    reading = refreshed.soon()
    assert reading is not None
    assert reading.began_at == source.clock.monotonic()
    assert has_read.wait(60)
    source.clock.advance(MAX_AGE_S - 0.1)
    may_end.set()
    assert reading.wait(60)
    assert refreshed.current() == 0
    source.clock.advance(0.1)

    assert refreshed.current() is None
    assert refreshed.last == 0


def test_what_is_too_old_does_not_hold(source: Source) -> None:
    """
    Nor is it read in the background then, since whoever needs it says how it is to be read.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.clock.advance(MAX_AGE_S)
    source.value = 1

    assert refreshed.current() is None
    assert len(source.threads) == 1
    assert refreshed.catch_up() is None
    assert refreshed.current() == 1


def test_without_a_greatest_age(source: Source) -> None:
    """
    What was read holds until there is an edit, however long nobody could read it again.
    """
    refreshed = Refreshed(
        source.read, source.failures.append, name="b", refresh_s=1, clock=source.clock.monotonic
    )
    refreshed.catch_up()
    source.trouble = OSError("away")
    source.clock.advance(1_000_000)

    assert refreshed.current() == 0
    assert settled(refreshed) == 0
    assert refreshed.current() == 0
    refreshed.edited()
    assert refreshed.current() is None


def test_the_one_who_reads_is_waited_for(source: Source) -> None:
    """
    Of many threads that find nothing, one reads in its own thread, and all have what it read.
    """
    refreshed = source.refreshed()
    has_read, may_end = source.hold()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(refreshed.catch_up)
        assert has_read.wait(60)
        others = [pool.submit(refreshed.catch_up) for _ in range(7)]
        may_end.set()
        assert [each.result(60) for each in (first, *others)] == [None] * 8

    assert (refreshed.current(), len(source.threads)) == (0, 1)


def test_what_was_read_before_is_handed_on(source: Source) -> None:
    """
    It may be given back when it is still true; after an edit it is not asked for.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.value = 1
    source.clock.advance(REFRESH_S)
    settled(refreshed)
    source.clock.advance(MAX_AGE_S)
    refreshed.catch_up()
    refreshed.edited()
    refreshed.catch_up()
    refreshed.read()

    assert source.befores == [None, 0, 1, None, None]


def test_a_reading_on_demand(source: Source) -> None:
    """
    It is one whatever is known, it is in this thread, and what it read holds.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.value = 1

    refreshed.read()

    assert (refreshed.current(), source.threads) == (1, [threading.current_thread().name] * 2)


def test_due_at_another_time(source: Source) -> None:
    """
    The next reading is sooner than usual, or later, if its owner says so.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    refreshed.due_in(1)
    source.value = 1
    assert settled(refreshed) == 0
    source.clock.advance(1)
    assert settled(refreshed) == 1
    refreshed.due_in(MAX_AGE_S - 1)
    source.value = 2
    source.clock.advance(MAX_AGE_S - 2)
    assert (refreshed.current(), settled(refreshed)) == (1, 1)
    source.clock.advance(1)
    assert settled(refreshed) == 2


# Edits


def test_an_edit_ends_what_was_read(source: Source) -> None:
    """
    Nothing holds after it but what is read after it, in this thread or in the background.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    for value in (1, 2):
        source.value = value
        refreshed.edited()
        assert (refreshed.current(), refreshed.last) == (None, value - 1)
        if value == 1:
            refreshed.catch_up()
        else:
            settled(refreshed)
        assert refreshed.current() == value


def test_an_edit_while_it_is_read(source: Source) -> None:
    """
    What is read then is better than what there was, and does not hold.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.value = 1
    refreshed.edited()
    has_read, may_end = source.hold()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(refreshed.catch_up)
        assert has_read.wait(60)
        source.value = 2
        refreshed.edited()
        may_end.set()
        assert reading.result(60) is None

    assert (refreshed.last, refreshed.current()) == (1, None)
    refreshed.catch_up()
    assert refreshed.current() == 2


@pytest.mark.parametrize("behind", [False, True], ids=["in this thread", "in the background"])
def test_a_reading_before_an_edit_does_not_undo_it(source: Source, behind: bool) -> None:
    """
    Nobody waits for it either: there is another one beside it, and it comes too late.
    """
    refreshed = source.refreshed()
    has_read, may_end = source.hold()
    before = refreshed.soon()
    assert before is not None
    assert has_read.wait(60)
    source.value = 1
    refreshed.edited()
    if behind:
        after = refreshed.soon()
        assert after is not None
        assert after is not before
        assert after.wait(60)
    else:
        refreshed.catch_up()
    assert refreshed.current() == 1
    may_end.set()
    assert before.wait(60)

    assert refreshed.current() == 1


def test_after_an_edit_it_is_due(source: Source) -> None:
    """
    Once: when that reading is over, or has failed, the next one is due at its time.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.trouble = OSError("away")
    refreshed.edited()
    settled(refreshed)

    assert refreshed.soon() is None
    assert source.failures == [source.trouble]


def test_an_edit_before_anything_was_read(source: Source) -> None:
    """
    The first reading after it holds.
    """
    refreshed = source.refreshed()
    refreshed.edited()
    refreshed.edited()

    assert settled(refreshed) == 0
    assert refreshed.current() == 0


def test_edits_and_readings_of_many_threads(source: Source) -> None:
    """
    Whoever has edited sees its edit, whatever others read, edit and await at the same time.
    """
    refreshed = source.refreshed()
    raising = threading.Lock()

    def edit(_: int) -> bool:
        with raising:
            source.value = own = source.value + 1
        refreshed.edited()
        if own % 3:
            refreshed.catch_up()
        elif (reading := refreshed.soon()) is not None:
            assert reading.wait(60)
        seen = refreshed.current()
        return seen is None or seen >= own

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(edit, range(2_000)))
    refreshed.catch_up()
    assert refreshed.current() == 2_000


# Failures


def test_a_reading_that_fails(source: Source) -> None:
    """
    Its caller is told, and so are the others, without trying, until some time is over.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.clock.advance(MAX_AGE_S)
    source.trouble = OSError("away")
    assert not refreshed.has_failed
    with pytest.raises(OSError, match="away"):
        refreshed.catch_up()
    source.trouble = None
    source.clock.advance(RETRY_S - 0.1)

    assert refreshed.has_failed
    assert refreshed.catch_up() == "away"
    assert (refreshed.last, refreshed.current()) == (0, None)
    assert len(source.threads) == 2
    source.clock.advance(0.1)
    assert not refreshed.has_failed
    assert refreshed.catch_up() is None
    assert refreshed.current() == 0


def test_those_who_waited_do_not_try_again(source: Source) -> None:
    """
    A database that is slow to fail is not asked by one thread after the other.
    """
    refreshed = source.refreshed()
    has_read, may_end = source.hold()
    source.trouble = OSError("away")
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(refreshed.catch_up)
        assert has_read.wait(60)
        others = [pool.submit(refreshed.catch_up) for _ in range(7)]
        may_end.set()
        assert isinstance(first.exception(60), OSError)
        assert [each.result(60) for each in others] == ["away"] * 7

    assert len(source.threads) == 1


@pytest.mark.parametrize("meanwhile", [False, True], ids=["after it", "while it is read"])
def test_an_edit_after_a_failure_is_tried(source: Source, meanwhile: bool) -> None:
    """
    What failed before it says nothing of what comes after it.
    """
    refreshed = source.refreshed()
    has_read, may_end = source.hold()
    source.trouble = OSError("away")
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(refreshed.catch_up)
        assert has_read.wait(60)
        if meanwhile:
            refreshed.edited()
        may_end.set()
        assert isinstance(failing.exception(60), OSError)
    if not meanwhile:
        refreshed.edited()
    source.trouble = None

    assert refreshed.catch_up() is None
    assert refreshed.current() == 0


def test_a_failure_in_the_background(source: Source) -> None:
    """
    Its owner is told, what was read stays, and it is tried again when it is due, or needed.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.trouble = OSError("away")
    source.clock.advance(REFRESH_S)
    assert settled(refreshed) == 0
    assert source.failures == [source.trouble]
    assert (refreshed.current(), refreshed.soon()) == (0, None)
    assert not refreshed.has_failed
    source.trouble = None
    source.value = 1
    source.clock.advance(REFRESH_S)

    assert settled(refreshed) == 1


# Where nobody may wait, and where no thread can be had


def test_many_edits_do_not_make_a_thread_each(source: Source) -> None:
    """
    However often it is edited while readings hang, few are under way; the last edit is seen.
    """
    refreshed = source.refreshed()
    held = [source.hold() for _ in range(4)]
    for number in range(100):
        source.value = number
        refreshed.edited()
        assert refreshed.soon() is not None
    for has_read, _ in held:
        assert has_read.wait(60)

    assert len(source.threads) == 4
    for _, may_end in held:
        may_end.set()
    deadline = time.monotonic() + 60
    while settled(refreshed) != 99 and time.monotonic() < deadline:
        pass
    assert refreshed.last == 99


def test_looking_waits_for_no_lock(source: Source) -> None:
    """
    A finalizer may look in the middle of anything, and an event loop has no time.
    """
    refreshed = source.refreshed()
    refreshed.catch_up()
    source.clock.advance(REFRESH_S)
    locks = [each for each in vars(refreshed).values() if hasattr(each, "acquire")]
    assert locks
    seen: list[object] = []

    def look() -> None:
        seen.extend((refreshed.current(), refreshed.last, refreshed.soon() is None))

    looking = threading.Thread(target=look)
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        looking.start()
        looking.join(60)
        assert seen == [0, 0, False]
    assert settled(refreshed) == 0


def test_a_reading_may_need_what_it_reads(source: Source) -> None:
    """
    A finalizer that comes in the middle of it does not wait for its own thread.
    """
    inner: list[int | None] = []

    def read(before: int | None) -> int:
        if len(inner) < 1:
            inner.append(None)
            refreshed.edited()
            refreshed.catch_up()
            inner.append(refreshed.current())
        return source.read(before)

    refreshed = Refreshed(read, source.failures.append, name="b", refresh_s=1)
    thread = threading.Thread(target=refreshed.catch_up, daemon=True)
    thread.start()
    thread.join(60)

    assert not thread.is_alive()
    assert inner == [None, 0]


@pytest.mark.parametrize("how", ["no thread starts", "the interpreter ends"])
def test_the_end_of_the_interpreter(
    source: Source, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No thread is begun then; what was read is used, and nobody waits for what never comes.
    """
    refreshed = source.refreshed()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as ending:
        if how == "no thread starts":
            ending.setattr(threading.Thread, "start", refuse)
        else:
            ending.setattr(sys, "is_finalizing", lambda: True)
        assert refreshed.soon() is None
        assert refreshed.catch_up() is None
        source.value = 1
        source.clock.advance(REFRESH_S)
        assert refreshed.current() == 0
        assert len(source.threads) == 1
    assert settled(refreshed) == 1


# Forks


def in_a_child(work: Any) -> int:
    """The code that a forked child ends with: 0 if *work* is true there."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # rather than wait for ever for a lock of its parent
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


living: Living[Refreshed[int]] = Living()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_parent_that_reads(source: Source) -> None:
    """
    It has what its parent had, waits for none of its threads, and reads for itself at once.
    """
    refreshed = source.refreshed()
    living.add(refreshed)
    refreshed.catch_up()
    source.clock.advance(REFRESH_S)
    behind, own = source.hold(), source.hold()
    assert refreshed.current() == 0
    assert behind[0].wait(60)
    source.value = 1

    def child() -> bool:
        return refreshed.current() is None and settled(refreshed) == 1 and refreshed.current() == 1

    with ThreadPoolExecutor(1) as pool:
        refreshed.edited()
        reading = pool.submit(refreshed.catch_up)
        assert own[0].wait(60)
        try:
            assert in_a_child(child) == 0
            assert in_a_child(lambda: refreshed.catch_up() is None and refreshed.last == 1) == 0
        finally:
            behind[1].set()
            own[1].set()
        assert reading.result(60) is None
    assert refreshed.current() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_goes_on_with_what_holds(source: Source) -> None:
    """
    What its parent has read is not read again before its time; what it could not read, is.
    """
    held, failed = source.refreshed(), source.refreshed()
    living.add(held)
    living.add(failed)
    held.catch_up()
    source.trouble = OSError("away")
    failed.soon()
    with pytest.raises(OSError, match="away"):
        failed.catch_up()
    settled(failed)
    source.trouble = None

    assert in_a_child(lambda: (held.current(), held.soon()) == (0, None)) == 0
    assert in_a_child(lambda: settled(failed) == 0) == 0
    assert in_a_child(lambda: failed.catch_up() is None) == 0
