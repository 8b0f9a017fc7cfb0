"""What reports answer: frozen values that print well and go to JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeAlias

import msgspec
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

from ai_ledger.money import from_nano
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange
from ai_ledger.stats.rank import Ranking
from ai_ledger.stats.text import milliseconds, money, percent, shown, table
from ai_ledger.totals import Totals

_ROWS_SHOWN = 20


class Result(BaseModel):
    """The root of all answers: frozen, printable, to JSON by ``model_dump_json()``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Money: TypeAlias = Annotated[
    Decimal, PlainSerializer(lambda amount: f"{amount:f}", return_type=str, when_used="json")
]
"""An exact amount; in JSON a text of digits, never with an exponent."""


class Tokens(Result):
    """Tokens by kind. Only ``input`` and ``output`` add up to ``total``; the rest are parts."""

    input: int
    cache_read: int
    cache_write: int
    audio_input: int
    output: int
    reasoning: int
    audio_output: int
    total: int


class Converted(Result):
    """All costs in one currency, at the rates that the user gave for each day."""

    currency: str
    amount: Money
    without_rate: dict[str, Money]
    """Amounts left out because there was no rate for them."""


class Figures(Result):
    """
    What is known of some calls.

    Percentiles are read from a histogram and are within 4.5 % of the exact ones.
    Shares are of one, and ``None`` when there are no calls.
    """

    calls: int
    by_status: dict[str, int]
    success_rate: float | None
    """``success`` of all calls, refused and unfinished ones included."""
    tokens: Tokens
    cost: dict[str, Money]
    """By currency; currencies are never added."""
    converted: Converted | None = None
    unpriced_calls: int
    """Sent and without a cost: a price is missing."""
    average_duration_ms: float | None
    p50_duration_ms: float | None
    p95_duration_ms: float | None
    p99_duration_ms: float | None
    average_time_to_first_token_ms: float | None
    """Of streams."""
    estimated_calls: int
    """Usage counted or estimated here, since the provider did not say."""
    estimated_share: float | None
    unknown_usage_calls: int
    unattributed_calls: int
    """Without a ``user_id``."""
    unattributed_share: float | None
    retries: int

    @classmethod
    def of(cls, totals: Totals, *, converted: Converted | None = None, **more: Any) -> Self:
        """The figures that *totals* hold."""
        calls = totals.calls
        return cls(
            calls=calls,
            by_status=dict(sorted(totals.statuses.items())),
            success_rate=_share(totals.statuses.get("success", 0), calls),
            tokens=Tokens(
                input=totals.input_tokens,
                cache_read=totals.cache_read_tokens,
                cache_write=totals.cache_write_tokens,
                audio_input=totals.audio_input_tokens,
                output=totals.output_tokens,
                reasoning=totals.reasoning_tokens,
                audio_output=totals.audio_output_tokens,
                total=totals.input_tokens + totals.output_tokens,
            ),
            cost={code: from_nano(nano) for code, nano in sorted(totals.cost_nano.items())},
            converted=converted,
            unpriced_calls=totals.unpriced_calls,
            average_duration_ms=_average_ms(totals.duration_us, totals.timed_calls),
            p50_duration_ms=_rounded(totals.percentile_ms(0.5)),
            p95_duration_ms=_rounded(totals.percentile_ms(0.95)),
            p99_duration_ms=_rounded(totals.percentile_ms(0.99)),
            average_time_to_first_token_ms=_average_ms(
                totals.first_token_us, totals.first_token_calls
            ),
            estimated_calls=totals.estimated_calls,
            estimated_share=_share(totals.estimated_calls, calls),
            unknown_usage_calls=totals.unknown_usage_calls,
            unattributed_calls=totals.unattributed_calls,
            unattributed_share=_share(totals.unattributed_calls, calls),
            retries=totals.retries,
            **more,
        )

    def __str__(self) -> str:
        """A few lines for people."""
        if not self.calls:
            return "no calls"
        statuses = ", ".join(f"{shown(name)} {count:,}" for name, count in self.by_status.items())
        tokens = self.tokens
        parts = [
            f"{name} {count:,}"
            for name, count in (
                ("cached", tokens.cache_read),
                ("reasoning", tokens.reasoning),
                ("audio", tokens.audio_input + tokens.audio_output),
            )
            if count
        ]
        of_which = f" (of which {', '.join(parts)})" if parts else ""
        unpriced = f"   (unpriced calls: {self.unpriced_calls:,})" if self.unpriced_calls else ""
        lines = [
            f"calls   {self.calls:,}   success {percent(self.success_rate)}   ({statuses})",
            f"tokens  {tokens.total:,} = {tokens.input:,} in + {tokens.output:,} out{of_which}",
            f"cost    {money(self.cost)}{_in_one(self.converted)}{unpriced}",
            f"time    average {milliseconds(self.average_duration_ms)}"
            f"   p50 {milliseconds(self.p50_duration_ms)}"
            f"   p95 {milliseconds(self.p95_duration_ms)}"
            f"   p99 {milliseconds(self.p99_duration_ms)}"
            f"   first token {milliseconds(self.average_time_to_first_token_ms)}",
            f"shares  unattributed {percent(self.unattributed_share)}"
            f"   estimated {percent(self.estimated_share)}",
        ]
        return "\n".join(lines)


