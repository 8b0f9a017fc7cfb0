"""Alerts, rules and failed calls, as pages and the API tell them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import Field

from ai_ledger.alerts.alert import Delivery, FailedCall, MarkState, State
from ai_ledger.alerts.rule import DEFAULTS, Kind, Per, Severity
from ai_ledger.stats.results import Money, Result

if TYPE_CHECKING:
    from ai_ledger.alerts.alert import Alert
    from ai_ledger.alerts.rule import Rule
    from ai_ledger.web.house import Desk

Unit = Literal["share", "times", "calls"]


class BehindIt(Result):
    """The calls that an alert is based on."""

    ids: tuple[str, ...] = Field(description="The newest of them, at most 20.")
    since: datetime | None
    until: datetime | None = Field(description="Exclusive.")
    where: dict[str, Any] = Field(description="The filter that finds all of them.")


class AlertRow(Result):
    """Something that needs a person."""

    id: int
    rule_id: int
    rule: str = Field(description="The name of the rule when it was raised.")
    kind: str
    severity: Severity
    org_id: str | None = Field(description="Whose it is; null: of those who may see everything.")
    field: str | None
    whose: str | None = Field(description="The value of *field* that it is about.")
    subject: str
    period: str
    state: State
    resolved_itself: bool
    value: float = Field(description="When it was raised.")
    last_value: float
    threshold: float
    unit: Unit = Field(description="Of value and threshold: a share of one, so many times, calls.")
    text: str
    calls: BehindIt
    occurrences: int
    raised_at: datetime
    last_seen_at: datetime
    changed_at: datetime
    changed_by: str | None
    note: str | None
    version: int


class DeliveryRow(Result):
    """Whether a channel was told of an alert."""

    channel: str
    state: Literal["waiting", "sent", "failed"]
    attempts: int
    next_at: datetime
    sent_at: datetime | None
    last_error: str | None = Field(description="Without secrets.")


class AlertDetail(AlertRow):
    """An alert, and who was told."""

    deliveries: list[DeliveryRow]


class RuleRow(Result):
    """What is looked at, and from where on somebody has to know."""

    id: int
    name: str
    kind: Kind
    where: dict[str, Any]
    each: str
    threshold: float
    unit: Unit
    window_s: int
    min_calls: int
    past_days: int
    at_least: Money | None
    budget: str | None
    per: Per
    severity: Severity
    quiet: str | None
    tz: str
    enabled: bool
    org_id: str | None
    version: int
    updated_at: datetime | None
    updated_by: str | None


class FailureRow(Result):
    """A call that failed, and what people think of it; without prompt and answer."""

    id: str
    started_at: datetime
    status: str
    error_type: str | None
    error_message: str | None
    http_status: int | None
    provider: str | None
    model: str | None
    function: str | None
    org_id: str | None
    user_id: str | None
    state: MarkState
    marked_at: datetime | None
    marked_by: str | None
    note: str | None


def alert_row(alert: Alert) -> AlertRow:
    """*alert* to be told."""
    return AlertRow(**_fields(alert))


def alert_detail(desk: Desk, alert_id: int) -> AlertDetail:
    """
    One alert.

    Raises:
        NotFound: There is none of this number, for this reader.
    """
    alert = desk.alerts.get(alert_id)
    told = [_delivery(each) for each in desk.alerts.deliveries(alert_id)]
    return AlertDetail(**_fields(alert), deliveries=told)


def rule_row(rule: Rule) -> RuleRow:
    """*rule* to be told."""
    values = msgspec.structs.asdict(rule.checked())
    return RuleRow(**values, unit=DEFAULTS[rule.kind].unit)


def failure_row(desk: Desk, failure: FailedCall) -> FailureRow:
    """A failed call to be told."""
    call = desk.shown(failure.call)
    return FailureRow(
        id=call.id,
        started_at=call.started_at,
        status=call.status,
        error_type=call.error_type,
        error_message=call.error_message,
        http_status=call.http_status,
        provider=call.provider,
        model=call.request_model,
        function=call.function,
        org_id=call.org_id,
        user_id=call.user_id,
        state=failure.state,
        marked_at=failure.marked_at,
        marked_by=failure.marked_by,
        note=failure.note,
    )


def _fields(alert: Alert) -> dict[str, Any]:
    values = msgspec.structs.asdict(alert)
    del values["send_after"]
    calls = alert.calls
    values["calls"] = BehindIt(
        ids=calls.ids, since=calls.since, until=calls.until, where=calls.where
    )
    return {**values, "unit": DEFAULTS[alert.kind].unit if alert.kind in DEFAULTS else "calls"}


def _delivery(told: Delivery) -> DeliveryRow:
    return DeliveryRow(**msgspec.structs.asdict(told))
