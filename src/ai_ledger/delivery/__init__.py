"""Delivery: takes finished records at once, and brings them to every sink in the background."""

from __future__ import annotations

from ai_ledger.delivery.delivery import Delivery
from ai_ledger.delivery.health import Health, SinkHealth
from ai_ledger.journal import Limits

__all__ = ["Delivery", "Health", "Limits", "SinkHealth"]
