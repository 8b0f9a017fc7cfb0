"""
The API of quotas and of the switches of models.

Organisations and models may be called anything, also ``a/b`` and ``..``, so that they
are parameters of the query and no parts of the path.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ai_ledger.validation import MAX_ID
from ai_ledger.web.budgets import quota
from ai_ledger.web.budgets.quota import QuotaDetail, QuotaRow, Switch
from ai_ledger.web.edits import Edit, HowMany
from ai_ledger.web.parameters import MAX_VERSION, Version
from ai_ledger.web.visit import DeskOf

router = APIRouter()

Name = Annotated[str, Query(min_length=1, max_length=255)]


class QuotaEdit(BaseModel):
    """What is said of a quota; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = True
    min_interval_s: float = Field(0.0, ge=0)
    tokens: int = Field(0, ge=0, le=MAX_ID)
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None
    rates: str = Field("", max_length=255)
    max_concurrent: int = Field(0, ge=0, le=1_000_000)
    shared: bool = True
    version: int | None = Field(
        None, ge=0, le=MAX_VERSION, description="Only if it is at this one; 0: only if new."
    )


class SwitchEdit(BaseModel):
    """What is said of a model; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    off: bool | None = None
    max_concurrent: int | None = Field(None, ge=0, le=1_000_000)
    version: int | None = Field(
        None, ge=0, le=MAX_VERSION, description="Only if it is at this one; 0: only if new."
    )


class Removed(BaseModel):
    """What is gone."""

    org_id: str
    model: str


@router.get("/quotas", operation_id="list_quotas", summary="Quotas, by organisation and model.")
def list_quotas(
    desk: DeskOf,
    org_id: Annotated[str | None, Query(max_length=255)] = None,
    model: Annotated[str | None, Query(max_length=255)] = None,
) -> list[QuotaRow]:
    """Those that a reader of one organisation sees are its own."""
    return quota.rows(desk, org_id, model)


@router.get("/quota", operation_id="get_quota", summary="One quota, and what calls say of it.")
def get_quota(desk: DeskOf, org_id: Name, model: Name) -> QuotaDetail:
    """Also active users, and calls in flight."""
    return quota.detail(desk, org_id, model)


@router.put("/quota", operation_id="set_quota", summary="Make a quota, or change one.")
def set_quota(desk: DeskOf, org_id: Name, model: Name, edit: QuotaEdit) -> QuotaRow:
    """It holds for all programs within two seconds."""
    fields = edit.model_dump(exclude_unset=True, exclude={"version"})
    return quota.save(desk, org_id, model, fields, edit.version)


@router.delete("/quota", operation_id="remove_quota", summary="Take a quota away.")
def remove_quota(desk: DeskOf, org_id: Name, model: Name, version: Version = None) -> Removed:
    """Its history stays."""
    gone = quota.remove(desk, org_id, model, version)
    return Removed(org_id=gone.org_id, model=gone.model)


@router.post(
    "/quota/enable", operation_id="enable_quota", summary="Allow the calls of a quota again."
)
def enable_quota(desk: DeskOf, org_id: Name, model: Name, version: Version = None) -> QuotaRow:
    """It holds for all programs within two seconds."""
    return quota.allow(desk, org_id, model, enabled=True, version=version)


@router.post("/quota/disable", operation_id="disable_quota", summary="Refuse the calls of a quota.")
def disable_quota(desk: DeskOf, org_id: Name, model: Name, version: Version = None) -> QuotaRow:
    """It holds for all programs within two seconds."""
    return quota.allow(desk, org_id, model, enabled=False, version=version)


@router.get(
    "/quota/history",
    operation_id="get_quota_history",
    summary="Who changed a quota, newest first; also one that was removed.",
)
def get_quota_history(desk: DeskOf, org_id: Name, model: Name, limit: HowMany = 100) -> list[Edit]:
    """When, who, and from what to what."""
    return quota.history(desk, org_id, model, limit)


@router.get(
    "/model-switches",
    operation_id="list_model_switches",
    summary="What holds for models whoever asks for them.",
)
def list_model_switches(desk: DeskOf) -> list[Switch]:
    """Not for readers of one organisation."""
    return quota.switches(desk)


@router.get("/model-switch", operation_id="get_model_switch", summary="What holds for one model.")
def get_model_switch(desk: DeskOf, model: Name) -> Switch:
    """Not for readers of one organisation."""
    return quota.switch_of(desk, model)


@router.put(
    "/model-switch",
    operation_id="set_model_switch",
    summary="Switch a model off or on for everybody, or bound its calls in flight.",
)
def set_model_switch(desk: DeskOf, model: Name, edit: SwitchEdit) -> Switch:
    """It holds for all programs within two seconds."""
    return quota.set_switch(
        desk, model, off=edit.off, max_concurrent=edit.max_concurrent, version=edit.version
    )


@router.get(
    "/model-switch/history",
    operation_id="get_model_switch_history",
    summary="Who changed the switch of a model, newest first.",
)
def get_model_switch_history(desk: DeskOf, model: Name, limit: HowMany = 100) -> list[Edit]:
    """When, who, and from what to what."""
    return quota.switch_history(desk, model, limit)
