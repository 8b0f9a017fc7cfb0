"""A query as SQL conditions: names from a fixed list, values as bound parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from ai_ledger.database.tables.calls import records, tags
from ai_ledger.errors import InvalidValue
from ai_ledger.query import (
    ANY_ID,
    BOOLEAN_FIELDS,
    ID_FIELDS,
    NUMBER_FIELDS,
    TAG_PREFIX,
    UNPRICED,
    AnyOf,
    Between,
    Condition,
    Query,
    field_name,
)

_MAX_INT: Final = 2**63 - 1
_INTEGERS: Final = frozenset(NUMBER_FIELDS) - {"duration_ms", "time_to_first_token_ms", "cost"}
# A list of values longer than this does not fit a statement on every database.
MAX_VALUES: Final = 10_000

IS_UNPRICED: Final = sa.and_(
    records.c.cost_nano.is_(None),
    records.c.status.not_in(("blocked", "circuit_open")),
    sa.or_(records.c.status != "failed", records.c.usage_source != "unknown"),
)
"""The words of `totals.is_unpriced`."""


def conditions(
    query: Query, kind: str, *, deleted: bool | None = None
) -> list[ColumnElement[bool]]:
    """
    What must hold for a row that *query* means, its scope first.

    Args:
        query: The question.
        kind: The dialect's name.
        deleted: In place of ``query.deleted``; see `everything` for both.
    """
    wanted = query.deleted if deleted is None else deleted
    gone = records.c.deleted_at
    return [*everything(query, kind), gone.is_not(None) if wanted else gone.is_(None)]


def everything(query: Query, kind: str) -> list[ColumnElement[bool]]:
    """The same, of deleted and other calls alike."""
    found: list[ColumnElement[bool]] = []
    if query.scope is not None:
        found.append(records.c.org_id == query.scope)
    found.extend(within(query.since, query.until))
    if query.deleted_at is not None:
        found.append(records.c.deleted_at == query.deleted_at)
    found.extend(_holds(field, condition, kind) for field, condition in query.where)
    return found


def within(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """Started at *since* or later and before *until*."""
    found: list[ColumnElement[bool]] = []
    if since is not None:
        found.append(records.c.started_at >= since)
    if until is not None:
        found.append(records.c.started_at < until)
    return found


def column_of(field: str) -> ColumnElement[Any]:
    """The column of a filter field; ``cost`` is kept in nano-units."""
    return records.c["cost_nano" if field == "cost" else field_name(field)]


def _holds(field: str, condition: Condition, kind: str) -> ColumnElement[bool]:
    if field == ANY_ID:
        return sa.or_(*(_holds(each, condition, kind) for each in ID_FIELDS))
    if field == UNPRICED:
        return IS_UNPRICED
    if field.startswith(TAG_PREFIX):
        return _tag_holds(field.removeprefix(TAG_PREFIX), condition, kind)
    column = column_of(field)
    if isinstance(condition, Between):
        return _between(field, column, condition)
    if isinstance(condition, AnyOf):
        return _any_of(field, column, condition.values)
    return _contains(column, condition.text, kind)


def _tag_holds(key: str, condition: Condition, kind: str) -> ColumnElement[bool]:
    def some(*more: ColumnElement[bool]) -> ColumnElement[bool]:
        return records.c.id.in_(sa.select(tags.c.call_id).where(tags.c.key == key, *more))

    if isinstance(condition, AnyOf):
        texts = [_text("tags." + key, value) for value in condition.values if value is not None]
        found = [some(tags.c.value.in_(_bounded(key, texts)))] if texts else []
        if None in condition.values:
            found.append(sa.not_(some()))
        return sa.or_(sa.false(), *found)
    if isinstance(condition, Between):
        raise InvalidValue("tags." + key, condition, "a text, a collection of texts or Contains(…)")
    return some(_contains(tags.c.value, condition.text, kind))


def _contains(column: ColumnElement[Any], text: str, kind: str) -> ColumnElement[bool]:
    # A position and not LIKE: letter for letter on all, and no wildcard to escape.
    position = sa.func.strpos if kind == "postgresql" else sa.func.instr
    return position(column, text) > 0


def _any_of(field: str, column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    some = [value for value in values if value is not None]
    if field in BOOLEAN_FIELDS:
        plain: list[Any] = [bool(value) for value in some]
    elif field in NUMBER_FIELDS:
        plain = [number for value in some for number in _whole(field, value)]
    else:
        plain = [_text(field, value) for value in some]
    found = [column.in_(_bounded(field, plain))] if plain else []
    if len(some) < len(values):
        found.append(column.is_(None))
    return sa.or_(sa.false(), *found)


def _bounded(field: str, values: list[Any]) -> list[Any]:
    if len(values) > MAX_VALUES:
        raise InvalidValue(field, len(values), f"at most {MAX_VALUES:,} values")
    return values


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue(field, value, "a text")
    return value


def _whole(field: str, value: Any) -> list[Any]:
    """*value* as the column holds it; nothing when the column cannot hold it."""
    number = _number(field, value)
    if field not in _INTEGERS and field != "cost":
        return [float(number)]
    if not number.is_finite() or number != number.to_integral_value() or abs(number) > _MAX_INT:
        return []
    return [int(number)]


def _between(field: str, column: ColumnElement[Any], condition: Between) -> ColumnElement[bool]:
    found: list[ColumnElement[bool]] = [column.is_not(None)]
    for bound, upper in ((condition.at_least, False), (condition.below, True)):
        if bound is None:
            continue
        number = _number(field, bound)
        if field not in _INTEGERS and field != "cost":
            found.append(column < float(number) if upper else column >= float(number))
        elif number.is_nan():
            found.append(sa.false())
        elif abs(number) > _MAX_INT:
            # Beyond what a column can hold, all are on one side.
            if (number > 0) != upper:
                found.append(sa.false())
        else:
            # Whole numbers below 2.5 are those below 3.
            whole = math.ceil(number)
            found.append(column < whole if upper else column >= whole)
    return sa.and_(*found)


def _number(field: str, value: Any) -> Decimal:
    """*value* as a number of the column's unit."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise InvalidValue(field, value, "a number")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise InvalidValue(field, value, "a number") from error
    return number.scaleb(9) if field == "cost" and number.is_finite() else number
