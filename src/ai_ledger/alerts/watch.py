"""`Watch`: looks at alerts again and again, in a daemon thread of this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from ai_ledger.errors import InvalidValue
from ai_ledger.secrets import scrub

log: Final = logging.getLogger("ai_ledger.alerts")

SHORTEST_S: Final = 1.0
_STOP_S: Final = 5.0


class Watch:
    """
    A look at something, a pause, until it is stopped.

    Threads may share one instance; a forked child has no such thread before it starts one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def is_on(self) -> bool:
        """Whether the thread runs in this process."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self, look: Callable[[], object], every_s: float) -> None:
        """
        Begin to call *look*; does nothing when something is watched already.

        Args:
            look: What it raises is logged once, until it goes well again.
            every_s: Seconds from the end of one look to the next, at least 1.

        Raises:
            InvalidValue: Fewer.
        """
        if type(every_s) not in (int, float) or not SHORTEST_S <= every_s <= threading.TIMEOUT_MAX:
            raise InvalidValue("every_s", every_s, f"a number of seconds from {SHORTEST_S:g} on")
        with self._lock:
            if self.is_on:
                return
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=_again_and_again,
                args=(look, every_s, self._stopping),
                name="ai-ledger-alerts",
                daemon=True,
            )
            self._thread.start()

    def stop(self) -> None:
        """Look no more; waits up to five seconds for a look in progress."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_S)

    def after_fork_in_child(self) -> None:
        """Begin without the parent's thread."""
        self._lock = threading.Lock()
        self._thread = None
        self._stopping = threading.Event()


def _again_and_again(look: Callable[[], object], every_s: float, stopping: threading.Event) -> None:
    failing = False
    while not stopping.is_set():
        try:
            look()
            failing = False
        except Exception as error:  # noqa: BLE001  # the boundary of the thread
            if not failing:
                said = scrub(f"{type(error).__name__}: {error}")[:300]
                log.warning("alerts could not be looked at, and are again in a while: %s", said)
            failing = True
        stopping.wait(every_s)
