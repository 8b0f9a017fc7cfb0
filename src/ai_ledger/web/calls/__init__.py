"""Calls: every one of them, with filters, details, export and a live tail."""

from __future__ import annotations

from ai_ledger.web.calls.api import router
from ai_ledger.web.calls.pages import routes

__all__ = ["router", "routes"]
