"""Between a record and its rows: bounded, cleaned and refused one by one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from msgspec.structs import astuple

from ai_ledger.bounds import cut, label, storable
from ai_ledger.database.columns import MAX_CURRENCY, MAX_LABEL
from ai_ledger.database.tables.calls import RECORD_COLUMNS
from ai_ledger.errors import InvalidValue, RecordRefused
from ai_ledger.money import from_nano, to_nano
from ai_ledger.records import (
    MAX_COST,
    MAX_COUNT,
    STATUSES,
    TOKEN_FIELDS,
    USAGE_SOURCES,
    CallRecord,
)
from ai_ledger.totals import duration_bucket

# An account of four megabytes is more than the ledger lets through.
MAX_CONTENT_BYTES: Final = 4 * 1024 * 1024

FACT_COLUMNS: Final = (
    "org_id",
    "request_model",
    "provider",
    "operation",
    "function",
    "business_type",
    "user_id",
    "currency",
    "cost_nano",
    "status",
    "usage_source",
    "retries",
    "duration_us",
    "duration_bucket",
    "first_token_us",
    *TOKEN_FIELDS,
)
"""What the totals are made of, besides the hour; in the order that `Cells.add` reads."""

_DELETED: Final = RECORD_COLUMNS.index("deleted_at")
_MAX_COST_NANO: Final = MAX_COST * 10**9
_FIELDS: Final = CallRecord.__struct_fields__
_STREAMED: Final = _FIELDS.index("streamed")
_SOURCE: Final = _FIELDS.index("usage_source")
_PRICE: Final = _FIELDS.index("price_id")
_TAGS: Final = _FIELDS.index("tags")

facts_of_row: Final[Callable[[Any], tuple[Any, ...]]] = itemgetter(
    *(RECORD_COLUMNS.index(name) for name in FACT_COLUMNS)
)
"""The facts among the values of a row of ``ai_call_records``."""


class Prepared(NamedTuple):
    """A record as the rows that it becomes."""

    id: str
    started_at: datetime
    status: str
    deleted: bool
    row: tuple[Any, ...]
    content: tuple[Any, ...] | None
    tags: list[tuple[str, str, str]]


def prepare(record: CallRecord, moment: Callable[[datetime], Any]) -> Prepared:
    """
    The rows of *record*. Texts are cut and cleaned so that every database takes them.

    Args:
        record: Any call.
        moment: How this database wants a datetime.

    Raises:
        RecordRefused: A number or a word that no table can hold; names it.
    """
    try:
        return _prepare(record, moment)
    except RecordRefused:
        raise
    except (InvalidValue, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise RecordRefused(f"call {record.id!r} cannot be stored: {error}") from error


def deleted(ready: Prepared, at: Any) -> Prepared:
    """*ready* as a call that was deleted *at* this moment, given as this database wants it."""
    row = (*ready.row[:_DELETED], at, *ready.row[_DELETED + 1 :])
    return ready._replace(deleted=True, row=row)


def _prepare(record: CallRecord, moment: Callable[[datetime], Any]) -> Prepared:
    fields = astuple(record)  # in the order of the columns, with tags and texts at the end
    call_id, started_at, status, duration_ms, first_token_ms, error_type, message, http = fields[:8]
    streamed, retries, *tokens = fields[_STREAMED:_SOURCE]
    source, cost, currency = fields[_SOURCE:_PRICE]
    known_as, error_type, price_id, *labels = _labels(
        [call_id, error_type, fields[_PRICE], *fields[8:_STREAMED], *fields[_PRICE + 1 : _TAGS]]
    )
    tags, request, response, deleted_at = fields[_TAGS:]
    if not known_as or status not in STATUSES or source not in USAGE_SOURCES:
        raise RecordRefused(f"call {call_id!r}: no id, or no known status or usage source")
    if started_at.tzinfo is None:
        raise RecordRefused(f"call {call_id!r} started at a moment without a time zone")
    if currency is not None and len(currency) > MAX_CURRENCY:
        raise RecordRefused(f"call {call_id!r}: {currency[:40]!r} is no currency")
    cost_nano = None if cost is None else to_nano(cost)
    duration_us = None if duration_ms is None else round(duration_ms * 1000)
    first_token_us = None if first_token_ms is None else round(first_token_ms * 1000)
    numbers = [n for n in (*tokens, duration_us, first_token_us, retries) if n]
    if numbers and not -MAX_COUNT <= min(numbers) <= max(numbers) <= MAX_COUNT:
        largest = max(numbers, key=abs)
        raise RecordRefused(f"call {call_id!r}: {largest} is too large to be added up")
    if cost_nano is not None and abs(cost_nano) > _MAX_COST_NANO:
        raise RecordRefused(f"call {call_id!r}: a cost of {cost} is too large to be added up")
    names = _STREAMED - 8
    row = (
        known_as,
        moment(started_at),
        status,
        duration_ms,
        first_token_ms,
        error_type,
        None if message is None else cut(storable(message), MAX_CONTENT_BYTES),
        http,
        *labels[:names],
        bool(streamed),
        retries,
        *tokens,
        source,
        cost_nano,
        None if currency is None else storable(currency),
        price_id,
        *labels[names:],
        None if deleted_at is None else moment(deleted_at),
        duration_us,
        None if duration_ms is None else duration_bucket(duration_ms),
        first_token_us,
    )
    content = None
    if request is not None or response is not None:
        content = (known_as, _text(request), _text(response))
    pairs = [(label(key), label(value)) for key, value in tags.items()] if tags else []
    return Prepared(
        known_as,
        started_at,
        status,
        deleted_at is not None,
        row,
        content,
        # Two keys may be the same once they are cleaned: the last one holds.
        [(known_as, key, value) for key, value in dict(pairs).items()] if pairs else [],
    )


def _labels(texts: list[str | None]) -> list[str | None]:
    # Nearly always there is nothing to clean, and one look at all of them says so.
    given = [text for text in texts if text]
    joined = "".join(given)
    if joined.isascii() and "\x00" not in joined and max(map(len, given)) <= MAX_LABEL:
        return texts
    return [None if text is None else label(text) for text in texts]


def _text(text: str | None) -> str | None:
    return None if text is None else cut(storable(text), MAX_CONTENT_BYTES)


_DERIVED: Final = ("cost_nano", "duration_us", "duration_bucket", "first_token_us")


def record_of(row: dict[str, Any], tags: dict[str, str]) -> CallRecord:
    """
    The record that *row* and *tags* were made from.

    Args:
        row: The columns of ``ai_call_records`` with those of its content; used up.
        tags: Key → value.
    """
    fields = row
    nano = fields["cost_nano"]
    for name in _DERIVED:
        fields.pop(name, None)
    return CallRecord(cost=None if nano is None else from_nano(nano), tags=tags, **fields)
