"""Who has which part: the largest values by name, the others together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final, Literal

from ai_ledger.money import from_nano
from ai_ledger.totals import Group, Totals
from ai_ledger.web.overview.answers import CostTrend, ModelCost, Shares, Slice

NAMED: Final = 7
"""So many values have a name; one more would be one colour too many to tell apart."""


def costs(totals: Totals) -> dict[str, Decimal]:
    """By currency; currencies are never added."""
    return {code: from_nano(nano) for code, nano in sorted(totals.cost_nano.items())}


def currencies_of(parts: Iterable[Totals]) -> list[str]:
    """All that something was paid in."""
    return sorted({code for part in parts for code in part.cost_nano})


def cost_trends(groups: Iterable[Group], points: int) -> tuple[CostTrend, ...]:
    """
    The costs of each currency by model and point.

    Args:
        groups: By model, with the index of their point.
        points: How many there are.
    """
    sums: dict[str, dict[str | None, list[int]]] = {}
    for group in groups:
        for code, nano in group.totals.cost_nano.items():
            models = sums.setdefault(code, {})
            models.setdefault(group.key[0], [0] * points)[group.interval] += nano
    return tuple(_cost_trend(code, sums[code], points) for code in sorted(sums))


def _cost_trend(currency: str, models: Mapping[str | None, list[int]], points: int) -> CostTrend:
    named, rest = _largest({model: sum(nanos) for model, nanos in models.items()})
    rows = [(model, False, models[model]) for model in named]
    if rest:
        others = [sum(models[model][place] for model in rest) for place in range(points)]
        rows.append((None, True, others))
    return CostTrend(
        currency=currency,
        total=from_nano(sum(sum(nanos) for nanos in models.values())),
        models=tuple(
            ModelCost(
                model=model,
                others=others,
                cost=tuple(map(from_nano, nanos)),
                total=from_nano(sum(nanos)),
            )
            for model, others, nanos in rows
        ),
    )


def shares(
    field: Literal["function", "request_model"], totals: Mapping[str | None, Totals]
) -> Shares:
    """The parts that the values of *field* have in calls, and in the costs of each currency."""
    return Shares(
        field=field,
        values=len(totals),
        calls=_slices({value: each.calls for value, each in totals.items()}, Decimal),
        cost={
            code: _slices(
                {
                    value: each.cost_nano[code]
                    for value, each in totals.items()
                    if code in each.cost_nano
                },
                from_nano,
            )
            for code in currencies_of(totals.values())
        },
    )


def _slices(
    numbers: Mapping[str | None, int], shown: Callable[[int], Decimal]
) -> tuple[Slice, ...]:
    whole = sum(numbers.values())
    named, rest = _largest(numbers)
    rows = [(value, False, numbers[value]) for value in named]
    if rest:
        rows.append((None, True, sum(numbers[value] for value in rest)))
    return tuple(
        Slice(
            value=value,
            others=others,
            number=shown(number),
            share=number / whole if whole else 0.0,
        )
        for value, others, number in rows
    )


def _largest(
    numbers: Mapping[str | None, int],
) -> tuple[list[str | None], list[str | None]]:
    """The values with names of their own, largest first, and the others."""
    ordered = sorted(numbers, key=lambda value: (-numbers[value], value is None, value or ""))
    # "Others" that are a single value might as well have their name.
    split = NAMED if len(ordered) > NAMED + 1 else NAMED + 1
    return ordered[:split], ordered[split:]
