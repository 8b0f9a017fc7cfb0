"""`standings`: how much is used of the budgets in force, as one reader may see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from ai_ledger.bounds import key_of, value_of_key
from ai_ledger.money import from_nano
from ai_ledger.policies.budgets.present import Asked, fullest
from ai_ledger.stats import runs_out
from ai_ledger.stats.calendar import time_zone
from ai_ledger.stats.results import Money, Result
from ai_ledger.terms import TOKENS, Terms
from ai_ledger.web.budgets.uses import Forecast, Uses, uses_of

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.account import Account, StoredBudget
    from ai_ledger.web.house import Desk, House

MAX_STANDINGS: Final = 200
FORECAST_BUDGETS: Final = 8
"""Of so many budgets, the fullest, it is asked when they run out: a question each."""
FORECAST_ACCOUNTS: Final = 5
"""Of so many accounts of each, which takes a few milliseconds for each."""
FORECAST_DAYS: Final = 92
"""So far ahead: what is not reached by then is not said to run out."""

_OF_NOBODY: Final = frozenset(
    {"request_model", "provider", "server_address", "operation", "function", "business_type"}
)
"""Fields whose values tell nothing of another organisation."""


class Standing(Result):
    """What one account of a budget has used in its present period."""

    id: int = Field(description="Of the budget.")
    name: str = Field(description="Of the budget.")
    each: str | None = Field(
        description="The field that the budget is for each value of; null for one over all."
    )
    whose: str | None = Field(
        description="The value of *each* that this account is of; null: not set, or all."
    )
    unit: str = Field(description="The code of a currency, or tokens.")
    used: Money = Field(description="By the calls that are stored.")
    reserved: Money = Field(description="Set aside for calls in flight.")
    limit: Money
    remaining: Money = Field(description="Of the limit, not used yet; at least 0.")
    share: float | None = Field(description="Used of the limit; null for a limit of 0.")
    reserved_share: float | None = Field(description="Reserved of the limit.")
    calls: int
    uncounted: int = Field(description="Calls that took nobody knows how much.")
    overrun: Money = Field(description="By how much paid calls have passed the limit.")
    period: str = Field(description="Such as 2026-11-21, 2026-W47, 2026-11, total or window.")
    per: Literal["hour", "day", "week", "month", "total", "window"]
    tz: str = Field(description="The time zone in which periods begin.")
    starts_at: datetime | None = Field(description="Null for a budget that has no beginning.")
    resets_at: datetime | None = Field(description="When the period ends; null for never.")
    renews: bool = Field(description="Whether a next period begins then.")
    runs_out: date | None = Field(
        default=None, description="The day on which the limit is reached, if use goes on as it did."
    )
    earliest: date | None = Field(default=None, description="Of 10 forecasts, 9 are not earlier.")
    latest: date | None = Field(default=None, description="Of 10 forecasts, 9 are not later.")
    not_enough: str | None = Field(
        default=None, description="Why nothing can be said about running out; null if it can."
    )
    forecast: Forecast = Field(
        default="not asked",
        description="Whether it was judged when it runs out: told; counting, in the background, "
        "so that it may be told in some seconds; failed; or not asked, of those that "
        "others are fuller than.",
    )
    mode: Literal["hard", "soft"] = Field(description="Hard refuses, soft only counts and warns.")
    active: bool
    where: dict[str, tuple[str | None, ...]] = Field(
        description="The calls that are counted: field to values; null among them: not set."
    )


def standings(desk: Desk, limit: int = 20) -> list[Standing]:
    """
    The accounts of the budgets in force in their present periods, fullest first.

    Args:
        desk: A reader who is confined to an organisation sees the budgets that are its
            own (``where`` says ``org_id`` and nobody else's), and its own accounts of
            budgets for each organisation, unless their conditions name people.
        limit: How many at the most, of all budgets together.
    """
    limit = max(1, min(limit, MAX_STANDINGS))
    now = desk.house.clock()
    asked = _in_force(desk, now)
    found = sorted(fullest(desk.house.database, asked, limit=limit), key=_fullest_first)
    return _told(desk.house, asked, found[:limit], now)


def groups(desk: Desk, each: int = 20) -> list[list[Standing]]:
    """
    The same by budgets, those with the fullest accounts first.

    Args:
        desk: As for `standings`.
        each: How many accounts of one budget at the most, the fullest of them.
    """
    now = desk.house.clock()
    asked = _in_force(desk, now)
    found = sorted(fullest(desk.house.database, asked, limit=each), key=_fullest_first)
    together: dict[int, list[Standing]] = {}
    for told in _told(desk.house, asked, found, now):
        together.setdefault(told.id, []).append(told)
    return list(together.values())


def _in_force(desk: Desk, now: datetime) -> list[Asked]:
    asked: list[Asked] = []
    for budget in desk.house.accounts.budgets():
        # By this clock and not the database's, which would be one more round trip.
        period = budget.terms.period_of(now) if budget.active else None
        if period is not None and concerns(desk, budget.terms):
            asked.append(Asked(budget=budget, period=period, whose=scope_of(desk, budget.terms)))
    return asked


def _told(
    house: House, asked: Sequence[Asked], found: Sequence[Account], now: datetime
) -> list[Standing]:
    budgets = {each.budget.id: each.budget for each in asked}
    foreseen = _foreseen(found)
    values: dict[int, list[str | None]] = {}
    for account in foreseen:
        values.setdefault(account.budget_id, []).append(value_of_key(account.whose))
    uses = uses_of(house, [(budgets[id], whose) for id, whose in values.items()], now)
    likely = {(account.budget_id, account.whose) for account in foreseen}
    return [
        standing(
            budgets[account.budget_id],
            account,
            now,
            uses[account.budget_id] if (account.budget_id, account.whose) in likely else None,
        )
        for account in found
    ]


def _foreseen(found: Sequence[Account]) -> list[Account]:
    """Those of which it is asked when they run out: few budgets, a few accounts of each."""
    accounts: dict[int, list[Account]] = {}
    for account in found:
        if account.budget_id in accounts or len(accounts) < FORECAST_BUDGETS:
            accounts.setdefault(account.budget_id, []).append(account)
    return [account for each in accounts.values() for account in each[:FORECAST_ACCOUNTS]]


def concerns(desk: Desk, terms: Terms) -> bool:
    """Whether the reader may know of a budget of these terms."""
    if desk.scope is None:
        return True
    named = terms.where.get("org_id")
    if named is not None:
        return named == (desk.scope,)
    return terms.each == "org_id" and terms.where.keys() <= _OF_NOBODY


def scope_of(desk: Desk, terms: Terms) -> str | None:
    """The only account of it that the reader may see; ``None`` for all."""
    return key_of(desk.scope) if desk.scope is not None and terms.each == "org_id" else None


def standing(
    budget: StoredBudget,
    account: Account,
    now: datetime,
    uses: Uses | None = None,
) -> Standing:
    """
    One account, told to people.

    Args:
        budget: That it is of.
        account: What it says.
        now: Aware.
        uses: What was used on the days before; ``None`` for no forecast.
    """
    terms = budget.terms
    bounds = terms.bounds_of(account.period)
    whose = None if terms.each is None else value_of_key(account.whose)
    remaining = max(0, account.limit - account.used)
    told = Standing(
        id=budget.id,
        name=terms.name,
        each=terms.each,
        whose=whose,
        unit=terms.unit,
        used=shown(terms, account.used),
        reserved=shown(terms, account.reserved),
        limit=shown(terms, account.limit),
        remaining=shown(terms, remaining),
        share=account.used / account.limit if account.limit else None,
        reserved_share=account.reserved / account.limit if account.limit else None,
        calls=account.calls,
        uncounted=account.uncounted,
        overrun=shown(terms, account.overrun),
        period=account.period,
        per=terms.per,
        tz=terms.tz,
        starts_at=None if bounds is None else bounds[0],
        resets_at=None if bounds is None else bounds[1],
        renews=terms.per not in ("total", "window"),
        mode=terms.mode,
        active=budget.active,
        where=terms.where,
    )
    return told if uses is None else told.model_copy(update=_outlook(told, terms, uses, now))


def _outlook(told: Standing, terms: Terms, uses: Uses, now: datetime) -> dict[str, Any]:
    """When the limit will be reached: the fields of *told* that say so."""
    if uses.days is None:
        # A limit that is reached has its day, whatever was used before.
        reached = told.remaining == 0
        today = now.astimezone(time_zone(terms.tz)).date()
        return {"forecast": uses.state, "runs_out": today if reached else None}
    daily = uses.days.get(told.whose, {})
    out = runs_out(
        used=max(Decimal(0), told.used),
        limit=told.limit,
        daily={day: max(Decimal(0), shown(terms, n)) for day, n in daily.items()},
        until=min(filter(None, (told.resets_at, now + timedelta(days=FORECAST_DAYS)))),
        now=now,
        tz=terms.tz,
    )
    return {
        "runs_out": out.day,
        "earliest": out.earliest,
        "latest": out.latest,
        "not_enough": None if out.day is not None else out.not_enough,
        "forecast": uses.state,
    }


def shown(terms: Terms, number: int) -> Decimal:
    """*number* in the unit of the budget."""
    return Decimal(number) if terms.unit == TOKENS else from_nano(number)


def _fullest_first(account: Account) -> tuple[float, str, str]:
    # A limit of nothing is reached before the first call.
    share = (account.used + account.reserved) / account.limit if account.limit else float("inf")
    return -share, account.budget, account.whose
