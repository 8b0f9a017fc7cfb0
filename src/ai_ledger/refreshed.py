"""`Refreshed`: what others change as well, read again behind the backs of those who use it."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_NEVER = -math.inf
_AT_ONCE = 4
"""Edits that come faster than they can be read do not make a thread each."""


class Reading(threading.Event):
    """A reading in the background, set when it is over. It began *began_at*, by the clock."""

    def __init__(self, began_at: float) -> None:
        super().__init__()
        self.began_at = began_at


class Refreshed(Generic[T]):
    """
    What was last read of something that others change as well. Threads share it.

    The rule: a reading holds until it is *max_age_s* old, or until this process edits what
    was read. When it is *refresh_s* old it is read again in the background, and those who
    use it go on with what they have. When nothing holds, whoever needs it chooses: `catch_up`
    reads in its own thread, `soon` in the background, to be waited for as long as one likes.
    A reading takes the place of those that began before it and of no others, so what was
    read before an edit never takes the place of what was read after it.

    `current`, `last` and `soon` read nothing and wait for no lock: they are for event loops
    and finalizers, too.

    Args:
        read: Reads. It is given what was read before, which it may give back when that is
            still true; nothing, when an edit has come since. In any thread, and in several
            at once.
        failed: Told why a reading in the background failed. What was read before stays.
        name: Of the thread.
        refresh_s: So long after a reading began the next one is due.
        max_age_s: So long after it began what was read holds; without end, if left out.
        retry_s: So long after it failed `catch_up` does not try again, unless there was an edit.
        clock: Seconds.
    """

    def __init__(
        self,
        read: Callable[[T | None], T],
        failed: Callable[[Exception], None],
        *,
        name: str,
        refresh_s: float,
        max_age_s: float = math.inf,
        retry_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last: T | None = None
        """What was last read, whether it holds or not."""
        self.clock = clock
        self._read = read
        self._failed = failed
        self._name = name
        self._refresh_s = refresh_s
        self._max_age_s = max_age_s
        self._retry_s = retry_s
        # Readings and edits have one row of numbers, so that it is known which came first.
        self._count = 0
        self._edit = 0
        self._number = 0
        self._holds_until = self._due = self._failed_until = _NEVER
        self._failure = ""
        self._start()

    def _start(self) -> None:
        # Re-entrant, because a finalizer may need what is read in the middle of a reading.
        self._counting = threading.RLock()
        self._turn = threading.RLock()
        # Those in the background, by the last edit before them: one for each, and no lock,
        # since what a dictionary does in one step no thread and no finalizer comes between.
        self._under_way: dict[int, Reading] = {}

    def current(self) -> T | None:
        """What was read, if it holds; read again in the background if that is due."""
        now = self.clock()
        if now >= self._holds_until:
            return None
        if now >= self._due:
            self.soon()
        return self.last

    @property
    def has_failed(self) -> bool:
        """Whether `catch_up` would not try, because it has failed a short while ago."""
        return self.clock() < self._failed_until

    def soon(self) -> Reading | None:
        """
        The reading that is under way in the background; begun, if one is due.

        One that began before the last edit does not count: then there is another one,
        unless `_AT_ONCE` are under way, of which the newest is given.
        """
        edit = self._edit
        reading = self._under_way.get(edit)
        if reading is not None:
            return reading
        if len(self._under_way) >= _AT_ONCE:
            return next(reversed(list(self._under_way.values())), None)
        if self._count != edit and self.clock() < self._due:
            return None
        # Python before 3.12 would wait for ever for a thread that is begun at its end.
        if sys.is_finalizing():
            return None
        own = Reading(self.clock())
        reading = self._under_way.setdefault(edit, own)
        if reading is not own:
            return reading  # another thread was quicker
        thread = threading.Thread(
            target=self._read_behind, args=(edit, own), name=self._name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends and starts no thread any more
            self._end(edit, own)
            return None
        return own

    def catch_up(self) -> str | None:
        """
        Read in this thread, unless another one was quicker or has just failed.

        One thread reads; those who come meanwhile wait for it.

        Returns:
            Why it was not tried: what went wrong a short while ago. ``None`` when all is well.

        Raises:
            Exception: What reading raises.
        """
        with self._turn:
            if self.clock() < self._holds_until:
                return None
            if self.has_failed:
                return self._failure
            edit = self._edit
            try:
                self._replace(self._before())
            except Exception as error:
                with self._counting:
                    # What failed before an edit says nothing of a reading after it.
                    if edit == self._edit:
                        self._failure = str(error)
                        self._failed_until = self.clock() + self._retry_s
                raise
        return None

    def read(self) -> None:
        """
        Read in this thread, whatever is known; nobody else waits for it.

        Raises:
            Exception: What reading raises.
        """
        self._replace(None)

    def edited(self) -> None:
        """This process has changed what was read: nothing that was read before holds."""
        # Not under the lock that readers hold for as long as what they ask is slow.
        with self._counting:
            self._holds_until = self._failed_until = _NEVER
            self._edit = self._count = self._count + 1

    def due_in(self, seconds: float) -> None:
        """The next reading in the background is due so many seconds from now."""
        self._due = self.clock() + seconds

    def after_fork_in_child(self) -> None:
        """Go on with what was read, without the threads of the parent and their locks."""
        if self._under_way or self.clock() >= self._holds_until:
            self._due = _NEVER
        self._failed_until = _NEVER
        self._start()

    def _before(self) -> T | None:
        return self.last if self._number > self._edit else None

    def _replace(self, before: T | None) -> None:
        with self._counting:
            number = self._count = self._count + 1
            began_at = self.clock()
            # First, so that `read` may say when it wants to be asked again.
            self._due = began_at + self._refresh_s
        value = self._read(before)
        with self._counting:
            if number > self._number:
                self.last, self._number = value, number
                if number > self._edit:
                    self._holds_until = began_at + self._max_age_s

    def _read_behind(self, edit: int, reading: Reading) -> None:
        try:
            self._replace(self._before())
        except Exception as error:  # noqa: BLE001 - its owner knows what it means
            self._failed(error)
        finally:
            self._end(edit, reading)

    def _end(self, edit: int, reading: Reading) -> None:
        self._under_way.pop(edit, None)
        reading.set()
