"""The API of alerts and of failed calls."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ai_ledger.alerts.alert import MarkState, State
from ai_ledger.validation import MAX_ID
from ai_ledger.web.alerts import answers, rule_api
from ai_ledger.web.alerts.answers import MAX_ALERTS, MAX_CALLS, MAX_NOTE, Answer
from ai_ledger.web.alerts.shown import (
    AlertDetail,
    AlertRow,
    FailureRow,
    alert_detail,
    alert_row,
)
from ai_ledger.web.edits import Edit, HowMany, edits_of
from ai_ledger.web.parameters import MAX_VERSION, Limit
from ai_ledger.web.visit import DeskOf

router = APIRouter(tags=["alerts"])

AlertId = Annotated[int, Path(ge=1, le=MAX_ID)]
CallId = Annotated[str, Field(min_length=1, max_length=255)]


class AnswerIn(BaseModel):
    """What is said about an alert."""

    model_config = ConfigDict(extra="forbid")

    note: str | None = Field(None, max_length=MAX_NOTE, description="The old one stays without.")
    version: int | None = Field(
        None, ge=0, le=MAX_VERSION, description="Only if it is still at this version."
    )


class MarkIn(BaseModel):
    """Which failed calls are marked, and what is said about them."""

    model_config = ConfigDict(extra="forbid")

    call_ids: list[CallId] = Field(min_length=1, max_length=MAX_CALLS)
    note: str | None = Field(None, max_length=MAX_NOTE)


class Marked(BaseModel):
    """How many calls were marked."""

    marked: int


@router.get("/alerts", operation_id="list_alerts", summary="Alerts, open and severe ones first.")
def list_alerts(
    desk: DeskOf,
    state: Annotated[list[State] | None, Query(max_length=4)] = None,
    rule: Annotated[str | None, Query(max_length=255, description="Its name.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Raised then or later.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ALERTS)] = 100,
) -> list[AlertRow]:
    """Open and acknowledged ones, when no state is named."""
    states: list[State] = ["open", "acknowledged"] if state is None else state
    return answers.listed(desk, states, rule=rule, since=since, limit=limit)


@router.post(
    "/alerts/evaluate",
    operation_id="evaluate_alerts",
    summary="Look at all rules once, and raise what is new.",
)
def evaluate_alerts(desk: DeskOf) -> list[AlertRow]:
    """The alerts that this look has raised. Channels are told by the program that has them."""
    desk.require("operator")
    return [alert_row(alert) for alert in desk.alerts.evaluate()]


@router.get("/alerts/{alert_id}", operation_id="get_alert", summary="One alert, and who was told.")
def get_alert(desk: DeskOf, alert_id: AlertId) -> AlertDetail:
    """With the calls behind it, and the channels."""
    return alert_detail(desk, alert_id)


@router.get(
    "/alerts/{alert_id}/history",
    operation_id="get_alert_history",
    summary="What people did with an alert, newest first.",
)
def get_alert_history(desk: DeskOf, alert_id: AlertId, limit: HowMany = 100) -> list[Edit]:
    """When, who, and from what to what."""
    return edits_of(desk.alerts.history("alert", alert_id, limit=limit))


def _answer(what: Answer, summary: str, description: str) -> None:
    """The route of one answer to an alert; they are equal but for the word."""

    @router.post(
        f"/alerts/{{alert_id}}/{what}",
        operation_id=f"{what}_alert",
        summary=summary,
        description=description,
    )
    def answered(desk: DeskOf, alert_id: AlertId, said: AnswerIn | None = None) -> AlertRow:
        said = said or AnswerIn(note=None, version=None)
        return answers.answer(desk, alert_id, what, note=said.note, version=said.version)


_answer("ack", "Take an alert up.", "Somebody is about it.")
_answer("ignore", "Say that an alert needs nobody.", "It can be opened again.")
_answer(
    "resolve",
    "Say that an alert is over; it is not raised again in its period.",
    "It can be opened again.",
)
_answer(
    "reopen",
    "Open an alert again that was taken up, ignored or resolved.",
    "One that is over by itself, or was raised anew since, stays resolved: 409.",
)


@router.get(
    "/failures",
    operation_id="list_failures",
    summary="Calls that failed, timed out or met an open circuit, newest first.",
)
def list_failures(
    desk: DeskOf,
    days: Annotated[int, Query(ge=1, le=366)] = 7,
    state: Literal["open", "acknowledged", "ignored", "all"] = "open",
    limit: Limit = 50,
) -> list[FailureRow]:
    """Open ones are those that nobody has marked."""
    wanted: MarkState | None = None if state == "all" else state
    return answers.failures(desk, days=days, state=wanted, limit=limit)


def _mark(what: Literal["ack", "ignore", "reopen"], state: MarkState, summary: str) -> None:
    """The route of one mark of failed calls."""

    @router.post(
        f"/failures/{what}",
        operation_id=f"{what}_failures",
        summary=summary,
        description="All of them, or none.",
    )
    def marked(desk: DeskOf, marks: MarkIn) -> Marked:
        note = None if state == "open" else marks.note
        return Marked(marked=answers.mark(desk, marks.call_ids, state, note=note).marked)


_mark("ack", "acknowledged", "Mark failed calls as seen to.")
_mark("ignore", "ignored", "Mark failed calls as nothing to see to.")
_mark("reopen", "open", "Take the marks of failed calls away again.")


router.include_router(rule_api.router)
