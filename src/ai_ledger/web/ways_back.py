"""`WaysBack`: what an undo of many things has to know, under a name that fits into a header."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ai_ledger.errors import NotFound

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

MAX_NAMES: Final = 1_000
MAX_THINGS: Final = 200_000
"""So many things are remembered under all names; those of the newest one in any case."""


@dataclass(frozen=True)
class _Done:
    kind: str
    scope: str | None
    things: tuple[Any, ...]


class WaysBack:
    """
    What was done to many things a moment ago. Threads share one.

    It is kept in memory alone: another console does not know it, and neither does this
    one when it is started anew. What was done stays then, and can be changed by hand.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: OrderedDict[str, _Done] = OrderedDict()

    def keep(self, kind: str, scope: str | None, things: Iterable[Any]) -> str:
        """The name under which *things* are found, by whoever is confined to the same *scope*."""
        name = uuid4().hex
        with self._lock:
            self._done[name] = _Done(kind, scope, tuple(things))
            count = sum(len(done.things) for done in self._done.values())
            while len(self._done) > 1 and (count > MAX_THINGS or len(self._done) > MAX_NAMES):
                count -= len(self._done.popitem(last=False)[1].things)
        return name

    def find(self, kind: str, scope: str | None, name: str) -> tuple[Any, ...]:
        """
        What was kept under *name*.

        Raises:
            NotFound: Nothing, or it is known no longer.
        """
        with self._lock:
            done = self._done.get(name)
        if done is None or (done.kind, done.scope) != (kind, scope):
            raise NotFound(
                "this console does not know any more what it did then: it was started anew, or "
                "has done much since; nothing was changed"
            )
        return done.things


def ways_back_of(desk: Desk) -> WaysBack:
    """Those of the console that *desk* belongs to."""
    return desk.house.kept("ways back", WaysBack)
