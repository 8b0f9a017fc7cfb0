"""The API of settings: what is stored, access tokens, who changed what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from ai_ledger.access import Role
from ai_ledger.validation import MAX_ID
from ai_ledger.web.edits import HowMany
from ai_ledger.web.settings import erasure, tokens
from ai_ledger.web.settings.erasure import Erasure
from ai_ledger.web.settings.history import History, history
from ai_ledger.web.settings.stored import Stored, stored
from ai_ledger.web.settings.tokens import MadeToken, TokenView
from ai_ledger.web.visit import DeskOf

router = APIRouter(tags=["settings"])

TokenId = Annotated[int, Path(ge=1, le=MAX_ID)]


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=255, description="Whose it is; signs edits. One line.")
    role: Role = "viewer"
    org_id: str | None = Field(
        None, max_length=255, description="The only organisation that is seen; none for all."
    )
    prompts: bool = Field(False, description="Whether prompts and answers are shown.")
    days: int | None = Field(
        None, ge=1, le=tokens.MAX_DAYS, description="For how many days it is good; none for always."
    )


class NewErasure(BaseModel):
    """What is to be erased."""

    model_config = ConfigDict(extra="forbid")

    days: int = Field(ge=1, le=erasure.MAX_DAYS, description="Calls older than so many days.")
    dry_run: bool = Field(True, description="Only say how many there are.")
    confirmed: str = Field("", max_length=20, description="The days once more, as a text.")


@router.get("/settings", operation_id="get_settings", summary="What is stored, and where.")
def get_settings(desk: DeskOf) -> Stored:
    """Where it is stored is told administrators of all organisations."""
    return stored(desk)


@router.post("/settings/erasure", operation_id="erase_old_calls", summary="Erase what is old.")
def erase_old_calls(desk: DeskOf, body: NewErasure) -> Erasure:
    """Prompts, answers, ids, tags and error messages; for good. Tokens and costs stay."""
    if body.dry_run:
        return erasure.rehearse(desk, body.days)
    return erasure.erase(desk, body.days, body.confirmed)


@router.get("/access-tokens", operation_id="list_access_tokens", summary="Access tokens.")
def list_access_tokens(desk: DeskOf) -> list[TokenView]:
    """All of them for administrators of all organisations; for others their own."""
    return tokens.tokens(desk)


@router.post(
    "/access-tokens",
    status_code=201,
    operation_id="add_access_token",
    summary="Make an access token.",
)
def add_access_token(desk: DeskOf, body: NewToken) -> MadeToken:
    """Its text is in this answer, and nowhere else."""
    return tokens.add(
        desk,
        body.name,
        role=body.role,
        org_id=body.org_id,
        prompts=body.prompts,
        days=body.days,
    )


@router.get(
    "/access-tokens/{token_id}", operation_id="get_access_token", summary="One access token."
)
def get_access_token(desk: DeskOf, token_id: TokenId) -> TokenView:
    """Without its text, which is kept nowhere."""
    return tokens.token(desk, token_id)


@router.post(
    "/access-tokens/{token_id}/revoke",
    operation_id="revoke_access_token",
    summary="Make an access token worth nothing.",
)
def revoke_access_token(desk: DeskOf, token_id: TokenId) -> TokenView:
    """For good; the sessions that were begun with it end. Harmless when repeated."""
    return tokens.revoke(desk, token_id)


@router.get("/changes", operation_id="list_changes", summary="Who changed what.")
def list_changes(
    desk: DeskOf,
    kind: Annotated[str | None, Query(max_length=32, description="Only of this kind.")] = None,
    by: Annotated[str | None, Query(max_length=255, description="Only by this person.")] = None,
    before: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="Only those with lower ids.")
    ] = None,
    limit: HowMany = 100,
) -> History:
    """The history of everything that people edit, the newest first."""
    return history(desk, kind=kind, by=by, before=before, limit=limit)
