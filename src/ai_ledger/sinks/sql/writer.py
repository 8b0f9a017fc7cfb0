"""Writing: every change of a row and of the totals it is counted in, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.columns import moment_text
from ai_ledger.database.engine import Again, Database, is_duplicate
from ai_ledger.database.tables.calls import RECORD_COLUMNS, contents, corrections, records, tags
from ai_ledger.errors import RecordRefused
from ai_ledger.money import from_nano, to_nano
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, Status
from ai_ledger.sinks.base import CostChange
from ai_ledger.sinks.scan import IDENTITY_FIELDS
from ai_ledger.sinks.sql.cells import Cells
from ai_ledger.sinks.sql.charges import Bill, Charges, stored_calls
from ai_ledger.sinks.sql.conditions import conditions, everything
from ai_ledger.sinks.sql.holds import Holds
from ai_ledger.sinks.sql.rows import FACT_COLUMNS, Prepared, deleted, facts_of_row, prepare
from ai_ledger.sinks.sql.statements import Statements
from ai_ledger.sinks.sql.told import (
    Told,
    drop_reports_of,
    drop_reports_on,
    erase_notes_on,
)

# Rows that one transaction changes at most: other writers wait no longer than that.
BATCH: Final = 1_000

_UNFINISHED: Final[Status] = "unfinished"
_OLD: Final = ("old_cost_nano", "old_currency", "old_price_id")
_NEW: Final = ("cost_nano", "currency", "price_id")
_FACTS = tuple(records.c[name] for name in FACT_COLUMNS)
_STATE = (records.c.id, records.c.started_at, records.c.deleted_at, records.c.status, *_FACTS)


class Writer:
    """
    Changes calls, and totals with them.

    Args:
        database: Whose tables are known to be there.
        holds: What this process has set aside for its calls, if anything.
    """

    def __init__(self, database: Database, holds: Holds | None = None) -> None:
        self._database = database
        self.holds = holds
        self._charges = Charges()
        self._statements: Statements | None = None
        self._moment: Callable[[datetime], Any] = moment_text if database.kind == "sqlite" else _utc

    def write(self, batch: Sequence[CallRecord]) -> None:
        """Store *batch*; what is there already is left alone, unless it was unfinished."""
        found: dict[str, tuple[Prepared, CallRecord]] = {}
        for record in batch:
            ready = prepare(record, self._moment)
            known = found.get(ready.id)
            if known is None or (known[0].status == _UNFINISHED != ready.status):
                found[ready.id] = ready, record
        if not found:
            return
        rows = [found[call_id] for call_id in sorted(found)]
        try:
            self._database.writing(lambda connection: self._insert_new(connection, rows))
        except (_Known, RecordRefused):
            # Some are there already, which is rare; or a database that tells
            # of it by refusing says so. The careful way finds out which.
            self._database.writing(lambda connection: self._merge(connection, rows))
        if self.holds is not None and (ended := _ended(rows)):
            self.holds.charged(ended)

    def _insert_new(self, connection: Connection, rows: Sequence[_Row]) -> None:
        if self._insert(connection, [ready for ready, _ in rows]) != len(rows):
            raise _Known
        cells = Cells()
        for ready, _ in rows:
            if not ready.deleted:
                cells.add(ready.started_at, facts_of_row(ready.row))
        self._apply(connection, cells)
        self._charge(connection, self._charges.open(connection), rows)

    def _charge(self, connection: Connection, bill: Bill | None, rows: Sequence[_Row]) -> None:
        # Last, because every other writer and every reservation waits for the accounts.
        consumed = self.holds.consumed(_ended(rows)) if self.holds else ()
        if bill is None:
            if not consumed:
                return
            bill = Bill()  # leases outlive the budget that is put out of force
        for _, record in rows:
            bill.add(record)
        bill.apply(connection, consumed)

    def _insert(self, connection: Connection, rows: Sequence[Prepared]) -> int:
        texts = self._texts(connection)
        inserted = connection.exec_driver_sql(
            texts.insert_records, [ready.row for ready in rows]
        ).rowcount
        if inserted == len(rows):
            self._insert_texts(connection, texts, rows)
        return inserted

    def _insert_texts(
        self, connection: Connection, texts: Statements, rows: Sequence[Prepared]
    ) -> None:
        if content := [ready.content for ready in rows if ready.content is not None]:
            connection.exec_driver_sql(texts.insert_contents, content)
        if labels := [tag for ready in rows for tag in ready.tags]:
            connection.exec_driver_sql(texts.insert_tags, labels)

    def _merge(self, connection: Connection, rows: Sequence[_Row]) -> None:
        known = {
            row.id: row
            for row in self._locked(connection, records.c.id.in_([ready.id for ready, _ in rows]))
        }
        cells = Cells()
        replaced: list[Prepared] = []
        new: list[Prepared] = []
        stored: list[_Row] = []
        for ready, record in rows:
            old = known.get(ready.id)
            if old is None:
                new.append(ready)
            elif old.status != _UNFINISHED or ready.status == _UNFINISHED:
                continue
            else:
                if old.deleted_at is None:
                    cells.add(old.started_at, tuple(old[4:]), -1)
                else:
                    ready = deleted(ready, self._moment(old.deleted_at))
                replaced.append(ready)
            stored.append((ready, record))
            if not ready.deleted:
                cells.add(ready.started_at, facts_of_row(ready.row))
        if not stored:
            return
        bill = self._charges.open(connection)
        if bill is not None and replaced:
            for old in stored_calls(connection, [ready.id for ready in replaced]):
                bill.add(old, -1)
        if new:
            self._insert_missing(connection, new)
        if replaced:
            self._replace(connection, replaced)
        self._apply(connection, cells)
        self._charge(connection, bill, stored)

    def _insert_missing(self, connection: Connection, rows: Sequence[Prepared]) -> None:
        try:
            inserted = self._insert(connection, rows)
        except exc.IntegrityError as error:
            if not is_duplicate(error):
                raise
            raise Again from error
        if inserted != len(rows):
            raise Again  # another process stored one of them a moment ago

    def _replace(self, connection: Connection, rows: Sequence[Prepared]) -> None:
        texts = self._texts(connection)
        # The row stays the same one: whoever waits for its lock, in order to forget
        # or to delete the call, would find nothing in the place of a row that is gone.
        quote = connection.dialect.identifier_preparer.quote
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        columns = ", ".join(f"{quote(name)} = {mark}" for name in RECORD_COLUMNS)
        connection.exec_driver_sql(
            f"UPDATE {records.name} SET {columns} WHERE id = {mark}",  # noqa: S608 - our names
            [(*ready.row, ready.id) for ready in rows],
        )
        ids = [ready.id for ready in rows]
        connection.execute(sa.delete(contents).where(contents.c.call_id.in_(ids)))
        connection.execute(sa.delete(tags).where(tags.c.call_id.in_(ids)))
        self._insert_texts(connection, texts, rows)

    def _texts(self, connection: Connection) -> Statements:
        if self._statements is None:
            self._statements = Statements(connection.dialect)
        return self._statements

    def _locked(self, connection: Connection, *where: sa.ColumnElement[bool]) -> list[Any]:
        statement = sa.select(*_STATE).where(*where).order_by(records.c.id).with_for_update()
        return list(connection.execute(statement).all())

    def _apply(self, connection: Connection, cells: Cells) -> None:
        texts, changed = self._texts(connection), cells.items()
        texts.add_totals(connection, changed)
        texts.drop_empty(connection, changed)

    def delete(self, query: Query, *, at: datetime) -> int:
        """Mark calls as deleted."""

        def change(connection: Connection, ids: list[str]) -> None:
            connection.execute(
                sa.update(records).where(records.c.id.in_(ids)).values(deleted_at=at)
            )

        found = conditions(query, self._database.kind)
        return self._in_batches(found, change, counted=lambda row: None)

    def restore(self, query: Query) -> int:
        """Take the marks away."""

        def change(connection: Connection, ids: list[str]) -> None:
            connection.execute(
                sa.update(records).where(records.c.id.in_(ids)).values(deleted_at=None)
            )

        found = conditions(query, self._database.kind)
        return self._in_batches(found, change, counted=lambda row: tuple(row[4:]))

    def forget(self, query: Query) -> int:
        """Erase content and identity, deleted calls included, from the file as well."""
        user = FACT_COLUMNS.index("user_id")
        told: set[Told] = set()

        def change(connection: Connection, ids: list[str]) -> Bill | None:
            told.update(drop_reports_of(connection, ids))
            erase_notes_on(connection, ids)
            bill = self._charges.open_to_forget(connection)
            if bill is not None:
                for old in stored_calls(connection, ids):
                    bill.forget(old, old.replace(**dict.fromkeys(IDENTITY_FIELDS), tags={}))
            connection.execute(
                sa.update(records)
                .where(records.c.id.in_(ids))
                .values(dict.fromkeys(IDENTITY_FIELDS))
            )
            connection.execute(sa.delete(tags).where(tags.c.call_id.in_(ids)))
            connection.execute(sa.delete(contents).where(contents.c.call_id.in_(ids)))
            return bill

        def counted(row: Any) -> tuple[Any, ...] | None:
            if row.deleted_at is not None:
                return None
            facts = list(row[4:])
            facts[user] = None
            return tuple(facts)

        changed = self._in_batches(everything(query, self._database.kind), change, counted=counted)
        if told:
            self._database.writing(lambda connection: drop_reports_on(connection, told))
        if changed:
            self._database.sweep()
        return changed

    def _in_batches(
        self,
        where: Sequence[sa.ColumnElement[bool]],
        change: Callable[[Connection, list[str]], Bill | None],
        *,
        counted: Callable[[Any], tuple[Any, ...] | None],
    ) -> int:
        """
        Change all rows *where* says, and the totals from what they were to what they are.

        Args:
            where: Which rows.
            change: Changes the rows with the ids it is given. What it says of accounts is
                applied after the totals, which is where every writer locks them.
            counted: The facts that a row is counted by afterwards, if it is.

        Returns:
            How many rows there were.
        """
        after: tuple[datetime, str] | None = None
        changed = 0
        while True:
            more = [*where, *([] if after is None else [_behind(after)])]

            def work(
                connection: Connection, more: list[sa.ColumnElement[bool]] = more
            ) -> tuple[int, tuple[datetime, str] | None]:
                # Found first and locked in the order of their ids afterwards, as
                # every writer does, and looked at again under the lock.
                page = connection.execute(
                    sa.select(records.c.started_at, records.c.id)
                    .where(*more)
                    .order_by(records.c.started_at, records.c.id)
                    .limit(BATCH)
                ).all()
                if not page:
                    return 0, None
                rows = self._locked(connection, records.c.id.in_([row.id for row in page]), *more)
                missed = {row.id for row in page} - {row.id for row in rows}
                if missed and _any(connection, records.c.id.in_(missed), *more):
                    raise Again  # replaced while this waited for the lock
                cells = Cells()
                for row in rows:
                    if row.deleted_at is None:
                        cells.add(row.started_at, tuple(row[4:]), -1)
                    if (facts := counted(row)) is not None:
                        cells.add(row.started_at, facts)
                bill = change(connection, [row.id for row in rows])
                self._apply(connection, cells)
                if bill is not None:
                    bill.apply(connection)
                last = (page[-1].started_at, page[-1].id) if len(page) == BATCH else None
                return len(rows), last

            count, after = self._database.writing(work)
            changed += count
            if after is None:
                return changed

    def correct_costs(self, changes: Sequence[CostChange]) -> int:
        """Give calls a new cost and keep the old one."""
        ordered = sorted(changes, key=lambda change: change.call_id)
        changed = 0
        for start in range(0, len(ordered), BATCH):
            part = ordered[start : start + BATCH]
            changed += self._database.writing(
                lambda connection, part=part: self._correct(connection, part)
            )
        return changed

    def _correct(self, connection: Connection, changes: Sequence[CostChange]) -> int:
        ids = {label(change.call_id) for change in changes}
        statement = (
            sa.select(*_STATE, records.c.price_id)
            .where(records.c.id.in_(ids))
            .order_by(records.c.id)
            .with_for_update()
        )
        known = {row.id: row for row in connection.execute(statement)}
        now = {row.id: (row.cost_nano, row.currency, row.price_id) for row in known.values()}
        kept: list[dict[str, Any]] = []
        for change in changes:
            call_id = label(change.call_id)
            old = (_nano(change.old_cost), change.old_currency, _label(change.old_price_id))
            new = (_nano(change.cost), change.currency, _label(change.price_id))
            if now.get(call_id, _MISSING) != old:
                continue
            now[call_id] = new
            kept.append(
                {
                    "call_id": call_id,
                    "corrected_at": change.corrected_at,
                    **dict(zip(_OLD, old, strict=True)),
                    **dict(zip(_NEW, new, strict=True)),
                }
            )
        if not kept:
            return 0
        cost, currency = FACT_COLUMNS.index("cost_nano"), FACT_COLUMNS.index("currency")
        cells = Cells()
        touched = sorted({row["call_id"] for row in kept})
        for call_id in touched:
            row = known[call_id]
            if row.deleted_at is None:
                facts = list(row[4:-1])
                cells.add(row.started_at, tuple(facts), -1)
                facts[cost], facts[currency], _ = now[call_id]
                cells.add(row.started_at, tuple(facts))
        bill = self._charges.open(connection)
        if bill is not None:
            for record in stored_calls(connection, touched):
                nano, code, price_id = now[record.id]
                bill.add(record, -1)
                cost_now = None if nano is None else from_nano(nano)
                bill.add(record.replace(cost=cost_now, currency=code, price_id=price_id))
        connection.execute(
            sa.update(records)
            .where(records.c.id == sa.bindparam("call"))
            .values(
                cost_nano=sa.bindparam("new_cost"),
                currency=sa.bindparam("new_currency"),
                price_id=sa.bindparam("new_price"),
            ),
            [
                {"call": call_id, "new_cost": new[0], "new_currency": new[1], "new_price": new[2]}
                for call_id in touched
                for new in (now[call_id],)
            ],
        )
        connection.execute(sa.insert(corrections), kept)
        self._apply(connection, cells)
        if bill is not None:
            bill.apply(connection)
        return len(kept)


class _Known(Exception):
    """Raised to roll back an insert that met rows it had not expected."""


_MISSING: Final = ()

_Row: TypeAlias = tuple[Prepared, CallRecord]
"""What is stored of a record, and the record."""


def _ended(rows: Sequence[_Row]) -> list[str]:
    return [ready.id for ready, _ in rows if ready.status != _UNFINISHED]


def _any(connection: Connection, *where: sa.ColumnElement[bool]) -> bool:
    return connection.execute(sa.select(records.c.id).where(*where).limit(1)).first() is not None


def _behind(after: tuple[datetime, str]) -> sa.ColumnElement[bool]:
    started_at, call_id = after
    # Written so that an index on started_at is enough.
    return sa.and_(
        records.c.started_at >= started_at,
        sa.or_(records.c.started_at > started_at, records.c.id > call_id),
    )


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _nano(cost: Any) -> int | None:
    return None if cost is None else to_nano(cost)


def _label(text: str | None) -> str | None:
    return None if text is None else label(text)
