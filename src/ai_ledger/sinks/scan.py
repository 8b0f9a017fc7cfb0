"""Answering a query by reading records one by one: for stores that have no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from ai_ledger.bounds import label
from ai_ledger.errors import InvalidValue
from ai_ledger.query import NUMBER_FIELDS, TAG_PREFIX, AnyOf, Between, Condition, Query
from ai_ledger.records import CallRecord

SORT_FIELDS = ("started_at", *NUMBER_FIELDS)
MAX_LIMIT: Final = 10_000
"""Of calls in one page."""
MAX_OFFSET: Final = 2**62
IDENTITY_FIELDS: Final = (
    "user_id",
    "device_id",
    "session_id",
    "reference_id",
    "response_id",
    "error_message",
)
"""What is forgotten of a call, besides its tags and its content."""


def matches(query: Query, record: CallRecord, *, deleted: bool | None = None) -> bool:
    """
    Whether *query* means *record*.

    Args:
        query: The question.
        record: A call.
        deleted: In place of ``query.deleted``.
    """
    if query.scope is not None and record.org_id != query.scope:
        return False
    if query.since is not None and record.started_at < query.since:
        return False
    if query.until is not None and record.started_at >= query.until:
        return False
    if (record.deleted_at is not None) != (query.deleted if deleted is None else deleted):
        return False
    return all(_holds(record, field, condition) for field, condition in query.where)


def _holds(record: CallRecord, field: str, condition: Condition) -> bool:
    if field.startswith(TAG_PREFIX):
        value = record.tags.get(field.removeprefix(TAG_PREFIX))
    else:
        value = getattr(record, field)
    if isinstance(condition, AnyOf):
        return value in condition.values
    if value is None:
        return False
    if isinstance(condition, Between):
        return (condition.at_least is None or value >= condition.at_least) and (
            condition.below is None or value < condition.below
        )
    return condition.text in str(value)


def is_within(scope: str | None, record: CallRecord) -> bool:
    """Whether *record* belongs to the organisation *scope*, or to any when that is ``None``."""
    return scope is None or record.org_id == label(scope)


def check_page(limit: int, offset: int, after: tuple[datetime, str] | None, order: str) -> None:
    """
    Refuse a page that cannot be, or that would be too long.

    Raises:
        InvalidValue: Names the argument.
    """
    if order not in SORT_FIELDS:
        raise InvalidValue("order", order, f"one of {', '.join(SORT_FIELDS)}")
    if after is not None and order != "started_at":
        raise InvalidValue("after", after, "nothing, unless the order is started_at")
    if not 0 <= limit <= MAX_LIMIT:
        raise InvalidValue("limit", limit, f"0 to {MAX_LIMIT:,}; go on with after=")
    if not 0 <= offset <= MAX_OFFSET:
        raise InvalidValue("offset", offset, "0 or more")


def page(
    records: Iterable[CallRecord],
    *,
    limit: int,
    offset: int,
    after: tuple[datetime, str] | None,
    order: str,
    descending: bool,
) -> list[CallRecord]:
    """One page of *records*; see `Store.calls`. Calls without the ordering value come last."""
    if after is not None:
        records = (
            record
            for record in records
            if ((record.started_at, record.id) < after) == descending
            and (record.started_at, record.id) != after
        )
    known: list[CallRecord] = []
    unknown: list[CallRecord] = []
    for record in records:
        (unknown if getattr(record, order) is None else known).append(record)
    known.sort(key=lambda record: (getattr(record, order), record.id), reverse=descending)
    unknown.sort(key=lambda record: record.id, reverse=descending)
    return [*known, *unknown][offset : offset + limit]


def without_content(records: Iterable[CallRecord]) -> Iterator[CallRecord]:
    """*records* without what was asked and answered."""
    for record in records:
        yield record.replace(request_content=None, response_content=None)


def forgotten(record: CallRecord) -> CallRecord:
    """*record* without content and identity; counts, tokens and costs stay."""
    return record.replace(
        **dict.fromkeys(IDENTITY_FIELDS), tags={}, request_content=None, response_content=None
    )
