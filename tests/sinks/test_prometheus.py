"""Prometheus: what is counted, how few series that makes, and that anybody can read it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from openai import OpenAI
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metric_families,
)
from prometheus_client.parser import text_string_to_metric_families

from ai_ledger import Ledger, TrackedClient, call_context
from ai_ledger.errors import ConfigurationError, MissingExtra
from ai_ledger.records import CallRecord
from ai_ledger.sinks import Sink
from ai_ledger.sinks.labels import MAX_SERIES, OTHER, Series, Values
from ai_ledger.sinks.prometheus import PrometheusSink
from ai_ledger.sinks.seen import Seen
from ai_ledger.testing import Provider

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def sink() -> PrometheusSink:
    return PrometheusSink()


def call(number: int = 1, **fields: Any) -> CallRecord:
    values: dict[str, Any] = {
        "provider": "dashscope",
        "request_model": "qwen-plus",
        "duration_ms": 250.0,
        "input_tokens": 100,
        "cache_read_tokens": 40,
        "output_tokens": 7,
        "usage_source": "reported",
        "cost": Decimal("0.002"),
        "currency": "CNY",
    }
    return CallRecord(id=f"call-{number}", started_at=NOON, **{**values, **fields})


def samples(sink: PrometheusSink) -> dict[tuple[str, ...], float]:
    """Name and values of the labels, in the order of their names → value; what a server reads."""
    text = prometheus_client.generate_latest(sink.registry).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_what_a_call_counts(sink: PrometheusSink) -> None:
    """
    A call adds itself, its tokens by kind, its cost, its retries and its times.
    """
    sink.write([call(retries=2, streamed=True, time_to_first_token_ms=90.0)])

    where = ("qwen-plus", "chat", "dashscope")
    found = {key: value for key, value in samples(sink).items() if "_bucket" not in key[0]}
    assert found == {
        ("ai_ledger_calls_total", *where, "success"): 1,
        ("ai_ledger_tokens_total", "input", *where, "reported"): 100,
        ("ai_ledger_tokens_total", "cache_read", *where, "reported"): 40,
        ("ai_ledger_tokens_total", "output", *where, "reported"): 7,
        ("ai_ledger_cost_total", "CNY", *where): 0.002,
        ("ai_ledger_retries_total", *where): 2,
        ("ai_ledger_call_duration_seconds_count", *where): 1,
        ("ai_ledger_call_duration_seconds_sum", *where): 0.25,
        ("ai_ledger_time_to_first_token_seconds_count", *where): 1,
        ("ai_ledger_time_to_first_token_seconds_sum", *where): 0.09,
    }


def test_buckets(sink: PrometheusSink) -> None:
    """
    Times fall into the buckets of the GenAI conventions.
    """
    sink.write([call(1, duration_ms=10.0), call(2, duration_ms=321.0), call(3, duration_ms=9e6)])

    found = {
        key[1]: value for key, value in samples(sink).items() if "duration_seconds_bucket" in key[0]
    }
    assert list(found.items()) == [
        *((edge, 1) for edge in ("0.01", "0.02", "0.04", "0.08", "0.16", "0.32")),
        *((str(0.64 * 2**step), 2) for step in range(8)),
        ("+Inf", 3),
    ]


@pytest.mark.parametrize(
    ("fields", "unpriced", "timed"),
    [
        pytest.param({"cost": None, "currency": None}, True, True, id="no price"),
        pytest.param({"status": "blocked", "cost": None}, False, False, id="never sent"),
        pytest.param({"status": "circuit_open", "cost": None}, False, False, id="left alone"),
        pytest.param({"status": "timeout", "cost": None}, True, True, id="a timeout"),
        pytest.param(
            {"status": "failed", "cost": None, "usage_source": "unknown"},
            False,
            True,
            id="a failure that nobody charged for",
        ),
        pytest.param({"status": "unfinished", "cost": None}, False, False, id="it never ended"),
    ],
)
def test_calls_without_a_cost(
    sink: PrometheusSink, fields: dict[str, Any], unpriced: bool, timed: bool
) -> None:
    """
    Only a call that should have a cost is unpriced, and only one that was sent took time.
    """
    sink.write([call(**fields)])

    names = {key[0] for key in samples(sink)}
    assert ("ai_ledger_unpriced_calls_total" in names) == unpriced
    assert ("ai_ledger_call_duration_seconds_count" in names) == timed
    assert "ai_ledger_cost_total" not in names
    assert samples(sink)[
        "ai_ledger_calls_total", "qwen-plus", "chat", "dashscope", fields.get("status", "success")
    ]


def test_a_record_that_comes_again(sink: PrometheusSink) -> None:
    """
    However often a record comes, it counts once; one that ends after all counts as ended.
    """
    begun = CallRecord(id="late", started_at=NOON, status="unfinished", request_model="m")
    sink.write([call(1), call(1)])
    sink.write([call(1), begun, begun])
    sink.write([begun.replace(status="success", input_tokens=3), begun])

    found = {key: value for key, value in samples(sink).items() if "calls_total" in key[0]}
    assert found == {
        ("ai_ledger_calls_total", "qwen-plus", "chat", "dashscope", "success"): 1,
        ("ai_ledger_calls_total", "m", "chat", "", "unfinished"): 1,
        ("ai_ledger_calls_total", "m", "chat", "", "success"): 1,
        ("ai_ledger_unpriced_calls_total", "m", "chat", ""): 1,
    }


def test_ids_are_not_kept_for_ever() -> None:
    """
    As many ids are remembered as fit the window, the newest.
    """
    seen = Seen(most=3)
    records = [call(number) for number in range(5)]

    assert [seen.is_new(record) for record in records] == [True] * 5
    assert [seen.is_new(record) for record in reversed(records)] == [False] * 3 + [True] * 2


def test_labels_that_are_chosen() -> None:
    """
    The function and the business type are labels for who asks for them, by any of their names.
    """
    sink = PrometheusSink(labels=["function", "app_type"])
    sink.write([call(function="summarize", business_type="support", user_id="u-1")])

    assert samples(sink)[
        "ai_ledger_calls_total",
        "support",
        "summarize",
        "qwen-plus",
        "chat",
        "dashscope",
        "success",
    ]


@pytest.mark.parametrize(
    "field",
    [
        *("user_id", "sn_code", "device_id", "session_id", "org_id", "reference_id"),
        *("request_content", "error_message", "tags.team", "id", "model", None, 7),
    ],
)
def test_who_called_is_no_label(field: Any) -> None:
    """
    A field that would be a series for everybody is refused, and where to look is said.
    """
    with pytest.raises(ConfigurationError, match=r"function and business_type.*summary\(by="):
        PrometheusSink(labels=[field])


@pytest.mark.parametrize(
    "options", [{"labels": "function"}, {"labels": 7}, {"max_values": 0}, {"max_values": "9"}]
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    """
    What cannot work is refused when the sink is made, by name.
    """
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        PrometheusSink(**options)


def test_values_and_series_are_bounded() -> None:
    """
    Values and combinations that come too late are other; those that are known stay.
    """
    values = Values(2)
    series = Series(samples=MAX_SERIES // 4, closed=2)

    assert [values.of(raw) for raw in ("a", "b", "c", "a", None)] == ["a", "b", OTHER, "a", ""]
    assert [series.of((raw,), "x") for raw in "abca"] == [
        ("a", "x"),
        ("b", "x"),
        (OTHER, "x"),
        ("a", "x"),
    ]


def test_both_formats_can_be_read(sink: PrometheusSink) -> None:
    """
    The parsers of both formats read what is written, whatever the names are.
    """
    hostile = 'a"b\\c\n# TYPE x counter\nx{} 1\r{le="1"}\u2028\x1b[31m\u202e漢'
    sink.write([call(request_model=hostile, provider="\ud800", operation=" ", currency="CNY")])

    texts = prometheus_client.generate_latest(sink.registry).decode(), open_metrics(sink.registry)
    classic = list(text_string_to_metric_families(texts[0]))
    modern = list(open_metric_families(texts[1].decode()))
    for families in (classic, modern):
        assert {family.name.partition("_")[0] for family in families} == {"ai"}
        assert {sample.labels["model"] for family in families for sample in family.samples} == {
            'a"b\\c # TYPE x counter x{} 1 {le="1"} [31m 漢'
        }
    assert "\nx{" not in texts[0]


def test_through_a_ledger_and_a_client() -> None:
    """
    Calls of a tracked client are counted beside the store, streams with their first token.
    """
    sink = PrometheusSink(labels=["function"])
    with Provider() as provider, Ledger("memory:", sinks=[sink], journal=False) as ledger:
        client = TrackedClient(OpenAI(base_url=provider.base_url, api_key="sk-t"), ledger=ledger)
        with call_context(function="ask", user_id="u-1"):
            for stream in (False, True):
                list(
                    client.chat.completions.create(
                        model="gpt-4o",
                        messages=[{"role": "user", "content": "hi"}],
                        stream=stream,
                    )
                )
        assert ledger.flush(60)

    found = samples(sink)
    assert found["ai_ledger_calls_total", "ask", "gpt-4o", "chat", "", "success"] == 2
    assert found["ai_ledger_time_to_first_token_seconds_count", "ask", "gpt-4o", "chat", ""] == 1


def test_an_own_registry() -> None:
    """
    Nothing is registered with the registry that all programs share, unless it is given.
    """
    shared = prometheus_client.CollectorRegistry()
    before = prometheus_client.generate_latest()
    own, given = PrometheusSink(), PrometheusSink(registry=shared)
    for sink in (own, given):
        sink.write([call()])

    assert b"ai_ledger" not in prometheus_client.generate_latest(prometheus_client.REGISTRY)
    assert b"ai_ledger" not in before
    assert given.registry is shared
    assert samples(given) == samples(own)
    with pytest.raises(ValueError, match=r"[Dd]uplicated"):
        PrometheusSink(registry=shared)


def test_it_is_a_sink_that_keeps_nothing(sink: PrometheusSink) -> None:
    """
    It fits the protocol, and nothing is kept for it while it is away.
    """
    assert isinstance(sink, Sink)
    assert (sink.name, sink.durable) == ("prometheus", False)


_FORKING = """
import os
import sys
from datetime import UTC, datetime
from prometheus_client import generate_latest
from ai_ledger.records import CallRecord
from ai_ledger.sinks.prometheus import PrometheusSink

