"""The API of overview: the dashboard in one answer, and how the ledger is."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from ai_ledger._version import __version__
from ai_ledger.database.tables import REVISIONS
from ai_ledger.database.upgrade import state
from ai_ledger.errors import SchemaError
from ai_ledger.stats.results import Result
from ai_ledger.web.overview import stats_api
from ai_ledger.web.overview.answers import Dashboard, Delivery
from ai_ledger.web.overview.dashboard import dashboard as made
from ai_ledger.web.overview.delivery import delivery
from ai_ledger.web.periods import MAX_DAYS, Period
from ai_ledger.web.visit import DeskOf

router = APIRouter()
router.include_router(stats_api.router)

DEFAULT_DAYS = 7


class Health(Result):
    """How the ledger is. Where the store is away the answer is a problem with status 503."""

    status: Literal["ok", "degraded"] = Field(
        description="Degraded: something is late, lost, set aside or in error."
    )
    version: str = Field(description="Of ai-ledger.")
    store: Literal["reachable"]
    tables: str = Field(description="The revision of the database's tables.")
    delivery: Delivery | None = Field(
        description="Null for readers who are confined to an organisation."
    )


@router.get(
    "/dashboard",
    tags=["dashboard"],
    operation_id="get_dashboard",
    summary="Everything that the overview says, in one answer.",
)
def get_dashboard(
    desk: DeskOf,
    days: Annotated[
        int | None, Query(ge=1, le=MAX_DAYS, description="The last so many days; 7 if left out.")
    ] = None,
    first: Annotated[date | None, Query(description="Instead of days: from this one on.")] = None,
    last: Annotated[date | None, Query(description="To this one; today, if left out.")] = None,
) -> Dashboard:
    """Today beside yesterday; a single day is told by hours, others by days."""
    period = Period.of(
        days=days,
        first=first,
        last=last,
        now=desk.house.clock(),
        tz=desk.tz,
        default=DEFAULT_DAYS,
    )
    return made(desk, period)


@router.get(
    "/health", tags=["health"], operation_id="get_health", summary="Whether the ledger is well."
)
def get_health(desk: DeskOf) -> Health:
    """503 when the store is away, or its tables are not those of this version."""
    with desk.house.database.reading() as connection:
        tables = state(connection)
    if tables != "current":
        raise SchemaError(f"the tables are not those of this version, they are: {tables}")
    found = delivery(desk)
    return Health(
        status="ok" if found is None or found.well else "degraded",
        version=__version__,
        store="reachable",
        tables=REVISIONS[-1],
        delivery=found,
    )
