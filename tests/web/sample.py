"""Calls of two organisations over some days, for tests of the console."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ai_ledger.records import CallRecord, Status

NOW = datetime(2026, 5, 20, 9, 30, tzinfo=UTC)
"""What the clock of these tests says."""

MODELS = (("qwen-plus", "dashscope", "CNY"), ("gpt-4o-mini", "openai", "USD"))
STATUSES: tuple[Status, ...] = ("success", "success", "success", "success", "failed", "timeout")


def call(number: int, **fields: Any) -> CallRecord:
    """One call; the same for the same *number*. Every 7th has no price."""
    model, provider, currency = MODELS[number % len(MODELS)]
    priced = number % 7 != 6
    status: Status = STATUSES[number % len(STATUSES)]
    values: dict[str, Any] = {
        "id": f"call-{number:05}",
        "started_at": NOW - timedelta(minutes=97 * number),
        "duration_ms": 120.0 + number % 40 * 25,
        "status": status,
        "error_type": None if status == "success" else "APIError",
        "error_message": None if status == "success" else "the provider said no",
        "operation": "chat",
        "provider": provider,
        "request_model": model,
        "response_model": model,
        "input_tokens": 100 + number,
        "output_tokens": 40,
        "usage_source": "reported",
        "cost": Decimal(number + 1) / 1000 if priced else None,
        "currency": currency if priced else None,
        "price_id": f"{model}@2026-01-01" if priced else None,
        "org_id": ("acme", "globex")[number % 3 % 2],
        "user_id": f"user-{number % 5}",
        "device_id": f"device-{number % 4}",
        "session_id": f"session-{number // 6}",
        "function": ("summarize", "translate", "search")[number % 3],
        "business_type": ("recruiting", "support")[number % 2],
        "reference_id": f"ref-{number}",
        "tags": {"team": ("red", "blue")[number % 2]},
        "request_content": f'{{"messages": [{{"role": "user", "content": "prompt {number}"}}]}}',
        "response_content": f"answer {number}",
    }
    return CallRecord(**{**values, **fields})


def calls(count: int = 120) -> list[CallRecord]:
    """The first *count* calls, newest first."""
    return [call(number) for number in range(count)]
