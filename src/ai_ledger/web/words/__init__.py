"""Words: the list, its import, and a field to try a text."""

from __future__ import annotations

from ai_ledger.web.words.api import router
from ai_ledger.web.words.pages import routes

__all__ = ["router", "routes"]
