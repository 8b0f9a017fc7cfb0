"""Delivery: to every sink, once it is there, and never in the caller's way."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ai_ledger.delivery import Delivery, Limits, process
from ai_ledger.delivery import delivery as delivery_module
from ai_ledger.delivery.courier import HELD_DELAY, LONGEST_DELAY, PROBE_EVERY, Courier
from ai_ledger.errors import RecordRefused, SinkUnavailable
from ai_ledger.incidents import Incidents
from ai_ledger.journal import Journal
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks.base import SomeRefused
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.sinks.scan import forgotten


def record(**fields: Any) -> CallRecord:
    return CallRecord(**{"id": new_id(), "started_at": utc_now(), **fields})


def begun(call: CallRecord) -> CallRecord:
    return call.replace(status="unfinished")


class Shelf:
    """A sink that keeps what it is given, and does what a test tells it to do first."""

    def __init__(self, name: str = "shelf", *, durable: bool = True) -> None:
        self.name = name
        self.durable = durable
        self.batches: list[list[CallRecord]] = []
        self.before: Callable[[Sequence[CallRecord]], object] = lambda records: None
        self.tries = 0
        self.closed = 0
        self.forked = 0

    def write(self, records: Sequence[CallRecord]) -> None:
        self.tries += 1
        self.before(records)
        self.batches.append(list(records))

    def close(self) -> None:
        self.closed += 1

    def after_fork_in_child(self) -> None:
        self.forked += 1

    @property
    def records(self) -> list[CallRecord]:
        """The last version of every call, in the order of the first ones."""
        return list({each.id: each for batch in self.batches for each in batch}.values())

    @property
    def ids(self) -> list[str]:
        return [each.id for batch in self.batches for each in batch]


def away(records: Sequence[CallRecord]) -> None:
    raise SinkUnavailable("postgresql://ledger:canary-secret@db/x is away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def deliver(folder: Path) -> Iterator[Callable[..., Delivery]]:
    """Deliveries that are closed again, on a folder unless told otherwise."""
    opened: list[Delivery] = []

    def deliver(*sinks: Any, **options: Any) -> Delivery:
        opened.append(Delivery(sinks, **{"folder": folder, **options}))
        return opened[-1]

    yield deliver
    for each in opened:
        each.close(0.2)


def courier(shelf: Shelf, folder: Path | None, **limits: int) -> tuple[Courier, Journal]:
    journal = Journal(folder, Limits(**limits))
    journal.add_sink(shelf.name, durable=shelf.durable)
    return Courier(shelf, shelf.name, journal, list), journal


def run(walker: Courier, *, steps: int = 200) -> list[float]:
    """Let it walk until nothing is left; the delays it asked for."""
    delays: list[float] = []
    for _ in range(steps):
        delay = walker.step()
        if delay is None:
            return delays
        if delay:
            delays.append(delay)
    return delays


def set_aside(folder: Path) -> list[str]:
    path = folder / "quarantine.jsonl"
    if not path.exists():
        return []
    return [json.loads(line)["record"]["id"] for line in path.read_bytes().splitlines()]


# One sink


def test_batches_are_bounded(folder: Path) -> None:
    """
    A batch holds so many records at most, and so many bytes of the journal.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder, batch_records=10, batch_bytes=5_000)
    for size in [10] * 25 + [2_000] * 5:
        call = record(request_content="x" * size)
        if size == 10:
            journal.begin(begun(call))
        journal.end(call)

    run(walker)

    assert [len(batch) for batch in shelf.batches] == [10, 10, 6, 2, 2]


