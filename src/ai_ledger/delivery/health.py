"""Health: what waits, what was lost and why, and how the sinks are."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec


class SinkHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How one sink is."""

    name: str
    pending: int
    """Records that it still has to take."""
    delivered: int
    """Records that it took from this process."""
    last_error: str | None = None
    """The last failure, without secrets; ``None`` once it works again."""
    last_success_at: datetime | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger says about itself."""

    mode: Literal["journal", "memory"]
    folder: str | None
    """Of the journal."""
    pending: int
    """Records that at least one sink still has to take."""
    oldest_seconds: float | None
    """How long ago the oldest of them started; ``None`` when nothing is pending."""
    journal_bytes: int
    """In all segments of the folder, those of other processes included."""
    memory_bytes: int
    """Of records that wait in memory."""
    dropped: dict[str, int]
    """Calls, or parts of them, that were given up, by reason."""
    quarantined: int
    """Records and fragments set aside in ``quarantine.jsonl``."""
    sinks: tuple[SinkHealth, ...]
    incidents: dict[str, int] = {}
    """What else went wrong inside the ledger, by reason."""
