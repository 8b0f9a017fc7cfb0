"""Overflow: what is kept of records that found no room, so that totals stay right."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from ai_ledger.errors import InvalidValue
from ai_ledger.money import EXACT, from_nano, to_nano
from ai_ledger.records import MAX_COUNT, TOKEN_FIELDS, CallRecord, new_id

CALLS_TAG: Final = "ai_ledger.overflow_calls"
"""How many calls a record stands for, when it is a sum of calls that found no room.

`Appending` takes it from what callers give, so only a sum of the journal's own has it.
"""

_MAX_SUMS: Final = 2_000
# For counts and nano-units alike, which no table refuses up to here.
_MAX_SUMMAND: Final = MAX_COUNT
# Of one sum. Whoever gets here was told absurd numbers a thousand times over.
_MAX_PARTS: Final = 1_000
_MAX_CALLS_DIGITS: Final = 15
_KEY: Final = (
    "status",
    "operation",
    "provider",
    "server_address",
    "request_model",
    "response_model",
    "service_tier",
    "usage_source",
    "currency",
    "price_id",
    "org_id",
    "user_id",
)
# A price may depend on how long the input is. Calls within a factor of two share
# a sum, so the even shares that are priced in their place lie in the same range.
_LENGTH: Final = "input_tokens"


class Overflow:
    """
    Sums of calls by model, user and organisation. Not thread-safe; bounded in number.

    When there are too many, users give way first, then everything but the model.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[Any, ...], _Sum] = {}

    def __bool__(self) -> bool:
        return bool(self._sums)

    @property
    def calls(self) -> int:
        """How many calls are in the sums."""
        return sum(each.calls for each in self._sums.values())

    def add(self, record: CallRecord) -> None:
        """Add *record* to its sum. Of a cost that is no amount, the rest is kept."""
        try:
            nano = None if record.cost is None else to_nano(record.cost)
        except InvalidValue:
            nano = None
            record = record.replace(cost=None, currency=None, price_id=None)
        length = (getattr(record, _LENGTH) or 0).bit_length()
        key = (*(getattr(record, name) for name in _KEY), length)
        if key not in self._sums and len(self._sums) >= _MAX_SUMS:
            record = record.replace(user_id=None)
            key = (*(getattr(record, name) for name in _KEY), length)
            if key not in self._sums and len(self._sums) >= 2 * _MAX_SUMS:
                record = record.replace(org_id=None, server_address=None, response_model=None)
                key = (*(getattr(record, name) for name in _KEY), length)
        found = self._sums.get(key)
        if found is None:
            self._sums[key] = found = _Sum(record)
        found.add(record, nano)

    def take(self) -> list[CallRecord]:
        """
        The sums as records, each with the number of its calls in a tag; then start anew.

        A sum that is too large for a table is spread over several.
        """
        sums, self._sums = self._sums, {}
        return [record for each in sums.values() for record in each.records()]


class _Sum:
    def __init__(self, first: CallRecord) -> None:
        self.first = first
        self.calls = 0
        self.counts: dict[str, int | None] = dict.fromkeys(TOKEN_FIELDS)
        self.cost_nano: int | None = None

    def add(self, record: CallRecord, cost_nano: int | None) -> None:
        self.calls += _calls_of(record)
        for name in TOKEN_FIELDS:
            count: int | None = getattr(record, name)
            if count is not None:
                self.counts[name] = (self.counts[name] or 0) + count
        if cost_nano is not None:
            self.cost_nano = (self.cost_nano or 0) + cost_nano

    def records(self) -> Iterator[CallRecord]:
        kept = {name: getattr(self.first, name) for name in _KEY}
        for low, high in itertools.pairwise(self._edges()):
            nano = self._share(self.cost_nano, low, high)
            counts: dict[str, Any] = {
                name: self._share(count, low, high) for name, count in self.counts.items()
            }
            yield CallRecord(
                id=new_id(),
                started_at=self.first.started_at,
                cost=None if nano is None else from_nano(nano),
                tags={CALLS_TAG: str(high - low)},
                **kept,
                **counts,
            )

    def _edges(self) -> list[int]:
        """Where to cut the row of calls, so that no part is too large a number."""
        largest = max(abs(number or 0) for number in (self.cost_nano, *self.counts.values()))
        of_one_call = max(1, -(-largest // self.calls))
        step = max(1, _MAX_SUMMAND // of_one_call, -(-self.calls // _MAX_PARTS))
        return [*range(0, self.calls, step), self.calls]

    def _share(self, total: int | None, low: int, high: int) -> int | None:
        """What the calls from *low* to *high* have of *total*, which is spread evenly."""
        if total is None:
            return None
        each, rest = divmod(total, self.calls)
        return each * (high - low) + min(high, rest) - min(low, rest)


def _calls_of(record: CallRecord) -> int:
    """How many calls *record* stands for; 1 when its tag says nothing sensible."""
    told = record.tags.get(CALLS_TAG, "1")
    # `str.isdigit` alone lets digits pass that `int` refuses, such as a superscript.
    if len(told) > _MAX_CALLS_DIGITS or not (told.isascii() and told.isdigit()):
        return 1
    return max(1, int(told))


def priced_as_calls(record: CallRecord, price: Callable[[CallRecord], CallRecord]) -> CallRecord:
    """
    *record* priced; if it is a sum, by the price of its even shares.

    Prices by the call and prices that rise with the length of the input would
    be wrong for a sum. Its tokens are spread evenly over its calls, which takes
    at most eight different shares, and each is priced once.
    """
    calls = _calls_of(record)
    if calls <= 1 or record.cost is not None:
        return price(record)
    counts = {name: getattr(record, name) for name in TOKEN_FIELDS}
    remainders = {name: count % calls for name, count in counts.items() if count is not None}
    total = Decimal(0)
    priced = record
    edges = sorted({0, calls, *remainders.values()})
    for low, high in itertools.pairwise(edges):
        share = {
            name: None if count is None else count // calls + (low < remainders[name])
            for name, count in counts.items()
        }
        priced = price(record.replace(**share))
        if priced.cost is None:
            return priced.replace(**counts)
        total = EXACT.add(total, EXACT.multiply(priced.cost, Decimal(high - low)))
    return priced.replace(**counts, cost=total)
