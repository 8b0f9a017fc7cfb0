"""`Alert`: what needs a person, and what is told of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from ai_ledger.alerts.rule import Severity
from ai_ledger.records import CallRecord

State: TypeAlias = Literal["open", "acknowledged", "ignored", "resolved"]
STATES: Final[tuple[State, ...]] = get_args(State)
UNRESOLVED: Final[tuple[State, ...]] = ("open", "acknowledged", "ignored")

MarkState: TypeAlias = Literal["open", "acknowledged", "ignored"]
MARK_STATES: Final[tuple[MarkState, ...]] = get_args(MarkState)


class CallsBehind(msgspec.Struct, frozen=True, kw_only=True):
    """
    The calls that an alert is based on.

    Args:
        ids: The newest of them, at most 20.
        since: Inclusive; ``None`` where it is not about calls.
        until: Exclusive.
        where: The filter that finds all of them, as JSON: field → values.
    """

    ids: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    where: dict[str, Any] = {}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that needs a person.

    Args:
        id: Counts up.
        rule_id: Of the rule that raised it.
        rule: The rule's name at that time.
        kind: The rule's kind.
        severity: ``info``, ``warning`` or ``critical``.
        org_id: Whose it is; ``None``: only those who may see everything see it.
        field: The field of *whose*; ``None`` for all together.
        whose: The model, function, provider, … it is about; ``None``: not set, or all.
        subject: What about it: a currency, a budget's name, a reason; else empty.
        period: When, as the rule counts.
        state: ``open``, ``acknowledged``, ``ignored`` or ``resolved``.
        resolved_itself: Whether the condition ended, and nobody resolved it.
        value: What was found when it was raised.
        last_value: What was found last.
        threshold: From where on it is raised.
        text: A line for people.
        calls: What it is based on.
        occurrences: How often the condition came about in this period.
        raised_at: Aware, UTC.
        last_seen_at: When the condition was last found to hold.
        send_after: When channels may be told: later than *raised_at* in quiet hours.
        changed_at: When its state changed last.
        changed_by: Who changed it; ``None``: itself.
        note: What that person said.
        version: Counts changes of state; an edit names the one that it saw.
    """

    id: int
    rule_id: int
    rule: str
    kind: str
    severity: Severity
    org_id: str | None
    field: str | None
    whose: str | None
    subject: str
    period: str
    state: State
    resolved_itself: bool
    value: float
    last_value: float
    threshold: float
    text: str
    calls: CallsBehind
    occurrences: int
    raised_at: datetime
    last_seen_at: datetime
    send_after: datetime
    changed_at: datetime
    changed_by: str | None
    note: str | None
    version: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One value, or all calls together, for which a rule's condition holds now."""

    whose: str | None
    value: float
    text: str
    subject: str = ""
    field: str | None = None
    org_id: str | None = None
    period: str | None = None
    """In place of the one that the rule counts by."""
    calls: CallsBehind = CallsBehind()


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """
    Whether a channel has been told of an alert.

    Args:
        channel: Its name.
        state: ``waiting``, ``sent``, or ``failed``: given up.
        attempts: How often it was tried.
        next_at: When it may be tried again.
        sent_at: When it went through.
        last_error: Why it did not, without secrets.
    """

    channel: str
    state: Literal["waiting", "sent", "failed"]
    attempts: int
    next_at: datetime
    sent_at: datetime | None
    last_error: str | None


class FailedCall(msgspec.Struct, frozen=True, kw_only=True):
    """
    A call that failed, timed out or met an open circuit, and what people think of it.

    Args:
        call: Without its prompt and answer.
        state: ``open`` until somebody has marked it.
        marked_at: When.
        marked_by: Who.
        note: What they said.
    """

    call: CallRecord
    state: MarkState
    marked_at: datetime | None = None
    marked_by: str | None = None
    note: str | None = None
