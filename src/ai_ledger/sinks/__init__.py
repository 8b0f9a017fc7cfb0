"""Where records go, and where they can be asked for: `Sink`, `Store`, `open_sink`."""

from __future__ import annotations

from ai_ledger.sinks.base import CostChange, Sink, Store
from ai_ledger.sinks.url import open_sink

__all__ = ["CostChange", "Sink", "Store", "open_sink"]
