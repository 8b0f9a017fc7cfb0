"""
The state machine of a breaker, for one who answers. It knows neither clocks, threads nor calls.

::

    closed ──── a failure, and with it rate and number are reached ────▶ open
      ▲                                                                   │
      │                                                    open_s later   │ the next call
      │                                                                   ▼
      └──────────── a probe succeeds ──────────────────────────────── half_open
                                                     open ◀── the probe fails ──┘
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal, TypeAlias

import msgspec

from ai_ledger.policies.breaker.window import Window

State: TypeAlias = Literal["closed", "open", "half_open"]

_REMEMBERED_PROBES: Final = 16


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a circuit opens, and for how long. Times are seconds, as of `Breaker`."""

    failure_rate: float
    window_s: float
    min_calls: int
    open_s: float
    probe_s: float


class Circuit:
    """
    Closed, open or half-open. Not for several threads at once; all moments are *now* of one clock.

    Args:
        limits: When it opens.
    """

    __slots__ = ("_holder", "_limits", "_probes", "_until", "_window", "state")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._window = Window(limits.window_s)
        self.state: State = "closed"
        # Open: when a probe may go. Half-open: when the lease of the probe ends.
        self._until = 0.0
        self._holder: str | None = None
        # Those let through since it is half-open. A provider whose good answers take
        # longer than a lease would else never be believed.
        self._probes: deque[str] = deque(maxlen=_REMEMBERED_PROBES)

    def ask(self, call: str, now: float) -> float | None:
        """
        ``None`` lets *call* through; a number refuses it, and says when to come again.

        Args:
            call: Its id, by which `tell` knows a probe.
            now: The moment.
        """
        if self.state == "closed":
            return None
        if self.state == "open":
            if now < self._until:
                return self._until - now
            self.state = "half_open"
            self.let_go()
        elif self._holder is not None and self._holder != call and now < self._until:
            # The probe ends when it ends. If it fails, it will be open_s from then.
            return min(self._until - now, self._limits.open_s)
        self._holder = call
        self._until = now + self._limits.probe_s
        self._probes.append(call)
        return None

    def tell(self, call: str, failed: bool | None, now: float, late: bool = False) -> None:
        """
        Learn how a call ended that was let through.

        Args:
            call: Its id.
            failed: Whether who answers failed; ``None`` when the end says nothing about that.
            now: The moment.
            late: Whether it began before the circuit was closed, the last time it was.
        """
        if self.state == "closed":
            # What began in an outage says how it was then: a hundred callers that hung,
            # and time out by and by, must not open the circuit once more.
            if failed is not None and not late:
                self._count(failed, now)
        elif self.state == "half_open" and call in self._probes:
            if failed is False:
                self._close(now)
            elif call == self._holder:
                if failed:
                    self._open(now)
                else:
                    self._holder = None

    def _count(self, failed: bool, now: float) -> None:
        window, limits = self._window, self._limits
        window.add(failed, now)
        # A success never opens it, even if it is the last of min_calls.
        if (
            failed
            and window.calls >= limits.min_calls
            and window.failures / window.calls >= limits.failure_rate
        ):
            self._open(now)

    def _open(self, now: float) -> None:
        self.state = "open"
        self._until = now + self._limits.open_s
        self.let_go()

    def _close(self, now: float) -> None:
        self.state = "closed"
        self.let_go()
        self._window.clear()
        self._window.add(False, now)

    def let_go(self) -> None:
        """Forget the probes in flight: the next call may be one."""
        self._holder = None
        self._probes.clear()

    def counts(self, now: float) -> tuple[int, int]:
        """Failures and calls in the window; unless it is closed, those that opened it."""
        if self.state == "closed":
            self._window.slide(now)
        return self._window.failures, self._window.calls

    def next_probe_in(self, now: float) -> float | None:
        """Seconds until a call may be let through as a probe; ``None`` when it is closed."""
        if self.state == "closed":
            return None
        if self.state == "half_open" and self._holder is None:
            return 0.0
        return max(0.0, self._until - now)
