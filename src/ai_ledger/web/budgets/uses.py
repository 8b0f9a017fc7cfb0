"""`Uses`: what was used of budgets on the days before, without anybody waiting for rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ai_ledger.errors import SinkUnavailable
from ai_ledger.policies.budgets.daily import DaysAsked
from ai_ledger.sinks.sql.totals import plan
from ai_ledger.web.recent import Found, recent_of

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.account import StoredBudget
    from ai_ledger.web.house import House

Forecast: TypeAlias = Literal["told", "counting", "failed", "not asked"]
Days: TypeAlias = dict[str | None, dict[date, int]]
"""Whose → day → what was used."""

KEPT_S: Final = 600.0
"""What was used on the days before today hardly changes; what is used today is never kept."""
PATIENCE_S: Final = 0.03
"""How long all budgets of a page together are waited for."""
_AT_ONCE: Final = 1


class Uses(NamedTuple):
    """What was used of one budget; no days unless that is told."""

    state: Forecast
    days: Days | None = None


def uses_of(
    house: House, budgets: Sequence[tuple[StoredBudget, Sequence[str | None]]], now: datetime
) -> dict[int, Uses]:
    """
    Budget → what was used of it on the days before today.

    Totals tell it at once. What only rows can tell is counted in the background, one
    budget after another, once for all who ask.

    Args:
        house: Whose calls.
        budgets: Each with the values that it is for each of, as far as they are wanted.
        now: Aware.
    """
    counted: dict[int, Found] = {}
    uses: dict[int, Uses] = {}
    for budget, values in budgets:
        wanted = tuple(values) if budget.terms.each is not None else ()
        asked = DaysAsked.of(budget.terms, wanted, now)
        if asked is None:
            uses[budget.id] = Uses("told", {})
        elif is_kept(asked):
            uses[budget.id] = Uses("told", _count(house, asked))
        else:
            found = _counted(house, budget, asked, now)
            if found is None:
                uses[budget.id] = Uses("counting")
            else:
                counted[budget.id] = found
    until = monotonic() + PATIENCE_S
    for budget_id, found in counted.items():
        uses[budget_id] = _so_far(found, until)
    return uses


def is_kept(asked: DaysAsked) -> bool:
    """Whether totals answer at once; users have too many of them for that."""
    planned = plan(asked.query, asked.by, asked.edges)
    return planned is not None and not planned.rest and planned.dimension != "user_id"


def _counted(house: House, budget: StoredBudget, asked: DaysAsked, now: datetime) -> Found | None:
    """The answer that is being found; ``None`` when too many are waiting."""
    # The organisation and all else that the question is confined to is part of it.
    key = (budget.id, budget.version, asked.query)
    recent = recent_of(house, "budgets", at_once=_AT_ONCE)
    try:
        return recent.ask(key, now, lambda: _count(house, asked), kept_s=KEPT_S)
    except SinkUnavailable:
        return None


def _count(house: House, asked: DaysAsked) -> Days:
    return asked.told(house.reader.costs(asked.query, asked.by, asked.edges))


def _so_far(found: Found, until: float) -> Uses:
    if not found.wait(max(0.0, until - monotonic())):
        return Uses("counting")
    try:
        return Uses("told", found.value)
    except Exception:  # noqa: BLE001 - noted where it happened; the page has more to say
        return Uses("failed")
