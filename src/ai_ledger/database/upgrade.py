"""Whether a database has this version's tables, and giving them to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.database.address import to_type
from ai_ledger.database.columns import metadata
from ai_ledger.database.engine import Database
from ai_ledger.database.tables import REVISIONS, VERSION_TABLE
from ai_ledger.database.tables.calls import records
from ai_ledger.errors import SchemaError, SinkUnavailable

SchemaState: TypeAlias = Literal["current", "older", "newer", "none"]

# Any number will do, as long as no other program uses it for a lock of its own.
_LOCK = 7_315_512_004
_LOCK_NAME = "ai_ledger_upgrade"
_LOCK_WAIT_S = 60


def check(url: str) -> SchemaState:
    """
    Which tables the database at *url* has: of this version, an older or newer one, or none.

    Nothing is created.

    Raises:
        ConfigurationError: The URL cannot work.
        SinkUnavailable: The database is away.
    """
    database = Database(url)
    if database.kind == "sqlite" and not database.path.exists():
        return "none"
    try:
        with database.reading() as connection:
            return state(connection)
    finally:
        database.close()


def upgrade(url: str) -> str:
    """
    Give the database at *url* the tables of this version; returns that version.

    Several processes may do so at the same time.

    Raises:
        ConfigurationError: The URL cannot work.
        SchemaError: The tables are of a newer version.
        SinkUnavailable: The database is away.
    """
    from alembic import command
    from alembic.config import Config

    database = Database(url)
    try:
        database.prepare_file()
        with _alone(database) as connection:
            found = state(connection)
            if found == "newer":
                raise SchemaError(_message("newer", database))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        database.close()
    return REVISIONS[-1]


def state(connection: Connection) -> SchemaState:
    """As `check`, over a connection."""
    found = sa.inspect(connection)
    if not found.has_table(VERSION_TABLE):
        return "older" if found.has_table(records.name) else "none"
    version = connection.execute(
        sa.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    ).scalar()
    if version is None:
        return "none"
    if version not in REVISIONS:
        return "newer"
    return "current" if version == REVISIONS[-1] else "older"


def make_ready(database: Database) -> None:
    """
    Verify the tables, and create them in an SQLite file that has none.

    Raises:
        SchemaError: They are not those of this version; says which command mends it.
        SinkUnavailable: The database is away.
    """
    database.prepare_file()
    with database.reading() as connection:
        found = state(connection)
    if found == "none" and database.kind == "sqlite":
        found = database.writing(_create)
    if found != "current":
        raise SchemaError(_message(found, database))


def _create(connection: Connection) -> SchemaState:
    # Another process may have been quicker; the lock that is held now tells.
    found = state(connection)
    if found != "none":
        return found
    # From the metadata and not by Alembic, whose import alone takes a second.
    # A test holds both to the same result.
    metadata.create_all(connection, checkfirst=False)
    version = sa.Table(
        VERSION_TABLE,
        sa.MetaData(),
        sa.Column("version_num", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
    )
    version.create(connection)
    connection.execute(sa.insert(version).values(version_num=REVISIONS[-1]))
    return "current"


def _message(found: SchemaState, database: Database) -> str:
    where = to_type(database.url.render_as_string(hide_password=True))
    if found == "newer":
        return f"{where} was made by a newer version of ai-ledger: upgrade the package"
    tables = "has no tables of ai-ledger" if found == "none" else "has tables of an older version"
    return f"{where} {tables}: run `ai-ledger db upgrade --url '{where}'`"


@contextmanager
def _alone(database: Database) -> Generator[Connection]:
    """A connection that no other upgrade works beside."""
    engine = database.writer
    with database.translated_errors(refusing=False), database.connected(engine) as connection:
        if database.kind == "sqlite":
            with connection.begin():  # IMMEDIATE, and DDL is part of the transaction
                yield connection
        elif database.kind == "postgresql":
            with connection.begin():
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                yield connection
        else:
            name = sa.func.concat(_LOCK_NAME, sa.func.database())
            if connection.execute(sa.select(sa.func.get_lock(name, _LOCK_WAIT_S))).scalar() != 1:
                raise SinkUnavailable("another process has been upgrading for a minute")
            try:
                yield connection
                connection.commit()
            finally:
                connection.execute(sa.select(sa.func.release_lock(name)))
