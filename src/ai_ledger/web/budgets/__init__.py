"""Budgets and quotas: used, reserved, limits."""

from __future__ import annotations

from ai_ledger.web.budgets.api import router
from ai_ledger.web.budgets.pages import routes

__all__ = ["router", "routes"]
