"""Traces: each call as a span, below the one in which it was made, whatever thread delivers it."""

from __future__ import annotations

from _provider import use_provider
from openai import OpenAI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ai_ledger import ContextThreadPoolExecutor, Ledger, TrackedClient
from ai_ledger.sinks.opentelemetry import OpenTelemetrySink

use_provider()


def main() -> None:
    """A request that makes three calls, two of them in threads, and one call outside of it."""
    # They keep what a collector would get.
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    sink = OpenTelemetrySink(tracer_provider=tracers, meter_provider=meters)

    with Ledger("sqlite:///ai_ledger.db", sinks=[sink]) as ledger:
        client = TrackedClient(OpenAI(), ledger=ledger)

        def ask(model: str) -> None:
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hello!"}]
            )

        with tracers.get_tracer("example").start_as_current_span("POST /answers"):
            ask("qwen-plus")
            with ContextThreadPoolExecutor() as pool:
                list(pool.map(ask, ["qwen-max", "qwen-turbo"]))
        ask("gpt-4o-mini")
        ledger.flush()

    spans = {span.context.span_id: span for span in exporter.get_finished_spans() if span.context}
    for span in sorted(spans.values(), key=lambda each: each.name):
        above = spans[span.parent.span_id].name if span.parent else "nothing"
        print(f"{span.name}  below {above}{told(span)}")
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        print(f"{metric.name}  {len(metric.data.data_points)} series")


def told(span: ReadableSpan) -> str:
    """What the span of a call says about its tokens."""
    attributes = span.attributes or {}
    if "gen_ai.usage.input_tokens" not in attributes:
        return ""
    return (
        f"  {attributes['gen_ai.usage.input_tokens']} in"
        f" + {attributes['gen_ai.usage.output_tokens']} out"
    )


if __name__ == "__main__":
    main()
