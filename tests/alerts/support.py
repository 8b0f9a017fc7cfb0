"""Calls at chosen times, and a channel that remembers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ai_ledger.alerts import Alert
from ai_ledger.records import CallRecord, new_id
from ai_ledger.sinks.sql import SQLSink

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def call(before: timedelta = MINUTE, **fields: Any) -> CallRecord:
    """A call that started so long before `NOW`, and is like every other one."""
    return CallRecord(
        **{
            "id": new_id(),
            "started_at": NOW - before,
            "duration_ms": 1000.0,
            "provider": "dashscope",
            "request_model": "qwen-plus",
            "input_tokens": 100,
            "output_tokens": 10,
            "usage_source": "reported",
            "cost": Decimal("0.01"),
            "currency": "CNY",
            "price_id": "own:qwen-plus",
            "org_id": "acme",
            "user_id": "u-1",
            "function": "analyze",
            **fields,
        }
    )


def failed(before: timedelta = MINUTE, status: str = "failed", **fields: Any) -> CallRecord:
    """A call that cost nothing since it did not work."""
    unknown = dict.fromkeys(("input_tokens", "output_tokens", "cost", "currency", "price_id"))
    return call(
        before,
        **{**unknown, "usage_source": "unknown", "status": status, "error_type": "E", **fields},
    )


def write(url: str, records: Sequence[CallRecord]) -> None:
    """Put *records* into the ledger of *url*."""
    sink = SQLSink(url)
    sink.write(records)
    sink.close()


class Told:
    """A channel that keeps what it was told, and fails as often as it is asked to."""

    def __init__(self, name: str = "told", failures: int = 0) -> None:
        self.name = name
        self.failures = failures
        self.alerts: list[Alert] = []

    def send(self, alert: Alert) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("nobody there, with Bearer abcdef0123456789")
        self.alerts.append(alert)
