"""What is around every page: navigation, language, theme."""

from __future__ import annotations

from ai_ledger.web.frame.pages import routes

__all__ = ["routes"]
