"""`Access`: what somebody who is known may see and do."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from ai_ledger.bounds import label
from ai_ledger.errors import AccessDenied, InvalidValue

Role: TypeAlias = Literal["viewer", "operator", "admin"]

ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "admin")
"""Each may do what those before it may: see; see to calls and alerts; change what is kept."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """
    What somebody may see and do.

    Args:
        name: Who it is, as edits are signed.
        role: ``viewer`` sees; ``operator`` also deletes and restores calls, answers
            alerts and tests connections; ``admin`` also changes budgets, quotas, the
            catalogue, words, rules and tokens.
        org_id: The only organisation whose calls are seen; ``None`` for all. Whoever is
            confined to one changes nothing that concerns others.
        prompts: Whether prompts and answers are shown.
        token_id: The token that this comes from, if it does.
    """

    name: str
    role: Role = "viewer"
    org_id: str | None = None
    prompts: bool = False
    token_id: int | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidValue("role", self.role, f"one of {', '.join(ROLES)}")
        if not isinstance(self.name, str) or not self.name.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue("name", self.name, "a name, with which edits are signed")
        # A label at once, so that no other spelling of a long name is another organisation.
        if self.org_id is not None:
            msgspec.structs.force_setattr(self, "org_id", label(str(self.org_id)))

    def may(self, role: Role) -> bool:
        """Whether this is at least *role*."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def require(self, role: Role, *, everywhere: bool = False) -> None:
        """
        Refuse whoever has less than *role*.

        Args:
            role: The least that is needed.
            everywhere: For what concerns all organisations: refuse whoever is confined to one.

        Raises:
            AccessDenied: Says what is needed.
        """
        if not self.may(role):
            raise AccessDenied(f"this needs the role {role}; {self.name} is {self.role}")
        if everywhere and self.org_id is not None:
            raise AccessDenied(
                f"this concerns all organisations; {self.name} is confined to {self.org_id!r}"
            )