def test_an_outage_is_waited_out_with_growing_delays(folder: Path) -> None:
    """
    From 50 ms to 2 s, with jitter, for ever; nothing is lost, and the way is logged twice.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    calls = [record() for _ in range(3)]
    for call in calls:
        journal.end(call)
    shelf.before = away

    delays = run(walker, steps=40)

    assert len(delays) == 40
    assert 0.03 < delays[0] < 0.07
    assert delays[5] > delays[0] * 10
    assert LONGEST_DELAY * 0.7 < delays[-1] < LONGEST_DELAY * 1.3
    assert len({round(delay, 6) for delay in delays[-5:]}) > 1
    shelf.before = lambda records: None
    assert run(walker) == []
    assert shelf.records == calls


def test_what_is_told_of_an_outage_holds_no_secret(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The log has one line when a sink goes and one when it comes back, without its password.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    journal.end(record())
    shelf.before = away
    run(walker, steps=5)
    told = walker.health()
    shelf.before = lambda records: None
    run(walker)

    assert [each.message.split(" ")[1:3] for each in caplog.records] == [
        ["does", "not"],
        ["takes", "records"],
    ]
    assert "canary-secret" not in caplog.text + str(told)
    assert told.last_error is not None
    assert told.last_error.startswith("SinkUnavailable: postgresql://")
    assert (told.pending, walker.health().pending, walker.health().last_error) == (1, 0, None)


@pytest.mark.parametrize("poisonous", [{0}, {6}, {12}, {3, 4}, {0, 5, 12}, set(range(13))])
def test_a_refused_record_is_found_and_set_aside(folder: Path, poisonous: set[int]) -> None:
    """
    A batch is halved until only those are left that the sink refuses; the others arrive.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    calls = [record() for _ in range(13)]
    for call in calls:
        journal.end(call)
    bad = {calls[number].id for number in poisonous}

    def refuse(records: Sequence[CallRecord]) -> None:
        if any(each.id in bad for each in records):
            raise RecordRefused("odd")

    shelf.before = refuse
    assert run(walker) == []

    assert shelf.records == [call for call in calls if call.id not in bad]
    assert sorted(set_aside(folder)) == sorted(bad)
    assert journal.dropped == {}


def test_an_outage_in_the_middle_of_halving(folder: Path) -> None:
    """
    What was found to be refused is set aside once, though the batch comes again.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    calls = [record() for _ in range(8)]
    for call in calls:
        journal.end(call)

    def refuse_then_leave(records: Sequence[CallRecord]) -> None:
        if calls[0] in records:
            raise RecordRefused("odd")
        if calls[7] in records and shelf.tries < 10:
            raise SinkUnavailable("gone")

    shelf.before = refuse_then_leave
    run(walker)

    assert shelf.records == calls[1:]
    assert set_aside(folder) == [calls[0].id]


def test_poison_that_no_exception_names(folder: Path) -> None:
    """
    A user's sink raises whatever it likes: if all pass but one, it is that one.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    calls = [record() for _ in range(20)]
    for call in calls:
        journal.end(call)

    def stumble(records: Sequence[CallRecord]) -> None:
        if calls[7] in records or calls[8] in records:
            raise KeyError("strange")

    shelf.before = stumble
    delays = run(walker)

    assert len(delays) == PROBE_EVERY - 1
    assert sorted(set(shelf.ids)) == sorted(
        call.id for number, call in enumerate(calls) if number not in (7, 8)
    )
    assert set_aside(folder) == [calls[7].id, calls[8].id]


def test_an_outage_that_no_exception_names(folder: Path) -> None:
    """
    When nothing passes any more it is an outage, and no record is blamed for it.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    calls = [record() for _ in range(20)]
    for call in calls:
        journal.end(call)

    def down(records: Sequence[CallRecord]) -> None:
        raise KeyError("strange")

    shelf.before = down
    assert len(run(walker, steps=30)) == 30
    shelf.before = lambda records: None
    run(walker)

    assert (shelf.records, set_aside(folder)) == (calls, [])


def test_an_outage_that_begins_while_poison_is_looked_for(folder: Path) -> None:
    """
    A record is blamed only if another passes right after it failed.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    calls = [record() for _ in range(20)]
    for call in calls:
        journal.end(call)
    passed = 0

    def stumble(records: Sequence[CallRecord]) -> None:
        nonlocal passed
        if calls[7] in records or passed >= 3:
            raise KeyError("strange")
        passed += 1

    shelf.before = stumble
    run(walker, steps=20)
    assert set_aside(folder) == []

    shelf.before = lambda records: None
    run(walker)
    assert sorted(set(shelf.ids)) == sorted(call.id for call in calls)


def test_a_sink_without_memory_gets_one_try() -> None:
    """
    A sink that is not durable holds nothing up; what it missed is counted.
    """
    shelf = Shelf(durable=False)
    walker, journal = courier(shelf, None, batch_records=2)
    calls = [record() for _ in range(4)]
    for call in calls:
        journal.end(call)
    shelf.before = lambda records: away(records) if calls[0] in records else None

    assert run(walker) == []
    assert shelf.records == calls[2:]
    assert journal.dropped == {"not taken by shelf": 2}


