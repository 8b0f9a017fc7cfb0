"""The accounts of several budgets in their present periods, with one question."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from ai_ledger.database.engine import Database
from ai_ledger.database.tables.budgets import accounts
from ai_ledger.policies.budgets.account import Account, StoredBudget


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """
    A budget whose accounts are wanted.

    Args:
        budget: Which.
        period: Of which period.
        whose: Only this one's account, as `Terms.whose` writes it; ``None``: all.
    """

    budget: StoredBudget
    period: str
    whose: str | None = None


def fullest(database: Database, asked: Sequence[Asked], *, limit: int) -> list[Account]:
    """
    What is used of each budget, by those who have used most of it.

    A budget that is not for each of something has one account, also before its first call.

    Args:
        database: Where the accounts are.
        asked: Which budgets, each once.
        limit: How many accounts of each, at the most.
    """
    if not asked:
        return []
    place = sa.func.row_number().over(
        partition_by=accounts.c.budget_id,
        order_by=(accounts.c.used.desc(), accounts.c.reserved.desc(), accounts.c.scope),
    )
    ranked = sa.select(accounts, place.label("place")).where(sa.or_(*_here(asked))).subquery()
    budgets = {each.budget.id: each.budget for each in asked}
    with database.reading() as connection:
        rows = connection.execute(sa.select(ranked).where(ranked.c.place <= limit)).all()
    found = [
        Account(
            budget_id=row.budget_id,
            budget=budgets[row.budget_id].terms.name,
            whose=row.scope,
            period=row.period,
            used=row.used,
            reserved=row.reserved,
            limit=budgets[row.budget_id].terms.limit,
            calls=row.calls,
            uncounted=row.uncounted,
            updated_at=row.updated_at,
        )
        for row in rows
    ]
    touched = {account.budget_id for account in found}
    return found + [
        _untouched(each)
        for each in asked
        if each.budget.terms.each is None and each.budget.id not in touched
    ]


def _here(asked: Sequence[Asked]) -> list[sa.ColumnElement[bool]]:
    """A condition for each period, and each of whose accounts is asked,, which are few."""
    together: dict[tuple[str, str | None], list[int]] = {}
    for each in asked:
        together.setdefault((each.period, each.whose), []).append(each.budget.id)
    return [
        sa.and_(
            accounts.c.budget_id.in_(ids),
            accounts.c.period == period,
            *(() if whose is None else (accounts.c.scope == whose,)),
        )
        for (period, whose), ids in together.items()
    ]


def _untouched(asked: Asked) -> Account:
    return Account(
        budget_id=asked.budget.id,
        budget=asked.budget.terms.name,
        whose="",
        period=asked.period,
        used=0,
        reserved=0,
        limit=asked.budget.terms.limit,
        calls=0,
        uncounted=0,
        updated_at=None,
    )
