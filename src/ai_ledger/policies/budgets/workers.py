"""Threads that ask the store for calls, where no handler of a signal can interrupt them."""

from __future__ import annotations

import _thread
import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeAlias, TypeVar

T = TypeVar("T")

_Jobs: TypeAlias = "queue.SimpleQueue[Callable[[], object] | weakref.ref[Workers]]"

_LOOKS_S: Final = 0.5


class Workers:
    """
    A few threads, started when they are needed, to wait for.

    What a handler of a signal raises comes into the main thread between any two
    instructions: also after a lock was taken and before whoever would release it again
    knows, in the pools of SQLAlchemy and the conditions of `threading` as well. Such a lock
    stays taken for ever. Here the caller holds nothing that anybody else waits for.
    `ThreadPoolExecutor` takes conditions where work is handed over.

    Args:
        most: How many threads at the most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._jobs: _Jobs = queue.SimpleQueue()
        # One for each that has nothing to do; what is lost of it costs one thread more.
        self._idle: list[None] = []
        self._own: set[int] = set()
        self._process = os.getpid()
        # Its threads end when nobody has it any more. What runs then is no Python, so that
        # what a handler raises is not lost in it.
        self._gone = weakref.ref(self, self._jobs.put)

    def run(self, work: Callable[[], T], undo: Callable[[], object] | None = None) -> T:
        """
        What *work* returns or raises, in another thread.

        Args:
            work: Is not begun, or goes on alone, when the wait for it is interrupted.
            undo: Called after it then.
        """
        if sys.is_finalizing() or threading.get_ident() in self._own:
            # Without threads, or when who is warned of a budget makes a call, which
            # must not wait for a thread that waits for it.
            return work()
        job = _Job(work, undo)
        try:
            if not self._give(job):
                return work()
            while not job.done.acquire(True, _LOOKS_S):
                if os.getpid() != self._process:
                    return work()  # a handler has forked, and this is the child
        except BaseException:
            job.give_up()
            raise
        return job.result()

    def submit(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """
        The same, to be awaited.

        Raises:
            RuntimeError: The interpreter is shutting down.
        """
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work(*args)
            except BaseException as error:  # noqa: BLE001  # raised where it is awaited
                future.set_exception(error)
            else:
                future.set_result(result)

        if sys.is_finalizing() or not self._give(job):
            raise RuntimeError("no thread can be started")
        return future

    def _give(self, job: Callable[[], object]) -> bool:
        try:
            self._idle.pop()
        except IndexError:
            if self._started < self._most and not self._start() and not self._started:
                return False
        self._jobs.put(job)
        return True

    def _start(self) -> bool:
        try:
            # `Thread.start` waits for an `Event`, which is a condition.
            _thread.start_new_thread(_begin, (self._jobs, self._idle, self._own, self._gone))
        except RuntimeError:  # the interpreter is shutting down, or there are too many
            return False
        self._started += 1
        return True


class _Job(Generic[T]):
    """Work that one thread does and another one waits for."""

    def __init__(self, work: Callable[[], T], undo: Callable[[], object] | None) -> None:
        self._work = work
        self._undo = undo
        self._given_up = self._over = False
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Lock()
        """Taken until it is over."""
        self.done.acquire()

    def __call__(self) -> None:
        try:
            if not self._given_up:
                self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._error = error
        self._over = True
        # Whoever of the two comes second sees what the first has said.
        if self._given_up:
            self._undone()
        self.done.release()

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._given_up = True
        if self._over:
            self._undone()

    def result(self) -> T:
        """What it has returned or raised, once it is done."""
        error, self._error = self._error, None
        if error is None:
            return self._result[0]
        try:
            raise error
        finally:
            del error  # else it and this frame hold each other

    def _undone(self) -> None:
        if self._undo is not None:
            self._undo()


def _begin(*everything: Any) -> None:
    thread = threading.Thread(target=_work, args=everything, name="ai-ledger-budgets", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # there may be one too many already
        _work(*everything)


def _work(jobs: _Jobs, idle: list[None], own: set[int], gone: weakref.ref[Workers]) -> None:
    me = threading.get_ident()
    own.add(me)
    try:
        while True:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                idle.append(None)
                job = jobs.get()
            if isinstance(job, weakref.ref):
                break
            job()
            del job  # what it has is not kept until the next one comes
    finally:
        own.discard(me)
        jobs.put(gone)  # for the others
