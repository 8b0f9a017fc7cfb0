"""Costs: who and what drives them, forecast, suggestions, re-pricing, reports."""

from __future__ import annotations

from ai_ledger.web.costs.api import router
from ai_ledger.web.costs.pages import routes

__all__ = ["router", "routes"]
