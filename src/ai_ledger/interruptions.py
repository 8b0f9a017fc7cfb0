"""Interruptions: what the program raises by a signal, into whatever its thread is doing."""

from __future__ import annotations

import functools
import inspect
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any


def interruption(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """
    What a handler of a signal has raised, if that is behind *error*: the innermost.

    Args:
        error: As for `behind`.
        handled: As for `behind`.
    """
    # What a library wraps it in is raised with its traceback, and looks like one.
    found = None
    for each in behind(error, handled):
        if is_interruption(each):
            found = each
    return found


def passes(error: BaseException) -> bool:
    """Whether *error* itself, raised in the bookkeeping, goes on to the program: see `passing`."""
    return not isinstance(error, Exception) or is_interruption(error)


def passing(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """
    What of *error*, raised in the bookkeeping, is none of its faults and goes on to the program.

    Args:
        error: As for `behind`.
        handled: As for `behind`.
    """
    return interruption(error, handled) if isinstance(error, Exception) else error


def acquire(lock: threading.Lock | threading.RLock, seconds: float, got: list[bool]) -> None:
    """
    Put into *got* whether *lock* could be taken within *seconds*.

    Whoever calls this in a ``try`` knows in its ``finally`` whether there is anything to
    release. What ``lock.acquire(timeout=…)`` returns is lost when a handler of a signal
    raises before it is kept; but none runs before `list.extend` is over.
    """
    got.extend(map(lock.acquire, (True,), (seconds,)))


def behind(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """
    *error*, and what it has come of.

    Args:
        error: May complain of the state that an interruption has left something in, such
            as a connection in the middle of an answer.
        handled: What `sys.exception` was before. It stands behind all that is raised while
            it is handled, and has nothing to do with it.
    """
    each: BaseException | None = error
    # ``raise error from error`` makes a ring of it.
    seen: set[int] = set()
    while each is not None and each is not handled and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def is_interruption(error: BaseException) -> bool:
    """
    Whether a handler of a signal has raised *error*, such as the time limit of a worker's task.

    Then it is no fault of the code in which it appears, whatever its class is. What
    comes into a thread in other ways (``PyThreadState_SetAsyncExc``, the hub of greenlets)
    has no mark of that, and cannot be told from a fault.
    """
    handlers = set(_handlers())
    return any(
        frame.f_code in handlers and _is_handling(frame)
        for frame, _ in walk_tb(error.__traceback__)
    )


def _is_handling(frame: FrameType) -> bool:
    """
    Whether it was called as a handler is: with the number of a signal, and a frame.

    All functions that one decorator has wrapped have the same code.
    """
    code, values = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount]
    given = [values.get(name) for name in names]
    if code.co_flags & inspect.CO_VARARGS:
        given.extend(values.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ()))
    return any(
        isinstance(number, int) and isinstance(interrupted, FrameType)
        for number, interrupted in pairwise(given)
    )


def _handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if callable(handler):
            # A function or a method; or an object.
            for function in (handler, type(handler).__call__):
                code = getattr(function, "__code__", None)
                if isinstance(code, CodeType):
                    yield code
