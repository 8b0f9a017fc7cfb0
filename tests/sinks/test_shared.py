"""One database for each URL, for what is not a record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sqlite3 import ProgrammingError
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from ai_ledger import Ledger
from ai_ledger.database.changes import MAX_CHANGES, changes_of, editor, note_change, whoever
from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.sinks.sql.shared import close_databases, shared_database
from ai_ledger.testing import memory_ledger


def test_one_for_each_url(sql_url: str) -> None:
    """
    A ledger and its URL mean the same database, which is there after the first use.
    """
    with Ledger(sql_url) as ledger:
        database = shared_database(ledger)
        assert shared_database(sql_url) is database
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.literal(1))).scalar() == 1
        close_databases()
        assert shared_database(sql_url) is not database


def test_none() -> None:
    """
    What has no SQL store says so.
    """
    with memory_ledger() as ledger, pytest.raises(ConfigurationError, match="no SQL store"):
        shared_database(ledger)


def test_history(sql_url: str) -> None:
    """
    Edits come back newest first, and those of other things stay away.
    """
    database = shared_database(sql_url)

    def edit(connection: sa.Connection) -> None:
        note_change(connection, "word", "1", before=None, after={"text": "敏感"}, by="ada")
        note_change(connection, "word", "1", before={"text": "敏感"}, after=None, by=None)
        note_change(connection, "word", "2", before=None, after={}, by="ada")

    database.writing(edit)
    with database.reading() as connection:
        newest, oldest = changes_of(connection, "word", "1")
    assert (oldest.before, oldest.after, oldest.changed_by) == (None, {"text": "敏感"}, "ada")
    assert (newest.before, newest.after, newest.changed_by) == ({"text": "敏感"}, None, None)


@pytest.mark.parametrize("limit", [0, -1, MAX_CHANGES + 1, True, 1.0, "5", None])
def test_a_limit_that_cannot_be(sql_url: str, limit: object) -> None:
    """
    A history of less than one edit, or of too many, is refused by all databases alike.
    """
    with (
        shared_database(sql_url).reading() as connection,
        pytest.raises(InvalidValue, match="limit="),
    ):
        changes_of(connection, "word", "1", limit=limit)  # pyright: ignore[reportArgumentType]


def test_who_edits() -> None:
    """
    A name is kept as labels are; without one it is the user of this process.
    """
    assert editor("ada") == "ada"
    assert len(editor("é" * 1_000) or "") == 255
    assert editor(None) == whoever()


@pytest.mark.parametrize("by", ["", " ", "\t\n", 5, b"ada", False])
def test_nobody_edits(by: object) -> None:
    """
    What is no name of anybody is refused.
    """
    with pytest.raises(InvalidValue, match="by="):
        editor(by)


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    """
    What did not open is not kept.
    """
    url = f"sqlite:///{tmp_path}/missing/ledger.db"
    for _ in range(2):
        with pytest.raises(Exception, match="missing"):
            shared_database(url)
    (tmp_path / "missing").mkdir()
    shared_database(url)


def test_a_connection_that_is_in_use_is_closed_when_it_is_let_go(sql_url: str) -> None:
    """
    Whoever is at work while the databases are closed leaves nothing open behind.
    """
    database = shared_database(sql_url)
    with database.reading() as connection:
        raw = connection.connection.driver_connection
        close_databases()
        assert connection.execute(sa.select(sa.literal(1))).scalar() == 1
    assert raw is not None
    assert _is_closed(database.kind, raw)


def test_a_connection_that_was_being_opened_is_closed_when_it_is_let_go(sql_url: str) -> None:
    """
    All are closed while a thread waits for one: it may use it, and keeps it no longer.
    """
    database = shared_database(sql_url)
    database.close()
    opening, go_on = threading.Event(), threading.Event()
    raws: list[Any] = []

    def opened(raw: Any, _: object) -> None:
        raws.append(raw)
        opening.set()
        assert go_on.wait(60)

    event.listen(database.reader, "connect", opened)

    def reads() -> Any:
        with database.reading() as connection:
            return connection.scalar(sa.select(sa.literal(1)))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(reads)
        assert opening.wait(60)
        close_databases()
        go_on.set()
        assert answer.result(60) == 1
    assert [_is_closed(database.kind, raw) for raw in raws] == [True]


def test_whoever_waits_for_a_connection_while_all_are_closed_gets_one(sql_url: str) -> None:
    """
    That of whoever had the last one, opened anew, and no later than it is let go.
    """
    database = shared_database(sql_url)
    pool = database.writer.pool
    # As large as it may be, so that the next one has to wait.
    held = [pool.connect() for _ in range(pool.size())]
    waits = threading.Event()

    def writes() -> Any:
        waits.set()
        with database.writer.connect() as connection:
            return connection.scalar(sa.select(sa.literal(1)))

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(writes)
        assert waits.wait(60)
        database.close()
        for each in held:
            each.close()
        assert answer.result(20) == 1
    close_databases()


def _is_closed(kind: str, raw: Any) -> bool:
    closed = {
        "sqlite": lambda: isinstance(_error(lambda: raw.execute("SELECT 1")), ProgrammingError),
        "postgresql": lambda: raw.closed,
        "mysql": lambda: not raw.open,
    }
    return bool(closed[kind]())


def _error(step: Callable[[], object]) -> Exception | None:
    try:
        step()
    except Exception as error:
        return error
    return None
