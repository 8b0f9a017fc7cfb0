"""The address of the calls that a budget or an alert is about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, cast

from ai_ledger.query import TAG_PREFIX
from ai_ledger.web.filters import TEXTS, parameter_of
from ai_ledger.web.periods import MAX_DAYS

_FIELDS: Final = (*TEXTS, "status", "usage_source")


def calls_query(
    where: Mapping[str, Any],
    since: datetime | None,
    until: datetime | None,
    tz: tzinfo,
) -> dict[str, list[str]] | None:
    """
    *where* as the page of calls takes it, which knows days and no hours.

    Args:
        where: Field or ``tags.<key>`` → a value or several, ``None``: not set.
        since: Inclusive; ``None`` for always.
        until: Exclusive.
        tz: Whose days.

    Returns:
        ``None`` when the page of calls has no such filter.
    """
    query: dict[str, list[str]] = {}
    for field, value in where.items():
        values = cast("tuple[Any, ...]", value) if isinstance(value, (list, tuple)) else (value,)
        if field == "cost" and tuple(values) == (None,):
            query["price"] = ["unpriced"]
        elif isinstance(value, Mapping):
            return None
        elif field.startswith(TAG_PREFIX) or field in _FIELDS:
            for each in values:
                name, text = parameter_of(field, None if each is None else str(each))
                query.setdefault(name, []).append(text)
        else:
            return None
    if since is not None and until is not None and until - since < timedelta(days=MAX_DAYS):
        query["first"] = [since.astimezone(tz).date().isoformat()]
        query["last"] = [(until - timedelta(microseconds=1)).astimezone(tz).date().isoformat()]
    return query
