"""OpenTelemetry: spans with the right parents and times, metrics, and nothing nobody asked for."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from ai_ledger import Ledger, TrackedClient, bind, call_context
from ai_ledger.errors import ConfigurationError, MissingExtra
from ai_ledger.records import CallRecord
from ai_ledger.sinks import Sink, semconv
from ai_ledger.sinks.opentelemetry import OpenTelemetrySink
from ai_ledger.sinks.opentelemetry.parents import PARENT_TAG
from ai_ledger.testing import Provider

NOON = datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 10**9 + 123_456_000


class Telemetry:
    """Providers of the real SDK that keep what they are given."""

    def __init__(self, sampler: Any = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("a program")

    def sink(self, **options: Any) -> OpenTelemetrySink:
        return OpenTelemetrySink(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )

    @property
    def calls(self) -> list[ReadableSpan]:
        """The spans that are the ledger's."""
        return [
            span
            for span in self.exporter.get_finished_spans()
            if span.instrumentation_scope is not None
            and span.instrumentation_scope.name == "ai_ledger"
        ]

    def points(self, name: str) -> list[Any]:
        """What was measured under *name*."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def ledger(telemetry: Telemetry) -> Iterator[Ledger]:
    with Ledger("memory:", sinks=[telemetry.sink()], journal=False) as ledger:
        yield ledger


def call(number: int = 1, **fields: Any) -> CallRecord:
    values: dict[str, Any] = {"request_model": "gpt-4o", "provider": "openai"}
    return CallRecord(id=f"call-{number}", started_at=NOON, **{**values, **fields})


FULL = call(
    duration_ms=1500.5,
    time_to_first_token_ms=120.0,
    http_status=200,
    operation="responses",
    server_address="api.openai.com",
    response_model="gpt-4o-2024-08-06",
    response_id="resp-1",
    service_tier="default",
    finish_reason="stop",
    streamed=True,
    retries=2,
    input_tokens=100,
    cache_read_tokens=40,
    cache_write_tokens=1,
    output_tokens=7,
    reasoning_tokens=5,
    usage_source="reported",
    cost=Decimal("0.002"),
    currency="USD",
    price_id="gpt-4o@2024-10",
    org_id="acme",
    user_id="u-1",
    device_id="d-1",
    session_id="s-1",
    reference_id="r-1",
    function="summarize",
    business_type="support",
    tags={"team": "red"},
    request_content=json.dumps(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "hi"}, {"image": "x"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "t-1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Bonn"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "t-1", "content": "rain"},
            ]
        }
    ),
    response_content="hello",
)

ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.request.stream": True,
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "resp-1",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.response.time_to_first_chunk": 0.12,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.cache_creation.input_tokens": 1,
    "gen_ai.usage.reasoning.output_tokens": 5,
    "openai.response.service_tier": "default",
    "http.response.status_code": 200,
    "server.address": "api.openai.com",
    "ai_ledger.call.id": "call-1",
    "ai_ledger.call.status": "success",
    "ai_ledger.call.retries": 2,
    "ai_ledger.usage.source": "reported",
    "ai_ledger.cost.amount": 0.002,
    "ai_ledger.cost.currency": "USD",
    "ai_ledger.price.id": "gpt-4o@2024-10",
    "ai_ledger.function": "summarize",
    "ai_ledger.business_type": "support",
}


WEATHER = {"type": "tool_call", "id": "t-1", "name": "weather", "arguments": {"city": "Bonn"}}


def test_a_span(telemetry: Telemetry) -> None:
    """
    A record becomes a client's span with its own times, and without who called or what was said.
    """
    telemetry.sink().write([FULL])

    (span,) = telemetry.calls
    assert dict(span.attributes or {}) == ATTRIBUTES
    assert (span.name, span.kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert (span.start_time, span.end_time) == (NOON_NS, NOON_NS + 1_500_500_000)
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None
    scope = span.instrumentation_scope
    assert scope is not None
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.41.1"


def test_what_has_to_be_asked_for(telemetry: Telemetry) -> None:
    """
    Who called and what was said are attributes only for who asks for them, by any name.
    """
    telemetry.sink(
        identity=["org_id", "user_id", "sn_code", "session_id", "reference_id"], content=True
    ).write([FULL])

    (span,) = telemetry.calls
    more = {k: v for k, v in (span.attributes or {}).items() if k not in ATTRIBUTES}
    asked, answered = (
        json.loads(str(more.pop(f"gen_ai.{side}.messages"))) for side in ("input", "output")
    )
    assert more == {
        "ai_ledger.org.id": "acme",
        "user.id": "u-1",
        "device.id": "d-1",
        "gen_ai.conversation.id": "s-1",
        "ai_ledger.reference.id": "r-1",
    }
    assert asked == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "hi"},
                {"type": "generic", "content": {"image": "x"}},
            ],
        },
        {"role": "assistant", "parts": [WEATHER]},
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "t-1", "response": "rain"}],
        },
    ]
    assert answered == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "hello"}],
            "finish_reason": "stop",
        }
    ]


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("just a text", [("user", "just a text")]),
        ('"quoted"', [("user", "quoted")]),
        ('{"prompt": "go on"}', [("user", "go on")]),
        (
            '{"input": ["a", "b"], "instructions": "x"}',
            [("system", "x"), ("user", "a"), ("user", "b")],
        ),
        ('{"messages": [{"role": "us… [cut', [("user", '{"messages": [{"role": "us… [cut')]),
    ],
)
def test_prompts_of_every_form(
    telemetry: Telemetry, content: str, messages: list[tuple[str, str]]
) -> None:
    """
    Whatever form a prompt was kept in, its texts are messages of somebody.
    """
    telemetry.sink(content=True).write([call(request_content=content)])

    found = json.loads(str((telemetry.calls[0].attributes or {})["gen_ai.input.messages"]))
    assert [(each["role"], each["parts"][0]["content"]) for each in found] == messages


TEXT = {"type": "text", "content": "Look:"}
RAIN = {"type": "tool_call_response", "id": "t-1", "response": "rain"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


@pytest.mark.parametrize(
    ("asked", "messages"),
    [
        pytest.param(
            [
                {"type": "function_call", "call_id": "t-1", "name": "weather",
                 "arguments": '{"city":"Bonn"}'},
                {"type": "function_call_output", "call_id": "t-1", "output": "rain"},
            ],
            [("assistant", [WEATHER]), ("tool", [RAIN])],
            id="items of responses",
        ),
        pytest.param(
            [
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm."},
                    {"type": "text", "text": "Look:"},
                    {"type": "tool_use", "id": "t-1", "name": "weather",
                     "input": {"city": "Bonn"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t-1", "content": "rain"},
                ]},
            ],
            [
                ("assistant", [{"type": "reasoning", "content": "Hm."}, TEXT, WEATHER]),
                ("user", [RAIN]),
            ],
            id="blocks of messages",
        ),
        pytest.param(
            [
                {"role": "assistant", "function_call": {"name": "f", "arguments": '{"cut'}},
                {"role": "function", "name": "f", "content": "rain"},
            ],
            [
                ("assistant", [{"type": "tool_call", "name": "f", "arguments": '{"cut'}]),
                ("tool", [{"type": "tool_call_response", "response": "rain"}]),
            ],
            id="functions of long ago",
        ),
        pytest.param(
            [
                {"role": "assistant", "tool_calls": [{"id": "t-1"}, "odd"]},
                {"role": "user", "content": [IMAGE], "tool_calls": 7},
            ],
            [
                ("assistant", [
                    {"type": "generic", "content": {"id": "t-1"}},
                    {"type": "generic", "content": "odd"},
                ]),
                ("user", [{"type": "generic", "content": IMAGE}]),
            ],
            id="what has no part of its own",
        ),
    ],
)  # fmt: skip
def test_parts(telemetry: Telemetry, asked: Any, messages: list[tuple[str, Any]]) -> None:
    """
    Tools that are called, and what they gave, are the parts that the conventions name.
    """
    record = call(request_content=json.dumps({"input": asked}))
    telemetry.sink(content=True).write([record])

    found = json.loads(str((telemetry.calls[0].attributes or {})["gen_ai.input.messages"]))
    assert [(each["role"], each["parts"]) for each in found] == messages


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        pytest.param('{"city": "Bonn"}', None, id="an object of the model's"),
        pytest.param('["a", {"type": "b"}]', None, id="a list of the model's"),
        pytest.param('{"content": "x"', None, id="cut short"),
        pytest.param(
            json.dumps(
                {
                    "content": "Look:",
                    "reasoning_content": "Hm.",
                    "tool_calls": [
                        {"id": "t-1",
                         "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
                    ],
                }
            ),
            [{"type": "reasoning", "content": "Hm."}, TEXT, WEATHER],
            id="a message",
        ),
        pytest.param(
            json.dumps(
                ["Look:", {"type": "tool_use", "id": "t-1", "name": "weather",
                           "input": {"city": "Bonn"}}]
            ),
            [TEXT, WEATHER],
            id="blocks",
        ),
        pytest.param(
            json.dumps(
                {"type": "function_call", "id": "fc", "call_id": "t-1", "name": "weather",
                 "arguments": '{"city":"Bonn"}'}
            ),
            [WEATHER],
            id="an item",
        ),
    ],
)  # fmt: skip
def test_answers_of_every_form(telemetry: Telemetry, content: str, parts: Any) -> None:
    """
    What a model has written stays its text, and what it wants to be called is told as that.
    """
    telemetry.sink(content=True).write([call(response_content=content)])

    (found,) = json.loads(str((telemetry.calls[0].attributes or {})["gen_ai.output.messages"]))
    assert found["parts"] == (parts or [{"type": "text", "content": content}])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"finish_reason": "length"}, "length"),
        ({"finish_reason": "tool_calls"}, "tool_call"),
        ({"status": "timeout"}, "error"),
        ({"status": "cancelled"}, "unknown"),
    ],
)
def test_why_an_answer_ended(telemetry: Telemetry, fields: dict[str, Any], reason: str) -> None:
    """
    Every answer says why it ended, since the conventions require it.
    """
    telemetry.sink(content=True).write([call(response_content="Well", **fields)])

    (found,) = json.loads(str((telemetry.calls[0].attributes or {})["gen_ai.output.messages"]))
    assert found["finish_reason"] == reason


@pytest.mark.parametrize("depth", [600, 20_000])
def test_what_is_nested_too_deep(telemetry: Telemetry, depth: int) -> None:
    """
    It is a text like one that was cut short, and its neighbours are told as ever.
    """
    deep = '{"messages":' + "[" * depth + "]" * depth + "}"
    calls = [call(1), call(2, request_content=deep, response_content=deep), call(3)]

    telemetry.sink(content=True).write(calls)

    assert len(telemetry.calls) == 3


def test_a_record_that_cannot_be_told() -> None:
    """
    It is counted as not taken, and its neighbours are told.
    """

    class Odd(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            if args[2] == "chat odd":
                raise ValueError("no such model")
            return ALWAYS_ON.should_sample(*args, **kwargs)

        def get_description(self) -> str:
            return "odd"

    telemetry = Telemetry(Odd())
    with Ledger("memory:", sinks=[telemetry.sink()], journal=False) as ledger:
        for model in ("a", "odd", "b"):
            ledger.record(model, input_tokens=1)
        assert ledger.flush(30)
        health = ledger.health()

    assert sorted(span.name for span in telemetry.calls) == ["chat a", "chat b"]
    assert len(telemetry.points("gen_ai.client.token.usage")) == 3
    assert health.dropped == {"not taken by opentelemetry": 1}
    (mine,) = [each for each in health.sinks if each.name == "opentelemetry"]
    assert (mine.delivered, mine.pending) == (2, 0)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"status": "failed", "error_type": "RateLimitError"}, "RateLimitError"),
        ({"status": "timeout"}, "timeout"),
        ({"status": "blocked", "error_type": "BudgetExceeded"}, "BudgetExceeded"),
        ({"status": "circuit_open"}, "circuit_open"),
        ({"status": "unfinished"}, "unfinished"),
        ({"status": "cancelled", "error_type": "CancelledError"}, None),
        ({"status": "success"}, None),
    ],
)
def test_errors(telemetry: Telemetry, fields: dict[str, Any], error: str | None) -> None:
    """
    A call that failed is an error of its kind; its message is told with the content only.
    """
    record = call(error_message="the prompt was: canary", **fields)
    telemetry.sink().write([record])
    telemetry.sink(content=True).write([record])

    plain, told = telemetry.calls
    assert (plain.attributes or {}).get("error.type") == error
    assert (plain.status.status_code is StatusCode.ERROR) == (error is not None)
    assert "canary" not in plain.to_json()
    assert ("canary" in told.to_json()) == (error is not None)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("azure", "azure.ai.openai"),
        ("xai", "x_ai"),
        ("mistral", "mistral_ai"),
        ("deepseek", "deepseek"),
        ("dashscope", "dashscope"),
        (None, "unknown"),
    ],
)
def test_providers(telemetry: Telemetry, ours: str | None, theirs: str) -> None:
    """
    Providers that the conventions have a word for are called by it.
    """
    telemetry.sink().write([call(provider=ours, request_model=None)])

    (span,) = telemetry.calls
    assert (span.attributes or {})["gen_ai.provider.name"] == theirs
    assert span.name == "chat"


def test_a_record_that_comes_again(telemetry: Telemetry) -> None:
    """
    One call is one span and one measurement, however often its record comes.
    """
    sink = telemetry.sink()
    sink.write([call(1, duration_ms=5.0), call(1, duration_ms=5.0)])
    sink.write([call(1, duration_ms=5.0), call(2, duration_ms=5.0)])

    assert [(span.attributes or {})["ai_ledger.call.id"] for span in telemetry.calls] == [
        "call-1",
        "call-2",
    ]
    assert sum(point.count for point in telemetry.points("gen_ai.client.operation.duration")) == 2


def ask(client: OpenAI, *, stream: bool = False) -> None:
    answer = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=stream
    )
    if stream:
        list(answer)


def in_the_same_thread(telemetry: Telemetry, client: OpenAI, ledger: Ledger) -> None:
    ask(client)


def as_a_stream(telemetry: Telemetry, client: OpenAI, ledger: Ledger) -> None:
    ask(client, stream=True)


def in_another_thread(telemetry: Telemetry, client: OpenAI, ledger: Ledger) -> None:
    thread = threading.Thread(target=bind(lambda: ask(client)))
    thread.start()
    thread.join(60)


def in_a_coroutine(telemetry: Telemetry, client: OpenAI, ledger: Ledger) -> None:
    async def run() -> None:
        other = TrackedClient(
            AsyncOpenAI(base_url=str(client.base_url), api_key="sk-t"), ledger=ledger
        )
        async with other:

            async def one(stream: bool) -> None:
                answer: Any = await other.chat.completions.create(
                    model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=stream
                )
                if stream:
                    async for _ in answer:
                        pass

            await asyncio.gather(one(False), one(True))

    asyncio.run(run())


def by_hand(telemetry: Telemetry, client: OpenAI, ledger: Ledger) -> None:
    with ledger.call("gpt-4o"):
        pass
    ledger.record("gpt-4o")


@pytest.mark.parametrize(
    "how", [in_the_same_thread, as_a_stream, in_another_thread, in_a_coroutine, by_hand]
)
def test_parents(
    telemetry: Telemetry,
    ledger: Ledger,
    provider: Provider,
    how: Callable[[Telemetry, OpenAI, Ledger], None],
) -> None:
    """
    The span in which a call is made is the parent of the call's, wherever it is delivered.
    """
    own = OpenAI(base_url=provider.base_url, api_key="sk-t")
    with TrackedClient(own, ledger=ledger) as client:
        with telemetry.tracer.start_as_current_span("a request") as outer:
            how(telemetry, client, ledger)
            inside = outer.get_span_context()
        how(telemetry, client, ledger)
    assert ledger.flush(60)

    parents = [
        (span.parent.trace_id, span.parent.span_id, span.context.trace_id) if span.parent else None
        for span in telemetry.calls
        if span.context is not None
    ]
    within = (inside.trace_id, inside.span_id, inside.trace_id)
    half = len(parents) // 2
    assert parents == [within] * half + [None] * half
    assert half in (1, 2)


def test_the_tag_leads_from_a_trace_to_its_calls(telemetry: Telemetry, ledger: Ledger) -> None:
    """
    The record tells its parent as W3C writes it, beside the tags of the caller.
    """
    with telemetry.tracer.start_as_current_span("a request") as outer, call_context(team="red"):
        ledger.record("gpt-4o")
    ledger.flush(60)

    context = outer.get_span_context()
    (record,) = ledger.store.records  # type: ignore[attr-defined]
    assert record.tags == {
        "team": "red",
        PARENT_TAG: f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}",
    }


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_OFF), ALWAYS_OFF])
def test_a_trace_that_is_not_sampled(sampler: Any) -> None:
    """
    A call in a span that is not kept has none either, whoever makes it; it is measured.
    """
    unsampled, kept = Telemetry(sampler), Telemetry()
    with Ledger("memory:", sinks=[kept.sink()], journal=False) as ledger:
        with unsampled.tracer.start_as_current_span("a request"):
            ledger.record("gpt-4o", duration_ms=5)
        ledger.record("gpt-4o", duration_ms=5)
        ledger.flush(60)

    assert [span.parent for span in kept.calls] == [None]
    assert sum(point.count for point in kept.points("gen_ai.client.operation.duration")) == 2


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-x",
        "\n00-" + "1" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_a_parent_that_cannot_be(telemetry: Telemetry, tag: str) -> None:
    """
    A tag that names no span leaves the call without a parent.
    """
    telemetry.sink().write([call(tags={PARENT_TAG: tag})])

    assert [span.parent for span in telemetry.calls] == [None]


def test_marks_that_fail() -> None:
    """
    A sink that cannot say what it wants to know is counted, and the call is made.
    """

    class Broken:
        name, durable = "broken", False

        def __init__(self) -> None:
            self.records: list[CallRecord] = []

        def marks(self) -> dict[str, str]:
            raise RuntimeError("no")

        def write(self, records: Any) -> None:
            self.records.extend(records)

    class Forward(Broken):
        def marks(self) -> dict[str, str]:
            return {"ai_ledger.x": "1", "mine": "2"}

    broken, forward = Broken(), Forward()
    with Ledger(sinks=[broken, forward], journal=False) as ledger:
        with ledger.call("m"):
            pass
        ledger.flush(60)

        assert ledger.health().incidents == {
            "a sink's marks could not be made": 1,
            "a mark must begin with ai_ledger.": 1,
        }
    assert [record.tags for record in broken.records] == [{"ai_ledger.x": "1"}]


def test_metrics(telemetry: Telemetry) -> None:
    """
    Times and tokens are the conventions' histograms, in their buckets; the cost is a counter.
    """
    telemetry.sink().write([FULL, call(2, status="failed", error_type="E", duration_ms=10.0)])

    where = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "server.address": "api.openai.com",
    }
    good, bad = telemetry.points("gen_ai.client.operation.duration")
    assert (dict(good.attributes), good.count, good.sum) == (where, 1, 1.5005)
    assert dict(bad.attributes)["error.type"] == "E"
    assert good.explicit_bounds == semconv.DURATION_BUCKETS
    (first,) = telemetry.points("gen_ai.client.operation.time_to_first_chunk")
    assert (dict(first.attributes), first.sum) == (where, 0.12)
    tokens = telemetry.points("gen_ai.client.token.usage")
    assert [(dict(point.attributes), point.sum) for point in tokens] == [
        ({**where, "ai_ledger.usage.source": "reported", "gen_ai.token.type": kind}, count)
        for kind, count in (("input", 100), ("output", 7))
    ]
    assert tokens[0].explicit_bounds == semconv.TOKEN_BUCKETS
    assert tokens[0].explicit_bounds[-1] == 67_108_864
    (cost,) = telemetry.points("ai_ledger.client.cost")
    assert (dict(cost.attributes), cost.value) == (
        {**where, "ai_ledger.cost.currency": "USD"},
        0.002,
    )


def test_metrics_tell_few_values_apart_and_nobody(telemetry: Telemetry) -> None:
    """
    Ten thousand models are 200 and other; who called is in no metric, asked for or not.
    """
    sink = telemetry.sink(spans=False, identity=["user_id"])
    sink.write(
        [
            call(number, request_model=f"m-{number}", user_id=f"u-{number}", duration_ms=5.0)
            for number in range(10_000)
        ]
    )

    points = telemetry.points("gen_ai.client.operation.duration")
    assert len(points) == 201
    assert sum(point.count for point in points) == 10_000
    assert "u-9" not in str([dict(point.attributes) for point in points])


def test_one_without_the_other(telemetry: Telemetry) -> None:
    """
    Who wants only spans, or only metrics, gets only those; without spans nothing is marked.
    """
    spans, metrics = telemetry.sink(metrics=False), telemetry.sink(spans=False)
    with telemetry.tracer.start_as_current_span("a request"):
        assert metrics.marks() is None
        assert spans.marks() is not None
    spans.write([FULL])
    assert telemetry.points("gen_ai.client.operation.duration") == []
    metrics.write([FULL])

    assert len(telemetry.calls) == 1
    assert len(telemetry.points("gen_ai.client.operation.duration")) == 1


def test_it_is_a_sink_that_keeps_nothing(telemetry: Telemetry) -> None:
    """
    It fits the protocol, and nothing is kept for it while it is away.
    """
    sink = telemetry.sink()
    assert isinstance(sink, Sink)
    assert (sink.name, sink.durable) == ("opentelemetry", False)


@pytest.mark.parametrize("identity", ["user_id", ["function"], ["request_content"], 7, [None]])
def test_identity_that_cannot_be(identity: Any) -> None:
    """
    What names nobody, or is no collection, is refused.
    """
    with pytest.raises(ConfigurationError, match="identity"):
        OpenTelemetrySink(identity=identity)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without OpenTelemetry the extra that brings it is named.
    """
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)

    with pytest.raises(MissingExtra, match=r"ai-ledger\[traces\]"):
        OpenTelemetrySink()