class Group(Figures):
    """The figures of the calls that share some values."""

    key: dict[str, str | None]
    """Field → value, in the order asked for; ``None`` where it was not set."""

    def __str__(self) -> str:
        """Its values, and a few lines."""
        values = ", ".join(f"{shown(field)}={shown(value)}" for field, value in self.key.items())
        return f"{values}\n{super().__str__()}"


class Summary(Figures):
    """The figures of some calls, with the groups that were asked for, most calls first."""

    since: datetime | None
    """Inclusive; ``None``: from the first call on."""
    until: datetime | None
    """Exclusive; ``None``: to the last."""
    tz: str
    scope: str | None
    """The organisation that the answer is confined to; ``None`` for all."""
    by: tuple[str, ...]
    groups: tuple[Group, ...]

    def __str__(self) -> str:
        """A block of lines, and a table of the groups."""
        block = f"{_range(self.since, self.until, self.tz, self.scope)}\n{super().__str__()}"
        return f"{block}\n\n{_groups_table(self.by, self.groups)}" if self.by else block


class Current(Result):
    """This hour of the clock and this day, so far."""

    hour: Summary
    today: Summary

    def __str__(self) -> str:
        """Both summaries."""
        return f"this hour: {self.hour}\n\ntoday: {self.today}"


class Point(Figures):
    """One hour, day or month of a trend."""

    start: datetime
    """In the trend's time zone; inclusive."""
    end: datetime
    """Exclusive."""
    groups: tuple[Group, ...] = ()


class Trend(Result):
    """Figures by hour, day or month. The points add up to ``total``; none is left out."""

    bucket: Literal["hour", "day", "month"]
    tz: str
    scope: str | None
    by: tuple[str, ...]
    points: tuple[Point, ...]
    total: Figures
    groups: tuple[Group, ...]
    """Over the whole range, most calls first."""

    def __str__(self) -> str:
        """A table with a line for each point."""
        shape = {"hour": "%Y-%m-%d %H:%M %z", "day": "%Y-%m-%d", "month": "%Y-%m"}[self.bucket]
        rows = [[point.start.strftime(shape), *_cells(point)] for point in self.points]
        rows.append(["total", *_cells(self.total)])
        text = table([f"{self.bucket} ({self.tz})", *_HEAD], rows, texts=1)
        return f"{text}\n\n{_groups_table(self.by, self.groups)}" if self.by else text


class Top(Result):
    """The values of a field with the highest cost, most calls or most tokens."""

    field: str
    ranked_by: Ranking
    since: datetime | None
    until: datetime | None
    tz: str
    scope: str | None
    rows: tuple[Group, ...]
    values: int
    """How many values there are in all."""
    total: Figures
    """Of all values, so that shares can be told."""

    def __str__(self) -> str:
        """A table."""
        head = f"{_range(self.since, self.until, self.tz, self.scope)}, by {self.ranked_by}"
        more = self.values - len(self.rows)
        tail = f"\n… and {more:,} more" if more else ""
        return f"{head}\n{_groups_table((self.field,), self.rows)}{tail}"


class Profile(Result):
    """What one user, device or session did."""

    field: str
    value: str
    summary: Summary
    """By model."""
    functions: tuple[Group, ...]
    daily: Trend | None
    """``None`` for sessions."""
    first_call_at: datetime | None
    last_call_at: datetime | None

    def __str__(self) -> str:
        """The summary under a heading."""
        seen = (
            f"\nfirst call {self.first_call_at:%Y-%m-%d %H:%M:%S %z}"
            f", last {self.last_call_at:%Y-%m-%d %H:%M:%S %z}"
            if self.first_call_at and self.last_call_at
            else ""
        )
        return f"{self.field} {shown(self.value)}: {self.summary}{seen}"


def _record_to_plain(record: CallRecord) -> dict[str, Any]:
    plain: dict[str, Any] = {
        name: msgspec.to_builtins(getattr(record, name)) for name in record.__struct_fields__
    }
    plain["cost"] = None if record.cost is None else f"{record.cost:f}"
    plain["total_tokens"] = record.total_tokens
    return plain


