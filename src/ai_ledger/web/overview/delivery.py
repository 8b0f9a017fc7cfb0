"""What waits between the programs that record and the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ai_ledger.journal.waiting import waiting
from ai_ledger.web.overview.answers import Delivery, SinkState, Waiting

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

LATE_S: Final = 60.0
"""What has waited for longer is late: delivery takes about a second."""
_SHOWN: Final = 5


def delivery(desk: Desk) -> Delivery | None:
    """
    The delivery of this process, and the journal of all that share its folder.

    ``None`` for readers who are confined to an organisation: it is about all of them.
    """
    if desk.scope is not None:
        return None
    health = desk.house.ledger.health()
    segments = [] if health.folder is None else waiting(Path(health.folder))
    late = max(health.oldest_seconds or 0.0, segments[0].age_seconds if segments else 0.0)
    return Delivery(
        mode=health.mode,
        folder=health.folder,
        pending=health.pending,
        oldest_seconds=health.oldest_seconds,
        dropped=health.dropped,
        quarantined=health.quarantined,
        incidents=health.incidents,
        sinks=tuple(
            SinkState(
                name=sink.name,
                pending=sink.pending,
                delivered=sink.delivered,
                last_error=sink.last_error,
                last_success_at=None
                if sink.last_success_at is None
                else sink.last_success_at.astimezone(desk.tz),
            )
            for sink in health.sinks
        ),
        segments=len(segments),
        waiting_bytes=sum(each.bytes for each in segments),
        oldest_segment_seconds=segments[0].age_seconds if segments else None,
        orphaned=sum(each.orphaned for each in segments),
        oldest=tuple(
            Waiting(
                name=each.name,
                bytes=each.bytes,
                age_seconds=each.age_seconds,
                orphaned=each.orphaned,
            )
            for each in segments[:_SHOWN]
        ),
        well=late < LATE_S
        and not health.dropped
        and not health.quarantined
        and not any(sink.last_error for sink in health.sinks),
    )
