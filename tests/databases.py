"""Databases of their own for tests, on the servers that the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from ai_ledger.database.engine import database_url
from ai_ledger.database.tables import metadata
from ai_ledger.database.upgrade import upgrade

SERVERS = {
    "postgresql": ("AI_LEDGER_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test"),
    "mariadb": ("AI_LEDGER_TEST_MARIADB", "mysql://root@127.0.0.1:3306/test"),
}


EACH = (
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
)
"""Each kind of database in turn, for a fixture or a test."""


@contextmanager
def ledger_of(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty ledger in a database of this *kind*; SQLite's is in *folder*."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/ledger.db"
        return
    with fresh_database(kind) as url:
        upgrade(url)
        yield url


@contextmanager
def fresh_database(kind: str) -> Iterator[str]:
    """
    The URL of an empty database on the server of this *kind*, dropped afterwards.

    Without a server the test is skipped, or fails if
    ``AI_LEDGER_TEST_REQUIRE_DATABASES`` is 1.
    """
    variable, default = SERVERS[kind]
    server = os.environ.get(variable, default)
    url = database_url(server)
    engine = sa.create_engine(
        url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 30}
    )
    name = f"ai_ledger_test_{uuid4().hex[:12]}"
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except sa.exc.OperationalError as error:
        engine.dispose()
        reason = f"no {kind} server; {variable} names one ({error.orig})"
        if os.environ.get("AI_LEDGER_TEST_REQUIRE_DATABASES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if kind == "postgresql" else ""
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
        engine.dispose()


def empty(url: str) -> None:
    """Delete all rows of the ledger's tables."""
    engine = sa.create_engine(database_url(url))
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name != "ai_budget_state":  # its one row comes with the table
                connection.execute(table.delete())
    engine.dispose()
