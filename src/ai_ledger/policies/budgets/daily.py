"""What was used of a budget day by day, by the ledger's rows: what a forecast is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from ai_ledger.query import AnyOf, Query
from ai_ledger.sinks import Store
from ai_ledger.stats import calendar
from ai_ledger.terms import TOKENS, Terms
from ai_ledger.totals import Totals

HISTORY_DAYS: Final = 56
"""Eight weeks, today not included."""


def daily_use(
    store: Store, terms: Terms, scope: str | None, *, each: bool, now: datetime
) -> dict[date, int]:
    """
    Day in the budget's time zone → what was used on it, in its unit; days without calls not.

    Calls without a price count for nothing here, whatever *terms* assume of them.

    Args:
        store: With the ledger's rows.
        terms: Of the budget.
        scope: The value of the field that the budget is for each of.
        each: Whether *scope* counts.
        now: Aware.
    """
    zone = calendar.time_zone(terms.tz)
    first = now.astimezone(zone).date() - timedelta(days=HISTORY_DAYS)
    edges = calendar.day_edges(first, HISTORY_DAYS, zone)
    where: dict[str, Any] = {field: AnyOf(values) for field, values in terms.where.items()}
    if each and terms.each is not None:
        if terms.each in where and scope not in where[terms.each].values:
            return {}
        where[terms.each] = AnyOf((scope,))
    query = Query.build(scope=None, since=edges[0], until=edges[-1], where=where)
    return {
        first + timedelta(days=group.interval): _amount(terms, group.totals)
        for group in store.aggregate(query, (), tuple(edges))
        if group.totals.calls
    }


def _amount(terms: Terms, totals: Totals) -> int:
    if terms.unit == TOKENS:
        return totals.input_tokens + totals.output_tokens
    return _money(terms, totals.cost_nano)


def _money(terms: Terms, cost_nano: Mapping[str, int]) -> int:
    return sum(terms.converted(nano, code) or 0 for code, nano in cost_nano.items())
