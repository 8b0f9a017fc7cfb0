"""Signals: a flush before the program dies of one, for those who want it."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from ai_ledger.ledger import living_ledgers


def install_signal_flush(*signals: int, timeout: float = 3.0) -> None:
    """
    Deliver what waits when a signal arrives, then go on as without this.

    The journal makes this needless for keeping records: what a signal leaves
    behind is delivered by the next program that opens the ledger. It is for
    those whose next program comes late, or runs on another machine.

    Whatever handled the signal before is called afterwards; where nothing did,
    the program dies of the signal. To be called from the main thread.

    Args:
        signals: ``SIGTERM`` when left out.
        timeout: Seconds that delivery may take at the most.
    """
    for number in signals or (signal.SIGTERM,):
        previous = signal.getsignal(number)
        signal.signal(number, _handler(previous, timeout))


def _handler(previous: Any, timeout: float) -> Any:
    def flush_and_go_on(number: int, frame: FrameType | None) -> None:
        # In a thread of its own, because the signal may have interrupted this one
        # in the middle of an append, with the journal's lock in its hands.
        flush = threading.Thread(target=_flush_all, args=(timeout,), daemon=True)
        flush.start()
        flush.join(timeout)
        if callable(previous):
            previous(number, frame)
        elif previous != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    return flush_and_go_on


def _flush_all(timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for ledger in living_ledgers():
        ledger.flush(max(0.0, deadline - time.monotonic()))
