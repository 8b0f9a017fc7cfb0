"""Signing in and out: a browser shows a token once, and has a cookie since."""

from __future__ import annotations

from ai_ledger.web.sign_in.pages import routes

__all__ = ["routes"]
