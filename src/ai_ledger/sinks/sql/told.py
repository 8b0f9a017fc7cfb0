"""What else tells of calls, reports and notes: it goes when these calls are forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.database.changes import erase_notes
from ai_ledger.database.tables.alerts import marks
from ai_ledger.database.tables.calls import records
from ai_ledger.database.tables.console import reports


def drop_reports_of(connection: Connection, ids: Sequence[str]) -> None:
    """
    Delete the stored reports that may name a user or a device of these calls.

    A report lists both, so every one goes whose days and organisation are those of a
    call that names one; deleted calls count, since they may have been deleted after it
    was made. A call that names nobody any more takes no report with it.

    Args:
        connection: In the transaction that erases the calls, before it does.
        ids: Of the calls.
    """
    kept = connection.execute(
        sa.select(reports.c.id, reports.c.org_id, reports.c.since, reports.c.until)
    ).all()
    if not kept:
        return
    named = connection.execute(
        sa.select(records.c.started_at, records.c.org_id).where(
            records.c.id.in_(ids),
            sa.or_(records.c.user_id.is_not(None), records.c.device_id.is_not(None)),
        )
    ).all()
    stale = [
        report.id
        for report in kept
        if any(
            report.since <= call.started_at < report.until and report.org_id in (None, call.org_id)
            for call in named
        )
    ]
    if stale:
        connection.execute(sa.delete(reports).where(reports.c.id.in_(stale)))


def erase_notes_on(connection: Connection, ids: Sequence[str]) -> None:
    """
    Erase what people wrote about these calls when they failed; that somebody saw to them stays.

    Args:
        connection: Of the transaction that forgets them.
        ids: Of the calls, a thousand at the most.
    """
    connection.execute(sa.update(marks).where(marks.c.call_id.in_(ids)).values(note=None))
    erase_notes(connection, "call_mark", ids)
