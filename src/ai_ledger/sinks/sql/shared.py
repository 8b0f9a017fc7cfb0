"""The database of a ledger, for what is not a record: budgets, the catalogue, words, alerts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Final

from ai_ledger.errors import ConfigurationError
from ai_ledger.forks import after_fork_in_child
from ai_ledger.loading import loading
from ai_ledger.sinks.sql.sink import SQLSink

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database

# Enough for threads that reserve at the same time; servers count connections dearly.
WRITERS: Final = 4

before_closing: Final[list[Callable[[], AbstractContextManager[object]]]] = []
"""What `close_databases` enters first: threads that use them on their own let go of them."""

_lock = threading.Lock()
_databases: dict[str, Database] = {}
_quick: dict[str, Database] = {}


def database_url_of(where: object) -> str:
    """
    The URL of the SQL store of *where*: a URL, an `SQLSink`, or something that has sinks.

    Args:
        where: A URL as `open_sink` takes it, a sink, or a `Ledger`.

    Raises:
        ConfigurationError: There is no SQL store.
    """
    if isinstance(where, str):
        return where
    for sink in getattr(where, "sinks", (where,)):
        if isinstance(sink, SQLSink):
            return sink.url
    raise ConfigurationError(
        f"{where!r} has no SQL store: open the ledger with sqlite:, postgresql: or mysql:"
    )


def shared_database(where: object, *, timeout_s: float = 30.0) -> Database:
    """
    One `Database` for each URL in this process, apart from the one that delivers records.

    Its tables are verified, and made in an SQLite file that has none. Threads share it.

    Args:
        where: As for `database_url_of`.
        timeout_s: How long any one transaction may take; the first caller's counts.

    Raises:
        ConfigurationError: There is no SQL store.
        MissingExtra: The driver is not installed.
        SchemaError: The tables are not those of this version.
        SinkUnavailable: The database is away.
    """
    url = database_url_of(where)
    known = _databases.get(url)
    if known is not None:
        return known
    with loading:
        from ai_ledger.database.engine import Database
        from ai_ledger.database.upgrade import make_ready

        database = Database(url, timeout_s=timeout_s, writers=WRITERS)
    try:
        make_ready(database)
    except BaseException:
        database.close()
        raise
    with _lock:
        kept = _databases.setdefault(url, database)
    if kept is not database:
        database.close()
    return kept


def quick_database(where: object, *, timeout_s: float) -> Database:
    """
    Another `Database` for each URL, whose time-out is for whoever cannot wait.

    Args:
        where: As for `database_url_of`.
        timeout_s: How long any one transaction may take; the first caller's counts.

    Raises:
        AILedgerError: As for `shared_database`, which sees to the tables.
    """
    url = database_url_of(where)
    known = _quick.get(url)
    if known is not None:
        return known
    shared_database(where)
    from ai_ledger.database.engine import Database

    # Until it is used it has no connection, so one too many is nothing.
    return _quick.setdefault(url, Database(url, timeout_s=timeout_s, writers=WRITERS))


def close_databases() -> None:
    """Close all shared databases; the next use opens new ones."""
    with ExitStack() as stack:
        for each in before_closing:
            stack.enter_context(each())
        with _lock:
            databases = [*_databases.values(), *_quick.values()]
            _databases.clear()
            _quick.clear()
        for database in databases:
            database.close()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for database in (*_databases.values(), *_quick.values()):
        database.after_fork_in_child()


after_fork_in_child(_after_fork_in_child)
