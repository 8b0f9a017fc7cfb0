"""Access tokens as the console shows and edits them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec
from pydantic import BaseModel, Field

from ai_ledger.access import AccessToken, Role
from ai_ledger.errors import AccessDenied, NotFound

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

MAX_DAYS = 3_650


class TokenView(BaseModel):
    """A token without its text."""

    id: int
    name: str
    hint: str = Field(description="The last characters of its text.")
    role: Role
    org_id: str | None
    prompts: bool
    state: Literal["active", "expired", "revoked"]
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="Exact to an hour.")
    revoked_at: datetime | None


class MadeToken(BaseModel):
    """A token that has just been made."""

    text: str = Field(description="What its bearer shows. Told this once, and kept nowhere.")
    token: TokenView


def tokens(desk: Desk) -> list[TokenView]:
    """All tokens, the newest first, for administrators of all; for others their own."""
    if desk.access.may("admin") and desk.scope is None:
        return [_view(desk, each) for each in desk.house.tokens.list()]
    if desk.access.token_id is None:
        return []
    return [token(desk, desk.access.token_id)]


def token(desk: Desk, id: int) -> TokenView:
    """
    One token.

    Raises:
        NotFound: There is none of this id, for this reader.
    """
    if not (desk.access.may("admin") and desk.scope is None) and id != desk.access.token_id:
        raise NotFound(f"there is no access token {id}")
    return _view(desk, desk.house.tokens.get(id))


def add(
    desk: Desk,
    name: str,
    *,
    role: Role,
    org_id: str | None,
    prompts: bool,
    days: int | None,
) -> MadeToken:
    """
    Make a token.

    Args:
        desk: Of whoever makes it.
        name: Whose it is.
        role: What they may do.
        org_id: The only organisation that they see; ``None`` for all.
        prompts: Whether they see prompts and answers.
        days: For how many days it is good; ``None`` for always.

    Raises:
        AccessDenied: This needs an administrator of all, and one who sees prompts to
            let others see them.
        InvalidValue: One of these cannot be so.
    """
    desk.require("admin", everywhere=True)
    if prompts and not desk.access.prompts:
        raise AccessDenied(f"{desk.by} does not see prompts, and so lets nobody else see them")
    expires_at = None if days is None else desk.house.clock() + timedelta(days=days)
    text, made = desk.house.tokens.add(
        name, role=role, org_id=org_id, prompts=prompts, expires_at=expires_at, by=desk.by
    )
    return MadeToken(text=text, token=_view(desk, made))


def revoke(desk: Desk, id: int) -> TokenView:
    """
    Make a token worth nothing, for good.

    Raises:
        AccessDenied: This needs an administrator of all.
        NotFound: There is none of this id.
    """
    desk.require("admin", everywhere=True)
    return _view(desk, desk.house.tokens.revoke(id, by=desk.by))


def _view(desk: Desk, found: AccessToken) -> TokenView:
    return TokenView(state=found.state(desk.house.clock()), **msgspec.structs.asdict(found))
