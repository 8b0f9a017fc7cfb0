"""Reports: made once, kept in the ledger's database, found by their id."""

from __future__ import annotations

from ai_ledger.web.reports.api import router
from ai_ledger.web.reports.pages import routes

__all__ = ["router", "routes"]
