"""What was used of one budget in each period, whether the accounts add up, and its end."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydantic import Field

from ai_ledger.bounds import key_of, label, value_of_key
from ai_ledger.database.changes import changes_of
from ai_ledger.errors import NotFound
from ai_ledger.policies.budgets.registration import KIND
from ai_ledger.stats.results import Money, Result
from ai_ledger.web.budgets.standing import concerns, scope_of, shown
from ai_ledger.web.edits import SHOWN, Edit, edits_of

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.account import Account, StoredBudget
    from ai_ledger.web.house import Desk

MAX_PERIODS: Final = 400


class BudgetPeriod(Result):
    """What one account of a budget has used in one period."""

    period: str
    whose: str | None = Field(description="Null: not set, or all together.")
    starts_at: datetime | None
    ends_at: datetime | None
    unit: str
    used: Money
    limit: Money = Field(description="As it is now.")
    share: float | None
    overrun: Money
    calls: int
    uncounted: int


class Difference(Result):
    """An account that does not say what the calls and the leases add up to."""

    budget: str
    whose: str | None
    period: str
    unit: str
    used: Money
    calls_say: Money
    reserved: Money
    leases_say: Money


class BudgetCheck(Result):
    """Whether every account is what its calls and leases say."""

    budgets: int = Field(description="How many were looked at.")
    differences: list[Difference] = Field(description="Empty when everything adds up.")


def budget_of(desk: Desk, budget_id: int) -> StoredBudget:
    """
    One budget, in force or not.

    Raises:
        NotFound: There is none of this id, for this reader.
    """
    for budget in desk.house.accounts.budgets():
        if budget.id == budget_id and concerns(desk, budget.terms):
            return budget
    raise NotFound(f"there is no budget {budget_id}")


def ended(desk: Desk) -> list[StoredBudget]:
    """The budgets that are out of force, which ended last first."""
    found = [
        budget
        for budget in desk.house.accounts.budgets()
        if not budget.active and concerns(desk, budget.terms)
    ]
    return sorted(found, key=lambda budget: budget.updated_at, reverse=True)


def periods(
    desk: Desk, budget: StoredBudget, whose: str | None = None, limit: int = 50
) -> list[BudgetPeriod]:
    """
    What was used of *budget* in each period, newest first.

    Args:
        desk: Who asks; whoever is confined sees their own account alone.
        budget: That `budget_of` gave.
        whose: Only this user's, this organisation's, …; ``None`` for all.
        limit: How many at the most.
    """
    only = scope_of(desk, budget.terms)
    key = None if whose is None else key_of(label(whose))
    if only is not None and key not in (None, only):
        return []
    found = desk.house.accounts.history(budget.id, only or key, limit=min(limit, MAX_PERIODS))
    return [_period(budget, account) for account in found]


def edits(desk: Desk, budget: StoredBudget, limit: int = SHOWN) -> list[Edit]:
    """Who registered, changed and ended it; for readers of everything."""
    desk.require("viewer", everywhere=True)
    with desk.house.database.reading() as connection:
        return edits_of(changes_of(connection, KIND, budget.terms.name, limit=limit))


def check(desk: Desk) -> BudgetCheck:
    """Compare every account with the calls and the leases; reads all calls that are counted."""
    desk.require("operator", everywhere=True)
    accounts = desk.house.accounts
    found = accounts.check()
    budgets = {budget.terms.name: budget.terms for budget in accounts.budgets()}
    return BudgetCheck(
        budgets=len(budgets),
        differences=[
            Difference(
                budget=each.budget,
                whose=value_of_key(each.whose),
                period=each.period,
                unit=terms.unit,
                used=shown(terms, each.used),
                calls_say=shown(terms, each.rows),
                reserved=shown(terms, each.reserved),
                leases_say=shown(terms, each.leases),
            )
            for each in found
            if (terms := budgets.get(each.budget)) is not None
        ],
    )


def deactivate(desk: Desk, budget_id: int, version: int | None = None) -> StoredBudget:
    """Put a budget out of force; its accounts stay as history."""
    desk.require("admin", everywhere=True)
    name = budget_of(desk, budget_id).terms.name
    desk.house.accounts.deactivate(name, by=desk.by, version=version)
    return budget_of(desk, budget_id)


def reactivate(desk: Desk, budget_id: int, version: int | None = None) -> StoredBudget:
    """Put a budget into force again, with the terms that it had."""
    desk.require("admin", everywhere=True)
    name = budget_of(desk, budget_id).terms.name
    desk.house.accounts.reactivate(name, by=desk.by, version=version)
    return budget_of(desk, budget_id)


def _period(budget: StoredBudget, account: Account) -> BudgetPeriod:
    terms = budget.terms
    starts_at, ends_at = terms.bounds_of(account.period) or (None, None)
    return BudgetPeriod(
        period=account.period,
        whose=None if terms.each is None else value_of_key(account.whose),
        starts_at=starts_at,
        ends_at=ends_at,
        unit=terms.unit,
        used=shown(terms, account.used),
        limit=shown(terms, account.limit),
        share=account.used / account.limit if account.limit else None,
        overrun=shown(terms, account.overrun),
        calls=account.calls,
        uncounted=account.uncounted,
    )
