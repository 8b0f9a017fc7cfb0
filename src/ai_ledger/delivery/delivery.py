"""Delivery: from the journal to every sink, whatever happens to either of them."""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

from ai_ledger.delivery import process
from ai_ledger.delivery.courier import Courier
from ai_ledger.delivery.health import Health
from ai_ledger.interruptions import passes
from ai_ledger.journal import Journal, Limits
from ai_ledger.journal.journal import Fsync, Mark
from ai_ledger.journal.overflow import priced_as_calls
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.sinks.base import Sink

log: Final = logging.getLogger("ai_ledger")

_LINGER_SECONDS: Final = 0.2
_SCAN_SECONDS: Final = 2.0
_STUCK_SECONDS: Final = 2.0
_FORK_WAITS_SECONDS: Final = 1.5
_SYNC_SECONDS: Final = 1.0
_START_AGAIN_SECONDS: Final = 1.0


class Delivery:
    """
    Takes records at once and delivers them later.

    Each sink has a background thread of its own, so usually there is one. With
    one thread for all of them, a sink that hangs (a black-holed database
    answers nobody for minutes) would hold up the others, and no promise of a
    time-out inside a sink that somebody else wrote can prevent it. A thread
    that waits costs nothing. They start with the first record.

    Args:
        sinks: Where records go.
        folder: Of the journal; ``None`` keeps them in memory.
        prepare: Applied to each record on its way, one at a time: pricing. May
            be slow. When it raises, the record is delivered as it was.
        limits: Bounds of journal, memory and batches.
        fsync: When lines are forced to the disk, which only matters when the
            machine itself fails: ``never``, once a ``second``, or ``always``,
            in the thread that makes the call.
        on_full: With journal and memory full, ``"drop"`` records but keep their
            sums, or ``"block"`` the call until there is room.
        exit_timeout: Seconds that the end of the program waits at the most.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        folder: Path | None,
        prepare: Callable[[CallRecord], CallRecord] = lambda record: record,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        fsync: Fsync = "never",
        on_full: Literal["drop", "block"] = "drop",
        exit_timeout: float = 3.0,
    ) -> None:
        self.journal: Final = Journal(folder, limits, fsync=fsync)
        self.exit_timeout: Final = exit_timeout
        self._price = prepare
        self._fsync = fsync
        self._block = on_full == "block"
        self._sinks = tuple(sinks)
        self._keys = _keys(self._sinks)
        for sink, key in zip(self._sinks, self._keys, strict=True):
            self.journal.add_sink(key, durable=bool(getattr(sink, "durable", True)))
        self._exit_callbacks: list[Callable[[], object]] = []
        self._inherited = False
        self._reset()
        process.register(self)

    def _reset(self) -> None:
        self.is_forking = False
        """Sinks are to be given nothing for the moment."""
        self._started = False
        self._is_starting = False
        self._closed = False
        self._stopping = False
        self._complete = True
        self._left = 0
        self._start_at = 0.0
        self._couriers = tuple(
            Courier(sink, key, self.journal, self._prepared, lambda: self.is_forking)
            for sink, key in zip(self._sinks, self._keys, strict=True)
        )
        self._runners: tuple[_Runner, ...] = ()
        self._syncer: threading.Thread | None = None
        self._scan_at = 0.0
        self._pricing = threading.Lock()
        self._pricing_failed = False

    # The caller's side

    def begin(self, record: CallRecord) -> None:
        """
        Note that a call is about to be sent. Never waits.

        Never raises, but what the program raises by a signal meanwhile.
        """
        try:
            self.journal.begin(record)
            if not self._started:
                self._start()
        except Exception as error:
            if passes(error):
                raise
            self._lost(error)

    def end(self, record: CallRecord) -> None:
        """
        Keep the account of a call that is over; twice is as good as once. Never waits.

        Never raises, but what the program raises by a signal meanwhile: then it may not
        have been kept.
        """
        try:
            if not self.journal.end(record, refuse=self._block):
                self._end_when_there_is_room(record)
            if not self._started:
                self._start()
            for runner in self._runners:
                if runner.idle:
                    runner.idle = False
                    runner.bell.put(None)
        except Exception as error:
            if passes(error):
                raise
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        self.journal.count(f"fault of the ledger: {type(error).__name__}")
        log.warning("a call could not be recorded", exc_info=error)

    def _end_when_there_is_room(self, record: CallRecord) -> None:
        own = any(runner.thread is threading.current_thread() for runner in self._runners)
        while not self.journal.end(record, refuse=not (own or self._closed)):
            self._ring()
            time.sleep(0.01)

    def _start(self) -> None:
        now = time.monotonic()
        with self.journal.lock:
            if self._started or self._closed or self._stopping or now < self._start_at:
                return
            # In this order, since another thread may look at both.
            self._is_starting = True
            self._started = True
        try:
            self.journal.open()
            if not self._runners:
                self._runners = tuple(_Runner(self, courier) for courier in self._couriers)
                process.watch_multiprocessing()
            for runner in self._runners:
                runner.start()
            if self._fsync == "second" and self._syncer is None:
                syncer = threading.Thread(
                    target=_sync_each_second, args=(self,), name="ai-ledger-fsync", daemon=True
                )
                syncer.start()
                self._syncer = syncer
        except RuntimeError as error:
            # The interpreter is shutting down, or there are too many threads.
            # The journal keeps what comes, and the rest is started later.
            log.debug("no thread for delivery: %s", error)
            self._start_at = now + _START_AGAIN_SECONDS
            self._started = False
        except BaseException:
            # Interrupted by a signal: whoever comes next starts what is left.
            self._started = False
            raise
        finally:
            self._is_starting = False

    # Waiting

    def flush(self, timeout: float | None = None) -> bool:
        """
        Wait until every sink has taken every record that was there when this was called.

        Records that dead processes left behind are looked for and count as well.

        Args:
            timeout: Seconds to wait; ``None`` waits for as long as it takes.

        Returns:
            Whether they have. Records set aside as refused count as taken.
        """
        with closing(self._pauses(timeout)) as pauses:
            for pause in pauses:
                if pause is None:
                    return True
                time.sleep(pause)
        return False

    async def aflush(self, timeout: float | None = None) -> bool:
        """`flush` for coroutines."""
        import asyncio

        with closing(self._pauses(timeout)) as pauses:
            for pause in pauses:
                if pause is None:
                    return True
                await asyncio.sleep(pause)
        return False

    def _pauses(self, timeout: float | None) -> Generator[float | None]:
        """Seconds to wait, one by one: ``None`` when all is done, and the end when it will not."""
        if self._in_own_thread():
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        progress = self._flush_begun()
        pause = 0.001
        try:
            while not progress():
                if not self._can_go_on(deadline):
                    return
                yield pause
                pause = min(0.02, pause * 1.5)
            yield None
        finally:
            self.journal.hurry -= 1

    def _flush_begun(self) -> Callable[[], bool]:
        """Wake everybody up; tells whether all that was asked for has been done."""
        self.journal.hurry += 1
        if self._closed:
            # Its segments are gone from the marks, and nobody delivers what comes.
            return lambda: self._complete and self.journal.is_delivered
        if not self._started:
            self._start()
        scans: int = self.journal.scans
        own = self.journal.marks()
        marks: list[Mark] | None = None
        self._scan_at = 0.0
        self._ring()

        def progress() -> bool:
            nonlocal marks, scans
            if not self._keys:
                return True
            if not self._started:
                self._start()
            if marks is None:
                if self.journal.scans == scans and not self._closed:
                    return False
                orphans = self.journal.adopted_marks()
                marks = [*own, *orphans]
            if not all(self.journal.reached(key, marks) for key in self._keys):
                return False
            if not self.journal.has_more_orphans or self._closed:
                return True
            scans, marks, self._scan_at = self.journal.scans, None, 0.0
            self._ring()
            return False

        return progress

    def _can_go_on(self, deadline: float | None) -> bool:
        if deadline is not None and time.monotonic() >= deadline:
            return False
        return self._is_starting or any(runner.thread.is_alive() for runner in self._runners)

    def _in_own_thread(self) -> bool:
        return any(runner.thread is threading.current_thread() for runner in self._runners)

    def _ring(self) -> None:
        for runner in self._runners:
            runner.bell.put(None)

    # Ending

    def before_exit(self, callback: Callable[[], object]) -> None:
        """Have *callback* called before the last delivery, at `close` or at the program's end."""
        self._exit_callbacks.append(callback)

    def run_exit_callbacks(self) -> None:
        """Call what `before_exit` was given, once."""
        callbacks, self._exit_callbacks = self._exit_callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # the others still have to run
                log.warning("a callback before the end failed", exc_info=error)

    def close(self, timeout: float | None = None) -> bool:
        """
        Deliver what is there and close the sinks. Records that come later still journal.

        Args:
            timeout: Seconds to wait; ``None`` means ``exit_timeout``.

        Returns:
            Whether every sink has taken every record. What is left stays in the
            journal for the next process that opens it. A second call only
            repeats the answer.
        """
        if self._closed:
            return self._complete
        self.run_exit_callbacks()
        seconds = self.exit_timeout if timeout is None else timeout
        return self._end(time.monotonic() + seconds)

    def end_at_exit(self, deadline: float) -> None:
        """`close`, at the end of the program, with a line on stderr if something is left."""
        where = "lost"
        if self.journal.mode == "journal":
            where = f"kept in {self.journal.path} and sent next time"
        self.journal.is_ending = True
        if self._closed or self._end(deadline):
            return
        if sys.stderr is not None and self._left:
            # The log may be gone by now. In one piece: children may end at the same moment.
            sys.stderr.write(f"ai-ledger: {self._left} calls not delivered, {where}\n")

    def _end(self, deadline: float) -> bool:
        if not self._started and self.journal.is_untouched:
            self._closed = True
            self.journal.close(self._keys)
            # There are no threads that would do it; a store may have been asked all the same.
            for courier in self._couriers:
                # What a sink that knows nothing of forks has open is its parent's.
                knows = getattr(courier.sink, "after_fork_in_child", None) is not None
                if knows or not self._inherited:
                    _close(courier)
            return True
        self.journal.give_up_open_calls()
        self._complete = self.flush(max(0.0, deadline - time.monotonic()))
        self._stopping = True
        self._ring()
        for runner in self._runners:
            if runner.thread.is_alive() and not self._in_own_thread():
                runner.thread.join(max(0.0, deadline - time.monotonic()))
        self._closed = True
        self.journal.close(self._keys)
        self._left = max((self.journal.pending(key) for key in self._keys), default=0)
        return self._complete

    @property
    def is_running(self) -> bool:
        """Whether there may be something to deliver."""
        return not self._closed and (self._started or not self.journal.is_untouched)

    def is_at_work(self) -> bool:
        """Whether a sink that does not seem to hang has a batch in hand, in another thread."""
        now = time.monotonic()
        return any(
            (since := runner.courier.busy_since) is not None
            and now - since < _FORK_WAITS_SECONDS
            and runner.thread is not threading.current_thread()
            for runner in self._runners
        )

    def after_fork_in_child(self) -> None:
        """Start anew: what waits, and the threads, belong to the parent."""
        self.journal.after_fork_in_child()
        self._inherited = True
        closed = self._closed
        self._reset()
        self._closed = closed
        if closed:
            self.journal.close(self._keys)
        for sink in self._sinks:
            hook = getattr(sink, "after_fork_in_child", None)
            if hook is not None:
                try:
                    hook()
                except Exception as error:  # the boundary around a sink
                    log.warning("a sink failed after a fork", exc_info=error)

    # Asking and forgetting

    def health(self) -> Health:
        """What waits, what was lost and why, and how the sinks are."""
        journal = self.journal
        sinks = tuple(courier.health() for courier in self._couriers)
        pending = max((each.pending for each in sinks), default=0)
        oldest = None
        if pending:
            starts = [
                record.started_at
                for key in self._keys
                if (record := journal.oldest(key)) is not None
            ]
            if starts:
                oldest = max(0.0, (utc_now() - min(starts)).total_seconds())
        quarantine = journal.quarantine
        return Health(
            mode=journal.mode,
            folder=None if journal.path is None else str(journal.path),
            pending=pending,
            oldest_seconds=oldest,
            journal_bytes=journal.bytes,
            memory_bytes=journal.memory.bytes,
            dropped=dict(journal.dropped),
            quarantined=quarantine.count() if quarantine is not None else 0,
            sinks=sinks,
        )

    def forget(
        self, matches: Callable[[CallRecord], bool], forgotten: Callable[[CallRecord], CallRecord]
    ) -> int:
        """
        Take content and identity out of what still waits, on disk, in memory and in quarantine.

        Returns when no sink is at work any more on what it was given before, or
        after five seconds.

        Args:
            matches: Which calls.
            forgotten: What to keep of one.

        Returns:
            How many calls were changed.

        Raises:
            SinkUnavailable: The disk would not let some file be rewritten, which is
                as it was. All else is done; asking again does the rest.
        """
        try:
            return self.journal.forget(matches, forgotten)
        finally:
            self._wait_for_those_at_work()

    def _wait_for_those_at_work(self) -> None:
        now = time.monotonic()
        while time.monotonic() < now + 5.0 and any(
            (since := runner.courier.busy_since) is not None and since < now
            for runner in self._runners
        ):
            time.sleep(0.005)

    # The threads

    def _prepared(self, records: Sequence[CallRecord]) -> list[CallRecord]:
        with self._pricing:
            prepared: list[CallRecord] = []
            for number, record in enumerate(records):
                self.journal.breathe(number)
                prepared.append(self._prepared_one(record))
            return prepared

    def _prepared_one(self, record: CallRecord) -> CallRecord:
        try:
            return priced_as_calls(record, self._price)
        except Exception as error:  # part of the boundary around a sink
            self.journal.count("delivered unpriced: pricing failed")
            if not self._pricing_failed:
                self._pricing_failed = True
                log.warning("pricing failed; calls are delivered without a cost", exc_info=error)
            return record

    def run(self, runner: _Runner) -> None:
        """The life of a sink's thread."""
        courier = runner.courier
        while True:
            try:
                self._tidy()
                delay = courier.step()
            except Exception as error:  # nobody else could go on for this thread
                if not runner.has_failed:
                    runner.has_failed = True
                    log.warning("delivery to %s failed", courier.key, exc_info=error)
                delay = 1.0
            if delay == 0.0:
                continue
            if self._stopping:
                break
            if delay is None:
                self._tidy()
                self._rest(runner)
            else:
                _rang(runner.bell, delay)
        _close(courier)

    def _rest(self, runner: _Runner) -> None:
        """Wait for a record, then a little longer, so that a batch comes together."""
        runner.idle = True
        if self.journal.next_batch(runner.courier.key, 1) is None:
            woken = _rang(runner.bell, _SCAN_SECONDS)
        else:
            woken = True
        runner.idle = False
        if woken and not self.journal.hurry and not self._stopping:
            _rang(runner.bell, _LINGER_SECONDS)

    def _tidy(self) -> None:
        if not self._started:
            self._start()
        now = time.monotonic()
        scan = now >= self._scan_at
        waiting = [
            runner.courier.key
            for runner in self._runners
            if runner.courier.durable
            or (since := runner.courier.busy_since) is None
            or now - since < _STUCK_SECONDS
        ]
        if self.journal.tidy(waiting, scan=scan) and scan:
            self._scan_at = now + _SCAN_SECONDS