def test_a_sink_without_memory_that_has_taken_some() -> None:
    """
    Only what it has not taken is counted as missed.
    """
    shelf = Shelf(durable=False)
    walker, journal = courier(shelf, None)
    for _ in range(4):
        journal.end(record())

    def some(_: Any) -> None:
        raise SomeRefused(1, ValueError("odd"))

    shelf.before = some

    assert run(walker) == []
    assert journal.dropped == {"not taken by shelf": 1}
    assert walker.health().delivered == 3


def test_a_full_disk_keeps_poison_waiting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A refused record that cannot be set aside either is tried again, not thrown away.
    """
    shelf = Shelf()
    walker, journal = courier(shelf, folder)
    bad = record()
    journal.end(bad)

    def refuse(records: Sequence[CallRecord]) -> None:
        raise RecordRefused("odd")

    def full(fd: int, line: bytes) -> None:
        raise OSError(28, "No space left on device")

    shelf.before = refuse
    with monkeypatch.context() as patch:
        patch.setattr("ai_ledger.journal.quarantine.write_all", full)
        assert len(run(walker, steps=3)) == 3
    run(walker)

    assert set_aside(folder) == [bad.id]


def test_a_sink_is_left_alone_when_asked(folder: Path) -> None:
    """
    While a fork is on its way nothing is given to the sink.
    """
    shelf = Shelf()
    journal = Journal(folder, Limits())
    journal.add_sink(shelf.name, durable=True)
    journal.end(record())
    walker = Courier(shelf, shelf.name, journal, list, lambda: True)

    assert (walker.step(), shelf.tries, walker.busy_since) == (HELD_DELAY, 0, None)


# The whole


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "journal"])
def test_every_sink_gets_every_record(deliver: Any, memory: bool) -> None:
    """
    Flush is true once all sinks have everything; nothing is left on the disk.
    """
    shelves = [Shelf("a"), Shelf("a"), Shelf("b", durable=False)]
    delivery = deliver(*shelves, **({"folder": None} if memory else {}))
    calls = [record(user_id="u") for _ in range(1_200)]
    for call in calls:
        delivery.begin(begun(call))
        delivery.end(call)

    assert delivery.flush(60) is True
    assert [shelf.records for shelf in shelves] == [calls] * 3
    health = delivery.health()
    assert [each.name for each in health.sinks] == ["a", "a #2", "b"]
    assert [each.delivered for each in health.sinks] == [1_200] * 3
    assert (health.pending, health.oldest_seconds, health.dropped) == (0, None, {})


def test_nothing_happens_before_the_first_record(deliver: Any, folder: Path) -> None:
    """
    Opening makes no folder, connects to nothing and starts no thread.
    """
    threads = set(threading.enumerate())
    shelf = Shelf()
    delivery = deliver(shelf)

    assert set(threading.enumerate()) <= threads
    assert (folder.exists(), shelf.tries) == (False, 0)
    assert delivery.close() is True
    assert not folder.exists()


def _until(there: Callable[[], bool]) -> None:
    """Wait for what other threads bring about, on a machine that has other things to do as well."""
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_sink_that_hangs_holds_up_nobody(deliver: Any) -> None:
    """
    Each sink has a thread of its own: while one hangs the other has everything.
    """
    hanging, quick = Shelf("hanging"), Shelf("quick")
    go = threading.Event()
    hanging.before = lambda records: go.wait(60)
    delivery = deliver(hanging, quick)
    calls = [record() for _ in range(10)]
    for call in calls:
        delivery.end(call)

    _until(lambda: quick.records == calls)
    assert delivery.flush(0.1) is False
    assert hanging.records == []
    go.set()
    assert delivery.flush(60) is True
    assert hanging.records == calls


def test_a_dead_sink_holds_up_nobody_and_loses_nothing(deliver: Any) -> None:
    """
    One cursor per sink: the dead one gets everything when it is back.
    """
    dead, quick = Shelf("dead"), Shelf("quick")
    dead.before = away
    delivery = deliver(dead, quick)
    calls = [record() for _ in range(10)]
    for call in calls:
        delivery.end(call)

    assert delivery.flush(0.3) is False
    health = delivery.health()
    assert [each.pending for each in health.sinks] == [10, 0]
    assert health.pending == 10
    assert health.oldest_seconds is not None
    assert 0 <= health.oldest_seconds < 10
    assert quick.records == calls
    dead.before = lambda records: None
    assert delivery.flush(60) is True
    assert dead.records == calls


@pytest.mark.parametrize("price", ["raises", "prices"])
def test_pricing_happens_on_the_way(deliver: Any, price: str) -> None:
    """
    Records are priced in the background; when that fails they are delivered unpriced, and counted.
    """
    shelf = Shelf()

    def prepare(call: CallRecord) -> CallRecord:
        if price == "raises":
            raise ZeroDivisionError
        return call.replace(cost=Decimal("0.5"), currency="CNY")

    delivery = deliver(shelf, prepare=prepare)
    delivery.end(record())
    assert delivery.flush(60) is True

    assert [each.cost for each in shelf.records] == [None if price == "raises" else Decimal("0.5")]
    dropped = {"delivered unpriced: pricing failed": 1} if price == "raises" else {}
    assert delivery.health().dropped == dropped


@pytest.mark.parametrize("fault", [ValueError, SystemExit, MemoryError])
def test_a_call_never_notices_a_fault(
    deliver: Any, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    """
    Whatever breaks in the journal or in a sink, begin and end return, and it is counted.
    """
    shelf = Shelf()

    def burst(*_: Any, **__: Any) -> None:
        raise fault("broken")

    shelf.before = burst
    delivery = deliver(shelf)
    delivery.begin(begun(record()))
    delivery.end(record())
    assert delivery.flush(0.2) is False
    shelf.before = lambda records: None
    assert delivery.flush(60) is True

    if fault is not SystemExit:
        monkeypatch.setattr(delivery.journal, "end", burst)
        delivery.end(record())
        assert delivery.health().dropped == {f"fault of the ledger: {fault.__name__}": 1}


def test_syncing_once_a_second(deliver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With fsync="second" another thread forces to the disk what no sink has taken, once, and
    none does otherwise.
    """
    synced: queue.SimpleQueue[int] = queue.SimpleQueue()
    monkeypatch.setattr(os, "fdatasync", synced.put)
    monkeypatch.setattr("ai_ledger.delivery.delivery._SYNC_SECONDS", 0.01)

    def away(records: object) -> None:
        raise SinkUnavailable("gone")

    for fsync in ("never", "second"):
        shelf = Shelf()
        shelf.before = away
        delivery = deliver(shelf, fsync=fsync)
        delivery.end(record())
        if fsync == "second":
            synced.get(timeout=60)
        time.sleep(0.1)
        assert synced.empty()


