"""Calls without a cost: which of them no price helps, and for which there is one by now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

from ai_ledger.errors import InvalidValue, NotFound, SinkUnavailable
from ai_ledger.pricing import Price
from ai_ledger.query import UNPRICED, Query
from ai_ledger.stats.results import Group
from ai_ledger.web.house import Desk
from ai_ledger.web.recent import Found, recent_of

MODEL_DAYS: Final = 30
"""How far back the calls of a model are looked at."""
PATIENCE_S: Final = 1.0
"""How long a page waits for calls to be counted, however many groups it tells of."""
_NEVER_CHARGED = ("failed", "blocked", "circuit_open")


def without_usage(
    desk: Desk,
    group: Group,
    since: datetime,
    until: datetime | None = None,
    where: Mapping[str, Any] | None = None,
) -> int:
    """
    How many of the unpriced calls of *group* have no token counts, such as after a timeout.

    Totals tell it where all or none of its calls have some. Otherwise calls are counted,
    once for all groups and for a minute; where that takes longer than `PATIENCE_S` or the
    store allows, it is at least so many, or fewer that nobody has counted yet.

    Args:
        desk: Whose.
        group: By one field.
        since: Of the calls; inclusive.
        until: Exclusive.
        where: Which calls the groups are of.
    """
    most = min(group.unpriced_calls, group.unknown_usage_calls)
    if not most or group.unknown_usage_calls == group.calls:
        return most
    ((field, value),) = group.key.items()
    try:
        found = _counting(desk, field, since, until, where)
        if found.wait(max(0.0, found.begun + PATIENCE_S - monotonic())):
            return min(most, found.value.get(value, 0))
    except SinkUnavailable:  # it takes too long, or others ask for so much
        pass
    # A call that failed or was never sent has no cost to lack when its usage is unknown.
    others = sum(group.by_status.get(status, 0) for status in _NEVER_CHARGED)
    return min(most, max(0, group.unknown_usage_calls - others))


def _counting(
    desk: Desk,
    field: str,
    since: datetime,
    until: datetime | None,
    where: Mapping[str, Any] | None,
) -> Found:
    """Value of *field* → unpriced calls without token counts, being counted."""
    asked = {**(where or {}), UNPRICED: True, "usage_source": "unknown"}
    query = Query.build(scope=desk.scope, since=since, until=until, where=asked)
    reader = desk.house.reader

    def count() -> dict[str | None, int]:
        return {each.key[0]: each.totals.calls for each in reader.costs(query, (field,))}

    return recent_of(desk.house, "without usage", at_once=1).ask(
        (query, field), desk.house.clock(), count, whose=(desk.scope,)
    )


def has_price(desk: Desk, model: str, at: datetime) -> bool:
    """Whether a price is found for a call to *model* that starts *at*, whoever answers it."""
    try:
        who: str | None = desk.house.catalog.model(model).provider
    except (NotFound, InvalidValue):
        who = answered_by(desk, model)
    return charged_by(desk, model, who, at) is not None


def charged_by(desk: Desk, model: str, provider: str | None, at: datetime) -> Price | None:
    """The price that a call to *model* is charged by when it starts *at* (aware)."""
    try:
        return desk.house.ledger.prices.find(provider, model, at.astimezone(UTC))
    except OverflowError:  # the first and the last hours of the calendar
        return None


def answered_by(desk: Desk, model: str) -> str | None:
    """The provider of the newest call to *model* in the last `MODEL_DAYS`, if there was one."""
    query = Query.build(
        scope=desk.scope, since=days_ago(desk, MODEL_DAYS), where={"request_model": model}
    )
    last = next(iter(desk.house.reader.calls(query, limit=1, content=False)), None)
    return last.provider if last else None


def days_ago(desk: Desk, days: int) -> datetime:
    """Where the last *days* begin: today is one of them, and all are whole, as totals have them."""
    now = desk.house.clock().astimezone(desk.tz)
    start = datetime(now.year, now.month, now.day, tzinfo=desk.tz)
    return start - timedelta(days=days - 1)
