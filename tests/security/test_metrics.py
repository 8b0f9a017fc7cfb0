"""Metrics: labels are few, and hold neither people nor prompts nor keys nor lines of their own."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ai_ledger.records import CONTEXT_FIELDS, CallRecord
from ai_ledger.sinks.labels import MAX_SERIES
from ai_ledger.sinks.prometheus import LABELS, PrometheusSink

from .canaries import canary, found

NOW = datetime(2026, 3, 10, tzinfo=UTC)
KEY = "sk-proj-7Qcanarykey9f3Bd81Zk"


def call(number: int, **fields: Any) -> CallRecord:
    """A call that differs from all others in everything that a program may set."""
    values: dict[str, Any] = {
        **{name: f"{name}-{number}-{canary('person')}" for name in CONTEXT_FIELDS},
        **{name: f"{name} {number}" for name in LABELS},
        "tags": {"person": canary("tag")},
        "request_content": canary("prompt"),
        "response_content": canary("answer"),
        "error_message": canary("error"),
        "provider": f"provider-{number % 300}",
        "request_model": f"model-{number}",
        "operation": f"operation-{number % 300}",
        "duration_ms": 5.0,
        "time_to_first_token_ms": 1.0,
        "streamed": True,
        "retries": 1,
        "input_tokens": 10,
        "output_tokens": 5,
        "usage_source": ("reported", "counted", "estimated")[number % 3],
        "status": ("success", "failed", "timeout", "cancelled")[number % 4],
        "cost": Decimal("0.1") if number % 5 else None,
        "currency": ("CNY", "USD", "EUR")[number % 3] if number % 5 else None,
    }
    return CallRecord(id=f"call-{number}", started_at=NOW, **{**values, **fields})


def exposed(sink: PrometheusSink) -> str:
    return prometheus_client.generate_latest(sink.registry).decode()


def series(text: str) -> Counter[str]:
    """How many series each metric has, all parts of it together."""
    return Counter(
        re.sub(r"_(total|bucket|count|sum|created)$", "", sample.name)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


@pytest.mark.parametrize("labels", [(), LABELS], ids=["usual", "all labels"])
def test_ten_thousand_users_and_models(labels: tuple[str, ...]) -> None:
    """
    However many there are, no metric has over 2,000 series, and the rest counts as other.
    """
    sink = PrometheusSink(labels=labels, max_values=1_000)
    sink.write([call(number) for number in range(10_000)])

    text = exposed(sink)
    assert len(series(text)) == 7
    assert max(series(text).values()) <= MAX_SERIES
    assert max(series(text).values()) > MAX_SERIES // 2
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ai_ledger_calls_total"
    ]
    assert sum(sample.value for sample in samples) == 10_000
    assert sum(sample.value for sample in samples if sample.labels["model"] == "other") > 8_000
    assert all(
        set(sample.labels) == {"provider", "model", "operation", "status", *labels}
        for sample in samples
    )


def test_neither_people_nor_texts_are_labels() -> None:
    """
    Nothing of who called, what was asked, answered or raised is in what is read.
    """
    sink = PrometheusSink(labels=LABELS)
    sink.write([call(number) for number in range(50)])

    text = exposed(sink)
    assert found([text]) == set()
    assert "model-7" in text


def test_keys_are_no_labels() -> None:
    """
    A key that was put where a name belongs is not shown.
    """
    sink = PrometheusSink(labels=LABELS)
    named = ("provider", "request_model", "operation", *LABELS)
    sink.write([call(1, **dict.fromkeys(named, f"Bearer {KEY}"))])

    assert KEY not in exposed(sink)
    assert "[redacted]" in exposed(sink)


@pytest.mark.parametrize(
    "hostile",
    [
        'x"} 1\nai_ledger_calls_total{model="forged"} 7\n#',
        "x\r\nai_ledger_calls_total 7",
        "x\u2028ai_ledger_calls_total 7\u2029\x85",
        'x\\"} 7',
        "\\",
        "\x00\x1b]0;x\x07",
        "\u202egpj\u200b",
        "a" * 1_000_000,
        "{" * 500,
    ],
)
def test_no_label_is_a_line_of_its_own(hostile: str) -> None:
    """
    Whatever a name holds, it stays one value of one label, of at most 100 letters.
    """
    sink = PrometheusSink(labels=LABELS)
    named = ("provider", "request_model", "operation", *LABELS)
    sink.write([call(1, **dict.fromkeys(named, hostile))])

    text = exposed(sink)
    lines = [line for line in text.splitlines() if line.startswith("ai_ledger_calls_total")]
    (sample,) = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ai_ledger_calls_total"
    ]
    assert len(lines) == 1
    assert (sample.value, sample.labels["status"]) == (1, "failed")
    for name, value in sample.labels.items():
        assert len(value) <= 100, name
        assert value.isprintable(), name
    assert all(letter.isprintable() or letter == "\n" for letter in text)