def test_a_caller_can_ask_to_be_blocked(deliver: Any) -> None:
    """
    With on_full="block" a call waits for room, and no record becomes a sum.
    """
    shelf = Shelf()
    delivery = deliver(shelf, folder=None, on_full="block", limits=Limits(memory_bytes=20_000))
    calls = [record(request_content="x" * 1_000) for _ in range(100)]
    for call in calls:
        delivery.end(call)

    assert delivery.flush(60) is True
    assert shelf.records == calls


def test_a_flush_counts_orphans(deliver: Any, folder: Path) -> None:
    """
    What a dead process left behind is looked for, and waited for.
    """
    shelf = Shelf()
    delivery = deliver(shelf)
    assert delivery.flush(60) is True
    dead = Journal(folder, Limits())
    call = record()
    dead.end(call)
    dead._own[0].close()
    shelf.before = lambda records: time.sleep(0.2)

    assert delivery.flush(60) is True
    assert shelf.records == [call]


def test_many_orphans_take_few_files(deliver: Any, folder: Path) -> None:
    """
    After a crash loop orphans are adopted in turns, and one flush still delivers them all.
    """
    calls = [record() for _ in range(100)]
    for call in calls:
        dead = Journal(folder, Limits())
        dead.end(call)
        dead._own[0].close()
    shelf = Shelf()
    delivery = deliver(shelf)
    most = 0

    def count(records: Sequence[CallRecord]) -> None:
        nonlocal most
        most = max(most, len(delivery.journal._adopted))

    shelf.before = count
    assert delivery.flush(10) is True
    assert sorted(shelf.ids) == [each.id for each in calls]
    assert most <= 32


async def test_flushing_from_a_coroutine(deliver: Any) -> None:
    """
    The event loop goes on while aflush waits.
    """
    shelf = Shelf()
    go = threading.Event()
    shelf.before = lambda records: go.wait(60)
    delivery = deliver(shelf)
    delivery.end(record())

    async def later() -> None:
        await asyncio.sleep(0.05)
        go.set()

    flushed, _ = await asyncio.gather(delivery.aflush(60), later())
    assert flushed is True
    shelf.before = away
    delivery.end(record())
    assert await delivery.aflush(0.1) is False


