"""`OverTime`: costs by day, stacked by what drives them; a chart for each currency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from ai_ledger.money import from_nano
from ai_ledger.query import Query
from ai_ledger.web.costs.leaders import Leaders
from ai_ledger.web.costs.question import Question
from ai_ledger.web.house import Desk
from ai_ledger.web.recent import Found, recent_of

SPLITS: Final = (
    "request_model",
    "provider",
    "function",
    "business_type",
    "operation",
    "org_id",
)
"""Dimensions that have few values, so that all of them are summed by day at once."""
STACKED: Final = 7
"""So many values have a colour of their own; the others are one together."""


@dataclass(frozen=True)
class OverTime:
    """
    Costs in whole nano-units.

    Args:
        days: The days, in their order.
        cells: Currency → value → the cost of each day.
        rest: Currency → the cost of each day of all values that are not in ``cells``.
    """

    days: tuple[date, ...]
    cells: dict[str, dict[str | None, list[int]]]
    rest: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    @property
    def total(self) -> dict[str, Decimal]:
        """By currency; currencies are never added."""
        return {
            currency: from_nano(
                sum(map(sum, self.cells.get(currency, {}).values()))
                + sum(self.rest.get(currency, ()))
            )
            for currency in self._currencies
        }

    def charts(self, labels: list[str], *, others: str, unset: str) -> dict[str, Any]:
        """
        Currency → the data of a chart of stacked bars.

        Args:
            labels: How the days are called.
            others: How all values behind the first `STACKED` are called.
            unset: How it is called that there is no value.
        """
        return {
            currency: {
                "type": "bar",
                "stacked": True,
                "labels": labels,
                "unit": currency,
                "series": _series(
                    self.cells.get(currency, {}), self.rest.get(currency), others, unset
                ),
            }
            for currency in self._currencies
        }

    @property
    def _currencies(self) -> list[str]:
        return sorted({*self.cells, *self.rest})


def over_time_of(desk: Desk, question: Question) -> OverTime:
    """The costs of the days of *question*, told apart by what it asks for."""
    edges = question.period.edges
    query = Query.build(scope=desk.scope, since=edges[0], until=edges[-1], where=question.filters)
    cells: dict[str, dict[str | None, list[int]]] = {}
    for group in desk.house.reader.costs(query, (question.by,), edges):
        for currency, nano in group.totals.cost_nano.items():
            days = cells.setdefault(currency, {}).setdefault(group.key[0], [0] * (len(edges) - 1))
            days[group.interval] += nano
    return OverTime(_days(desk, edges), cells)


def found_over_time(desk: Desk, question: Question, leaders: Leaders) -> Found:
    """
    The costs of the days by a field of many values, being found; the value is an `OverTime`.

    Only those values are summed by day that have a colour; the others are what is left
    of the total.

    Args:
        desk: Whose organisation it is confined to.
        question: Says the days, the filters and the field.
        leaders: The values by cost, of the same question.

    Raises:
        SinkUnavailable: Too many long questions are being answered.
    """
    edges = tuple(question.period.edges)
    query = Query.build(scope=desk.scope, since=edges[0], until=edges[-1], where=question.filters)
    top = tuple(dict.fromkeys(_dearest(leaders)))
    those = {**question.filters, question.by: top}
    narrowed = Query.build(scope=desk.scope, since=edges[0], until=edges[-1], where=those)

    def find() -> OverTime:
        nothing = [0] * (len(edges) - 1)
        cells: dict[str, dict[str | None, list[int]]] = {}
        rest: dict[str, list[int]] = {}
        # The total comes second: what is recorded between the two is one of the others.
        groups = desk.house.reader.costs(narrowed, (question.by,), edges) if top else ()
        for group in groups:
            for currency, nano in group.totals.cost_nano.items():
                of_value = cells.setdefault(currency, {})
                of_value.setdefault(group.key[0], [*nothing])[group.interval] += nano
        for group in desk.house.reader.costs(query, (), edges):
            for currency, nano in group.totals.cost_nano.items():
                rest.setdefault(currency, [*nothing])[group.interval] += nano
        for currency, days in rest.items():
            for of_value in cells.get(currency, {}).values():
                for index, nano in enumerate(of_value):
                    days[index] -= nano
            rest[currency] = [max(0, nano) for nano in days]
        return OverTime(_days(desk, edges), cells, rest)

    key = ("over time", narrowed, question.by, str(desk.tz))
    return recent_of(desk.house).ask(key, desk.house.clock(), find, whose=(desk.scope,))


def _dearest(leaders: Leaders) -> Iterable[str | None]:
    for currency in leaders.total.cost:
        rows = [row for row in leaders.rows if row.cost.get(currency)]
        rows.sort(key=lambda row: -row.cost[currency])
        yield from (row.value for row in rows[:STACKED])


def _days(desk: Desk, edges: Sequence[datetime]) -> tuple[date, ...]:
    # A day may begin an hour late, where clocks skip midnight; never twelve.
    return tuple((edge + timedelta(hours=1)).astimezone(desk.tz).date() for edge in edges[:-1])


def _series(
    values: dict[str | None, list[int]], rest: list[int] | None, others: str, unset: str
) -> list[dict[str, Any]]:
    by_cost = sorted(values.items(), key=lambda each: (-sum(each[1]), each[0] or ""))
    series = [
        {"label": unset if value is None else value, "values": _amounts(days)}
        for value, days in by_cost[:STACKED]
    ]
    behind = [days for _, days in by_cost[STACKED:]]
    if rest is not None and any(rest):
        behind.append(rest)
    if behind:
        sums = map(sum, zip(*behind, strict=True))
        series.append({"label": others, "values": _amounts(sums)})
    return series


def _amounts(days: Iterable[int]) -> list[float]:
    return [float(from_nano(nano)) for nano in days]
