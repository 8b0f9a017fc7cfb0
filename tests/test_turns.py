"""SQLite within one process: who writes, and who is inside when it forks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from ai_ledger import Ledger
from ai_ledger.database.engine import Database
from ai_ledger.database.turns import Turns
from ai_ledger.errors import SinkUnavailable
from ai_ledger.sinks.sql.shared import shared_database


def test_one_thread_writes_at_a_time(tmp_path: Path) -> None:
    """
    Connections of one process take turns, and who waits too long is told.
    """
    turns, path = Turns(), tmp_path / "ledger.db"
    with turns.inside(path, writes=True, timeout_s=60):

        def write() -> None:
            with turns.inside(path, writes=True, timeout_s=0.01):
                pass

        assert isinstance(failure_of(write), TimeoutError)

        def others() -> None:
            with turns.inside(path, writes=False, timeout_s=0.01):
                pass
            with turns.inside(tmp_path / "other.db", writes=True, timeout_s=0.01):
                pass

        assert failure_of(others) is None
    assert failure_of(write) is None


def failure_of(step: object) -> Exception | None:
    failures: list[Exception] = []

    def run() -> None:
        try:
            step()  # type: ignore[operator]  # pyright: ignore
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return failures[0] if failures else None


def test_a_writer_that_hangs_is_an_unavailable_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The other connections of the process say so, and go on once it has ended.
    """
    monkeypatch.setattr("ai_ledger.database.engine.LOCK_TIMEOUT_S", 0.01)
    first, second = (Database(f"sqlite:///{tmp_path}/ledger.db") for _ in range(2))

    def one(connection: sa.Connection) -> int:
        return connection.execute(sa.select(sa.literal(1))).scalar_one()

    def hang(connection: sa.Connection) -> Exception | None:
        return failure_of(lambda: second.writing(one))

    assert isinstance(first.writing(hang), SinkUnavailable)
    assert second.writing(one) == 1
    first.close()
    second.close()


def test_a_fork_waits_until_all_are_out(tmp_path: Path) -> None:
    """
    Nobody is let in between, and afterwards everybody is.
    """
    turns, path = Turns(), tmp_path / "ledger.db"
    inside, leave, forked = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def stay() -> None:
        with turns.inside(path, writes=False, timeout_s=60):
            inside.set()
            leave.wait(60)
            order.append("out")

    def come() -> None:
        with turns.inside(path, writes=False, timeout_s=60):
            order.append("in")

    staying, coming = threading.Thread(target=stay), threading.Thread(target=come)
    staying.start()
    assert inside.wait(60)

    def fork() -> None:
        turns.before_fork()
        order.append("fork")
        coming.start()
        forked.wait(60)
        turns.after_fork_in_parent()

    forking = threading.Thread(target=fork)
    forking.start()
    leave.set()
    staying.join(60)
    while "fork" not in order:
        assert forking.is_alive()
    assert order == ["out", "fork"]
    forked.set()
    forking.join(60)
    coming.join(60)
    assert order == ["out", "fork", "in"]


@pytest.mark.parametrize("with_ledger", [False, True])
def test_children_forked_while_threads_write_can_write(tmp_path: Path, with_ledger: bool) -> None:
    """
    A child finds no lock of a thread that it does not have.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger(url) if with_ledger else None
    database = shared_database(url)
    database.writing(lambda connection: connection.exec_driver_sql("CREATE TABLE t (a)").close())
    stop = threading.Event()

    def insert(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)").close()

    def write() -> None:
        while not stop.is_set():
            database.writing(insert)
            with database.reading() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM t").close()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    database.writing(insert)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        if ledger is not None:
            ledger.close()