def test_a_sink_that_flushes_its_own_ledger(deliver: Any) -> None:
    """
    From within a sink's thread there is nothing to wait for, and no deadlock.
    """
    shelf = Shelf()
    delivery = deliver(shelf)
    answers: list[bool] = []
    shelf.before = lambda records: answers.append(delivery.flush())
    delivery.end(record())

    assert delivery.flush(60) is True
    assert answers == [False]


def test_flush_does_not_wait_for_what_comes_later(deliver: Any) -> None:
    """
    A flush ends although calls go on all the time.
    """
    shelf = Shelf()
    delivery = deliver(shelf)
    stop = threading.Event()

    def call_on() -> None:
        while not stop.is_set():
            delivery.end(record())
            time.sleep(0.0005)

    thread = threading.Thread(target=call_on)
    thread.start()
    try:
        assert all(delivery.flush(30) for _ in range(3))
    finally:
        stop.set()
        thread.join()


def test_threads_at_once(deliver: Any) -> None:
    """
    Many threads record at once: nothing is lost, nothing comes twice.
    """
    shelf = Shelf()
    delivery = deliver(shelf, limits=Limits(segment_bytes=20_000))
    calls = [[record() for _ in range(300)] for _ in range(8)]

    def work(mine: list[CallRecord]) -> None:
        for call in mine:
            delivery.begin(begun(call))
            delivery.end(call)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert delivery.flush(30) is True
    assert sorted(shelf.ids) == sorted(call.id for mine in calls for call in mine)


# Ending


def test_close_delivers_closes_and_leaves_nothing(deliver: Any, folder: Path) -> None:
    """
    Callbacks run first, then everything is delivered, then sinks are closed, once.
    """
    shelf = Shelf()
    delivery = deliver(shelf)
    last = record()
    delivery.end(record())
    delivery.before_exit(lambda: delivery.end(last))
    delivery.before_exit(lambda: 1 / 0)

    assert (delivery.close(), delivery.close()) == (True, True)
    assert (shelf.records[-1], shelf.closed) == (last, 1)
    assert list(folder.iterdir()) == []


def test_sinks_are_closed_when_nothing_was_ever_delivered(deliver: Any) -> None:
    """
    A store that was only asked, or written to by itself, is closed all the same, once.
    """
    shelf = Shelf()
    delivery = deliver(shelf)

    assert (delivery.close(), delivery.close()) == (True, True)
    assert shelf.closed == 1


def test_a_call_in_flight_at_the_end_is_unfinished(deliver: Any, folder: Path) -> None:
    """
    Who closes in mid-call gets an unfinished record at once; its end, when it comes, is kept.
    """
    shelf = Shelf()
    delivery = deliver(shelf)
    call = record()
    delivery.begin(begun(call))
    assert delivery.close() is True
    assert shelf.records == [begun(call)]

    delivery.end(call)
    second = deliver(shelf)
    assert second.flush(60) is True
    assert shelf.records == [call]


def test_what_is_left_is_for_the_next_process(deliver: Any, folder: Path) -> None:
    """
    A sink that is down at the end gets its records from whoever opens the ledger next.
    """
    shelf = Shelf()
    shelf.before = away
    delivery = deliver(shelf)
    calls = [record() for _ in range(3)]
    open_call = record()
    delivery.begin(begun(open_call))
    for call in calls:
        delivery.end(call)

    assert (delivery.close(0.1), delivery.close()) == (False, False)
    late = record()
    delivery.end(late)

    # Slow enough for a flush that forgets the orphans to be found out.
    shelf.before = lambda records: time.sleep(0.1)
    second = deliver(shelf)
    assert second.flush(60) is True
    assert sorted(each.id for each in shelf.records) == sorted(
        each.id for each in (*calls, open_call, late)
    )
    assert second.close() is True
    assert list(folder.iterdir()) == []


def test_a_call_in_flight_survives_an_end_without_the_sink(deliver: Any) -> None:
    """
    Everything else was delivered, and the one call that was open is for the next process.
    """
    shelf = Shelf()
    delivery = deliver(shelf)
    done, open_call = record(), record()
    delivery.begin(begun(open_call))
    delivery.end(done)
    assert delivery.flush(60) is True
    shelf.before = away
    assert delivery.close(0.1) is False

    shelf.before = lambda records: time.sleep(0.1)
    second = deliver(shelf)
    assert second.flush(60) is True
    assert shelf.records == [done, begun(open_call)]


