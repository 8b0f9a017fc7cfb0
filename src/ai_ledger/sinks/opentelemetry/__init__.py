"""OpenTelemetry: a span for each call, made after the fact, and the metrics of the conventions."""

from __future__ import annotations

from ai_ledger.sinks.opentelemetry.sink import OpenTelemetrySink

__all__ = ["OpenTelemetrySink"]
