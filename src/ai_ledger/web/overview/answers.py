"""What the dashboard says, as values: of the page and of ``GET /dashboard``."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from ai_ledger.stats.results import Figures, Money, Result
from ai_ledger.web.budgets.standing import Standing


class Today(Result):
    """The day so far, beside yesterday up to the same time of day, and yesterday whole."""

    day: date
    so_far: Figures
    failed: int = Field(description="Calls that failed, timed out or met an open circuit.")
    yesterday_by_this_time: Figures = Field(
        description="Yesterday up to what the clock shows now; what today is compared with."
    )
    yesterday_failed_by_this_time: int
    yesterday: Figures = Field(description="The whole of yesterday.")


class Point(Result):
    """One day, or hour, of the trend."""

    start: datetime
    end: datetime
    calls: int
    failed: int
    success_rate: float | None
    cost: dict[str, Money]


class ModelCost(Result):
    """What one model cost at each point of the trend."""

    model: str | None = Field(description="Null: not set; also null for the others together.")
    others: bool = Field(description="Whether these are all further models, added up.")
    cost: tuple[Money, ...] = Field(description="One amount for each point.")
    total: Money


class CostTrend(Result):
    """Costs in one currency by model: the most expensive ones, and the others together."""

    currency: str
    total: Money
    models: tuple[ModelCost, ...]


class Slice(Result):
    """The part that one value has in a whole."""

    value: str | None = Field(description="Null: not set; also null for the others together.")
    others: bool = Field(description="Whether these are all further values, added up.")
    number: Money = Field(description="Calls, or an amount of the currency.")
    share: float = Field(description="Of one.")


class Shares(Result):
    """Who has which part of the calls, and of the costs in each currency."""

    field: Literal["function", "request_model"]
    values: int = Field(description="How many values there are.")
    calls: tuple[Slice, ...]
    cost: dict[str, tuple[Slice, ...]]


class Service(Result):
    """How a function or a provider did in the period."""

    value: str | None = Field(description="Its name; null: not set.")
    calls: int
    failed: int
    success_rate: float | None
    p95_duration_ms: float | None
    last_call_at: datetime | None
    last_call_id: str | None
    last_status: str | None
    breaker: Literal["closed", "open", "half_open"] | None = Field(
        description="Of its circuit, if this process has a breaker for it: programs have "
        "theirs within themselves."
    )


class Services(Result):
    """The functions, or the providers: those with failures first, then by calls."""

    field: Literal["function", "provider"]
    values: int = Field(description="How many there are; the list may be shorter.")
    services: tuple[Service, ...]


class OpenAlert(Result):
    """An alert that needs a person."""

    id: int
    rule: str
    kind: str
    severity: Literal["info", "warning", "critical"]
    state: Literal["open", "acknowledged"]
    org_id: str | None
    text: str
    occurrences: int
    raised_at: datetime
    last_seen_at: datetime
    version: int


class Alerts(Result):
    """Alerts that need a person, newest first."""

    count: int = Field(description="Open and acknowledged ones; 100 means: at least so many.")
    open: int = Field(description="Those of them that nobody has acknowledged.")
    alerts: tuple[OpenAlert, ...]


class SinkState(Result):
    """How one sink of the console's own process is."""

    name: str
    pending: int
    delivered: int
    last_error: str | None
    last_success_at: datetime | None


class Waiting(Result):
    """A segment of the journal with something that is not delivered yet."""

    name: str
    bytes: int
    age_seconds: float = Field(description="Since it was last written.")
    orphaned: bool = Field(
        description="Its writer is gone; the next process that opens the ledger delivers it."
    )


class Delivery(Result):
    """What waits between the programs that record and the store."""

    mode: Literal["journal", "memory"]
    folder: str | None = Field(description="Of the journal, which all processes share.")
    pending: int = Field(description="Records of the console's process that wait.")
    oldest_seconds: float | None = Field(description="Since the oldest of them started.")
    dropped: dict[str, int] = Field(description="Given up by the console's process, by reason.")
    quarantined: int = Field(description="Set aside in the folder, by any process.")
    incidents: dict[str, int]
    sinks: tuple[SinkState, ...]
    segments: int = Field(description="Of all processes of this machine, with something waiting.")
    waiting_bytes: int
    oldest_segment_seconds: float | None
    orphaned: int = Field(description="Segments whose writer is gone.")
    oldest: tuple[Waiting, ...] = Field(description="The oldest of the segments.")
    well: bool = Field(description="Nothing is late, lost, set aside or in error.")


class Dashboard(Result):
    """What today cost, what failed, who drove it, and what needs a person."""

    as_of: datetime
    tz: str
    scope: str | None = Field(description="The organisation that all of it is confined to.")
    empty: bool = Field(description="Whether not one call was ever recorded.")
    first: date
    last: date
    bucket: Literal["hour", "day"]
    today: Today
    total: Figures = Field(description="Of the period.")
    failed: int
    trend: tuple[Point, ...]
    cost_by_model: tuple[CostTrend, ...] = Field(description="One for each currency.")
    by_function: Shares
    by_model: Shares
    budgets: tuple[Standing, ...]
    alerts: Alerts
    functions: Services
    providers: Services
    delivery: Delivery | None = Field(
        description="Null for readers who are confined to an organisation."
    )
