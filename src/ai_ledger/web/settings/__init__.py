"""Settings: what is stored, retention, tokens, who changed what."""

from __future__ import annotations

from ai_ledger.web.settings.api import router
from ai_ledger.web.settings.pages import routes

__all__ = ["router", "routes"]
