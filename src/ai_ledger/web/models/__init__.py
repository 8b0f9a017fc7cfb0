"""Models: providers, models, prices, connection tests."""

from __future__ import annotations

from ai_ledger.web.models.api import router
from ai_ledger.web.models.pages import routes

__all__ = ["router", "routes"]
