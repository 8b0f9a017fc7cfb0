"""A signal that comes at a chosen moment, and a handler that raises."""

from __future__ import annotations

import _thread
import functools
import gc
import itertools
import signal
import sys
from collections.abc import Callable

SIGNAL = getattr(signal, "SIGUSR1", signal.SIGTERM)


def with_signal_at(moment: int, step: Callable[[], object], error: type[BaseException]) -> None:
    """
    Do *step*; when it calls something or is returned to for that time, a signal comes.

    The interpreter calls the handler, which raises *error*, where it would for a signal from
    outside: nothing of the profile function is Python.
    """
    moments = itertools.chain(
        itertools.repeat(0, 3 * moment),
        itertools.filterfalse(_thread.interrupt_main, [int(SIGNAL)]),
        itertools.repeat(0),
    )

    def handler(*_: object) -> None:
        raise error

    def interrupted() -> None:
        try:
            sys.setprofile(functools.partial(max, key=functools.partial(next, moments)))
            step()
        finally:
            sys.setprofile(None)

    before = signal.signal(SIGNAL, handler)
    # What is raised into a finalizer of somebody else's objects is lost there.
    gc.disable()
    try:
        interrupted()
    except error:
        pass
    finally:
        gc.enable()
        signal.signal(SIGNAL, before)


def moments_of(step: Callable[[], object]) -> int:
    """How many there are."""
    count = itertools.count()
    try:
        sys.setprofile(functools.partial(max, key=functools.partial(next, count)))
        step()
    finally:
        sys.setprofile(None)
    return next(count) // 3 + 1
