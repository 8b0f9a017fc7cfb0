"""Who comes in: hosts, sites, sizes, tokens and sessions; and the headers of all answers."""

from __future__ import annotations

from ai_ledger.web.guard.guard import HEALTH, Guard
from ai_ledger.web.guard.hosts import Hosts
from ai_ledger.web.guard.known import Auth

__all__ = ["HEALTH", "Auth", "Guard", "Hosts"]
