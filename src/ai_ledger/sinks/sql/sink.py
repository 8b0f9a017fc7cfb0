"""`SQLSink`: a database as a sink that can be asked."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ai_ledger.database.address import refuse_unclear, without_password
from ai_ledger.errors import ConfigurationError, SchemaError, SinkUnavailable
from ai_ledger.loading import loading
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange, Place
from ai_ledger.totals import Group

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database
    from ai_ledger.sinks.sql.holds import Holds
    from ai_ledger.sinks.sql.latest import Latest
    from ai_ledger.sinks.sql.leading import Leading
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
        after: Place | None = None,
        backwards: bool = False,
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
            backwards=backwards,
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

    def costs(
        self, query: Query, by: tuple[str, ...] = (), edges: tuple[datetime, ...] = ()
    ) -> list[Group]:
        """
        Totals that know calls, successes, input, output, cost and unpriced calls alone.

        For the console's lists of costs, which this answers several times faster than
        `aggregate`. All other numbers are zero, whatever the calls were: anybody else
        asks `aggregate`.
        """
        return self._opened()[1].aggregate(query, by, edges, narrow=True)

    def leading(self, query: Query, field: str, *, limit: int) -> Leading:
        """
        The first *limit* values of *field* by cost, by calls and by tokens, and how many there are.

        For the console's lists of those who may be a hundred thousand. It knows what
        `costs` knows.

        Args:
            query: Which calls.
            field: One that calls can be told apart by, or ``tags.<key>``.
            limit: How many of each ranking, at least 1.
        """
        return self._opened()[1].leading(query, field, limit)

    def daily(self, query: Query, field: str, edges: tuple[datetime, ...]) -> list[Group]:
        """
        Calls, statuses and costs by value of *field* and interval.

        For the console's charts of days. All other numbers may be zero, whatever the
        calls were: anybody else asks `aggregate`. Where days do not begin on
        whole hours of UTC, or *field* has no totals, it is answered as by `aggregate`.
        """
        from ai_ledger.sinks.sql.daily import covers, daily_sums

        database, reader, _ = self._opened()
        if not covers(query, field, edges):
            return reader.aggregate(query, (field,), edges)
        with database.reading() as connection:
            return daily_sums(connection, query, field, edges)

    def latest(
        self, query: Query, field: str, values: Collection[str | None]
    ) -> dict[str | None, Latest]:
        """
        Value of *field* → the newest call meant by *query* that has it.

        For the console's list of functions: of a call it tells its id, when it
        was, and its status.

        Args:
            query: Which calls; without conditions beside its times and its scope.
            field: One that totals are kept by, hour by hour, such as ``function``.
            values: At most 100; ``None``: not set.
        """
        from ai_ledger.sinks.sql.latest import latest_of

        database = self._opened()[0]
        with database.reading() as connection:
            return latest_of(connection, database.kind, query, field, values)

    def delete(self, query: Query, *, at: datetime) -> int:
        """Mark calls as deleted, a thousand at a time."""
        return self._opened()[2].delete(query, at=at)

    def restore(self, query: Query) -> int:
        """Undo `delete`, a thousand at a time."""
        return self._opened()[2].restore(query)

    def forget(self, query: Query) -> int:
        """
        Erase content and identity, deleted calls included, a thousand at a time.

        On SQLite they are then gone from the bytes of the file as well. Stored reports
        that may name somebody of them are deleted, and so are notes on those that failed.
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
