"""Alerts, their rules, and calls that failed."""

from __future__ import annotations

from ai_ledger.web.alerts.api import router
from ai_ledger.web.alerts.pages import routes

__all__ = ["router", "routes"]
