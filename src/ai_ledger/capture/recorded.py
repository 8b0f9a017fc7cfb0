"""Which answers are on the books already, so that a decorator never counts one twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, cast

from ai_ledger.usage import as_mapping, read_usage

_MAX_IDS: Final = 4_096
_MAX_ANSWERS: Final = 64
# Insertion order makes the oldest the first; ids outlive their call only this long.
_ids: dict[str, None] = {}


class Scope:
    """
    What was recorded while a decorated function ran, in its tasks and threads too.

    Args:
        outer: The scope of the decorated function around it, which sees it all as well.
    """

    def __init__(self, outer: Scope | None = None) -> None:
        self.calls = 0
        self._outer = outer
        # Bounded, because a decorated function may run as long as its program does.
        self._answers: deque[object] = deque(maxlen=_MAX_ANSWERS)

    def count(self) -> None:
        """Note a call."""
        self.calls += 1
        if self._outer is not None:
            self._outer.count()

    def add(self, answer: object) -> None:
        """Note a recorded *answer*."""
        self._answers.append(answer)
        if self._outer is not None:
            self._outer.add(answer)

    def has(self, answer: object) -> bool:
        """Whether this very object was recorded, or the one whose ``model_dump()`` it is."""
        return any(answer is each or _is_dump(answer, each) for each in self._answers)


def _is_dump(answer: object, other: object) -> bool:
    """Whether *answer* is *other*, an SDK's object, as a mapping; told by id without this."""
    if type(answer) is type(other) or not isinstance(answer, Mapping):
        return False
    mine, its = cast("Mapping[str, Any]", answer), as_mapping(other)
    if mine.get("id") is not None and its.get("id") is not None:
        return mine["id"] == its["id"]
    return mine.get("model") == its.get("model") and read_usage(mine.get("usage")) == read_usage(
        its.get("usage")
    )


scope: ContextVar[Scope | None] = ContextVar("ai_ledger_scope", default=None)


def begun() -> None:
    """Note that a tracked client is making a call here."""
    here = scope.get()
    if here is not None:
        here.count()


def remember(answer: Any, response_id: str | None) -> None:
    """Note that *answer*, known by *response_id*, is on the books."""
    here = scope.get()
    if here is not None and answer is not None:
        here.add(answer)
    if response_id is not None:
        _ids[response_id] = None
        if len(_ids) > _MAX_IDS:
            for old in list(_ids)[: _MAX_IDS // 2]:
                _ids.pop(old, None)


def knows(answer: object, response_id: str | None) -> bool:
    """Whether *answer* is on the books."""
    here = scope.get()
    if here is not None and here.has(answer):
        return True
    return response_id is not None and response_id in _ids
