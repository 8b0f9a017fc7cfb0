"""`Reports`: the reports that a reader may see; rows of a table, and never files."""

from __future__ import annotations

import re
import threading
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.database.changes import note_change
from ai_ledger.database.tables.console import reports
from ai_ledger.errors import EditConflict, NotFound
from ai_ledger.sinks.sql.sink import SQLSink
from ai_ledger.stats import Stats
from ai_ledger.stats.export import Report, report_of
from ai_ledger.stats.results import Result
from ai_ledger.web.house import Desk
from ai_ledger.web.notes import note
from ai_ledger.web.periods import Period

KEPT: Final = 200
"""So many reports are kept of each scope."""
KEPT_EACH: Final = 50
"""And so many of each who makes them; their oldest go when they make others, never another's."""
KEPT_DELETED: Final = 20
"""So many deleted ones can still be restored."""
MAX_GROUPS: Final = 500
"""A report lists so many groups of each field."""
MAX_LISTED: Final = 100
_TIMEOUT_S: Final = 120.0

# The row of a deleted report has a key that is no UUID, so that no id finds it.
_DELETED: Final = "del:"
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)

# The groups of some fields take long to count, and hold up the rest of the machine.
_making: Final = threading.Lock()


class ReportEntry(Result):
    """One report, without what it says."""

    id: str
    made_at: datetime
    made_by: str | None
    since: datetime
    until: datetime
    """Exclusive."""
    tz: str
    scope: str | None
    """The organisation that it is confined to; ``None`` for all."""

    @property
    def first_day(self) -> date:
        """In its own time zone."""
        return self.since.date()

    @property
    def last_day(self) -> date:
        """Included."""
        return (self.until - timedelta(hours=1)).date()

    @property
    def file_stem(self) -> str:
        """The name of its files: days and the beginning of the id, nothing that anybody typed."""
        return f"ai-ledger_{self.first_day}_{self.last_day}_{self.id[:8]}"


class StoredReport(ReportEntry):
    """One report with what it says."""

    report: Report


