"""Families: metrics that are put together when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

Row: TypeAlias = tuple[tuple[str, ...], float]
"""Values of the labels, and what is counted."""


def counter(of: tuple[str, str], labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """A counter: its name, without ``_total``, and what it tells."""
    family = CounterMetricFamily(*of, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def gauge(of: tuple[str, str], labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """A gauge."""
    family = GaugeMetricFamily(*of, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def histogram(
    of: tuple[str, str],
    labels: Sequence[str],
    rows: Iterable[tuple[tuple[str, ...], Sequence[tuple[float, int]], float]],
) -> Metric:
    """
    A histogram in seconds.

    Args:
        of: Its name, and what it tells.
        labels: Of each row.
        rows: Values of the labels; upper edges with how many lie at or below them, the
            last of which is infinite; the sum.
    """
    family = HistogramMetricFamily(*of, labels=labels)
    for values, buckets, total in rows:
        shown = [("+Inf" if edge == float("inf") else str(edge), float(n)) for edge, n in buckets]
        family.add_metric(values, shown, total)
    return family
