"""`Reports`: the reports that a reader may see; rows of a table, and never files."""

from __future__ import annotations

import re
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.database.changes import note_change
from ai_ledger.database.tables.changes import changes
from ai_ledger.database.tables.console import reports
from ai_ledger.errors import EditConflict, NotFound, SinkUnavailable
from ai_ledger.sinks.sql.sink import SQLSink
from ai_ledger.stats import Stats
from ai_ledger.stats.export import Report, report_of
from ai_ledger.stats.results import Result
from ai_ledger.web.house import Desk
from ai_ledger.web.notes import note
from ai_ledger.web.periods import Period
from ai_ledger.web.seats import QUESTIONS, Seats

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
        # In UTC, since there are days that begin at one o'clock and not at midnight.
        last = self.until.astimezone(UTC) - timedelta(microseconds=1)
        return last.astimezone(_zone(self.tz)).date()

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
            EditConflict: Another report of this scope is being made, others have made
                `KEPT`, or calls that it may name were erased meanwhile.
            SinkUnavailable: The store is away, or its calls took too long to count.
        """
        desk = self._desk
        # The groups of some fields take long to count, and hold up the rest of the machine.
        seats = desk.house.kept("reports that are being made", lambda: Seats(QUESTIONS, 1))
        if not seats.take(repr(desk.scope)):
            raise EditConflict("a report is being made already: try again when it is there")
        try:
            return self._made(period)
        finally:
            seats.leave(repr(desk.scope))

    def _made(self, period: Period) -> ReportEntry:
        desk = self._desk
        now = desk.house.clock()
        id = str(uuid4())
        # It stands there from the beginning, as a deleted one that nobody knows of: whoever
        # erases calls of these days meanwhile deletes it with the other reports of theirs.
        begun = {
            "id": _hidden(id),
            "org_id": desk.scope,
            "made_at": now,
            "made_by": desk.by,
            "since": period.since.astimezone(UTC),
            "until": period.until.astimezone(UTC),
            "tz": str(desk.tz),
            "body": "",
        }

        def begin(connection: Connection) -> None:
            self._too_many(connection, 1)
            connection.execute(sa.insert(reports).values(begun))

        def drop(connection: Connection) -> None:
            connection.execute(sa.delete(reports).where(reports.c.id == _hidden(id)))

        self._database.writing(begin)
        try:
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
            row = {
                **begun,
                "id": id,
                "since": report.since.astimezone(UTC),
                "until": report.until.astimezone(UTC),
                "tz": report.tz,
                "body": report.model_dump_json(),
            }
            self._database.writing(lambda connection: self._keep(connection, row, _hidden(id)))
        except BaseException:
            # One that stays behind goes as the deleted ones do.
            with suppress(SinkUnavailable):
                self._database.writing(drop)
            raise
        made = _entry({**row, "made_at": now.astimezone(UTC)}, desk)
        note(desk, "report", made.id, None, {**_facts(made), "state": "made"})
        return made

    def _keep(self, connection: Connection, row: dict[str, Any], begun: str) -> None:
        """
        Put what a report says to its row, and delete those of the same maker that are too many.

        Raises:
            EditConflict: The row is gone, or there are too many of others.
        """
        old = self._too_many(connection, 1)
        if not connection.execute(
            sa.update(reports).where(reports.c.id == begun).values(row)
        ).rowcount:
            raise EditConflict("calls were erased while the report was made: try again")
        if old:
            connection.execute(sa.delete(reports).where(reports.c.id.in_([e.id for e in old])))
        for each in old:
            facts = {**_facts(each), "reason": "its maker has made others"}
            note_change(
                *(connection, "report", each.id),
                before=facts,
                after=None,
                by=self._desk.by,
                at=row["made_at"],
            )

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
            _forget_oldest(connection, found.scope, _hidden(id))

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


def _forget_oldest(connection: Connection, org_id: str | None, deleted: str) -> None:
    """
    Keep those that were deleted last, of one organisation or of all.

    Args:
        connection: Of a transaction.
        org_id: Whose reports, so that no organisation drives out another's.
        deleted: The key of the one that was deleted just now.
    """
    own = reports.c.org_id.is_(None) if org_id is None else reports.c.org_id == org_id
    hidden = reports.c.id.startswith(_DELETED, autoescape=True)
    rows = connection.execute(
        sa.select(reports.c.id, reports.c.made_at)
        .where(own, hidden)
        .order_by(reports.c.made_at.desc(), reports.c.id.desc())
        .limit(1_000)
    ).all()
    if len(rows) <= KEPT_DELETED:
        return
    last = (
        sa.select(changes.c.key, sa.func.max(changes.c.changed_at).label("at"))
        .where(
            changes.c.kind == "report",
            changes.c.key.in_([_shown(row.id) for row in rows]),
            changes.c.after.is_(None),
        )
        .group_by(changes.c.key)
    )
    told = {row.key: row.at for row in connection.execute(last)}
    # What the history does not tell of is being made now, or was.
    when = {row.id: told.get(_shown(row.id), row.made_at) for row in rows}
    when.pop(deleted, None)
    old = sorted(when, key=lambda id: (when[id], id), reverse=True)[KEPT_DELETED - 1 :]
    connection.execute(sa.delete(reports).where(reports.c.id.in_(old)))


def _checked(id: str) -> str:
    if _ID.fullmatch(id) is None:
        raise _unknown()
    return id


def _hidden(id: str) -> str:
    return _DELETED + id.replace("-", "")


def _shown(key: str) -> str:
    return str(UUID(key.removeprefix(_DELETED)))


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