class _Runner:
    """A courier and its thread."""

    def __init__(self, delivery: Delivery, courier: Courier) -> None:
        self.courier = courier
        self.idle = False
        self.has_failed = False
        # Putting into a SimpleQueue is safe even from a finalizer that
        # interrupts another put, which setting an Event is not.
        self.bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._delivery = delivery
        self._has_started = False
        self.thread = self._new_thread()

    def start(self) -> None:
        """
        Begin, once.

        Raises:
            RuntimeError: No thread can be started now.
        """
        if self._has_started:
            return
        # A thread object that could not be started is not promised to work later.
        self.thread = self._new_thread()
        # Before: interrupted by a signal it runs nevertheless, and must not run twice.
        self._has_started = True
        try:
            self.thread.start()
        except RuntimeError:
            self._has_started = False
            raise

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(
            target=self._delivery.run,
            args=(self,),
            name=f"ai-ledger-{self.courier.key}",
            daemon=True,
        )


def _close(courier: Courier) -> None:
    close = getattr(courier.sink, "close", None)
    if close is not None:
        try:
            close()
        except Exception as error:  # the boundary around a sink
            log.warning("%s could not be closed", courier.key, exc_info=error)


def _rang(bell: queue.SimpleQueue[None], seconds: float) -> bool:
    """Wait for the bell; rung several times, it is answered once."""
    try:
        bell.get(timeout=seconds)
        while True:
            try:
                bell.get_nowait()
            except queue.Empty:
                return True
    except queue.Empty:
        return False


def _sync_each_second(delivery: Delivery) -> None:
    while delivery.is_running:
        time.sleep(_SYNC_SECONDS)
        delivery.journal.sync()


def _keys(sinks: Sequence[Sink]) -> tuple[str, ...]:
    keys: list[str] = []
    for sink in sinks:
        name = str(getattr(sink, "name", None) or type(sink).__name__)
        same = sum(key == name or key.startswith(f"{name} #") for key in keys)
        keys.append(f"{name} #{same + 1}" if same else name)
    return tuple(keys)
