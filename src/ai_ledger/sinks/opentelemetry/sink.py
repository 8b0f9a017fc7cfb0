"""`OpenTelemetrySink`: records as spans and as measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from ai_ledger._version import __version__
from ai_ledger.errors import ConfigurationError, MissingExtra
from ai_ledger.records import ALIASES, CallRecord
from ai_ledger.sinks import semconv
from ai_ledger.sinks.base import SomeRefused
from ai_ledger.sinks.opentelemetry.attributes import (
    ERRORS,
    IDENTITY,
    Common,
    of_span,
    operation_of,
)
from ai_ledger.sinks.opentelemetry.parents import PARENT_TAG, parent_of, written
from ai_ledger.sinks.seen import Seen

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

_SCOPE: Final = "ai_ledger"
_MAX_VALUES: Final = 200
_UNSENT: Final = ("blocked", "circuit_open")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class OpenTelemetrySink:
    """
    A span for each call, and the metrics of the GenAI conventions.

    Spans are made in the background when a call is over, with the times that it had. The
    span in which the call was made is its parent: it is read when the call begins, in the
    thread that makes it, and kept with the record as the tag ``ai_ledger.traceparent``. If
    that span is not sampled, the call has no span; it is measured all the same.

    Set the providers up before the ledger is opened: both send what is left at the end of
    the program, the last one that was set up first.

    Args:
        tracer_provider: Makes the spans; the global one, if left out.
        meter_provider: Takes the measurements; the global one, if left out.
        spans: Whether spans are made.
        metrics: Whether measurements are taken.
        identity: Which of ``org_id``, ``user_id``, ``device_id``, ``session_id`` and
            ``reference_id`` spans tell. Metrics never do.
        content: Whether spans tell prompts and answers, as far as the ledger keeps them,
            and error messages, which may repeat them.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
        ConfigurationError: A field in *identity* that is none of these.
    """

    name = "opentelemetry"
    # The SDK keeps what is to be sent in memory, and drops it when there is too much. What
    # is sent again by another process after a crash would be a second span of the call.
    durable = False

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        spans: bool = True,
        metrics: bool = True,
        identity: Iterable[str] = (),
        content: bool = False,
    ) -> None:
        try:
            trace = cast("Any", import_module("opentelemetry.trace"))
            context = cast("Any", import_module("opentelemetry.context"))
            meters = cast("Any", import_module("opentelemetry.metrics"))
        except ImportError as error:
            raise MissingExtra("the OpenTelemetry sink", "traces") from error
        self.identity: Final = _fields(identity)
        self.content: Final = content
        self._seen = Seen()
        self._trace: Final = trace
        self._empty: Final = context.Context()
        self._current: Final = trace.get_current_span
        self._tracer: Final = (
            trace.get_tracer(_SCOPE, __version__, tracer_provider, semconv.SCHEMA_URL)
            if spans
            else None
        )
        self._meters: Final = (
            _Meters(meters.get_meter(_SCOPE, __version__, meter_provider, semconv.SCHEMA_URL))
            if metrics
            else None
        )

    def marks(self) -> Mapping[str, str] | None:
        """The span that is open here and now, as a tag for the call that begins."""
        if self._tracer is None:
            return None
        here = self._current().get_span_context()
        return {PARENT_TAG: written(here)} if here.is_valid else None

    def write(self, records: Sequence[CallRecord]) -> None:
        """
        Make spans and measurements of *records*; those that came before are left out.

        Raises:
            SomeRefused: Some could not be told; the others were.
        """
        failures: list[Exception] = []
        for record in records:
            if self._seen.is_new(record):
                try:
                    self._tell(record)
                except Exception as error:  # noqa: BLE001  # of the user's providers
                    failures.append(error)
        if failures:
            raise SomeRefused(len(failures), failures[0]) from failures[0]

    def _tell(self, record: CallRecord) -> None:
        if self._meters is not None and record.status != "unfinished":
            self._meters.measure(record)
        if self._tracer is not None:
            self._span(self._tracer, record)

    def _span(self, tracer: Any, record: CallRecord) -> None:
        trace, context = self._trace, self._empty
        parent = parent_of(record)
        if parent is not None:
            if not parent.sampled:
                return
            above = trace.SpanContext(
                parent.trace_id, parent.span_id, False, trace.TraceFlags(parent.flags)
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(above), context)
        began = (record.started_at - _EPOCH) // _MICROSECOND * 1_000
        span = tracer.start_span(
            f"{operation_of(record)} {record.request_model or ''}".rstrip(),
            context,
            trace.SpanKind.CLIENT,
            of_span(record, identity=self.identity, content=self.content),
            start_time=began,
        )
        if record.status in ERRORS:
            told = record.error_message if self.content else None
            span.set_status(trace.Status(trace.StatusCode.ERROR, told))
        span.end(began + round((record.duration_ms or 0.0) * 1_000_000))


class _Meters:
    """The instruments, and what goes into each."""

    def __init__(self, meter: Any) -> None:
        self._common = Common(_MAX_VALUES)
        self._duration = meter.create_histogram(
            semconv.CLIENT_OPERATION_DURATION,
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS,
        )
        self._first = meter.create_histogram(
            semconv.CLIENT_OPERATION_TIME_TO_FIRST_CHUNK,
            unit="s",
            description="Time to receive the first chunk of a stream.",
            explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            semconv.CLIENT_TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=semconv.TOKEN_BUCKETS,
        )
        self._cost = meter.create_counter(
            semconv.CLIENT_COST,
            unit="{currency}",
            description="What calls cost, in units of the currency.",
        )

    def measure(self, record: CallRecord) -> None:
        """Take the measurements of *record*."""
        where = self._common.of_metric(record)
        source = {semconv.USAGE_SOURCE: record.usage_source}
        if record.duration_ms is not None and record.status not in _UNSENT:
            error = self._common.error(record)
            self._duration.record(record.duration_ms / 1000, {**where, **error})
        if record.time_to_first_token_ms is not None:
            self._first.record(record.time_to_first_token_ms / 1000, where)
        for kind, tokens in (
            (semconv.TOKEN_TYPE_INPUT, record.input_tokens),
            (semconv.TOKEN_TYPE_OUTPUT, record.output_tokens),
        ):
            if tokens is not None:
                self._tokens.record(tokens, {**where, **source, semconv.TOKEN_TYPE: kind})
        if record.cost is not None and record.currency is not None:
            self._cost.add(float(record.cost), {**where, semconv.COST_CURRENCY: record.currency})


def _fields(identity: object) -> frozenset[str]:
    if isinstance(identity, (str, bytes)) or not isinstance(identity, Iterable):
        raise ConfigurationError(f"identity: {identity!r}, expected a collection of fields")
    fields: set[str] = set()
    for name in cast("Iterable[object]", identity):
        field = ALIASES.get(name, name) if isinstance(name, str) else name
        if field not in IDENTITY:
            raise ConfigurationError(f"identity: {name!r}, expected some of {', '.join(IDENTITY)}")
        fields.add(cast("str", field))
    return frozenset(fields)
