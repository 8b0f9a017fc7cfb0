"""The API of the rules that raise alerts."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from ai_ledger.alerts.rule import Kind, Per, Severity
from ai_ledger.validation import MAX_ID
from ai_ledger.web.alerts import rules
from ai_ledger.web.alerts.shown import RuleRow
from ai_ledger.web.edits import Edit, HowMany
from ai_ledger.web.parameters import MAX_VERSION, Version
from ai_ledger.web.visit import DeskOf

router = APIRouter()

RuleId = Annotated[int, Path(ge=1, le=MAX_ID)]
_WINDOW = Field(None, ge=60, le=31 * 86_400, description="How far back is looked, in seconds.")


class RuleIn(BaseModel):
    """A rule; what is left out is as it usually is for its kind."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255)
    kind: Kind
    where: dict[str, Any] = Field({}, max_length=20, description="Field to value, or values.")
    each: str | None = Field(None, max_length=255, description='Empty: "" for all together.')
    threshold: float | None = None
    window_s: int | None = _WINDOW
    min_calls: int | None = Field(None, ge=0, le=10**9)
    past_days: int = Field(7, ge=1, le=92)
    at_least: Decimal | None = Field(None, ge=0, le=10**9)
    budget: str | None = Field(None, min_length=1, max_length=255)
    per: Per = "day"
    severity: Severity = "warning"
    quiet: str | None = Field(None, max_length=32, description="Such as 22:00-08:00.")
    tz: str = Field("UTC", min_length=1, max_length=64)
    enabled: bool = True


class RulePatch(BaseModel):
    """What changes of a rule; what is left out stays. The kind of a rule is what it is."""

    model_config = ConfigDict(extra="forbid")

    # Left out, it is none; the document states no default that could not be sent.
    name: str = Field(default_factory=str, min_length=1, max_length=255)
    where: dict[str, Any] = Field({}, max_length=20)
    each: str = Field("", max_length=255)
    threshold: float | None = None
    window_s: int | None = _WINDOW
    min_calls: int | None = Field(None, ge=0, le=10**9)
    past_days: int = Field(7, ge=1, le=92)
    at_least: Decimal | None = Field(None, ge=0, le=10**9)
    budget: str | None = Field(None, min_length=1, max_length=255)
    per: Per = "day"
    severity: Severity = "warning"
    quiet: str | None = Field(None, max_length=32)
    tz: str = Field("UTC", min_length=1, max_length=64)
    enabled: bool = True
    version: int | None = Field(
        None, ge=0, le=MAX_VERSION, description="Only if it is still at this version."
    )


class RuleRemoved(BaseModel):
    """What is gone."""

    id: int
    name: str


@router.get("/alert-rules", operation_id="list_alert_rules", summary="The rules, by name.")
def list_alert_rules(desk: DeskOf) -> list[RuleRow]:
    """Those that a reader of one organisation sees are its own."""
    return rules.rules(desk)


@router.post("/alert-rules", operation_id="add_alert_rule", summary="Add a rule.", status_code=201)
def add_alert_rule(desk: DeskOf, rule: RuleIn) -> RuleRow:
    """Of the organisation that whoever adds it is confined to, if they are."""
    return rules.add(desk, rule.model_dump(exclude_unset=True))


@router.post(
    "/alert-rules/defaults",
    operation_id="add_default_alert_rules",
    summary="Add the rules that a ledger should have; those that were not there.",
    status_code=201,
)
def add_default_alert_rules(desk: DeskOf) -> list[RuleRow]:
    """Rules of the same names stay as they are."""
    return rules.add_defaults(desk)


@router.get("/alert-rules/{rule_id}", operation_id="get_alert_rule", summary="One rule.")
def get_alert_rule(desk: DeskOf, rule_id: RuleId) -> RuleRow:
    """As it is now."""
    return rules.rule_of(desk, rule_id)


@router.patch("/alert-rules/{rule_id}", operation_id="edit_alert_rule", summary="Change a rule.")
def edit_alert_rule(desk: DeskOf, rule_id: RuleId, patch: RulePatch) -> RuleRow:
    """Only what is named."""
    fields = patch.model_dump(exclude_unset=True, exclude={"version"})
    return rules.edit(desk, rule_id, fields, patch.version)


@router.delete("/alert-rules/{rule_id}", operation_id="remove_alert_rule", summary="Remove a rule.")
def remove_alert_rule(desk: DeskOf, rule_id: RuleId, version: Version = None) -> RuleRemoved:
    """Its alerts end at the next look, and stay to be read."""
    gone = rules.remove(desk, rule_id, version)
    return RuleRemoved(id=gone.id, name=gone.name)


@router.get(
    "/alert-rules/{rule_id}/history",
    operation_id="get_alert_rule_history",
    summary="Who changed a rule, newest first; also one that was removed.",
)
def get_alert_rule_history(desk: DeskOf, rule_id: RuleId, limit: HowMany = 100) -> list[Edit]:
    """When, who, and from what to what."""
    return rules.history(desk, rule_id, limit)
