"""`Recent`: answers that take long to find, found once for all who ask, and kept for a minute."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from time import monotonic
from typing import Any, Final

from ai_ledger.errors import AILedgerError, SinkUnavailable
from ai_ledger.web.house import House

KEPT_S: Final = 60.0
"""How long an answer is shown again; it says when it was found."""
AT_ONCE: Final = 2
"""So many questions of people are worked on at the same time."""
_MAX_KEPT: Final = 64
_MAX_WAITING: Final = 32
_log = logging.getLogger(__name__)


class Found:
    """
    An answer that is being found, or was.

    Args:
        asked_at: When the work began: the answer holds for this moment.
    """

    def __init__(self, asked_at: datetime) -> None:
        self.asked_at: Final = asked_at
        self._done = threading.Event()
        self._value: Any = None
        self._error: Exception | None = None
        self._finished = 0.0

    @classmethod
    def of(cls, asked_at: datetime, value: Any) -> Found:
        """One that was found at once."""
        found = cls(asked_at)
        found.run(lambda: value)
        return found

    @property
    def ready(self) -> bool:
        """Whether it was found, or could not be."""
        return self._done.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it is there after so many seconds at most."""
        return self._done.wait(seconds)

    @property
    def value(self) -> Any:
        """The answer; raises what went wrong."""
        if self._error is not None:
            raise self._error
        return self._value

    def is_fresh(self, kept_s: float) -> bool:
        """Whether it may be shown to the next who asks. What went wrong is tried again soon."""
        if not self.ready:
            return True
        return monotonic() - self._finished < (kept_s if self._error is None else 2.0)

    def run(self, work: Callable[[], Any]) -> None:
        """Find it, in this thread."""
        try:
            self._value = work()
        except AILedgerError as error:
            _log.warning("an answer could not be found: %s", error)
            self._error = error
        except Exception as error:  # noqa: BLE001 - whoever asked is told, not this thread
            _log.exception("an answer could not be found")
            self._error = error
        finally:
            self._finished = monotonic()
            self._done.set()


class Recent:
    """
    The answers of one console. Threads share one.

    The key of an answer holds the scope that it is confined to, so that nobody is
    given what was found for others.

    Args:
        at_once: So many questions are worked on at the same time; others wait.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._lock = threading.Lock()
        self._room = threading.Semaphore(at_once)
        self._found: OrderedDict[Hashable, Found] = OrderedDict()

    def ask(
        self, key: Hashable, now: datetime, work: Callable[[], Any], *, kept_s: float = KEPT_S
    ) -> Found:
        """
        The answer that is kept under *key*, or one that *work* finds from now on.

        Raises:
            SinkUnavailable: Too many are being found already.
        """
        with self._lock:
            known = self._found.get(key)
            if known is not None and known.is_fresh(kept_s):
                self._found.move_to_end(key)
                return known
            if sum(not each.ready for each in self._found.values()) >= _MAX_WAITING:
                raise SinkUnavailable("too many long questions are being answered: ask again soon")
            found = self._found[key] = Found(now)
            self._found.move_to_end(key)
            while len(self._found) > _MAX_KEPT:
                oldest = next((k for k, each in self._found.items() if each.ready), None)
                if oldest is None:
                    break
                del self._found[oldest]
        # A daemon: whoever stops the console does not wait for an answer nobody will read.
        threading.Thread(
            target=self._run, args=(found, work), name="ai-ledger-recent", daemon=True
        ).start()
        return found

    def _run(self, found: Found, work: Callable[[], Any]) -> None:
        with self._room:
            found.run(work)


def recent_of(house: House, what: str = "costs", *, at_once: int = AT_ONCE) -> Recent:
    """
    The answers of the console over *house* about *what*, which wait for no others.

    Args:
        house: Whose.
        what: Each has a line of its own.
        at_once: As for `Recent`, where it is made now.
    """
    return house.kept(f"recent answers: {what}", lambda: Recent(at_once))
