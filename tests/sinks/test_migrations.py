"""The schema: made by migrations or at once, verified, and safe when several start together."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.databases import fresh_database

from ai_ledger.database.columns import metadata
from ai_ledger.database.engine import Database, database_url
from ai_ledger.database.tables import REVISIONS, VERSION_TABLE
from ai_ledger.database.upgrade import check, upgrade
from ai_ledger.errors import SchemaError, SinkUnavailable
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks.sql import SQLSink

SERVERS = [
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]


def differences(url: str) -> list[object]:
    """What Alembic would change to make the database at *url* like the metadata."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    engine = sa.create_engine(database_url(url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        found = compare_metadata(context, metadata)
    engine.dispose()
    return found


def test_migrations_give_the_metadata(sql_url: str) -> None:
    """
    The migrations and the tables that the code knows are the same.
    """
    upgrade(sql_url)

    assert differences(sql_url) == []
    assert check(sql_url) == "current"


def test_revisions() -> None:
    """
    The list that is read without Alembic names the migrations of the folder.
    """
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import ai_ledger.database as package

    config = Config()
    config.set_main_option("script_location", str(Path(package.__path__[0], "migrations")))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]

    assert tuple(reversed(found)) == REVISIONS


def layout(path: Path) -> list[tuple[str, str, list[tuple[object, ...]]]]:
    """Tables, indexes and columns of an SQLite file."""
    connection = sqlite3.connect(path)
    names = connection.execute(
        "SELECT type, name FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    found = [
        (kind, name, connection.execute(f"PRAGMA {kind}_xinfo('{name}')").fetchall())
        for kind, name in names
    ]
    connection.close()
    return found


def test_at_once_and_by_migration_are_the_same(tmp_path: Path) -> None:
    """
    A file made on the fly has the schema that the migrations give it.
    """
    at_once, migrated = tmp_path / "a.db", tmp_path / "b.db"
    SQLSink(f"sqlite:///{at_once}").write([])
    upgrade(f"sqlite:///{migrated}")

    assert layout(at_once) == layout(migrated)
    assert check(f"sqlite:///{at_once}") == "current"
    assert upgrade(f"sqlite:///{at_once}") == REVISIONS[-1]


def test_a_missing_file_is_not_made_by_asking(tmp_path: Path) -> None:
    """
    To check is to look: no file appears.
    """
    assert check(f"sqlite:///{tmp_path}/none.db") == "none"
    assert list(tmp_path.iterdir()) == []


def set_version(url: str, version: str) -> None:
    engine = sa.create_engine(database_url(url))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'")
    engine.dispose()


def test_a_newer_database(sql_url: str) -> None:
    """
    Tables of a newer version are left alone, and the records wait.
    """
    upgrade(sql_url)
    set_version(sql_url, "9999")
    try:
        assert check(sql_url) == "newer"
        with pytest.raises(SchemaError, match="newer version"):
            upgrade(sql_url)
        with pytest.raises(SchemaError, match="newer version"):
            SQLSink(sql_url).calls(Query.build(scope=None))
        with pytest.raises(SinkUnavailable, match="newer version"):
            SQLSink(sql_url).write([CallRecord(id=new_id(), started_at=utc_now())])
    finally:
        set_version(sql_url, REVISIONS[-1])


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_without_tables(kind: str) -> None:
    """
    On a server nothing is created; the message names the command, without the password.
    """
    with fresh_database(kind) as url:
        sink = SQLSink(url)
        with pytest.raises(SinkUnavailable, match=r"`ai-ledger db upgrade --url '\S+'`"):
            sink.write([CallRecord(id=new_id(), started_at=utc_now())])
        assert check(url) == "none"

        upgrade(url)
        sink.write([CallRecord(id=new_id(), started_at=utc_now())])
        assert len(sink.calls(Query.build(scope=None))) == 1
        sink.close()


START = """
import sys
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.database.upgrade import upgrade

url, create = sys.argv[1:]
if create == "True":
    upgrade(url)
sink = SQLSink(url)
sink.write([CallRecord(id=new_id(), started_at=utc_now()) for _ in range(5)])
sink.close()
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "sqlite upgrade", *SERVERS])
def test_several_start_at_once(kind: str, tmp_path: Path) -> None:
    """
    Processes that start together on an empty database agree on one schema.
    """
    if kind.startswith("sqlite"):
        together(f"sqlite:///{tmp_path}/ledger.db", create=kind.endswith("upgrade"))
    else:
        with fresh_database(kind) as url:
            together(url, create=True)


def together(url: str, *, create: bool) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", START, url, str(create)], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=250)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    sink = SQLSink(url)
    assert len(sink.calls(Query.build(scope=None))) == 20
    assert sink.aggregate(Query.build(scope=None))[0].totals.calls == 20
    sink.close()


def test_the_log_of_a_new_file_is_switched_on_by_several_at_once(tmp_path: Path) -> None:
    """
    SQLite itself waits for no lock there: one process in fourteen was told "locked".
    """
    problems: list[Exception] = []
    for number in range(60):
        url = f"sqlite:///{tmp_path}/{number}.db"
        barrier = threading.Barrier(6)

        def start(url: str = url, barrier: threading.Barrier = barrier) -> None:
            database = Database(url)
            barrier.wait()
            try:
                database.writing(lambda connection: connection.exec_driver_sql("SELECT 1").close())
            except Exception as problem:
                problems.append(problem)
            database.close()

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_the_users_own_tables_stay(tmp_path: Path) -> None:
    """
    A ledger may live in a file beside somebody else's tables.
    """
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (name)")
    connection.execute("INSERT INTO people VALUES ('Ada')")
    connection.commit()

    SQLSink(f"sqlite:///{path}").write([CallRecord(id=new_id(), started_at=utc_now())])

    assert connection.execute("SELECT name FROM people").fetchall() == [("Ada",)]
    assert check(f"sqlite:///{path}") == "current"
    connection.close()
