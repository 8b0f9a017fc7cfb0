"""Sums over calls: what every report is made of, however the store keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from ai_ledger.money import to_nano
from ai_ledger.query import GROUP_FIELDS, field_name
from ai_ledger.records import TOKEN_FIELDS, CallRecord

# Durations are counted in buckets whose edges grow by 2**(1/8), so a percentile
# read from them is within 4.5 % of the exact one and buckets of different hours,
# models or machines can be added up, which percentiles cannot.
_STEPS: Final = 8


def duration_bucket(duration_ms: float) -> int:
    """The histogram bucket of a duration: 0 up to one microsecond, 254 for an hour."""
    return max(0, round(_STEPS * math.log2(max(duration_ms * 1000.0, 1.0))))


def bucket_duration_ms(bucket: int) -> float:
    """The duration in the middle of *bucket*, in milliseconds."""
    return float(2.0 ** (bucket / _STEPS)) / 1000.0


class Totals(msgspec.Struct, kw_only=True):
    """
    Sums over some calls. Can be added to each other; equal however they were reached.

    Token sums leave unknown counts out. Cost is nano-units by currency. A call
    is *unpriced* when it has no cost although it may have one (see `is_unpriced`),
    *estimated* when its usage was ``counted`` or ``estimated``, and
    *unattributed* when it has no ``user_id``.
    """

    calls: int = 0
    statuses: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    cost_nano: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    duration_us: int = 0
    """Sum of durations in whole microseconds, so that it adds up exactly."""
    timed_calls: int = 0
    """How many calls have a duration."""
    first_token_us: int = 0
    first_token_calls: int = 0
    durations: dict[int, int] = msgspec.field(default_factory=dict[int, int])
    """Calls by `duration_bucket`."""
    unpriced_calls: int = 0
    estimated_calls: int = 0
    unknown_usage_calls: int = 0
    unattributed_calls: int = 0
    retries: int = 0

    @classmethod
    def of(cls, parts: Iterable[Totals]) -> Totals:
        """All of *parts* together."""
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole

    def add_record(self, record: CallRecord) -> None:
        """Count *record*."""
        self.calls += 1
        self.statuses[record.status] = self.statuses.get(record.status, 0) + 1
        for name in TOKEN_FIELDS:
            count = getattr(record, name)
            if count:
                setattr(self, name, getattr(self, name) + count)
        if record.cost is not None and record.currency is not None:
            nano = to_nano(record.cost)
            self.cost_nano[record.currency] = self.cost_nano.get(record.currency, 0) + nano
        elif is_unpriced(record):
            self.unpriced_calls += 1
        if record.duration_ms is not None:
            self.duration_us += round(record.duration_ms * 1000)
            self.timed_calls += 1
            bucket = duration_bucket(record.duration_ms)
            self.durations[bucket] = self.durations.get(bucket, 0) + 1
        if record.time_to_first_token_ms is not None:
            self.first_token_us += round(record.time_to_first_token_ms * 1000)
            self.first_token_calls += 1
        self.estimated_calls += record.usage_source in ("counted", "estimated")
        self.unknown_usage_calls += record.usage_source == "unknown"
        self.unattributed_calls += record.user_id is None
        self.retries += record.retries

    def add(self, other: Totals) -> None:
        """Count everything that *other* counted."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in (
            (self.statuses, other.statuses),
            (self.cost_nano, other.cost_nano),
        ):
            for key, value in theirs.items():
                mine[key] = mine.get(key, 0) + value
        for bucket, calls in other.durations.items():
            self.durations[bucket] = self.durations.get(bucket, 0) + calls

    def percentile_ms(self, share: float) -> float | None:
        """The duration that *share* (0 to 1) of the timed calls did not exceed; within 4.5 %."""
        wanted = math.ceil(share * self.timed_calls)
        if not self.timed_calls:
            return None
        seen = 0
        for bucket in sorted(self.durations):
            seen += self.durations[bucket]
            if seen >= wanted:
                return bucket_duration_ms(bucket)
        return None


def is_unpriced(record: CallRecord) -> bool:
    """
    Whether *record* should have a cost and has none.

    What was never sent costs nothing, nor does a failure that nobody counted
    tokens for: providers do not charge for an error. A timeout, a cancelled or
    an unfinished call may well have been charged, so it counts as unpriced.
    """
    if record.cost is not None or record.status in ("blocked", "circuit_open"):
        return False
    return record.status != "failed" or record.usage_source != "unknown"


_NUMBERS: Final = tuple(
    name for name in Totals.__struct_fields__ if name not in ("statuses", "cost_nano", "durations")
)


class Group(msgspec.Struct, kw_only=True):
    """The totals of one combination of values, in one interval of time."""

    key: tuple[str | None, ...] = ()
    """One value for each field that was grouped by; ``None`` where it was not set."""
    interval: int = 0
    """Index of the interval among the edges that were asked for."""
    totals: Totals


def group_records(
    records: Iterable[CallRecord], by: tuple[str, ...], edges: tuple[datetime, ...]
) -> list[Group]:
    """
    The totals of *records* by field values and interval, in Python.

    Args:
        records: Calls, already filtered; those outside the edges are left out.
        by: Fields or ``tags.<key>``.
        edges: Ascending; interval *i* runs from ``edges[i]`` to before ``edges[i + 1]``.
            Fewer than two mean one interval without bounds.

    Raises:
        InvalidValue: A field that calls cannot be grouped by, such as their texts.
    """
    from bisect import bisect_right

    by = tuple(field_name(field, GROUP_FIELDS) for field in by)
    groups: dict[tuple[tuple[str | None, ...], int], Totals] = {}
    for record in records:
        interval = 0
        if len(edges) > 1:
            interval = bisect_right(edges, record.started_at) - 1
            if not 0 <= interval < len(edges) - 1:
                continue
        key = tuple(value_of(record, field) for field in by)
        groups.setdefault((key, interval), Totals()).add_record(record)
    return [
        Group(key=key, interval=interval, totals=totals)
        for (key, interval), totals in groups.items()
    ]


def value_of(record: CallRecord, field: str) -> str | None:
    """The text that *record* is grouped under for *field* or ``tags.<key>``."""
    if field.startswith("tags."):
        return record.tags.get(field.removeprefix("tags."))
    value = getattr(record, field)
    return None if value is None else str(value)