def write(call_id):
    sink.write([CallRecord(id=call_id, started_at=datetime.now(UTC), request_model="m")])

def show():
    lines = generate_latest(sink.registry).decode().splitlines()
    print(*(line.split()[1] for line in lines if line.startswith("ai_ledger_calls_total{")))
    sys.stdout.flush()

sink = PrometheusSink()
write("a")
if os.fork() == 0:
    sink.after_fork_in_child()
    write("b")
    write("a")
    show()
    os._exit(0)
os.wait()
show()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_begins_at_zero() -> None:
    """
    What the parent counted is not counted again by a child, in the same registry.
    """
    done = subprocess.run(
        [sys.executable, "-c", _FORKING], check=True, timeout=60, capture_output=True, text=True
    )

    assert done.stdout.split() == ["2.0", "1.0"]


_WORKER = """
import sys
from datetime import UTC, datetime
from ai_ledger.records import CallRecord
from ai_ledger.sinks.prometheus import PrometheusSink
PrometheusSink().write(
    [CallRecord(id=sys.argv[1], started_at=datetime.now(UTC), request_model="m", duration_ms=5.0)]
)
"""


def test_several_processes(tmp_path: Path) -> None:
    """
    With the folder that prometheus_client shares between processes, one answer has them all.
    """
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for number in range(2):
        subprocess.run(
            [sys.executable, "-c", _WORKER, str(number)], env=environment, check=True, timeout=60
        )

    from prometheus_client.multiprocess import MultiProcessCollector

    registry = prometheus_client.CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))
    labels = {"provider": "", "model": "m", "operation": "chat"}
    assert registry.get_sample_value("ai_ledger_calls_total", {**labels, "status": "success"}) == 2
    assert registry.get_sample_value("ai_ledger_call_duration_seconds_count", labels) == 2


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without the package the extra that brings it is named.
    """
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(MissingExtra, match=r"ai-ledger\[metrics\]"):
        PrometheusSink()


def test_nothing_is_imported_before_it_is_used() -> None:
    """
    Neither the package nor the module of the sink loads prometheus_client.
    """
    code = (
        "import sys, ai_ledger, ai_ledger.ledger, ai_ledger.sinks.prometheus\n"
        "import ai_ledger.sinks.opentelemetry\n"
        "assert not {'prometheus_client', 'opentelemetry'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
