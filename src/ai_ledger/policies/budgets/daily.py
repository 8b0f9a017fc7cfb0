"""What was used of a budget day by day, by the ledger's rows: what a forecast is judged by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec

from ai_ledger.query import AnyOf, Query
from ai_ledger.sinks import Store
from ai_ledger.stats import calendar
from ai_ledger.terms import TOKENS, Terms
from ai_ledger.totals import Group, Totals

HISTORY_DAYS: Final = 56
"""Eight weeks, today not included."""


def daily_use(
    store: Store, terms: Terms, whose: str | None, *, each: bool, now: datetime
) -> dict[date, int]:
    """
    Day in the budget's time zone → what was used on it, in its unit; days without calls not.

    Calls without a price count for nothing here, whatever *terms* assume of them.

    Args:
        store: With the ledger's rows.
        terms: Of the budget.
        whose: The value of the field that the budget is for each of.
        each: Whether *whose* counts.
        now: Aware.
    """
    if not each or terms.each is None:
        return daily_uses(store, terms, now=now).get(None, {})
    return daily_uses(store, terms, (whose,), now=now).get(whose, {})


def daily_uses(
    store: Store, terms: Terms, whose: Collection[str | None] = (), *, now: datetime
) -> dict[str | None, dict[date, int]]:
    """
    `daily_use` of several at once, with one question; whoever has used nothing is left out.

    Args:
        store: With the ledger's rows.
        terms: Of the budget.
        whose: Values of the field that the budget is for each of; none, for all
            together, who are then found under ``None``.
        now: Aware.
    """
    asked = DaysAsked.of(terms, whose, now)
    if asked is None:
        return {}
    return asked.told(store.aggregate(asked.query, asked.by, asked.edges))


class DaysAsked(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is asked, as `Store.aggregate` takes it, and what its answer says."""

    terms: Terms
    first: date
    query: Query
    by: tuple[str, ...]
    edges: calendar.Edges

    @classmethod
    def of(cls, terms: Terms, whose: Collection[str | None], now: datetime) -> DaysAsked | None:
        """The question of `daily_uses`; ``None`` where *terms* count for none of *whose*."""
        zone = calendar.time_zone(terms.tz)
        first = now.astimezone(zone).date() - timedelta(days=HISTORY_DAYS)
        edges = calendar.day_edges(first, HISTORY_DAYS, zone)
        where: dict[str, Any] = {field: AnyOf(values) for field, values in terms.where.items()}
        by: tuple[str, ...] = ()
        if whose and terms.each is not None:
            by = (terms.each,)
            allowed = terms.where.get(terms.each)
            # In one order, so that the same question is the same value.
            wanted = tuple(
                sorted(
                    (each for each in whose if allowed is None or each in allowed),
                    key=lambda each: (each is not None, each or ""),
                )
            )
            if not wanted:
                return None
            where[terms.each] = AnyOf(wanted)
        query = Query.build(scope=None, since=edges[0], until=edges[-1], where=where)
        return cls(terms=terms, first=first, query=query, by=by, edges=edges)

    def told(self, groups: Iterable[Group]) -> dict[str | None, dict[date, int]]:
        """Whose → day → what was used; calls, tokens and costs of *groups* are enough."""
        found: dict[str | None, dict[date, int]] = {}
        for group in groups:
            if group.totals.calls:
                days = found.setdefault(group.key[0] if self.by else None, {})
                day = self.first + timedelta(days=group.interval)
                days[day] = _amount(self.terms, group.totals)
        return found


def _amount(terms: Terms, totals: Totals) -> int:
    if terms.unit == TOKENS:
        return totals.input_tokens + totals.output_tokens
    return _money(terms, totals.cost_nano)


def _money(terms: Terms, cost_nano: Mapping[str, int]) -> int:
    return sum(terms.converted(nano, code) or 0 for code, nano in cost_nano.items())
