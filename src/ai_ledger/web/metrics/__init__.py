"""Metrics: what the ledger counts, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter

from ai_ledger.web.metrics.pages import routes

router = APIRouter()

__all__ = ["router", "routes"]
