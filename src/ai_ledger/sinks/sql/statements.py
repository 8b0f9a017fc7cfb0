"""The statements that write, as each driver takes them fastest."""

# Every name in them comes from schema.py, every value is a parameter.
# ruff: noqa: S608

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from ai_ledger.database.tables import calls as schema
from ai_ledger.sinks.sql.cells import Key, Sums, shortened

# Durations grow by some words with each batch; from this many characters on they
# are counted together again.
_LONG_DURATIONS: Final = 450
# MySQL cannot say in passing which rows have grown, so every now and then is enough.
_SHORTENING: Final = 1 / 16


class Statements:
    """
    Texts of statements for one dialect, made once.

    Args:
        dialect: Of an engine that has connected before.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.kind = dialect.name
        self._quote = dialect.identifier_preparer.quote
        self._mark = "?" if self.kind == "sqlite" else "%s"
        # PyMySQL turns a plain INSERT … VALUES into one statement with many
        # rows; a row that is there already raises an IntegrityError there.
        skip = "" if self.kind == "mysql" else " ON CONFLICT DO NOTHING"
        self.insert_records = self._insert(schema.records) + skip
        self.insert_contents = self._insert(schema.contents)
        self.insert_tags = self._insert(schema.tags)
        self._upsert_totals = {
            "sqlite": self._sqlite_upsert,
            "postgresql": lambda: self._postgresql_upsert(dialect),
            "mysql": self._mysql_upsert,
        }[self.kind]()
        self._delete_empty = (
            f"DELETE FROM {schema.totals.name} WHERE "
            + " AND ".join(f"{self._quote(name)} = {self._mark}" for name in schema.TOTAL_KEY)
            + " AND calls = 0"
        )

    def _insert(self, table: sa.Table) -> str:
        names = [column.name for column in table.columns]
        columns = ", ".join(map(self._quote, names))
        marks = ", ".join([self._mark] * len(names))
        return f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"

    def _sqlite_upsert(self) -> str:
        sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in schema.TOTAL_NUMBERS)
        return (
            self._insert(schema.totals)
            + f" ON CONFLICT DO UPDATE SET {sums},"
            + f" durations = CASE WHEN length(durations) < {_LONG_DURATIONS}"
            + " THEN durations || excluded.durations"
            + " ELSE ai_ledger_shortened(durations || excluded.durations) END"
        )

    def _mysql_upsert(self) -> str:
        sums = ", ".join(f"{name} = {name} + VALUES({name})" for name in schema.TOTAL_NUMBERS)
        return (
            self._insert(schema.totals)
            + f" ON DUPLICATE KEY UPDATE {sums}, durations = CONCAT(durations, VALUES(durations))"
        )

    def _postgresql_upsert(self, dialect: Dialect) -> str:
        # One parameter for all cells: sent as rows of 33 they take twice as long.
        table, quote = schema.totals, self._quote
        columns = [column.name for column in table.columns]
        types = ", ".join(
            f"{quote(column.name)} {column.type.compile(dialect).partition(' COLLATE')[0]}"
            for column in table.columns
        )
        values = ", ".join(
            f"coalesce(x.{quote(name)}, 0)" if name in schema.TOTAL_NUMBERS else f"x.{quote(name)}"
            for name in columns
        )
        sums = ", ".join(f"{name} = t.{name} + excluded.{name}" for name in schema.TOTAL_NUMBERS)
        key = ", ".join(map(quote, schema.TOTAL_KEY))
        own = ", ".join(f"t.{quote(name)}" for name in schema.TOTAL_KEY)
        return (
            f"WITH changed AS (INSERT INTO {table.name} AS t ({', '.join(map(quote, columns))})"
            f" SELECT {values} FROM json_to_recordset(%s::json) AS x ({types})"
            f" ON CONFLICT ({key}) DO UPDATE SET {sums},"
            f" durations = t.durations || excluded.durations RETURNING {own}, t.durations)"
            f" SELECT * FROM changed WHERE length(durations) > {_LONG_DURATIONS}"
        )

    def add_totals(self, connection: Connection, cells: Sequence[tuple[Key, Sums]]) -> None:
        """Add *cells* to the totals; sorted by key, so that writers cannot block each other."""
        if not cells:
            return
        if self.kind == "postgresql":
            text = _encode([_sparse(key, sums) for key, sums in cells]).decode()
            long = connection.exec_driver_sql(self._upsert_totals, (text,)).fetchall()
            self._shorten(connection, [tuple(row) for row in long])
            return
        rows = [(*key, *sums.numbers, sums.text) for key, sums in cells]
        connection.exec_driver_sql(self._upsert_totals, rows)
        if self.kind == "mysql" and random.random() < _SHORTENING:  # noqa: S311 - no secret
            self._shorten_mysql(connection, cells)

    def drop_empty(self, connection: Connection, cells: Sequence[tuple[Key, Sums]]) -> None:
        """Delete those of *cells* that no call is left in, and with them what they name."""
        gone = [key for key, sums in cells if sums.numbers[0] < 0]
        if gone:
            connection.exec_driver_sql(self._delete_empty, gone)

    def _shorten_mysql(self, connection: Connection, cells: Sequence[tuple[Key, Sums]]) -> None:
        t = schema.totals
        for grain, dimension, period in sorted({key[1:4] for key, _ in cells}):
            long = connection.execute(
                sa.select(*(t.c[name] for name in schema.TOTAL_KEY), t.c.durations)
                .where(t.c.grain == grain, t.c.dimension == dimension, t.c.period == period)
                .where(sa.func.length(t.c.durations) > _LONG_DURATIONS)
            )
            self._shorten(connection, [tuple(row) for row in long])

    def _shorten(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        t = schema.totals
        for *key, text in rows:
            here = [t.c[name] == part for name, part in zip(schema.TOTAL_KEY, key, strict=True)]
            # Only if it is still the text that was read: another writer may have added to it.
            connection.execute(
                sa.update(t).where(*here, t.c.durations == text).values(durations=shortened(text))
            )


_encode = msgspec.json.Encoder().encode


def _sparse(key: Key, sums: Sums) -> dict[str, Any]:
    cell: dict[str, Any] = dict(zip(schema.TOTAL_KEY, key, strict=True))
    for name, number in zip(schema.TOTAL_NUMBERS, sums.numbers, strict=True):
        if number:
            cell[name] = number
    cell["durations"] = sums.text
    return cell
