"""Costs of a time in one currency, day by day, at the rates that the user gave."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from ai_ledger.errors import InvalidValue, PriceError
from ai_ledger.money import from_nano, to_nano
from ai_ledger.query import Query
from ai_ledger.sinks.base import Store
from ai_ledger.stats import calendar
from ai_ledger.stats.results import Converted

if TYPE_CHECKING:
    from ai_ledger.pricing.convert import Rates

_Key: TypeAlias = tuple[str | None, ...]


class Conversion:
    """
    The converted costs of each group, which add up to those of all.

    Args:
        currency: What was converted to; ``None`` when nothing was.
        groups: Group → converted nano-units, and nano-units by currency without a rate.
    """

    def __init__(
        self, currency: str | None, groups: Mapping[_Key, tuple[int, Mapping[str, int]]]
    ) -> None:
        self._currency = currency
        self._groups = groups

    def of(self, key: _Key) -> Converted | None:
        """The converted cost of one group."""
        return self._sum([key] if key in self._groups else [])

    @property
    def total(self) -> Converted | None:
        """The converted cost of all groups."""
        return self._sum(list(self._groups))

    def _sum(self, keys: list[_Key]) -> Converted | None:
        if self._currency is None:
            return None
        missing: dict[str, int] = {}
        for key in keys:
            for code, nano in self._groups[key][1].items():
                missing[code] = missing.get(code, 0) + nano
        return Converted(
            currency=self._currency,
            amount=from_nano(sum(self._groups[key][0] for key in keys)),
            without_rate={code: from_nano(nano) for code, nano in sorted(missing.items())},
        )


def converted_costs(
    store: Store, query: Query, fields: tuple[str, ...], currency: str, rates: Rates
) -> Conversion:
    """
    The costs of *query*, by *fields*, each day's at the rate of that day in UTC.

    Raises:
        InvalidValue: The calls span more than ten years.
    """
    edges = _days(store, query)
    groups: dict[_Key, tuple[int, dict[str, int]]] = {}
    for group in store.aggregate(query, fields, edges) if edges else ():
        amount, missing = groups.get(group.key, (0, {}))
        # An edge may be the query's own since, in the middle of a day.
        day = edges[group.interval].date()
        for code, nano in group.totals.cost_nano.items():
            try:
                amount += to_nano(rates.convert(from_nano(nano), code, currency, day).converted)
            except PriceError:
                missing[code] = missing.get(code, 0) + nano
        groups[group.key] = (amount, missing)
    return Conversion(currency, groups)


def _days(store: Store, query: Query) -> calendar.Edges:
    """The days in UTC that *query* touches, cut to it; none when it means no call."""
    first = store.calls(query, limit=1, descending=False)
    last = store.calls(query, limit=1)
    if not first or not last:
        return ()
    since, until = (each[0].started_at.astimezone(UTC) for each in (first, last))
    days = (until.date() - since.date()).days + 1
    if days > calendar.MAX_DAYS:
        raise InvalidValue(
            "since", query.since, f"a time within {calendar.MAX_DAYS} days of the last call"
        )
    edges = calendar.day_edges(since.date(), days, UTC)
    return _within(edges, query.since, query.until)


def _within(
    edges: calendar.Edges, since: datetime | None, until: datetime | None
) -> calendar.Edges:
    start = edges[0] if since is None else max(edges[0], since.astimezone(UTC))
    end = edges[-1] if until is None else min(edges[-1], until.astimezone(UTC))
    return (start, *edges[1:-1], end)
