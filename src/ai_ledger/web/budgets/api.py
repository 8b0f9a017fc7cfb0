"""The API of budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from ai_ledger.validation import MAX_ID
from ai_ledger.web.budgets import quota_api, register
from ai_ledger.web.budgets.register import BudgetCheck, BudgetPeriod
from ai_ledger.web.budgets.standing import MAX_STANDINGS, Standing, standings
from ai_ledger.web.parameters import MAX_VERSION, Limit
from ai_ledger.web.visit import DeskOf

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.account import StoredBudget

router = APIRouter(tags=["budgets"])

BudgetId = Annotated[int, Path(ge=1, le=MAX_ID, description="As GET /budgets tells it.")]


class BudgetState(BaseModel):
    """Whether a budget is in force."""

    id: int
    name: str
    active: bool
    version: int

    @classmethod
    def of(cls, budget: StoredBudget) -> Self:
        """That of *budget*, to be told."""
        return cls(
            id=budget.id, name=budget.terms.name, active=budget.active, version=budget.version
        )


class BudgetEdit(BaseModel):
    """What an edit of a budget takes."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(
        None, ge=0, le=MAX_VERSION, description="Only if it is still at this version."
    )


@router.get(
    "/budgets", operation_id="list_budgets", summary="The budgets in force, the fullest first."
)
def list_budgets(
    desk: DeskOf, limit: Annotated[int, Query(ge=1, le=MAX_STANDINGS)] = 20
) -> list[Standing]:
    """Used, reserved, left, and the day on which it runs out, of each account."""
    return standings(desk, limit)


@router.get(
    "/budgets/check",
    operation_id="check_budgets",
    summary="Compare every account with the calls and the leases.",
)
def check_budgets(desk: DeskOf) -> BudgetCheck:
    """Reads all calls that budgets count, so that it may take a while."""
    return register.check(desk)


@router.get(
    "/budgets/{budget_id}/periods",
    operation_id="list_budget_periods",
    summary="What was used of a budget in each period, newest first.",
)
def list_budget_periods(
    desk: DeskOf,
    budget_id: BudgetId,
    whose: Annotated[str | None, Query(max_length=255)] = None,
    limit: Limit = 50,
) -> list[BudgetPeriod]:
    """The limit is the one of now."""
    return register.periods(desk, register.budget_of(desk, budget_id), whose, limit)


@router.post(
    "/budgets/{budget_id}/deactivate",
    operation_id="deactivate_budget",
    summary="Put a budget out of force; its accounts stay as history.",
)
def deactivate_budget(
    desk: DeskOf, budget_id: BudgetId, edit: BudgetEdit | None = None
) -> BudgetState:
    """A program that uses it puts it into force again when it next starts."""
    return BudgetState.of(register.deactivate(desk, budget_id, edit.version if edit else None))


@router.post(
    "/budgets/{budget_id}/reactivate",
    operation_id="reactivate_budget",
    summary="Put a budget into force again, with the terms that it had.",
)
def reactivate_budget(
    desk: DeskOf, budget_id: BudgetId, edit: BudgetEdit | None = None
) -> BudgetState:
    """All calls of the current period are counted, as when a program registers it."""
    return BudgetState.of(register.reactivate(desk, budget_id, edit.version if edit else None))


router.include_router(quota_api.router)
