"""What else tells of calls, reports and notes: it goes when these calls are forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.database.changes import erase_notes
from ai_ledger.database.tables.alerts import marks
from ai_ledger.database.tables.calls import records
from ai_ledger.database.tables.console import reports

Told: TypeAlias = tuple[str | None, datetime]
"""Organisation and quarter of an hour of calls that named somebody."""

# Days of reports begin and end at one, in every zone that is in use.
_QUARTER: Final = timedelta(minutes=15)


def drop_reports_of(connection: Connection, ids: Sequence[str]) -> frozenset[Told]:
    """
    Delete the stored reports that may name a user or a device of these calls.

    A report lists both, so every one goes whose days and organisation are those of a
    call that names one; deleted calls count, since they may have been deleted after it
    was made. A call that names nobody any more takes no report with it.

    Args:
        connection: In the transaction that erases the calls, before it does.
        ids: Of the calls.

    Returns:
        What `drop_reports_on` takes when the calls are erased: a report that was begun
        meanwhile may have read them as they were.
    """
    named = connection.execute(
        sa.select(records.c.started_at, records.c.org_id).where(
            records.c.id.in_(ids),
            sa.or_(records.c.user_id.is_not(None), records.c.device_id.is_not(None)),
        )
    )
    told = frozenset((call.org_id, _quarter(call.started_at)) for call in named)
    drop_reports_on(connection, told)
    return told


def drop_reports_on(connection: Connection, told: Iterable[Told]) -> None:
    """
    Delete the stored reports on these quarters of hours, those that are being made included.

    Args:
        connection: That of a transaction.
        told: As `drop_reports_of` returns it.
    """
    named = list(told)
    kept = connection.execute(
        sa.select(reports.c.id, reports.c.org_id, reports.c.since, reports.c.until)
    ).all()
    if not kept:
        return
    stale = [
        report.id
        for report in kept
        if any(
            report.since < begin + _QUARTER
            and begin < report.until
            and report.org_id in (None, org_id)
            for org_id, begin in named
        )
    ]
    if stale:
        connection.execute(sa.delete(reports).where(reports.c.id.in_(stale)))


def _quarter(moment: datetime) -> datetime:
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


def erase_notes_on(connection: Connection, ids: Sequence[str]) -> None:
    """
    Erase what people wrote about these calls when they failed; that somebody saw to them stays.

    Args:
        connection: Of the transaction that forgets them.
        ids: Of the calls, a thousand at the most.
    """
    connection.execute(sa.update(marks).where(marks.c.call_id.in_(ids)).values(note=None))
    erase_notes(connection, "call_mark", ids)
