"""`Rule`: what is looked at, and from where on somebody has to know."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import msgspec

from ai_ledger.alerts.quiet import QuietHours
from ai_ledger.bounds import MAX_LABEL_CHARS, label
from ai_ledger.errors import InvalidValue
from ai_ledger.query import (
    GROUP_FIELDS,
    NUMBER_FIELDS,
    AnyOf,
    Between,
    Condition,
    Contains,
    Query,
    field_name,
)
from ai_ledger.records import ALIASES
from ai_ledger.zones import time_zone

Kind: TypeAlias = Literal[
    "budget_threshold",
    "failure_rate",
    "timeouts",
    "breaker_open",
    "latency",
    "cost_spike",
    "unpriced",
    "undelivered",
    "silence",
]
Severity: TypeAlias = Literal["info", "warning", "critical"]
Per: TypeAlias = Literal["hour", "day", "week", "month"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
PERIODS: Final[tuple[Per, ...]] = get_args(Per)

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
MAX_WINDOW_S: Final = 31 * DAY_S
MAX_PAST_DAYS: Final = 92
# Written out, 1e999999999 is a gigabyte of zeros; what calls count has 16 digits at most.
_MAX_DIGITS: Final = 18
# So many intervals are one question to the store.
MAX_INTERVALS: Final = 1_000


class _Defaults(msgspec.Struct, frozen=True):
    threshold: float
    window_s: int
    min_calls: int
    unit: Literal["share", "times", "calls"]


DEFAULTS: Final[Mapping[str, _Defaults]] = {
    "budget_threshold": _Defaults(0.8, HOUR_S, 0, "share"),
    "failure_rate": _Defaults(0.2, 900, 20, "share"),
    "timeouts": _Defaults(5, 900, 0, "calls"),
    "breaker_open": _Defaults(1, 900, 0, "calls"),
    "latency": _Defaults(2.0, HOUR_S, 20, "times"),
    "cost_spike": _Defaults(3.0, DAY_S, 10, "times"),
    "unpriced": _Defaults(1, DAY_S, 0, "calls"),
    "undelivered": _Defaults(1, 300, 0, "calls"),
    "silence": _Defaults(1.0, DAY_S, 0, "share"),
}
_DEFAULT_EACH: Final = {
    "failure_rate": "request_model",
    "timeouts": "request_model",
    "breaker_open": "provider",
    "latency": "request_model",
    "unpriced": "request_model",
    "silence": "function",
}
WITHOUT_CALLS: Final = ("budget_threshold", "undelivered")
"""Kinds that look at something else than calls, so that they have no filter."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """
    One rule. `checked` gives what is left out the values that fit its kind.

    Args:
        name: How people call it; unique within its organisation.
        kind: What is looked at; one of `KINDS`.
        where: Which calls, as in `Query.build`.
        each: A field or ``tags.<key>``: looked at for each of its values. ``""``: all
            together.
        threshold: From which value on: a share of one (``budget_threshold``,
            ``failure_rate``, ``silence``), so many times as much as before
            (``latency``, ``cost_spike``), or a number of calls.
        window_s: How far back is looked, in seconds. For ``undelivered``, how long
            records may wait.
        min_calls: With fewer calls in the window nothing is said.
        past_days: With how many days before it the window is compared.
        at_least: ``cost_spike``: less than this in the window, in its currency, is
            nothing to speak of.
        budget: ``budget_threshold``: only the budget of this name.
        per: At most one alert in this time for each value of *each*.
        severity: ``info``, ``warning`` or ``critical``.
        quiet: Hours in which nobody is told, ``22:00-08:00``; it is made up for after.
        tz: The time zone of *quiet* and *per*.
        enabled: Whether it is looked at.
        org_id: The organisation that it belongs to and is confined to; ``None``: all.
        id: In the store; ``None`` for one that is not there yet.
        version: Counts edits.
        updated_at: When it was last edited.
        updated_by: By whom.
    """

    name: str
    kind: Kind
    where: dict[str, Any] = {}
    each: str | None = None
    threshold: float | None = None
    window_s: int | None = None
    min_calls: int | None = None
    past_days: int = 7
    at_least: Decimal | None = None
    budget: str | None = None
    per: Per = "day"
    severity: Severity = "warning"
    quiet: str | None = None
    tz: str = "UTC"
    enabled: bool = True
    org_id: str | None = None
    id: int | None = None
    version: int = 0
    updated_at: datetime | None = None
    updated_by: str | None = None

    def checked(self) -> Rule:
        """
        This rule with everything filled in, in the form that is stored.

        Raises:
            InvalidValue: Something in it cannot be; names the field.
        """
        _one_of("kind", self.kind, KINDS)
        _one_of("severity", self.severity, SEVERITIES)
        _one_of("per", self.per, PERIODS)
        if type(self.enabled) is not bool:
            raise InvalidValue("enabled", self.enabled, "true or false")
        defaults = DEFAULTS[self.kind]
        each = _DEFAULT_EACH.get(self.kind, "") if self.each is None else self.each
        rule = msgspec.structs.replace(
            self,
            name=_name("name", self.name),
            where=_plain_where(self.where),
            each=field_name(_name("each", each), GROUP_FIELDS) if each else "",
            threshold=_threshold(self.kind, self.threshold),
            window_s=_whole("window_s", self.window_s, defaults.window_s, 60, MAX_WINDOW_S),
            min_calls=_whole("min_calls", self.min_calls, defaults.min_calls, 0, 10**9),
            past_days=_whole("past_days", self.past_days, 7, 1, MAX_PAST_DAYS),
            at_least=_amount(self.at_least),
            budget=None if self.budget is None else _name("budget", self.budget),
            org_id=None if self.org_id is None else label(_text("org_id", self.org_id)),
        )
        _check_fit(rule)
        time_zone(_text("tz", rule.tz))
        if rule.quiet is not None:
            QuietHours(_text("quiet", rule.quiet), rule.tz)
        return rule

    def terms(self) -> dict[str, Any]:
        """What is kept as JSON: everything but what has a column of its own."""
        left_out = {"name", "kind", "enabled", "org_id", "id", "version", "updated_at"}
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {
            name: value
            for name, value in plain.items()
            if name not in left_out and name != "updated_by" and value is not None
        }

    def says_the_same(self, other: Rule) -> bool:
        """Whether both mean the same, whoever edited them last."""
        return (self.terms(), self.kind, self.enabled) == (
            other.terms(),
            other.kind,
            other.enabled,
        )

    def conditions(self) -> dict[str, Condition]:
        """``where`` as a query takes it."""
        return {field: _condition(field, value) for field, value in self.where.items()}

    def send_after(self, now: datetime) -> datetime:
        """The first moment from *now* on that is not within the quiet hours."""
        return now if self.quiet is None else QuietHours(self.quiet, self.tz).over(now)

    def period(self, now: datetime) -> str:
        """The period that *now* lies in; texts that sort by time."""
        clock = now.astimezone(time_zone(self.tz))
        if self.per == "week":
            year, week, _ = clock.isocalendar()
            return f"{year:04d}-W{week:02d}"
        shape = {"hour": "%Y-%m-%dT%H%z", "day": "%Y-%m-%d", "month": "%Y-%m"}[self.per]
        return clock.strftime(shape)

    @property
    def per_s(self) -> int:
        """How many seconds *per* is, a month as 28 days."""
        return {"hour": 1, "day": 24, "week": 168, "month": 672}[self.per] * HOUR_S


def default_rules() -> tuple[Rule, ...]:
    """The rules that a fresh ledger should have."""
    return (
        Rule(name="budget 80 %", kind="budget_threshold", threshold=0.8),
        Rule(name="budget used up", kind="budget_threshold", threshold=1.0, severity="critical"),
        Rule(name="failures", kind="failure_rate"),
        Rule(name="time-outs", kind="timeouts"),
        Rule(name="circuit open", kind="breaker_open"),
        Rule(name="slow answers", kind="latency"),
        Rule(name="cost of a day", kind="cost_spike"),
        Rule(name="no price", kind="unpriced", severity="info"),
        Rule(name="records wait", kind="undelivered", severity="critical"),
        Rule(name="function silent", kind="silence"),
    )


def owned(rule: Rule, org_id: str) -> Rule:
    """
    *rule* as one of this organisation's.

    Raises:
        InvalidValue: It is another one's.
    """
    if rule.org_id not in (None, org_id):
        raise InvalidValue("org_id", rule.org_id, f"{org_id!r}, whose rules these are")
    return msgspec.structs.replace(rule, org_id=org_id)


def plain_of(condition: Condition) -> Any:
    """*condition* as JSON has it."""
    if isinstance(condition, AnyOf):
        return [str(each) if isinstance(each, Decimal) else each for each in condition.values]
    if isinstance(condition, Contains):
        return {"contains": condition.text}
    bounds = {"at_least": condition.at_least, "below": condition.below}
    return {
        name: str(value) if isinstance(value, Decimal) else value
        for name, value in bounds.items()
        if value is not None
    }


def _check_fit(rule: Rule) -> None:
    """What one kind can have and another cannot."""
    assert rule.window_s is not None
    if rule.kind in WITHOUT_CALLS and (rule.where or rule.each):
        raise InvalidValue("where", rule.where or rule.each, f"nothing for {rule.kind}")
    if rule.kind == "undelivered" and rule.org_id is not None:
        raise InvalidValue("org_id", rule.org_id, "none: records of all wait together")
    if rule.budget is not None and rule.kind != "budget_threshold":
        raise InvalidValue("budget", rule.budget, "nothing, but for budget_threshold")
    if rule.at_least is not None and rule.kind != "cost_spike":
        raise InvalidValue("at_least", rule.at_least, "nothing, but for cost_spike")
    if rule.kind == "cost_spike" and rule.window_s > DAY_S:
        raise InvalidValue("window_s", rule.window_s, "at most a day, for cost_spike")
    intervals = rule.past_days * DAY_S // rule.window_s
    if rule.kind == "silence" and not 3 <= intervals <= MAX_INTERVALS:
        raise InvalidValue(
            "window_s", rule.window_s, f"3 to {MAX_INTERVALS:,} times in past_days, for silence"
        )


def _plain_where(where: object) -> dict[str, Any]:
    if not isinstance(where, Mapping):
        raise InvalidValue("where", where, "fields with values")
    given = {
        field: _condition(field, value) for field, value in cast("Mapping[str, Any]", where).items()
    }
    # Built, so that what cannot be asked is refused now and not at each look.
    return {
        field: plain_of(condition)
        for field, condition in Query.build(scope=None, where=given).where
    }


def _condition(field: str, value: Any) -> Condition:
    if isinstance(value, (AnyOf, Between, Contains)):
        return value
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        if set(given) == {"contains"}:
            return Contains(_text(field, given["contains"]))
        if not given or set(given) - {"at_least", "below"}:
            raise InvalidValue(field, given, "contains, or at_least and below")
        return Between(_number(field, given.get("at_least")), _number(field, given.get("below")))
    values: list[Any] = [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        values = list(cast("Iterable[Any]", value))
    if ALIASES.get(field, field) in NUMBER_FIELDS:
        return AnyOf(tuple(None if each is None else _number(field, each) for each in values))
    return AnyOf(tuple(values))


def _number(field: str, value: Any) -> Any:
    if value is None:
        return None
    try:
        number = Decimal("NaN") if isinstance(value, bool) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        number = Decimal("NaN")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise InvalidValue(field, value, "a number")
    if isinstance(value, float):
        # The fraction that it is inside has more digits than anybody has typed.
        exponent = 0
    if number.adjusted() >= _MAX_DIGITS or exponent < -_MAX_DIGITS:
        expected = f"a number with at most {_MAX_DIGITS} digits on either side of the point"
        shown = str(value) if isinstance(value, Decimal) else value
        raise InvalidValue(field, shown, expected)
    return value if isinstance(value, (int, float)) else number


def _one_of(field: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidValue(field, value, f"one of {', '.join(known)}")


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValue(field, value, "a text")
    return value


def _name(field: str, value: object) -> str:
    text = _text(field, value).strip()
    if not text or len(text) > MAX_LABEL_CHARS or not text.isprintable():
        raise InvalidValue(field, value, f"a printable text of at most {MAX_LABEL_CHARS} letters")
    return text


def _whole(field: str, value: object, default: int, least: int, most: int) -> int:
    if value is None:
        return default
    if type(value) is not int or not least <= value <= most:
        raise InvalidValue(field, value, f"a whole number from {least:,} to {most:,}")
    return value


def _amount(value: object) -> Decimal | None:
    if value is None:
        return None
    number = _number("at_least", value)
    if number is None or not Decimal(0) <= Decimal(number) <= 10**9:
        raise InvalidValue("at_least", value, "an amount of zero or more")
    return Decimal(str(number))


def _threshold(kind: Kind, value: object) -> float:
    defaults = DEFAULTS[kind]
    if value is None:
        return defaults.threshold
    expected = {
        "share": "a share above 0 and at most 1",
        "times": "a number above 1 and at most 1,000",
        "calls": "a whole number of calls from 1 on",
    }[defaults.unit]
    if kind == "budget_threshold":
        expected = "a share above 0 and at most 10"
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise InvalidValue("threshold", value, expected)
    try:
        number = float(value)
    except OverflowError:
        raise InvalidValue("threshold", value, "a smaller number") from None
    fits = {
        "share": 0 < number <= (10 if kind == "budget_threshold" else 1),
        "times": 1 < number <= 1_000,
        "calls": number >= 1 and number <= 10**9 and number == math.floor(number),
    }[defaults.unit]
    if not fits:
        raise InvalidValue("threshold", value, expected)
    return number
