"""Cursors: texts that say where in an order of calls to go on, and in which direction."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from ai_ledger.errors import InvalidValue
from ai_ledger.money import rounded
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import Place

MAX_CURSOR_CHARS: Final = 2_000

_decoder: Final = msgspec.json.Decoder(tuple[str, str | int | float | None, str, bool])

Read: TypeAlias = Callable[[Place | None, bool], Sequence[CallRecord]]
"""Calls behind a place, one more than are wanted; backwards, those before it."""


class Found(NamedTuple):
    """Some calls, and the cursors of those around them."""

    calls: Sequence[CallRecord]
    next: str | None
    previous: str | None


def browsed(
    read: Read,
    order: str,
    cursor: str | None,
    limit: int,
    *,
    last: bool = False,
    strict: bool = False,
) -> Found:
    """
    The calls at *cursor*.

    Where too few are left before it these are the first ones, and where none are left
    behind it the last, so that no page stands there half empty because of what was
    deleted meanwhile. *strict*: nothing but what stands there, for whoever goes through
    all of them and wants none twice.

    Raises:
        InvalidValue: The cursor was not made for this order.
    """
    after, backwards = (None, last) if cursor is None else place_of(cursor, order)
    found = read(after, backwards)
    if strict:
        pass
    elif after is not None and backwards and len(found) <= limit:
        after, backwards = None, False
        found = read(after, backwards)
    elif after is not None and not backwards and not found:
        after, backwards = None, True
        found = read(after, backwards)
    more = len(found) > limit
    calls = found[-limit:] if backwards else found[:limit]
    is_first, is_last = (not more, after is None) if backwards else (after is None, not more)
    return Found(
        calls,
        None if is_last or not calls else cursor_at(calls[-1], order, backwards=False),
        None if is_first or not calls else cursor_at(calls[0], order, backwards=True),
    )


def cursor_at(record: CallRecord, order: str, *, backwards: bool) -> str:
    """The cursor of what comes right behind *record*, or right before it."""
    value = getattr(record, order)
    if isinstance(value, datetime):
        value = value.isoformat()
    elif isinstance(value, Decimal):
        value = f"{value:f}"
    text = msgspec.json.encode([order, value, record.id, backwards])
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def place_of(cursor: str, order: str) -> tuple[Place, bool]:
    """
    The place that *cursor* stands for, and whether it is read backwards from there.

    Raises:
        InvalidValue: `cursor_at` did not make it for this order.
    """
    with suppress(ValueError, binascii.Error, msgspec.MsgspecError):
        padded = cursor[:MAX_CURSOR_CHARS].encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True)
        made_for, value, call_id, backwards = _decoder.decode(text)
        if made_for == order:
            return (_value(value, order), call_id), backwards
    raise InvalidValue("cursor", cursor[:80], f"one that was given with calls by {order}")


def _value(value: Any, order: str) -> Any:
    if order == "started_at":
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        # Of the first and the last year not every moment is one in UTC.
        if moment.year not in range(2, 9_999):
            raise ValueError
        return moment
    if not isinstance(value, str):
        return value
    if order != "cost":
        raise ValueError
    try:
        # As stores keep it: 1e-999999999 would be a gigabyte where it is written out.
        return rounded(Decimal(value))
    except InvalidOperation as error:
        raise ValueError from error