def test_closing_keeps_to_its_time(deliver: Any) -> None:
    """
    A sink that hangs for minutes delays nobody beyond the time given.
    """
    shelf = Shelf()
    go = threading.Event()
    shelf.before = lambda records: go.wait(60)
    delivery = deliver(shelf)
    delivery.end(record())
    started = time.monotonic()

    assert delivery.close(0.3) is False
    assert time.monotonic() - started < 15
    go.set()


def test_what_is_left_is_told_at_once(
    deliver: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Processes that end together share a terminal: a line in two pieces is torn by another's.
    """
    shelf = Shelf()
    shelf.before = away
    delivery = deliver(shelf)
    delivery.end(record())
    written: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "write", written.append)
        delivery.end_at_exit(time.monotonic() + 0.1)

    assert written == [f"ai-ledger: 1 calls not delivered, kept in {folder} and sent next time\n"]


def test_without_threads_the_journal_goes_on(deliver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When no thread can be started, records journal; they are delivered when one can.
    """
    shelf = Shelf()
    delivery = deliver(shelf)
    call = record()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        delivery.end(call)
        assert delivery.flush(0.05) is False
    monkeypatch.setattr(delivery, "_start_at", 0.0)

    assert delivery.flush(60) is True
    assert shelf.records == [call]


def test_a_sink_whose_thread_could_not_start_gets_one_later(
    deliver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One thread too many for a moment: the sink is served as soon as there is room for it.
    """
    shelves = [Shelf("first"), Shelf("second")]
    delivery = deliver(*shelves)
    call = record()
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name == "ai-ledger-second":
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        delivery.end(call)
        assert delivery.flush(0.1) is False
    monkeypatch.setattr(delivery, "_start_at", 0.0)

    assert delivery.flush(60) is True
    assert [shelf.records for shelf in shelves] == [[call], [call]]
    assert delivery.close(5) is True
    assert [shelf.closed for shelf in shelves] == [1, 1]


def test_a_late_thread_needs_no_further_call(deliver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The threads that run start the one that is missing, even if nobody calls or flushes any more.
    """
    shelves = [Shelf("first"), Shelf("second")]
    delivery = deliver(*shelves)
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name == "ai-ledger-second":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(delivery_module, "_SCAN_SECONDS", 0.05)
    monkeypatch.setattr(delivery_module, "_START_AGAIN_SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        delivery.end(record())
    _until(lambda: bool(shelves[1].records))

    assert len(shelves[1].records) == 1


# After the end


@pytest.mark.parametrize("memory", [False, True])
def test_flush_after_close_knows_what_was_not_delivered(deliver: Any, memory: bool) -> None:
    """
    Nobody delivers any more, so what was left then or came since makes every flush false.
    """
    shelf = Shelf()
    shelf.before = away
    delivery = deliver(shelf, **({"folder": None} if memory else {}))
    delivery.end(record())

    assert delivery.close(0.1) is False
    assert delivery.flush(0.1) is False
    assert delivery.health().pending == 1
    assert asyncio.run(delivery.aflush(0.1)) is False


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("used", [False, True])
def test_flush_after_close_sees_late_records(deliver: Any, memory: bool, used: bool) -> None:
    """
    Everything was delivered, which stays true until a record comes after the end.
    """
    shelf = Shelf()
    delivery = deliver(shelf, **({"folder": None} if memory else {}))
    if used:
        delivery.end(record())
    assert (delivery.close(5), delivery.flush(0.1)) == (True, True)
    late = record()
    delivery.begin(begun(late))
    delivery.end(late)

    assert delivery.flush(0.1) is False
    assert delivery.health().pending == (0 if memory else 1)
    assert delivery.close() is True


def test_a_child_of_a_closed_ledger_says_what_is_true(deliver: Any) -> None:
    """
    What its parent left is the parent's; what the child adds is not delivered.
    """
    shelf = Shelf()
    shelf.before = away
    delivery = deliver(shelf)
    delivery.end(record())
    assert delivery.close(0.1) is False
    pid = os.fork()
    if pid == 0:
        answers = [delivery.flush(0.1)]
        delivery.end(record())
        answers.append(delivery.flush(0.1))
        os._exit(0 if answers == [True, False] else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# Forks


@pytest.mark.parametrize(
    ("used", "knows", "closed"),
    [
        pytest.param(False, False, 0, id="what it inherited"),
        pytest.param(False, True, 1, id="a sink that knows of forks"),
        pytest.param(True, False, 1, id="what it has used"),
    ],
)
def test_a_child_closes_what_is_its_own(deliver: Any, used: bool, knows: bool, closed: int) -> None:
    """
    Closing a connection that is the parent's as well would end it for both.
    """
    shelf = Shelf()
    if not knows:
        shelf.after_fork_in_child = None
    delivery = deliver(shelf)
    delivery.end(record())
    assert delivery.flush(60) is True
    pid = os.fork()
    if pid == 0:
        try:
            if used:
                delivery.end(record())
            delivery.close(60)
            os._exit(shelf.closed)
        finally:
            os._exit(99)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == closed
    assert delivery.close(60) is True
    assert shelf.closed == 1


def test_a_fork_waits_for_a_sink_at_work(deliver: Any) -> None:
    """
    A child must not be born while a thread of its parent holds a lock inside a sink.
    """
    shelf = Shelf()
    inside = threading.Event()
    lock = threading.Lock()

    def slowly(records: Sequence[CallRecord]) -> None:
        with lock:
            inside.set()
            time.sleep(0.2)

    shelf.before = slowly
    delivery = deliver(shelf)
    delivery.end(record())
    assert inside.wait(60)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock.acquire(timeout=20) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert delivery.flush(60) is True


def test_a_fork_does_not_wait_for_a_sink_that_hangs(deliver: Any) -> None:
    """
    After a second and a half the fork goes on, and the child delivers on its own.
    """
    shelf = Shelf()
    go = threading.Event()
    shelf.before = lambda records: go.wait(60)
    delivery = deliver(shelf)
    delivery.end(record())
    delivery._ring()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        shelf.before = lambda records: None
        mine = record()
        delivery.end(mine)
        os._exit(0 if delivery.flush(60) and shelf.records == [mine] and shelf.forked else 1)

    assert time.monotonic() - started < 30
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go.set()
    assert delivery.flush(60) is True
    assert shelf.forked == 0


def test_a_ledger_opened_while_a_fork_waits(deliver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It begins anew in the child like those that were there before.
    """
    shelf = Shelf()
    wait = process.turns.before_fork

    def before_fork() -> None:
        deliver(shelf)
        wait()

    monkeypatch.setattr(process.turns, "before_fork", before_fork)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if shelf.forked == 1 else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert shelf.forked == 0


def test_forks_while_segments_come_and_go(deliver: Any) -> None:
    """
    Forking takes its locks in the order of an append, so neither waits for the other.
    """
    shelf = Shelf()
    delivery = deliver(shelf, limits=Limits(segment_bytes=500))
    stop = threading.Event()

    def call_on() -> None:
        while not stop.is_set():
            delivery.end(record())

    threads = [threading.Thread(target=call_on, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    done = threading.Event()

    def fork_often() -> None:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        done.set()

    threading.Thread(target=fork_often, daemon=True).start()
    finished = done.wait(60)
    stop.set()
    for thread in threads:
        thread.join(5)

    assert finished


def _hold(lock: Any) -> threading.Event:
    """Another thread takes *lock* and keeps it until the event that is returned."""
    taken, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            go.wait(60)

    threading.Thread(target=hold, daemon=True).start()
    assert taken.wait(60)
    return go


def _ends(work: Callable[[], object]) -> bool:
    """Whether *work* comes to its end in a thread of its own."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


def test_a_child_can_read_what_its_parent_was_writing(deliver: Any) -> None:
    """
    The sink in memory has a lock of its own in the child, with what was in it.
    """
    sink = MemorySink()
    kept = record()
    sink.write([kept])
    deliver(sink)
    go = _hold(sink._lock)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if _ends(lambda: sink.records) and sink.records == [kept] else 1)
    go.set()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_child_can_note_what_goes_wrong() -> None:
    """
    Another thread was noting an incident when the process forked: the child starts anew.
    """
    incidents = Incidents()
    incidents.note("of the parent")
    go = _hold(incidents._lock)
    pid = os.fork()
    if pid == 0:
        incidents.after_fork_in_child()
        noted = _ends(lambda: incidents.note("of the child"))
        os._exit(0 if noted and incidents.counts() == {"of the child": 1} else 1)
    go.set()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    "preload",
    [
        pytest.param("import ai_ledger.loading", id="loading first"),
        pytest.param("import ai_ledger.delivery.process", id="delivery first"),
    ],
)
def test_a_fork_while_an_import_records_a_call(tmp_path: Path, preload: str) -> None:
    """
    An import may end an abandoned call: the fork waits for the import without stopping it.
    """
    program = f"""
{preload}
import faulthandler, os, threading, time
from pathlib import Path
from ai_ledger.delivery import Delivery
from ai_ledger.loading import loading
from ai_ledger.records import CallRecord, new_id, utc_now

faulthandler.dump_traceback_later(60, exit=True)


class Sink:
    name = "sink"

    def write(self, records):
        pass


delivery = Delivery([Sink()], folder=Path({str(tmp_path / "journal")!r}))
inside, loaded = threading.Event(), threading.Event()


def load():
    with loading:
        inside.set()
        time.sleep(0.5)
        delivery.end(CallRecord(id=new_id(), started_at=utc_now()))
        loaded.set()


thread = threading.Thread(target=load)
thread.start()
inside.wait()
started = time.monotonic()
pid = os.fork()
if not pid:
    with loading:
        delivery.end(CallRecord(id=new_id(), started_at=utc_now()))
        os._exit(0 if loaded.is_set() and delivery.flush(20) else 1)
took = time.monotonic() - started
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
# The one that waits for the other would be let go after five seconds.
assert took < 4.5, took
assert delivery.close(20)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (ended.stderr, ended.returncode) == ("", 0)


# Health and forgetting


def test_memory_sinks_are_nothing_to_warn_about(
    deliver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A ledger in memory is quiet, and says that it is one.
    """
    sink = MemorySink()
    delivery = deliver(sink, folder=None)
    delivery.begin(begun(record()))
    delivery.end(record())
    assert delivery.flush(60) is True

    health = delivery.health()
    assert (health.mode, health.folder, len(sink.records)) == ("memory", None, 1)
    assert [each for each in caplog.records if each.levelno > logging.DEBUG] == []


def test_health_says_what_waits(deliver: Any, folder: Path) -> None:
    """
    Pending records, their age, bytes and the folder; before the first record all is quiet.
    """
    shelf = Shelf()
    shelf.before = away
    delivery = deliver(shelf)
    assert delivery.health().pending == 0

    old = record(started_at=utc_now().replace(year=2020))
    delivery.end(old)
    delivery.flush(0.1)
    health = delivery.health()

    assert (health.mode, health.folder, health.pending) == ("journal", str(folder), 1)
    assert health.oldest_seconds is not None
    assert health.oldest_seconds > 3600 * 24 * 365
    assert health.journal_bytes > 100
    assert health.sinks[0].last_success_at is None


def test_the_forgotten_do_not_come_back(deliver: Any, folder: Path) -> None:
    """
    A record that waits for a dead sink arrives there without the one who was forgotten.
    """
    shelf = Shelf()
    shelf.before = away
    delivery = deliver(shelf)
    calls = [record(user_id="u-1", request_content="canary", input_tokens=3), record(user_id="u-2")]
    for call in calls:
        delivery.end(call)
    delivery.flush(0.1)

    assert delivery.forget(lambda each: each.user_id == "u-1", forgotten) == 1
    assert not any(b"canary" in path.read_bytes() for path in folder.iterdir())
    shelf.before = lambda records: None
    assert delivery.flush(60) is True

    assert [(each.user_id, each.input_tokens) for each in shelf.records] == [
        (None, 3),
        ("u-2", None),
    ]


def _with_a_batch_on_its_way(deliver: Any) -> tuple[Shelf, Delivery]:
    """A sink that has been given a call and takes its time, and who delivers to it."""
    shelf = Shelf()
    reached, go = threading.Event(), threading.Event()

    def slowly(records: Sequence[CallRecord]) -> None:
        reached.set()
        go.wait(60)

    shelf.before = slowly
    delivery = deliver(shelf)
    delivery.end(record(user_id="u-1"))
    delivery._ring()
    assert reached.wait(60)
    threading.Timer(0.1, go.set).start()
    return shelf, delivery


def test_forgetting_waits_for_a_batch_on_its_way(deliver: Any) -> None:
    """
    When it returns, no sink is at work any more on what it was given before.
    """
    shelf, delivery = _with_a_batch_on_its_way(deliver)

    delivery.forget(lambda each: each.user_id == "u-1", forgotten)

    assert len(shelf.batches) == 1


def test_forgetting_on_a_broken_disk_waits_all_the_same(
    deliver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The caller hears that not all is forgotten, when the batch on its way has arrived.
    """
    shelf, delivery = _with_a_batch_on_its_way(deliver)

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(delivery.journal._folder, "create", refuse)
    with pytest.raises(SinkUnavailable, match="journal"):
        delivery.forget(lambda each: each.user_id == "u-1", forgotten)

    assert len(shelf.batches) == 1
