"""What a ledger keeps: how much, since when, where, and whether prompts are among it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from pydantic import BaseModel, Field

from ai_ledger.database.address import without_password
from ai_ledger.database.tables import REVISIONS
from ai_ledger.database.tables.calls import contents, records
from ai_ledger.query import Query

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ai_ledger.database.engine import Database
    from ai_ledger.web.house import Desk

LOOKED_AT: Final = 1_000
"""Of how many calls, the newest, it is told whether prompts are kept."""
_NAMES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL"}


class Stored(BaseModel):
    """What is kept, as far as whoever asks may know it."""

    calls: int = Field(description="Calls, without those that are deleted.")
    deleted_calls: int = Field(description="Calls that are deleted, and can be restored.")
    first_at: datetime | None = Field(description="When the oldest call began.")
    last_at: datetime | None = Field(description="When the newest call began.")
    looked_at: int = Field(description="How many calls, the newest, were looked at for prompts.")
    with_content: int = Field(description="How many of them have a prompt or an answer.")
    database: str | None = Field(description="Kind and version; for administrators of all.")
    where: str | None = Field(description="Its address without password; for the same.")
    tables: str | None = Field(description="The version of its tables; for the same.")
    size_bytes: int | None = Field(description="What it takes of the disk; for the same.")


def stored(desk: Desk) -> Stored:
    """What is kept for the organisation of the reader, or for all."""
    reader, scope = desk.house.reader, desk.scope
    query = Query.build(scope=scope)
    counts = [
        sum(
            group.totals.calls
            for group in reader.aggregate(Query.build(scope=scope, deleted=deleted))
        )
        for deleted in (False, True)
    ]
    first, last = (
        reader.calls(query, limit=1, descending=newest, content=False) for newest in (False, True)
    )
    database = desk.house.database
    tells = desk.access.may("admin") and scope is None
    with database.reading() as connection:
        looked_at, with_content = _contents(connection, scope)
        version = _version(connection, database) if tells else None
        size = _size(connection, database) if tells else None
    return Stored(
        calls=counts[0],
        deleted_calls=counts[1],
        first_at=first[0].started_at if first else None,
        last_at=last[0].started_at if last else None,
        looked_at=looked_at,
        with_content=with_content,
        database=version,
        where=without_password(desk.house.url) if tells else None,
        tables=REVISIONS[-1] if tells else None,
        size_bytes=size,
    )


def _contents(connection: Connection, scope: str | None) -> tuple[int, int]:
    newest = sa.select(records.c.id).order_by(records.c.started_at.desc()).limit(LOOKED_AT)
    if scope is not None:
        newest = newest.where(records.c.org_id == scope)
    some = newest.subquery()
    row = connection.execute(
        sa.select(sa.func.count(some.c.id), sa.func.count(contents.c.call_id)).select_from(
            some.outerjoin(contents, contents.c.call_id == some.c.id)
        )
    ).one()
    return row[0], row[1]


def _version(connection: Connection, database: Database) -> str:
    dialect = connection.dialect
    name = "MariaDB" if getattr(dialect, "is_mariadb", False) else _NAMES[database.kind]
    found = dialect.server_version_info or ()
    return f"{name} {'.'.join(str(part) for part in found if isinstance(part, int))}".strip()


def _size(connection: Connection, database: Database) -> int | None:
    if database.kind == "sqlite":
        size = 0
        for suffix in ("", "-wal"):
            with suppress(OSError):
                size += database.path.with_name(database.path.name + suffix).stat().st_size
        return size
    if database.kind == "postgresql":
        return connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
    size = connection.scalar(
        sa.text(
            "SELECT SUM(data_length + index_length) FROM information_schema.tables "
            "WHERE table_schema = DATABASE()"
        )
    )
    return None if size is None else int(size)