def _record_from_plain(value: Any) -> CallRecord:
    if isinstance(value, CallRecord):
        return value
    try:
        return msgspec.convert(value, CallRecord, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


Call: TypeAlias = Annotated[
    CallRecord,
    PlainValidator(_record_from_plain),
    PlainSerializer(_record_to_plain, when_used="json"),
    WithJsonSchema({"type": "object", "title": "CallRecord"}),
]
"""A call record; in JSON with every field, unset ones as null."""

Correction: TypeAlias = Annotated[
    CostChange,
    PlainValidator(lambda value: msgspec.convert(value, CostChange, from_attributes=True)),
    PlainSerializer(msgspec.to_builtins, when_used="json"),
    WithJsonSchema({"type": "object", "title": "CostChange"}),
]


class CallPage(Result):
    """One page of calls."""

    calls: tuple[Call, ...]
    page: int
    """From 1."""
    page_size: int
    total: int
    """Calls on all pages."""
    pages: int

    def __str__(self) -> str:
        """A table with a line for each call."""
        text = _calls_table(self.calls)
        return f"{text}\npage {self.page} of {self.pages}, {self.total:,} calls"


class CallSlice(Result):
    """Some calls in an order, and what leads to those behind and before them."""

    calls: tuple[Call, ...]
    order: str
    descending: bool
    next: str | None
    """The cursor of the calls behind these; ``None`` behind the last."""
    previous: str | None
    """The cursor of the calls before these; ``None`` before the first."""

    def __str__(self) -> str:
        """A table with a line for each call."""
        more = f"\nmore behind {self.next}" if self.next else ""
        return f"{_calls_table(self.calls)}{more}"


class CallDetail(Result):
    """One call with everything that is known of it."""

    call: Call
    corrections: tuple[Correction, ...]
    """Costs that it had before, oldest first."""

    def __str__(self) -> str:
        """A line for each field that is set."""
        plain = _record_to_plain(self.call)
        lines = [
            f"{name:<24}{shown(value if isinstance(value, str) else str(value))}"
            for name, value in plain.items()
            if value not in (None, {}, "")
        ]
        lines += [
            f"{'corrected':<24}{change.corrected_at:%Y-%m-%d %H:%M} from "
            f"{change.old_cost} {change.old_currency} to {change.cost} {change.currency}"
            for change in self.corrections
        ]
        return "\n".join(lines)


def _calls_table(calls: Sequence[CallRecord]) -> str:
    rows = [
        [
            call.started_at.isoformat(sep=" ", timespec="seconds"),
            call.status,
            shown(call.request_model),
            shown(call.user_id),
            shown(call.function),
            f"{call.total_tokens:,}" if call.total_tokens is not None else "—",
            "—" if call.cost is None else money({call.currency or "": call.cost}),
            milliseconds(call.duration_ms),
            shown(call.id),
        ]
        for call in calls
    ]
    head = ["started", "status", "model", "user", "function", "tokens", "cost", "time", "id"]
    return table(head, rows, texts=5)


_HEAD = ("calls", "success", "in", "out", "p95", "cost")


def _cells(figures: Figures) -> list[str]:
    costs = [money(figures.cost) + _in_one(figures.converted)] if figures.cost else []
    if figures.unpriced_calls:
        costs.append(f"{figures.unpriced_calls:,} unpriced")
    return [
        f"{figures.calls:,}",
        percent(figures.success_rate),
        f"{figures.tokens.input:,}",
        f"{figures.tokens.output:,}",
        milliseconds(figures.p95_duration_ms),
        " + ".join(costs) or "—",
    ]


def _groups_table(by: Sequence[str], groups: Sequence[Group]) -> str:
    rows = [
        [*(shown(value) for value in group.key.values()), *_cells(group)]
        for group in groups[:_ROWS_SHOWN]
    ]
    more = len(groups) - _ROWS_SHOWN
    tail = f"\n… and {more:,} more" if more > 0 else ""
    return table([*map(shown, by), *_HEAD], rows, texts=len(by)) + tail


def _range(since: datetime | None, until: datetime | None, tz: str, scope: str | None) -> str:
    if since is None and until is None:
        text = "all time"
    else:
        start = "the first call" if since is None else f"{since:%Y-%m-%d %H:%M}"
        end = "now" if until is None else f"{until:%Y-%m-%d %H:%M}"
        text = f"{start} to {end} ({tz})"
    return text if scope is None else f"{text}, organisation {shown(scope)}"


def _in_one(converted: Converted | None) -> str:
    if converted is None:
        return ""
    left_out = money(converted.without_rate)
    missing = f", no rate for {left_out}" if converted.without_rate else ""
    return f" = {converted.amount:f} {shown(converted.currency)}{missing}"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _average_ms(sum_us: int, count: int) -> float | None:
    return round(sum_us / count / 1000, 3) if count else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
