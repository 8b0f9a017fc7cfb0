"""`Living`: the objects of one kind that must begin anew in a child process."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Forked(Protocol):
    """Has locks that a thread of the parent may hold, or threads that stay there."""

    def after_fork_in_child(self) -> None:
        """Begin anew, with locks that nobody holds."""
        ...


AnyForked = TypeVar("AnyForked", bound=Forked)


class Living(Generic[AnyForked]):
    """
    The objects of one kind in this process, as long as something else holds them.

    In a child process each of them is told after the fork. Threads share one; made once
    for each kind, since the interpreter never lets go of what is called at a fork.
    """

    def __init__(self) -> None:
        # No `WeakSet`, which breaks when another thread adds one while it is gone through.
        self._all: set[weakref.ref[AnyForked]] = set()
        after_fork_in_child(self._tell)

    def add(self, one: AnyForked) -> None:
        """Remember *one*, without holding it."""
        self._all.add(weakref.ref(one, self._all.discard))

    def __iter__(self) -> Iterator[AnyForked]:
        # One copy, in one step: others come and go meanwhile.
        refs = self._all.copy()
        return iter([one for ref in refs if (one := ref()) is not None])

    def _tell(self) -> None:
        for one in self:
            one.after_fork_in_child()


def after_fork_in_child(work: Callable[[], None]) -> None:
    """Do *work* in every child process before anything else runs there, where there are forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=work)
