"""Failed calls, and which of them somebody has looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ai_ledger.alerts.alert import MARK_STATES, FailedCall, MarkState
from ai_ledger.alerts.calls import calls_of
from ai_ledger.alerts.register import note_of
from ai_ledger.alerts.rulebook import insert_new
from ai_ledger.bounds import label
from ai_ledger.database.changes import Change, changes_of, note_change
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.alerts import marks
from ai_ledger.database.tables.calls import records
from ai_ledger.errors import InvalidValue, NotFound
from ai_ledger.query import AnyOf, Query
from ai_ledger.sinks.sql.conditions import conditions
from ai_ledger.sinks.sql.reader import Reader
from ai_ledger.validation import checked_limit

FAILURES: Final = ("failed", "timeout", "circuit_open")
MAX_FAILURES: Final = 1_000
MAX_DAYS: Final = 3_660


class Marks:
    """
    What people think of failed calls.

    Args:
        database: Where it is kept.
        store: Reads the calls; of the same database.
        clock: Says what time it is.
    """

    def __init__(self, database: Database, store: Reader, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    def failures(
        self,
        scope: str | None,
        *,
        days: int,
        state: MarkState | None,
        where: Mapping[str, Any] | None,
        limit: int,
    ) -> list[FailedCall]:
        """Failed calls of the last days, newest first."""
        if type(days) is not int or not 1 <= days <= MAX_DAYS:
            raise InvalidValue("days", days, f"a whole number from 1 to {MAX_DAYS:,}")
        limit = checked_limit(limit, MAX_FAILURES)
        if state is not None and state not in MARK_STATES:
            raise InvalidValue("state", state, f"one of {', '.join(MARK_STATES)}")
        query = Query.build(
            scope=scope, since=self._clock() - timedelta(days=days), where=where or {}
        )
        statement = (
            sa.select(records.c.id, marks)
            .select_from(records.outerjoin(marks, marks.c.call_id == records.c.id))
            .where(*conditions(query, self._database.kind), records.c.status.in_(FAILURES))
            .order_by(records.c.started_at.desc(), records.c.id.desc())
            .limit(limit)
        )
        if state == "open":
            statement = statement.where(marks.c.call_id.is_(None))
        elif state is not None:
            statement = statement.where(marks.c.state == state)
        with self._database.reading() as connection:
            rows = list(connection.execute(statement))
        return self._with_calls(rows, query)

    def _with_calls(self, rows: Sequence[Row[Any]], query: Query) -> list[FailedCall]:
        if not rows:
            return []
        ids = AnyOf(tuple(row.id for row in rows))
        found = calls_of(
            self._store, Query.build(scope=query.scope, where={"id": ids}), limit=len(rows)
        )
        calls = {call.id: call for call in found}
        return [
            FailedCall(
                call=calls[row.id],
                state=row.state or "open",
                marked_at=row.marked_at,
                marked_by=row.marked_by,
                note=row.note,
            )
            for row in rows
            if row.id in calls
        ]

    def mark(
        self,
        call_ids: Sequence[str],
        state: MarkState,
        scope: str | None,
        *,
        by: str | None,
        note: str | None,
    ) -> int:
        """
        Mark failed calls, all or none; ``open`` takes their marks away.

        Raises:
            NotFound: One of them is no failed call within *scope*; nothing is marked.
            InvalidValue: No id was given, or too many.
        """
        ids = sorted({label(_id(each)) for each in call_ids})
        if not 1 <= len(ids) <= MAX_FAILURES:
            raise InvalidValue("ids", len(ids), f"1 to {MAX_FAILURES:,} ids of calls")
        kept = note_of(note)
        query = Query.build(scope=scope, where={"id": AnyOf(tuple(ids))})

        def work(connection: Connection) -> int:
            there = set(
                connection.execute(
                    sa.select(records.c.id).where(
                        *conditions(query, self._database.kind), records.c.status.in_(FAILURES)
                    )
                ).scalars()
            )
            missing = [each for each in ids if each not in there]
            if missing:
                raise NotFound(f"no failed call has the id {missing[0]!r}")
            now = self._clock()
            values = {
                "state": state,
                "marked_at": now,
                "marked_by": None if by is None else label(by),
                "note": kept,
            }
            for each in ids:
                before = connection.execute(
                    sa.select(marks).where(marks.c.call_id == each).with_for_update()
                ).first()
                if state == "open":
                    if before is None:
                        continue
                    connection.execute(sa.delete(marks).where(marks.c.call_id == each))
                elif before is not None or not insert_new(
                    connection, marks, {"call_id": each, **values}
                ):
                    connection.execute(
                        sa.update(marks).where(marks.c.call_id == each).values(**values)
                    )
                note_change(
                    connection,
                    "call_mark",
                    each,
                    before=None if before is None else {"state": before.state, "note": before.note},
                    after=None if state == "open" else {"state": state, "note": kept},
                    by=by,
                    at=now,
                )
            return len(ids)

        return self._database.writing(work)

    def history(self, call_id: int | str, scope: str | None, *, limit: int) -> list[Change]:
        """Who has marked a call, newest first; also when the call is no longer kept."""
        key = label(_id(call_id))
        with self._database.reading() as connection:
            if scope is not None:
                query = Query.build(scope=scope, where={"id": AnyOf((key,))})
                statement = sa.select(records.c.id).where(*conditions(query, self._database.kind))
                if connection.execute(statement).first() is None:
                    raise NotFound(f"no call has the id {key!r}")
            found = changes_of(connection, "call_mark", key, limit=limit)
        if not found:
            raise NotFound(f"nobody has marked a call {key!r}")
        return found


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValue("id", value, "the id of a call")
    return value
