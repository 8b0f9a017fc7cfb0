"""Answering a query by reading records one by one: for stores that have no database."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from ai_ledger.bounds import label
from ai_ledger.errors import InvalidValue
from ai_ledger.query import (
    ANY_ID,
    ID_FIELDS,
    NUMBER_FIELDS,
    TAG_PREFIX,
    UNPRICED,
    AnyOf,
    Between,
    Condition,
    Query,
)
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import Place
from ai_ledger.totals import is_unpriced

SORT_FIELDS = ("started_at", *NUMBER_FIELDS)
MAX_LIMIT: Final = 10_000
"""Of calls in one page."""
MAX_OFFSET: Final = 2**62
MAX_PLACE: Final = 2**53
"""Of a number that a page goes on behind; see `records.MAX_COUNT`."""
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
    if query.deleted_at is not None and record.deleted_at != query.deleted_at:
        return False
    return all(_holds(record, field, condition) for field, condition in query.where)


def _holds(record: CallRecord, field: str, condition: Condition) -> bool:
    if field == ANY_ID:
        return any(_holds(record, each, condition) for each in ID_FIELDS)
    if field == UNPRICED:
        return is_unpriced(record)
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


def check_page(limit: int, offset: int, after: Place | None, order: str) -> None:
    """
    Refuse a page that cannot be, or that would be too long.

    Raises:
        InvalidValue: Names the argument.
    """
    if order not in SORT_FIELDS:
        raise InvalidValue("order", order, f"one of {', '.join(SORT_FIELDS)}")
    if after is not None:
        _check_place(after[0], order)
    if not 0 <= limit <= MAX_LIMIT:
        raise InvalidValue("limit", limit, f"0 to {MAX_LIMIT:,}; go on with after=")
    if not 0 <= offset <= MAX_OFFSET:
        raise InvalidValue("offset", offset, "0 or more")


_PLACES: Final[dict[str, tuple[type[int | float | Decimal], ...]]] = {
    "duration_ms": (int, float),
    "time_to_first_token_ms": (int, float),
    "cost": (int, Decimal),
}
"""What a place may hold; whole numbers elsewhere."""


def _check_place(value: object, order: str) -> None:
    if order == "started_at":
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise InvalidValue("after", value, "a datetime with a time zone, as the order has it")
        return
    kinds = _PLACES.get(order, (int,))
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InvalidValue("after", value, f"a value of {order}, or None")
    if not (math.isfinite(value) and abs(value) <= MAX_PLACE):
        raise InvalidValue("after", value, f"a {order} that a call may have")


def page(
    records: Iterable[CallRecord],
    *,
    limit: int,
    offset: int,
    after: Place | None,
    backwards: bool = False,
    order: str,
    descending: bool,
) -> list[CallRecord]:
    """One page of *records*; see `Store.calls`."""
    up = descending == backwards
    known: list[CallRecord] = []
    unknown: list[CallRecord] = []
    for record in records:
        if after is None or _is_behind(record, after, order, up=up, backwards=backwards):
            (unknown if getattr(record, order) is None else known).append(record)
    known.sort(key=lambda record: (getattr(record, order), record.id), reverse=not up)
    unknown.sort(key=lambda record: record.id, reverse=not up)
    if not backwards:
        return [*known, *unknown][offset : offset + limit]
    return [*unknown, *known][offset : offset + limit][::-1]


def _is_behind(record: CallRecord, after: Place, order: str, *, up: bool, backwards: bool) -> bool:
    """Whether *record* comes later than the place, in the direction that is read."""
    own: Any = getattr(record, order)
    value: Any = after[0]
    if (own is None) != (value is None):
        return (own is None) != backwards
    here, there = (
        ((record.id,), (after[1],)) if own is None else ((own, record.id), (value, after[1]))
    )
    return here > there if up else here < there


def without_content(records: Iterable[CallRecord]) -> Iterator[CallRecord]:
    """*records* without what was asked and answered."""
    for record in records:
        yield record.replace(request_content=None, response_content=None)


def forgotten(record: CallRecord) -> CallRecord:
    """*record* without content and identity; counts, tokens and costs stay."""
    return record.replace(
        **dict.fromkeys(IDENTITY_FIELDS), tags={}, request_content=None, response_content=None
    )
