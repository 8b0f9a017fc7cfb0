"""The console: one ASGI application with pages and a JSON API over the same functions."""

from __future__ import annotations

from importlib import import_module

from ai_ledger.errors import MissingExtra

try:
    for _package in ("babel", "fastapi", "jinja2", "python_multipart"):
        import_module(_package)
except ImportError as error:
    raise MissingExtra("the console", "web") from error

from ai_ledger.access import Access
from ai_ledger.web.app import create_app

__all__ = ["Access", "create_app"]
