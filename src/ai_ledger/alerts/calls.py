"""The calls that alerts are about, without their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_ledger.query import Query
    from ai_ledger.records import CallRecord
    from ai_ledger.sinks.sql.reader import Reader


def calls_of(store: Reader, query: Query, *, limit: int) -> list[CallRecord]:
    """The newest calls meant by *query*, without their texts."""
    return store.calls(
        query,
        limit=limit,
        offset=0,
        after=None,
        order="started_at",
        descending=True,
        content=False,
    )
