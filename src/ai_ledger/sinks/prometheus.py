"""Prometheus: calls counted in this process, for a server that comes to read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from ai_ledger.errors import ConfigurationError, MissingExtra
from ai_ledger.records import ALIASES, STATUSES, USAGE_SOURCES, CallRecord
from ai_ledger.sinks.labels import Series, Values
from ai_ledger.sinks.seen import Seen
from ai_ledger.sinks.semconv import DURATION_BUCKETS
from ai_ledger.totals import is_unpriced

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

LABELS: Final = ("function", "business_type")
"""Fields that may be labels besides provider, model and operation."""
KINDS: Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
    "audio_input": "audio_input_tokens",
    "audio_output": "audio_output_tokens",
}
"""The label ``kind`` of tokens → the field."""
UNSENT: Final = ("blocked", "circuit_open")
"""Calls that were never sent, and so took no time."""

# Name → what it tells; with "_total" behind a counter when it is read.
CALLS: Final = ("ai_ledger_calls", "Calls by how they ended.")
TOKENS: Final = (
    "ai_ledger_tokens",
    "Tokens; input and output are wholes, all other kinds are parts of them.",
)
COST: Final = ("ai_ledger_cost", "What calls cost, in units of the currency.")
UNPRICED: Final = ("ai_ledger_unpriced_calls", "Calls that should have a cost and have none.")
RETRIES: Final = ("ai_ledger_retries", "Requests that were repeated.")
DURATION: Final = ("ai_ledger_call_duration_seconds", "Until the answer was complete.")
FIRST_TOKEN: Final = ("ai_ledger_time_to_first_token_seconds", "Of streams.")

# There are some 180 currencies, and amounts of two are never added up.
_CURRENCIES: Final = 200
# With the moment of its beginning, which most clients show beside it.
_COUNTER: Final = 2
_HISTOGRAM: Final = len(DURATION_BUCKETS) + 4


class PrometheusSink:
    """
    Counts calls, tokens, cost and times of this process, in a registry of its own::

        metrics = PrometheusSink()
        ledger = Ledger("sqlite:///ai_ledger.db", sinks=[metrics])
        prometheus_client.start_http_server(9464, registry=metrics.registry)

    Every call is counted once, by the process that made it and when it is delivered. What a
    process left behind when it was killed is in the store, and in nobody's counters.

    Series are bounded: of each label `other` stands for whatever comes when there are
    *max_values*, and of each metric there are at most 2,000. Texts are cut to 100 letters
    of one line.

    Args:
        labels: Which of ``function`` and ``business_type`` are labels too. Who called is
            never one: that would be a series for every user.
        max_values: How many values of a label are told apart.
        registry: Of ``prometheus_client``, to be registered with in place of an own one.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.
        ConfigurationError: A label that cannot be one.
    """

    name = "prometheus"
    # Counters are as long-lived as their process, so nothing is kept for another one.
    durable = False

    def __init__(
        self,
        *,
        labels: Iterable[str] = (),
        max_values: int = 200,
        registry: CollectorRegistry | None = None,
    ) -> None:
        try:
            self._client: Final = cast("Any", import_module("prometheus_client"))
        except ImportError as error:
            raise MissingExtra("the Prometheus sink", "metrics") from error
        if type(max_values) is not int or not 1 <= max_values <= 1_000:
            raise ConfigurationError(
                f"max_values: {max_values!r}, expected a whole number from 1 to 1,000"
            )
        self.labels: Final = _chosen(labels)
        self._max_values: Final = max_values
        self.registry: Final[CollectorRegistry] = (
            self._client.CollectorRegistry() if registry is None else registry
        )
        """What to give to ``start_http_server``, ``make_asgi_app`` or ``generate_latest``."""
        self._metrics = _Metrics(self._client, self.labels, max_values)
        self.registry.register(cast("Any", self))

    def write(self, records: Sequence[CallRecord]) -> None:
        """Count *records*; those that were counted already are left out."""
        for record in records:
            self._metrics.count(record)

    def collect(self) -> Iterable[Metric]:
        """All metrics as they are, for a registry."""
        return self._metrics.registry.collect()

    def describe(self) -> Iterable[Metric]:
        """All metrics without their values, for a registry."""
        for metric in self._metrics.all:
            yield from metric.describe()

    def after_fork_in_child(self) -> None:
        """Begin at zero: what the parent has counted is read there."""
        # Anew, since a thread of the parent may hold the locks of the others.
        self._metrics = _Metrics(self._client, self.labels, self._max_values)


class _Metrics:
    """The metrics of one process."""

    def __init__(self, client: Any, labels: tuple[str, ...], max_values: int) -> None:
        self._seen = Seen()
        self._fields = ("provider", "operation", *labels)
        self._values = {name: Values(max_values) for name in (*self._fields, "model")}
        self._currencies = Values(_CURRENCIES)
        self.registry: CollectorRegistry = client.CollectorRegistry()
        names = ("provider", "model", "operation", *labels)

        def counter(of: tuple[str, str], *closed: str, room: int = 1) -> _Bounded:
            metric = client.Counter(*of, (*names, *closed), registry=self.registry)
            return _Bounded(metric, Series(samples=_COUNTER, closed=room))

        def histogram(of: tuple[str, str]) -> _Bounded:
            metric = client.Histogram(*of, names, registry=self.registry, buckets=DURATION_BUCKETS)
            return _Bounded(metric, Series(samples=_HISTOGRAM, closed=1))

        self._calls = counter(CALLS, "status", room=len(STATUSES))
        self._tokens = counter(TOKENS, "kind", "source", room=len(KINDS) * len(USAGE_SOURCES))
        self._cost = counter(COST, "currency", room=_CURRENCIES + 1)
        self._unpriced = counter(UNPRICED)
        self._retries = counter(RETRIES)
        self._duration = histogram(DURATION)
        self._first_token = histogram(FIRST_TOKEN)
        self.all: tuple[Any, ...] = tuple(
            each.metric
            for each in (
                self._calls,
                self._tokens,
                self._cost,
                self._unpriced,
                self._retries,
                self._duration,
                self._first_token,
            )
        )

    def count(self, record: CallRecord) -> None:
        """Count *record*, once."""
        if not self._seen.is_new(record):
            return
        where = self._where(record)
        self._calls.of(where, record.status).inc()
        if record.status == "unfinished":
            return  # nothing else is known of it
        for kind, field in KINDS.items():
            tokens = getattr(record, field)
            if tokens:
                self._tokens.of(where, kind, record.usage_source).inc(tokens)
        if record.cost is not None and record.currency is not None:
            currency = self._currencies.of(record.currency)
            self._cost.of(where, currency).inc(float(record.cost))
        elif is_unpriced(record):
            self._unpriced.of(where).inc()
        if record.retries:
            self._retries.of(where).inc(record.retries)
        if record.duration_ms is not None and record.status not in UNSENT:
            self._duration.of(where).observe(record.duration_ms / 1000)
        if record.time_to_first_token_ms is not None:
            self._first_token.of(where).observe(record.time_to_first_token_ms / 1000)

    def _where(self, record: CallRecord) -> tuple[str, ...]:
        provider, operation, *chosen = (
            self._values[field].of(getattr(record, field)) for field in self._fields
        )
        model = self._values["model"].of(record.request_model or record.response_model)
        return (provider, model, operation, *chosen)


class _Bounded:
    """A metric of ``prometheus_client``, and which of its series there are."""

    def __init__(self, metric: Any, series: Series) -> None:
        self.metric = metric
        self._series = series

    def of(self, values: tuple[str, ...], *closed: str) -> Any:
        """The series of these labels."""
        return self.metric.labels(*self._series.of(values, *closed))


def _chosen(labels: object) -> tuple[str, ...]:
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise ConfigurationError(f"labels: {labels!r}, expected a collection of names of fields")
    chosen: list[str] = []
    for name in cast("Iterable[object]", labels):
        field = ALIASES.get(name, name) if isinstance(name, str) else name
        if field not in LABELS:
            raise ConfigurationError(
                f"labels: {name!r} cannot be a label, only {' and '.join(LABELS)} can: each value "
                "is a series that is kept for months, so who called belongs into the store, "
                'where ledger.stats.summary(by="user_id") finds it'
            )
        if field not in chosen:
            chosen.append(cast("str", field))
    return tuple(chosen)
