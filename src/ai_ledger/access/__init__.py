"""Who may see and change what, and the tokens that say so."""

from __future__ import annotations

from ai_ledger.access.access import ROLES, Access, Role
from ai_ledger.access.sessions import Sessions
from ai_ledger.access.tokens import AccessToken, AccessTokens

__all__ = ["ROLES", "Access", "AccessToken", "AccessTokens", "Role", "Sessions"]
