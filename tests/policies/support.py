"""Calls that are about to be made, and a clock that is set by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ai_ledger.records import CallRecord, new_id


def call(org_id: str | None = "acme", model: str | None = "m", **fields: Any) -> CallRecord:
    """A call that is about to be made."""
    return CallRecord(
        id=new_id(),
        started_at=datetime.now(UTC),
        status="unfinished",
        org_id=org_id,
        request_model=model,
        **fields,
    )


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now
