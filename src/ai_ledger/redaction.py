"""Redaction: the user's own function over prompts and answers, before they touch a disk."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from ai_ledger.incidents import Incidents
from ai_ledger.interruptions import acquire

FAILED: Final = "[redaction failed]"


class Redactor:
    """
    Runs ``redact(text) -> text`` so that neither its errors nor its hanging reach the call.

    The function runs in one worker thread, because a thread that hangs can only
    be left alone. While it hangs, texts are replaced at once instead of waited for.

    Args:
        redact: Takes a text, gives back what may be stored.
        timeout: Seconds that a call waits for it at the most.
        incidents: Where failures are counted.
    """

    def __init__(
        self, redact: Callable[[str], str], *, timeout: float, incidents: Incidents
    ) -> None:
        self._redact = redact
        self._timeout = timeout
        self._incidents = incidents
        self._start()

    def _start(self) -> None:
        # Reentrant, because the garbage collector may end an abandoned stream in here.
        self._lock = threading.RLock()
        self._jobs: queue.SimpleQueue[tuple[str, queue.SimpleQueue[object]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stuck: queue.SimpleQueue[object] | None = None

    after_fork_in_child = _start

    def __call__(self, text: str) -> str:
        """*text* redacted, or ``[redaction failed]``."""
        if threading.current_thread() is self._thread:
            # The same in the worker, which would wait for itself.
            return self._checked(self._result(text))
        deadline = time.monotonic() + self._timeout
        # One of its own, should the child of a fork have another one meanwhile.
        lock = self._lock
        got: list[bool] = []
        try:
            acquire(lock, self._timeout, got)
            if True not in got:
                return self._late()
            if self._stuck is not None:
                if self._stuck.empty():
                    self._incidents.note("redaction still hangs; text replaced")
                    return FAILED
                self._stuck = None
            if self._thread is None and not self._started():
                return FAILED
            answer: queue.SimpleQueue[object] = queue.SimpleQueue()
            self._jobs.put((text, answer))
            try:
                result = answer.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self._stuck = answer
                return self._late()
        finally:
            if True in got:
                lock.release()
        return self._checked(result)

    def _started(self) -> bool:
        thread = threading.Thread(
            target=self._work, args=(self._jobs,), name="ai-ledger-redact", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            # The interpreter is shutting down, or there are too many threads.
            self._incidents.note("no thread for redaction; text replaced", error)
            return False
        self._thread = thread
        return True

    def _late(self) -> str:
        self._incidents.note("redaction took too long; text replaced")
        return FAILED

    def _checked(self, result: object) -> str:
        if isinstance(result, str):
            return result
        problem = result if isinstance(result, BaseException) else TypeError("it gave no text")
        # Without its message, which may quote what was to be hidden.
        self._incidents.note("redaction failed; text replaced", problem, quote=False)
        return FAILED

    def _result(self, text: str) -> object:
        try:
            return self._redact(text)
        except BaseException as error:  # noqa: BLE001  # the user's function, in our thread
            return error

    def _work(self, jobs: queue.SimpleQueue[tuple[str, queue.SimpleQueue[object]]]) -> None:
        while True:
            text, answer = jobs.get()
            answer.put(self._result(text))