class Reports:
    """
    The reports of one scope: of the reader's organisation, or those over all.

    Args:
        desk: Of the reader.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk: Final = desk
        self._database: Final = desk.house.database

    def make(self, period: Period) -> ReportEntry:
        """
        Make and keep the report of some days.

        Beyond `KEPT_EACH`, or `KEPT` in the scope, the oldest ones of the same maker go.

        Raises:
            EditConflict: Another report is being made, or others have made `KEPT`.
            SinkUnavailable: The store is away, or its calls took too long to count.
        """
        desk = self._desk
        if not _making.acquire(blocking=False):
            raise EditConflict("a report is being made already: try again when it is there")
        try:
            with self._database.reading() as connection:
                self._too_many(connection, 1)
            now = desk.house.clock()
            # A connection of its own, since this may take longer than a page may.
            with closing(SQLSink(desk.house.url, timeout_s=_TIMEOUT_S)) as store:
                stats = Stats(store, scope=desk.scope, tz=desk.tz, clock=desk.house.clock)
                report = report_of(
                    stats,
                    period.first,
                    period.last,
                    made_at=now.astimezone(desk.tz),
                    most=MAX_GROUPS,
                )
        finally:
            _making.release()
        row = {
            "id": str(uuid4()),
            "org_id": desk.scope,
            "made_at": now,
            "made_by": desk.by,
            "since": report.since.astimezone(UTC),
            "until": report.until.astimezone(UTC),
            "tz": report.tz,
            "body": report.model_dump_json(),
        }

        def work(connection: Connection) -> None:
            old = self._too_many(connection, 1)
            connection.execute(sa.insert(reports).values(row))
            if old:
                connection.execute(sa.delete(reports).where(reports.c.id.in_([e.id for e in old])))
            for each in old:
                facts = {**_facts(each), "reason": "its maker has made others"}
                note_change(
                    connection, "report", each.id, before=facts, after=None, by=desk.by, at=now
                )

        self._database.writing(work)
        made = _entry({**row, "made_at": now.astimezone(UTC)}, desk)
        note(desk, "report", made.id, None, {**_facts(made), "state": "made"})
        return made

    def list(
        self, *, limit: int = MAX_LISTED, before: tuple[datetime, str] | None = None
    ) -> list[ReportEntry]:
        """
        The newest reports.

        Args:
            limit: How many.
            before: Only those made before this one: its ``made_at`` and ``id``.
        """
        columns = [column for column in reports.columns if column.name != "body"]
        statement = sa.select(*columns).where(*self._mine(deleted=False))
        if before is not None:
            made_at, last = reports.c.made_at, before[0]
            statement = statement.where(
                sa.or_(made_at < last, sa.and_(made_at == last, reports.c.id < before[1]))
            )
        statement = statement.order_by(reports.c.made_at.desc(), reports.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(statement).mappings().all()
        return [_entry(row, self._desk) for row in rows]

    def get(self, id: str) -> StoredReport:
        """
        One report.

        Raises:
            NotFound: There is none of this id for this reader; so for what is no id.
        """
        statement = sa.select(reports).where(
            reports.c.id == _checked(id), *self._mine(deleted=False)
        )
        with self._database.reading() as connection:
            row = connection.execute(statement).mappings().one_or_none()
        if row is None:
            raise _unknown()
        entry = _entry(row, self._desk)
        return StoredReport(
            **entry.model_dump(), report=Report.model_validate_json(str(row["body"]))
        )

    def delete(self, id: str) -> ReportEntry:
        """
        Delete one report; `restore` brings it back as long as it is among the last deleted.

        Raises:
            AccessDenied: This takes an operator.
            NotFound: There is none of this id for this reader.
        """
        self._desk.require("operator")
        found = self._rename(_checked(id), _hidden(id), id)

        def work(connection: Connection) -> None:
            self._forget_oldest(connection, KEPT_DELETED, deleted=True)

        self._database.writing(work)
        note(self._desk, "report", id, _facts(found), None)
        return found

    def restore(self, id: str) -> ReportEntry:
        """
        Bring a deleted report back.

        Raises:
            AccessDenied: This takes an operator.
            NotFound: It is not among the last deleted ones.
        """
        self._desk.require("operator")
        found = self._rename(_hidden(_checked(id)), id, id)
        note(self._desk, "report", id, None, {**_facts(found), "state": "restored"})
        return found

    def _rename(self, old: str, new: str, id: str) -> ReportEntry:
        columns = [column for column in reports.columns if column.name != "body"]

        def work(connection: Connection) -> dict[str, Any]:
            chosen = (reports.c.id == old, self._scope)
            row = connection.execute(sa.select(*columns).where(*chosen)).mappings().one_or_none()
            if row is None:
                raise _unknown()
            connection.execute(sa.update(reports).where(*chosen).values(id=new))
            return {**row, "id": id}

        return _entry(self._database.writing(work), self._desk)

    @property
    def _scope(self) -> sa.ColumnElement[bool]:
        scope = self._desk.scope
        # Whoever sees all organisations sees their reports too.
        return sa.true() if scope is None else reports.c.org_id == scope

    def _mine(self, *, deleted: bool) -> list[sa.ColumnElement[bool]]:
        hidden = reports.c.id.startswith(_DELETED, autoescape=True)
        return [self._scope, hidden if deleted else sa.not_(hidden)]

    def _too_many(self, connection: Connection, more: int) -> list[ReportEntry]:
        """
        Those of this maker that go when *more* are made.

        Raises:
            EditConflict: There are too many in the scope, and none of them is this maker's.
        """
        scope = self._desk.scope
        of_scope = reports.c.org_id.is_(None) if scope is None else reports.c.org_id == scope
        shown = (of_scope, sa.not_(reports.c.id.startswith(_DELETED, autoescape=True)))
        of_maker = (*shown, reports.c.made_by == self._desk.by)
        count = sa.select(sa.func.count())
        own = connection.scalar(count.where(*of_maker)) or 0
        everybodys = connection.scalar(count.where(*shown)) or 0
        excess = max(own + more - KEPT_EACH, everybodys + more - KEPT)
        if excess <= 0:
            return []
        if excess > own:
            raise EditConflict(
                f"{KEPT} reports are kept already, and none of them is yours: "
                "ask an operator to delete some"
            )
        columns = [column for column in reports.columns if column.name != "body"]
        oldest = (
            sa.select(*columns)
            .where(*of_maker)
            .order_by(reports.c.made_at, reports.c.id)
            .limit(excess)
        )
        return [_entry(row, self._desk) for row in connection.execute(oldest).mappings()]

    def _forget_oldest(self, connection: Connection, most: int, *, deleted: bool) -> None:
        """Keep the newest *most* of one scope, so that no organisation drives out another's."""
        scope = self._desk.scope
        own = reports.c.org_id.is_(None) if scope is None else reports.c.org_id == scope
        hidden = reports.c.id.startswith(_DELETED, autoescape=True)
        statement = (
            sa.select(reports.c.id)
            .where(own, hidden if deleted else sa.not_(hidden))
            .order_by(reports.c.made_at.desc(), reports.c.id.desc())
            .offset(most)
            .limit(1_000)
        )
        old = list(connection.scalars(statement))
        if old:
            connection.execute(sa.delete(reports).where(reports.c.id.in_(old)))


def _checked(id: str) -> str:
    if _ID.fullmatch(id) is None:
        raise _unknown()
    return id


def _hidden(id: str) -> str:
    return _DELETED + id.replace("-", "")


def _unknown() -> NotFound:
    return NotFound("there is no such report: it was deleted, or was never made")


def _entry(row: Any, desk: Desk) -> ReportEntry:
    return ReportEntry(
        id=row["id"],
        made_at=row["made_at"].astimezone(desk.tz),
        made_by=row["made_by"],
        since=row["since"].astimezone(_zone(row["tz"])),
        until=row["until"].astimezone(_zone(row["tz"])),
        tz=row["tz"],
        scope=row["org_id"],
    )


def _zone(name: str) -> Any:
    from ai_ledger.stats.calendar import time_zone

    return time_zone(name)


def _facts(entry: ReportEntry) -> dict[str, Any]:
    return {"since": entry.since, "until": entry.until, "organisation": entry.scope}
