"""The database as alerts use it: nobody is in the middle of anything when the program forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ai_ledger.database.engine import Database
    from ai_ledger.query import Query
    from ai_ledger.records import CallRecord
    from ai_ledger.sinks.sql.reader import Reader

T = TypeVar("T")

_LONGEST_WAIT_S: Final = 5.0

_gate = threading.RLock()
_held = False


class Access:
    """
    A `Database`, used by one thread at a time.

    A child that was forked while a thread read SQLite would find the file locked for
    ever by a thread that it does not have. So a fork waits for whoever is at work here.

    Args:
        database: Shared by everything in this process.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.kind: Final = database.kind

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """As `Database.reading`."""
        with _gate, self._database.reading() as connection:
            yield connection

    def writing(self, work: Callable[[Connection], T]) -> T:
        """As `Database.writing`."""
        with _gate:
            return self._database.writing(work)


def calls_of(store: Reader, query: Query, *, limit: int) -> list[CallRecord]:
    """The newest calls meant by *query*, without their texts."""
    return store.calls(
        query,
        limit=limit,
        offset=0,
        after=None,
        order="started_at",
        descending=True,
        content=False,
    )


def _before_fork() -> None:
    global _held
    if _gate.acquire(timeout=_LONGEST_WAIT_S):
        _held = True


def _after_fork_in_parent() -> None:
    global _held
    if _held:
        _held = False
        _gate.release()


def _after_fork_in_child() -> None:
    global _gate, _held
    _gate = threading.RLock()
    _held = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
