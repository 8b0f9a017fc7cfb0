"""`Recent`: answers that take long to find, found once for all who ask, and kept for a minute."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
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
_MAX_EACH: Final = 8
"""So many questions of one organisation are being answered or wait for that."""
_log = logging.getLogger(__name__)


class Found:
    """
    An answer that is being found, or was.

    Args:
        asked_at: When the work began: the answer holds for this moment.
        whose: Who shares the room for questions that wait.
    """

    def __init__(self, asked_at: datetime, whose: Hashable = None) -> None:
        self.asked_at: Final = asked_at
        self.whose: Final = whose
        self.begun: Final = monotonic()
        """When somebody asked first; seconds of `time.monotonic`."""
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
        at_once: So many questions are worked on at the same time; others wait, and those
            of each who asks are taken in turn.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._lock = threading.Lock()
        self._at_once = at_once
        self._working = 0
        self._found: OrderedDict[Hashable, Found] = OrderedDict()
        self._lines: OrderedDict[Hashable, deque[tuple[Found, Callable[[], Any]]]] = OrderedDict()

    def ask(
        self,
        key: Hashable,
        now: datetime,
        work: Callable[[], Any],
        *,
        kept_s: float = KEPT_S,
        whose: Hashable = None,
    ) -> Found:
        """
        The answer that is kept under *key*, or one that *work* finds from now on.

        Args:
            key: What is asked.
            now: When; aware.
            work: Finds it, in another thread.
            kept_s: How long it is shown again.
            whose: Who asks, so that nobody takes the room of the others; ``None`` for
                who may take all of it.

        Raises:
            SinkUnavailable: Too many are being found already.
        """
        with self._lock:
            known = self._found.get(key)
            if known is not None and known.is_fresh(kept_s):
                self._found.move_to_end(key)
                return known
            waiting = [each.whose for each in self._found.values() if not each.ready]
            if len(waiting) >= _MAX_WAITING or (
                whose is not None and waiting.count(whose) >= _MAX_EACH
            ):
                raise _too_many()
            self._more_hands()
            found = self._found[key] = Found(now, whose)
            self._found.move_to_end(key)
            self._lines.setdefault(whose, deque()).append((found, work))
            while len(self._found) > _MAX_KEPT:
                oldest = next((k for k, each in self._found.items() if each.ready), None)
                if oldest is None:
                    break
                del self._found[oldest]
        return found

    def clear(self) -> None:
        """Show no answer again that was found until now, or is being found."""
        with self._lock:
            self._found.clear()

    def _more_hands(self) -> None:
        """
        Another thread for what waits, unless there are enough.

        Raises:
            SinkUnavailable: There is none, and no other can be started.
        """
        if self._working >= self._at_once:
            return
        # A daemon: whoever stops the console does not wait for an answer nobody will read.
        thread = threading.Thread(target=self._run, name="ai-ledger-recent", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # as many as the machine allows
            if not self._working:
                raise _too_many() from error
        else:
            self._working += 1

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._lines:
                    self._working -= 1
                    return
                whose, line = self._lines.popitem(last=False)
                found, work = line.popleft()
                if line:
                    self._lines[whose] = line  # behind those of the others
            found.run(work)


def _too_many() -> SinkUnavailable:
    return SinkUnavailable("too many long questions are being answered: ask again soon")


def recent_of(house: House, what: str = "costs", *, at_once: int = AT_ONCE) -> Recent:
    """
    The answers of the console over *house* about *what*, which wait for no others.

    Args:
        house: Whose.
        what: Each has a line of its own.
        at_once: As for `Recent`, where it is made now.
    """
    return house.kept(f"recent answers: {what}", lambda: Recent(at_once))
