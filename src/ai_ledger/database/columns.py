"""Column types and bounds that all tables share, and the metadata they belong to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import MetaData, String, Text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

MAX_LABEL: Final = 255
# A key of the totals may be one character longer than the label it stands for.
MAX_KEY: Final = MAX_LABEL + 1
MAX_CURRENCY: Final = 16


class Label(TypeDecorator[str]):
    """
    A short text that is compared letter for letter.

    Without a word about collation MariaDB takes ``a``, ``A`` and ``a `` for the
    same key, and PostgreSQL sorts ids by the rules of some language.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of *dialect*."""
        assert isinstance(self.impl, String)
        length = self.impl.length
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.VARCHAR(length, collation="C"))
        if dialect.name in ("mysql", "mariadb"):
            mariadb = getattr(dialect, "is_mariadb", False)
            collation = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
            return dialect.type_descriptor(mysql.VARCHAR(length, collation=collation))
        return dialect.type_descriptor(String(length))


class Moment(TypeDecorator[datetime]):
    """
    An aware moment in UTC, exact to the microsecond.

    ``timestamptz`` on PostgreSQL, ``datetime(6)`` in UTC on MariaDB and MySQL.
    SQLite has no such type: there it is text, ``2026-01-31 23:59:59.000001``,
    which sorts by time and which its date functions understand.
    """

    impl = String(26)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of *dialect*."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(String(26))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """What is sent to the database."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return moment_text(value)
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """What came from the database, aware and in UTC."""
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value + "+00:00")
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def moment_text(moment: datetime) -> str:
    """*moment* as SQLite keeps it: always 26 characters, in UTC."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(" ", "microseconds")[:26]


def long_text() -> TypeEngine[str]:
    """A text without a bound that matters."""
    # A TEXT of MySQL ends at 64 kB.
    return Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")


metadata = MetaData()
