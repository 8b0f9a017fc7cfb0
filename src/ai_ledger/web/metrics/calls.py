"""Calls: the store's kept totals as counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client.core import Metric

from ai_ledger.database.engine import Database
from ai_ledger.money import from_nano
from ai_ledger.query import Query
from ai_ledger.records import STATUSES
from ai_ledger.sinks.labels import Series, Values
from ai_ledger.sinks.prometheus import (
    CALLS,
    COST,
    DURATION,
    FIRST_TOKEN,
    KINDS,
    RETRIES,
    TOKENS,
    UNPRICED,
)
from ai_ledger.sinks.semconv import DURATION_BUCKETS
from ai_ledger.sinks.sql.reader import Reader
from ai_ledger.totals import Group, Totals, bucket_duration_ms
from ai_ledger.web.metrics.families import Row, counter, histogram
from ai_ledger.web.metrics.rising import Rising

PROVIDER_CALLS: Final = ("ai_ledger_provider_calls", "Calls by provider and how they ended.")
OPERATION_CALLS: Final = ("ai_ledger_operation_calls", "Calls by operation and how they ended.")

# A hundred models and all others, by seven statuses, kinds of tokens or 17 series of a
# histogram: within the 2,000 of a metric.
_MODELS: Final = 100
_CURRENCIES: Final = 200
_EDGES: Final = (*DURATION_BUCKETS, float("inf"))
_ALL: Final = Query.build(scope=None)


class _Key(NamedTuple):
    """One sum: the name of its metric, values of the labels, and the edge if it is a bucket."""

    name: str
    values: tuple[str, ...]
    edge: float | None = None


class StoredCalls:
    """
    What the calls of all processes have come to since this was first read.

    Totals are kept by one field at a time, so calls are told by model, by provider or by
    operation, and not by two of them together.
    """

    def __init__(self) -> None:
        self._rising: Rising[_Key] = Rising()
        self._labels = {name: Values(_MODELS) for name in ("request_model", *_BY)}
        self._costs = Series(samples=1, closed=_CURRENCIES)

    def read(self, database: Database) -> list[Metric]:
        """The counters as they are now."""
        reader = Reader(database)
        sums: dict[_Key, int] = defaultdict(int)
        for label, totals in self._groups(reader, "request_model"):
            self._add(sums, label, totals)
        for field, of in _BY.items():
            for label, totals in self._groups(reader, field):
                for status in STATUSES:
                    sums[_Key(of[0], (label, status))] += totals.statuses.get(status, 0)
        return list(_families(self._rising.read(sums)))

    def _groups(self, reader: Reader, field: str) -> Iterator[tuple[str, Totals]]:
        groups = reader.aggregate(_ALL, (field,), ())
        # The busiest get the labels.
        for group in sorted(groups, key=_busiest):
            yield self._labels[field].of(group.key[0]), group.totals

    def _add(self, sums: dict[_Key, int], label: str, totals: Totals) -> None:
        for status in STATUSES:
            sums[_Key(CALLS[0], (label, status))] += totals.statuses.get(status, 0)
        for kind, field in KINDS.items():
            sums[_Key(TOKENS[0], (label, kind))] += getattr(totals, field)
        for currency, nano in totals.cost_nano.items():
            sums[_Key(COST[0], self._costs.of((label,), currency))] += nano
        sums[_Key(UNPRICED[0], (label,))] += totals.unpriced_calls
        sums[_Key(RETRIES[0], (label,))] += totals.retries
        for bucket, calls in totals.durations.items():
            seconds = bucket_duration_ms(bucket) / 1000
            edge = next(edge for edge in _EDGES if seconds <= edge)
            sums[_Key(DURATION[0], (label,), edge)] += calls
        sums[_Key(DURATION[0], (label,))] += totals.duration_us
        sums[_Key(FIRST_TOKEN[0], (label,), float("inf"))] += totals.first_token_calls
        sums[_Key(FIRST_TOKEN[0], (label,))] += totals.first_token_us


_BY: Final = {"provider": PROVIDER_CALLS, "operation": OPERATION_CALLS}


def _busiest(group: Group) -> tuple[int, str]:
    return -group.totals.calls, group.key[0] or ""


def _families(risen: dict[_Key, int]) -> Iterator[Metric]:
    rows: dict[str, list[Row]] = defaultdict(list)
    buckets: dict[tuple[str, tuple[str, ...]], dict[float, int]] = defaultdict(dict)
    for key, value in risen.items():
        if key.edge is None:
            rows[key.name].append((key.values, value))
        else:
            buckets[key.name, key.values][key.edge] = value
    yield counter(CALLS, ("model", "status"), rows[CALLS[0]])
    yield counter(TOKENS, ("model", "kind"), rows[TOKENS[0]])
    cost = [(values, float(from_nano(int(nano)))) for values, nano in rows[COST[0]]]
    yield counter(COST, ("model", "currency"), cost)
    yield counter(UNPRICED, ("model",), rows[UNPRICED[0]])
    yield counter(RETRIES, ("model",), rows[RETRIES[0]])
    for of, edges in ((DURATION, _EDGES), (FIRST_TOKEN, _EDGES[-1:])):
        yield histogram(of, ("model",), _histogram(of[0], edges, rows[of[0]], buckets))
    yield counter(PROVIDER_CALLS, ("provider", "status"), rows[PROVIDER_CALLS[0]])
    yield counter(OPERATION_CALLS, ("operation", "status"), rows[OPERATION_CALLS[0]])


def _histogram(
    name: str,
    edges: tuple[float, ...],
    sums: Iterable[Row],
    buckets: dict[tuple[str, tuple[str, ...]], dict[float, int]],
) -> Iterator[tuple[tuple[str, ...], list[tuple[float, int]], float]]:
    for values, microseconds in sums:
        counts = buckets[name, values]
        below = accumulate(counts.get(edge, 0) for edge in edges)
        yield values, list(zip(edges, below, strict=True)), microseconds / 1_000_000