def test_the_names_are_those_of_the_conventions() -> None:
    """
    Each name that is not ours is one that the installed package of the conventions has.
    """
    schemas = importlib.import_module("opentelemetry.semconv.schemas")
    if semconv.SCHEMA_URL not in {each.value for each in schemas.Schemas}:
        pytest.skip("the package that is installed has only older conventions")
    known: set[str] = set()
    for package in ("_incubating.attributes", "_incubating.metrics", "attributes", "metrics"):
        folder = importlib.import_module(f"opentelemetry.semconv.{package}")
        for module in pkgutil.iter_modules(folder.__path__):
            found = importlib.import_module(f"{folder.__name__}.{module.name}")
            known |= {value for value in vars(found).values() if isinstance(value, str)}
    gen_ai = importlib.import_module(
        "opentelemetry.semconv._incubating.attributes.gen_ai_attributes"
    )
    providers = {each.value for each in gen_ai.GenAiProviderNameValues}
    operations = {each.value for each in gen_ai.GenAiOperationNameValues}

    names = {
        value
        for name, value in vars(semconv).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    ours = {name for name in names if name.startswith("ai_ledger.")}
    assert len(names - ours) > 20
    assert names - ours - {semconv.CONVENTION, semconv.SCHEMA_URL} - known == set()
    assert ours & known == set()
    assert {semconv.TOKEN_TYPE_INPUT, semconv.TOKEN_TYPE_OUTPUT} == {
        each.value for each in gen_ai.GenAiTokenTypeValues
    }
    assert set(semconv.PROVIDERS.values()) - providers == set()
    assert set(semconv.OPERATIONS.values()) - operations == set()


def test_over_the_wire() -> None:
    """
    What a collector gets by OTLP over HTTP is the span, with its parent and its times.
    """
    exporting = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    wire = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        tracers = TracerProvider()
        address = f"http://127.0.0.1:{server.server_port}/v1/traces"
        exporter = exporting.OTLPSpanExporter(
            endpoint=address, compression=exporting.Compression.NoCompression
        )
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        parent = f"00-{7:032x}-{9:016x}-01"
        sink = OpenTelemetrySink(tracer_provider=tracers, metrics=False)
        sink.write([FULL.replace(tags={PARENT_TAG: parent})])
        tracers.shutdown()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    (request,) = (wire.ExportTraceServiceRequest.FromString(body) for body in got)
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert (int.from_bytes(span.trace_id), int.from_bytes(span.parent_span_id)) == (7, 9)
    assert (span.name, span.start_time_unix_nano) == ("chat gpt-4o", NOON_NS)
    assert span.end_time_unix_nano == NOON_NS + 1_500_500_000
    assert {each.key for each in span.attributes} == set(ATTRIBUTES)


def test_a_ledger_without_it_asks_for_nothing() -> None:
    """
    Where no sink wants marks, a call has the very tags of its context.
    """
    with Ledger("memory:", journal=False) as ledger, call_context(team="red") as here:
        call = ledger.open_call(
            operation="chat", provider=None, server_address=None, request_model="m", context=here
        )
        assert call.begun.tags is here.tags


def test_the_global_providers(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without providers of its own the sink uses the program's.
    """
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: telemetry.tracers)
    OpenTelemetrySink(metrics=False).write([call()])

    assert len(telemetry.calls) == 1
