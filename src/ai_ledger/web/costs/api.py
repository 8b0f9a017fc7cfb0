"""The API of costs."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ai_ledger.bounds import label
from ai_ledger.errors import NotFound, SinkUnavailable
from ai_ledger.stats import Suggestions
from ai_ledger.stats.rank import Ranking
from ai_ledger.web.costs.advice import found_suggestions
from ai_ledger.web.costs.leaders import (
    Leaders,
    ModelsSideBySide,
    Unpriced,
    found_leaders,
    leaders_in,
    models_side_by_side,
    unpriced,
)
from ai_ledger.web.costs.question import (
    DEFAULT_DAYS,
    DIMENSIONS,
    MAX_LIMIT,
    Question,
    checked_by,
)
from ai_ledger.web.costs.repricing import repricing_of
from ai_ledger.web.costs.run import Asked, RepricingRun
from ai_ledger.web.filters import Filter
from ai_ledger.web.periods import MAX_DAYS, Period, checked_day, checked_moment
from ai_ledger.web.recent import Found
from ai_ledger.web.visit import DeskOf

router = APIRouter(tags=["costs"])

PATIENCE_S = 30.0
"""How long a question of the API waits for calls to be counted."""
WAIT_S = 3.0
"""How long a run of re-pricing is waited for before its state is told."""


def _period(
    desk: DeskOf,
    days: Annotated[
        int | None, Query(ge=1, le=MAX_DAYS, description="The last so many days, today included.")
    ] = None,
    first: Annotated[date | None, Query(description="The first day, in place of days.")] = None,
    last: Annotated[date | None, Query(description="The last day; today if left out.")] = None,
) -> Period:
    for name, day in (("first", first), ("last", last)):
        checked_day(name, day)
    return Period.of(
        days=days,
        first=first,
        last=last,
        now=desk.house.clock(),
        tz=desk.tz,
        default=DEFAULT_DAYS,
    )


PeriodOf = Annotated[Period, Depends(_period)]


@router.get("/costs", operation_id="get_costs", summary="Who and what drives costs.")
def get_costs(
    desk: DeskOf,
    period: PeriodOf,
    asked: Filter,
    by: Annotated[
        str,
        Query(max_length=300, description=f"One of {', '.join(DIMENSIONS)}, or tags.<key>."),
    ] = DIMENSIONS[0],
    ranked_by: Annotated[Ranking, Query(description="What comes first.")] = "cost",
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 25,
) -> Leaders:
    """
    The values with the highest cost, most calls or most tokens.

    Currencies are not compared: by cost, each has a ranking of its own, and the rows are
    taken from these in turn. What no totals are kept for is counted call by call, once a
    minute; ``as_of`` says when.
    """
    question = Question(period, checked_by(desk, by), ranked_by, limit, asked)
    found = found_leaders(desk, question)
    _wait(found)
    return leaders_in(found, question)


@router.get("/costs/models", operation_id="get_model_costs", summary="Models side by side.")
def get_model_costs(desk: DeskOf, period: PeriodOf, asked: Filter) -> ModelsSideBySide:
    """Cost of a call, tokens, success, latency and unpriced calls of each model."""
    return models_side_by_side(desk, Question(period, asked=asked))


@router.get(
    "/unpriced", operation_id="get_unpriced_calls", summary="Calls without a price, by model."
)
def get_unpriced_calls(desk: DeskOf, period: PeriodOf, asked: Filter) -> Unpriced:
    """Calls that may have a cost and have none; a price has to be added for their model."""
    return unpriced(desk, Question(period, asked=asked))


@router.get("/suggestions", operation_id="get_suggestions", summary="Where money could be saved.")
def get_suggestions(
    desk: DeskOf,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = DEFAULT_DAYS,
) -> Suggestions:
    """
    Cheaper models that are in use already, repeated calls, and long prompts with little cached.

    At most 100,000 calls are read, those of the newest whole days, and no more than about
    ten seconds are enough for; the answer is kept for ten minutes, and ``made_at`` says how
    old it is. It holds no prompts.
    """
    found = found_suggestions(desk, days)
    _wait(found)
    return found.value


def _wait(found: Found) -> None:
    if not found.wait(PATIENCE_S):
        raise SinkUnavailable("this is still being counted: ask again in a minute")


class Reprice(BaseModel):
    """Which calls are priced again by the prices of now."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(True, description="Only say what would change.")
    since: AwareDatetime | None = Field(None, description="From then on; else from the first.")
    until: AwareDatetime | None = Field(None, description="Before then; else to the last.")
    model: str | None = Field(None, max_length=255, description="Only calls to this model.")
    unpriced_only: bool = Field(False, description="Only calls that have no cost.")


class TakeBack(BaseModel):
    """Which run is taken back."""

    model_config = ConfigDict(extra="forbid")

    begun_at: AwareDatetime = Field(description="As the run told it.")


@router.post(
    "/reprice",
    operation_id="reprice_calls",
    summary="Price calls again by the prices of now.",
    status_code=202,
)
def reprice_calls(desk: DeskOf, asked: Reprice) -> RepricingRun:
    """
    Begin to price calls again; for an admin of all organisations.

    It goes on in the background, one run at a time: ``GET /reprice`` says how far it is.
    A run that is over within a few seconds is told at once. Doing it twice changes nothing
    more, so that one which was cut off is simply done again.
    """
    return repricing_of(desk.house).begin(
        desk,
        Asked(
            since=checked_moment("since", asked.since),
            until=checked_moment("until", asked.until),
            model=None if asked.model is None else label(asked.model),
            unpriced_only=asked.unpriced_only,
            dry_run=asked.dry_run,
        ),
        wait_s=WAIT_S,
    )


@router.get(
    "/reprice", operation_id="get_repricing", summary="How far the last run of re-pricing is."
)
def get_repricing(desk: DeskOf) -> RepricingRun:
    """
    The run that is going on, or the one that ended last, in whichever console of the ledger.

    It is ``cut_off`` when its console has given no sign of life for a minute.
    """
    desk.require("viewer", everywhere=True)
    last = repricing_of(desk.house).last()
    if last is None:
        raise NotFound("no calls were priced again in a console yet")
    return last


@router.post("/reprice/stop", operation_id="stop_repricing", summary="Stop the run of re-pricing.")
def stop_repricing(desk: DeskOf) -> RepricingRun:
    """Stop after the calls that it is at; what was corrected until then stays."""
    return repricing_of(desk.house).stop(desk)


@router.post(
    "/reprice/take-back",
    operation_id="take_back_repricing",
    summary="Take a run of re-pricing back.",
    status_code=202,
)
def take_back_repricing(desk: DeskOf, asked: TakeBack) -> RepricingRun:
    """
    Begin to give the calls that a run has changed the cost again that they had before.

    It goes on in the background as the run itself did, can be stopped, and be done again
    for the rest. Calls that were priced again since then are left alone.
    """
    checked_moment("begun_at", asked.begun_at)
    return repricing_of(desk.house).take_back(desk, asked.begun_at, wait_s=WAIT_S)
