"""Sums over a batch, cell by cell, as the table of totals keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from ai_ledger.bounds import key_of
from ai_ledger.database.tables.calls import TOTAL_NUMBERS
from ai_ledger.records import STATUSES, TOKEN_FIELDS

OVERALL: Final = "all"
# Most models come from one provider and serve one operation, so these are summed
# by their combination first, and the few combinations by each of them afterwards.
_TOGETHER: Final = ("request_model", "provider", "operation")
_ALONE: Final = ("function", "business_type")
DIMENSIONS: Final = (OVERALL, *_TOGETHER, *_ALONE, "user_id")
"""What totals are kept by; ``all`` has no value."""

GRAINS: Final = dict.fromkeys(DIMENSIONS, "hdm") | {"user_id": "dm"}
"""
Hours, days or months. A thousand users have about as many hours as calls, so
that totals by the hour would save nothing, and their days are few enough.
"""

_CALLS = TOTAL_NUMBERS.index("calls")
_STATUS = {status: TOTAL_NUMBERS.index(f"{status}_calls") for status in STATUSES}
_INPUT = TOTAL_NUMBERS.index("input_tokens")
_TOKENS = range(_INPUT, _INPUT + len(TOKEN_FIELDS))
_COST = TOTAL_NUMBERS.index("cost_nano")
_DURATION = TOTAL_NUMBERS.index("duration_us")
_TIMED = TOTAL_NUMBERS.index("timed_calls")
_FIRST = TOTAL_NUMBERS.index("first_token_us")
_FIRST_CALLS = TOTAL_NUMBERS.index("first_token_calls")
_UNPRICED = TOTAL_NUMBERS.index("unpriced_calls")
_ESTIMATED = TOTAL_NUMBERS.index("estimated_calls")
_UNKNOWN = TOTAL_NUMBERS.index("unknown_usage_calls")
_UNATTRIBUTED = TOTAL_NUMBERS.index("unattributed_calls")
_RETRIES = TOTAL_NUMBERS.index("retries")
_SOURCES = {"unknown": _UNKNOWN, "counted": _ESTIMATED, "estimated": _ESTIMATED}
_WIDTH: Final = len(TOTAL_NUMBERS)

Key = tuple[str, str, str, str, str, str]
"""The columns of `schema.TOTAL_KEY`."""


class Sums:
    """The numbers of one cell and its durations by bucket."""

    __slots__ = ("_text", "durations", "numbers")

    def __init__(self, numbers: list[int], durations: dict[int, int]) -> None:
        self.numbers = numbers
        self.durations = durations
        self._text: str | None = None

    @classmethod
    def of(cls, parts: list[Sums]) -> Sums:
        """The sum of *parts*; the part itself when there is only one."""
        if len(parts) == 1:
            return parts[0]
        durations: dict[int, int] = dict(parts[0].durations)
        for part in parts[1:]:
            for bucket, calls in part.durations.items():
                durations[bucket] = durations.get(bucket, 0) + calls
        columns = zip(*(part.numbers for part in parts), strict=True)
        return cls(list(map(sum, columns)), durations)

    @property
    def text(self) -> str:
        """The durations, as `durations_text`. To be asked for when all is counted."""
        if self._text is None:
            self._text = durations_text(self.durations)
        return self._text

    @property
    def empty(self) -> bool:
        """Whether nothing changes when this is added."""
        return not any(self.numbers) and not any(self.durations.values())


class Cells:
    """Changes of totals, collected over a batch and read off once."""

    def __init__(self) -> None:
        self._together: dict[tuple[Any, ...], Sums] = {}
        self._alone: dict[tuple[Any, ...], Sums] = {}
        self._users: dict[tuple[Any, ...], Sums] = {}

    def add(self, started_at: datetime, facts: tuple[Any, ...], sign: int = 1) -> None:
        """
        Count one call, or take it back.

        Args:
            started_at: Aware.
            facts: The values of `rows.FACT_COLUMNS`.
            sign: 1, or -1 to take back.
        """
        org, model, provider, operation, function, business, user, currency, cost = facts[:9]
        bucket = facts[13]
        if started_at.tzinfo is not UTC:
            started_at = started_at.astimezone(UTC)
        day = started_at.toordinal()
        hour = day * 24 + started_at.hour
        money = "" if cost is None or currency is None else currency
        where = (org, hour, money)
        changes = _changes(facts, sign)
        for table, key in (
            (self._together, (*where, model, provider, operation)),
            (self._alone, (*where, "function", function)),
            (self._alone, (*where, "business_type", business)),
            (self._users, (org, day, money, user)),
        ):
            sums = table.get(key)
            if sums is None:
                sums = table[key] = Sums([0] * _WIDTH, {})
            numbers = sums.numbers
            for place, change in changes:
                numbers[place] += change
            if bucket is not None:
                sums.durations[bucket] = sums.durations.get(bucket, 0) + sign

    def items(self) -> list[tuple[Key, Sums]]:
        """Every cell that changes, in the order in which all writers lock them."""
        hours: dict[tuple[Any, ...], list[Sums]] = {}
        for (org, hour, money, *values), sums in self._together.items():
            hours.setdefault((org, hour, money, OVERALL, None), []).append(sums)
            for dimension, value in zip(_TOGETHER, values, strict=True):
                hours.setdefault((org, hour, money, dimension, value), []).append(sums)
        for key, sums in self._alone.items():
            hours[key] = [sums]

        cells: list[tuple[Key, Sums]] = []
        days: dict[tuple[Any, ...], list[Sums]] = {}
        for (org, hour, money, dimension, value), parts in hours.items():
            sums = Sums.of(parts)
            day = hour // 24
            period = f"{date.fromordinal(day).isoformat()}T{hour % 24:02}"
            cells.append(((key_of(org), "h", dimension, period, key_of(value), money), sums))
            days.setdefault((org, day, money, dimension, value), []).append(sums)
        for (org, day, money, user), sums in self._users.items():
            days[org, day, money, "user_id", user] = [sums]
        months: dict[Key, list[Sums]] = {}
        for (org, day, money, dimension, value), parts in days.items():
            sums = Sums.of(parts)
            period = date.fromordinal(day).isoformat()
            whose, what = key_of(org), key_of(value)
            cells.append(((whose, "d", dimension, period, what, money), sums))
            months.setdefault((whose, "m", dimension, period[:7], what, money), []).append(sums)
        cells.extend((key, Sums.of(parts)) for key, parts in months.items())
        # Keys differ, so the sums are never compared.
        return sorted(cell for cell in cells if not cell[1].empty)


def _changes(facts: tuple[Any, ...], sign: int) -> list[tuple[int, int]]:
    """Place and change of each number that one call moves; most stay as they are."""
    user, currency, cost, status, source, retries, duration, _, first_token = facts[6:15]
    changes = [(_CALLS, sign), (_STATUS[status], sign)]
    for place, count in zip(_TOKENS, facts[15:], strict=True):
        if count:
            changes.append((place, sign * count))
    if cost is None:
        if _may_cost(status, source):
            changes.append((_UNPRICED, sign))
    elif currency is not None:
        changes.append((_COST, sign * cost))
    if duration is not None:
        changes += ((_DURATION, sign * duration), (_TIMED, sign))
    if first_token is not None:
        changes += ((_FIRST, sign * first_token), (_FIRST_CALLS, sign))
    if source in _SOURCES:
        changes.append((_SOURCES[source], sign))
    if user is None:
        changes.append((_UNATTRIBUTED, sign))
    if retries:
        changes.append((_RETRIES, sign * retries))
    return changes


def _may_cost(status: str, source: str) -> bool:
    # The words of `totals.is_unpriced`, for a call without a cost.
    if status == "failed":
        return source != "unknown"
    return status not in ("blocked", "circuit_open")


def durations_text(durations: dict[int, int]) -> str:
    """
    *durations* as words, ``172 175*3``: bucket, or bucket times calls.

    Texts are added up by putting one after the other, which every database can
    do in passing; `durations_of` counts the words.
    """
    return "".join(
        [
            f"{bucket} " if calls == 1 else f"{bucket}*{calls} "
            for bucket, calls in durations.items()
            if calls
        ]
    )


def shortened(text: str) -> str:
    """*text* with each bucket once, as a list of buckets and calls in turn, which reads faster."""
    pairs = durations_of(text).items()
    return _encode([number for pair in pairs for number in pair]).decode() if pairs else ""


def durations_of(text: str) -> dict[int, int]:
    """What lists and words in *text* add up to; buckets that cancel out are left out."""
    durations: dict[int, int] = {}
    for part in text.split("]"):
        words, bracket, numbers = part.partition("[")
        if bracket:
            listed = _decode(f"[{numbers}]")
            pairs = zip(listed[::2], listed[1::2], strict=True)
            if durations:
                _count(durations, pairs)
            else:
                durations = dict(pairs)
        if words:
            _count(durations, map(_pair, words.split()))
    if not all(durations.values()):
        return {bucket: calls for bucket, calls in durations.items() if calls}
    return durations


def _count(durations: dict[int, int], pairs: Iterable[tuple[int, int]]) -> None:
    for bucket, calls in pairs:
        durations[bucket] = durations.get(bucket, 0) + calls


@lru_cache(maxsize=4096)  # there are some hundred buckets, and most calls stand alone
def _pair(word: str) -> tuple[int, int]:
    bucket, _, calls = word.partition("*")
    return int(bucket), int(calls or 1)


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[int]).decode
