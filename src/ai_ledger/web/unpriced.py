"""Calls without a cost: which of them no price helps, and for which there is one by now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from ai_ledger.errors import InvalidValue, NotFound
from ai_ledger.pricing import Price
from ai_ledger.query import Query
from ai_ledger.stats.results import Figures
from ai_ledger.web.house import Desk

MODEL_DAYS: Final = 30
"""How far back the calls of a model are looked at."""
_NEVER_CHARGED = ("failed", "blocked", "circuit_open")


def without_usage(figures: Figures) -> int:
    """
    How many of the unpriced calls have no token counts, such as after a timeout.

    Read from totals: a call that failed or was never sent has no cost to lack when its
    usage is unknown, which is taken for granted. So it is never told too high.
    """
    others = sum(figures.by_status.get(status, 0) for status in _NEVER_CHARGED)
    return min(figures.unpriced_calls, max(0, figures.unknown_usage_calls - others))


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
