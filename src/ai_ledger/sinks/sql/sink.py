"""`SQLSink`: a database as a sink that can be asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ai_ledger.database.address import refuse_unclear, without_password
from ai_ledger.errors import ConfigurationError, SchemaError, SinkUnavailable
from ai_ledger.loading import loading
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange
from ai_ledger.totals import Group

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database
    from ai_ledger.sinks.sql.holds import Holds
    from ai_ledger.sinks.sql.reader import Reader
    from ai_ledger.sinks.sql.writer import Writer


class SQLSink:
    """
    Calls and their totals in SQLite, PostgreSQL, MariaDB or MySQL.

    Threads may share one instance, and processes may share one database.
    Nothing is connected to, created or even imported before it is first used.

    Args:
        url: As for `open_sink`. A driver in it is replaced by the one this
            package uses.
        timeout_s: How long any one transaction may take.

    Raises:
        ConfigurationError: A password whose end cannot be told.
    """

    durable = True

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        refuse_unclear(url)
        self.url = url
        self.name = without_password(url)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._parts: tuple[Database, Reader, Writer] | None = None
        self._holds: Holds | None = None

    def __repr__(self) -> str:
        return f"SQLSink({self.name!r})"

    @property
    def holds(self) -> Holds | None:
        """What this process has set aside of budgets for calls whose rows come here."""
        return self._holds

    @holds.setter
    def holds(self, holds: Holds | None) -> None:
        with self._lock:
            self._holds = holds
            if self._parts is not None:
                self._parts[2].holds = holds

    def write(self, records: Sequence[CallRecord]) -> None:
        """
        Store *records*, each once however often it comes.

        Raises:
            SinkUnavailable: The database is away, locked, full, or its tables are
                not those of this version.
            RecordRefused: A number or word in one of them fits no table.
        """
        try:
            writer = self._opened()[2]
        except (SchemaError, ConfigurationError) as error:
            # Somebody has to mend the database; nothing is wrong with the records.
            raise SinkUnavailable(str(error)) from error
        writer.write(records)

    def calls(
        self,
        query: Query,
        *,
        limit: int = 100,
        offset: int = 0,
        after: tuple[datetime, str] | None = None,
        order: str = "started_at",
        descending: bool = True,
        content: bool = True,
    ) -> list[CallRecord]:
        """One page of calls, at most 10,000; see `Store.calls`."""
        return self._opened()[1].calls(
            query,
            limit=limit,
            offset=offset,
            after=after,
            order=order,
            descending=descending,
            content=content,
        )

    def scan(self, query: Query, *, batch_size: int = 1000) -> Iterator[list[CallRecord]]:
        """All calls, oldest first, in batches; what comes meanwhile may be among them."""
        return self._opened()[1].scan(query, batch_size=batch_size)

    def call(self, scope: str | None, call_id: str) -> CallRecord | None:
        """The call with this id, if it is within *scope*."""
        return self._opened()[1].call(scope, call_id)

    def aggregate(
        self, query: Query, by: tuple[str, ...] = (), edges: tuple[datetime, ...] = ()
    ) -> list[Group]:
        """Totals; see `Store.aggregate`."""
        return self._opened()[1].aggregate(query, by, edges)

    def delete(self, query: Query, *, at: datetime) -> int:
        """Mark calls as deleted, a thousand at a time."""
        return self._opened()[2].delete(query, at=at)

    def restore(self, query: Query) -> int:
        """Undo `delete`, a thousand at a time."""
        return self._opened()[2].restore(query)

    def forget(self, query: Query) -> int:
        """
        Erase content and identity, deleted calls included, a thousand at a time.

        On SQLite they are then gone from the bytes of the file as well.
        """
        return self._opened()[2].forget(query)

    def correct_costs(self, changes: Sequence[CostChange]) -> int:
        """Give calls a new cost and keep the old one; see `Store.correct_costs`."""
        return self._opened()[2].correct_costs(changes)

    def corrections(self, scope: str | None, call_id: str) -> list[CostChange]:
        """The corrections of one call, oldest first."""
        return self._opened()[1].corrections(scope, call_id)

    def close(self) -> None:
        """Give back what is free of budgets, and close all connections. The next use opens new."""
        closed = getattr(self._holds, "closed", None)
        if closed is not None:
            closed()
        with self._lock:
            parts, self._parts = self._parts, None
        if parts is not None:
            parts[0].close()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone; the child's first use opens its own."""
        self._lock = threading.Lock()
        if self._parts is not None:
            self._parts[0].after_fork_in_child()

    def _opened(self) -> tuple[Database, Reader, Writer]:
        parts = self._parts
        if parts is not None:
            return parts
        # In the delivery thread, while the program may fork.
        with loading:
            from ai_ledger.database.engine import Database
            from ai_ledger.database.upgrade import make_ready
            from ai_ledger.sinks.sql.cells import shortened
            from ai_ledger.sinks.sql.reader import Reader
            from ai_ledger.sinks.sql.writer import Writer

        with self._lock:
            if self._parts is None:
                with loading:  # the driver
                    database = Database(
                        self.url,
                        timeout_s=self._timeout_s,
                        functions={"ai_ledger_shortened": shortened},
                    )
                try:
                    make_ready(database)
                except BaseException:
                    database.close()
                    raise
                self._parts = (database, Reader(database), Writer(database, self._holds))
            return self._parts
