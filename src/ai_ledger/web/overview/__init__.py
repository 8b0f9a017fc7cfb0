"""Overview: what today cost, what failed, and what needs a person."""

from __future__ import annotations

from ai_ledger.web.overview.api import router
from ai_ledger.web.overview.pages import routes

__all__ = ["router", "routes"]
