"""`Sentences`: what alerts found, in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ai_ledger.alerts.rule import DEFAULTS
from ai_ledger.web.language import Labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from ai_ledger.alerts.rule import Rule
    from ai_ledger.web.alerts.shown import AlertRow
    from ai_ledger.web.house import Desk
    from ai_ledger.web.language import Language


# The stored line, which is English, has numbers that stand nowhere else. They end it, so
# that no name before them is taken for one of them.
_COUNTED: Final = re.compile(
    r"([\d,]+) of ([\d,]+) calls (?:failed \([\d.]+%\)|timed out|met an open circuit) "
    r"within [\w. ]+(?:; at most \d+% should)?$"
)
_SLOW: Final = re.compile(
    r"took up to ([\d,]+) ms, [\d.]+ times as long as in the \d+ days before \(([\d,]+) ms\)$"
)
_SPENT: Final = re.compile(r"([\d.]+) ([A-Z]{3}) within [\w., ]*\(([\d.]+) [A-Z]{3}\)$")
_USED: Final = re.compile(r" used, ([\d,.]+) (\w+) of ([\d,.]+) \w+ in \S+(?:, which ends .*)?$")


class Sentences:
    """
    Says what an alert found: ``sentences(alert)``.

    Args:
        language: Of the reader.
        rules: Those that raised them, by number, as far as they are still there.
    """

    def __init__(self, language: Language, rules: Mapping[int, Rule]) -> None:
        self._language: Final = language
        self._labels: Final = Labels(language)
        self._rules: Final = rules
        self._: Final = language.gettext
        self._kinds: Final[Mapping[str, Callable[[AlertRow], str | None]]] = {
            "budget_threshold": self._budget,
            "failure_rate": self._failures,
            "timeouts": self._timeouts,
            "breaker_open": self._breaker,
            "latency": self._latency,
            "cost_spike": self._cost,
            "unpriced": self._unpriced,
            "undelivered": self._undelivered,
            "silence": self._silence,
        }

    def __call__(self, alert: AlertRow) -> str:
        """The sentence; the stored line, where it is of a kind that nobody knows here."""
        say = self._kinds.get(alert.kind)
        text = None if say is None else say(alert)
        if text is None:
            return alert.text
        if alert.kind == "budget_threshold" or not alert.field:
            return text
        values = {"field": self._labels.field(alert.field), "value": alert.whose, "text": text}
        if alert.whose is None:
            return self._("%(field)s not set: %(text)s") % values
        return self._("%(field)s %(value)s: %(text)s") % values

    def measure(self, alert: AlertRow, value: float) -> str:
        """A value of an alert, or its threshold, as it is written."""
        if alert.kind == "silence" and value != alert.threshold:
            return self._span(alert, value) or self._language.number(value)
        unit = DEFAULTS[alert.kind].unit if alert.kind in DEFAULTS else "calls"
        if unit == "share":
            return self._language.percent(value)
        if unit == "times":
            return f"{self._language.number(value, 2)}\u00a0\u00d7"
        return self._language.number(value, 2)

    # One for each kind

    def _budget(self, alert: AlertRow) -> str:
        values: dict[str, Any] = {
            "name": self._labels.budget(alert.subject),
            "share": self._language.percent(alert.last_value),
            "period": self._labels.period(alert.period),
        }
        if alert.field and alert.whose is not None:
            values["name"] += f" · {self._labels.field(alert.field)} {alert.whose}"
        found = _USED.search(alert.text)
        if found is None:
            return self._("Budget “%(name)s”: %(share)s used (%(period)s)") % values
        used, unit, limit = found.groups()
        values["used"] = self._labels.amount(used, unit)
        values["limit"] = self._labels.amount(limit, unit)
        values["period"] = self._labels.period(alert.period.partition(" of ")[0])
        return (
            self._("Budget “%(name)s”: %(share)s used, %(used)s of %(limit)s (%(period)s)") % values
        )

    def _failures(self, alert: AlertRow) -> str | None:
        values = self._counted(alert)
        if values is None:
            return None
        values["share"] = self._language.percent(alert.last_value)
        if "all" in values:
            return self._("%(num)s of %(all)s calls failed (%(share)s) within %(span)s") % values
        return self._("%(share)s of the calls failed within %(span)s") % values

    def _timeouts(self, alert: AlertRow) -> str | None:
        values = self._counted(alert)
        if values is None:
            return None
        if "all" in values:
            return self._("%(num)s of %(all)s calls timed out within %(span)s") % values
        return self._("calls that timed out within %(span)s: %(num)s") % values

    def _breaker(self, alert: AlertRow) -> str | None:
        values = self._counted(alert)
        if values is None or _window(alert) is None:
            if alert.subject:
                return self._("the circuit of %(name)s is open") % {"name": alert.subject}
            return self._("the circuit is open")
        return self._("calls that met an open circuit within %(span)s: %(num)s") % values

    def _latency(self, alert: AlertRow) -> str:
        rule = self._rules.get(alert.rule_id)
        values = {
            "times": self._language.number(alert.last_value, 1),
            "days": 7 if rule is None else rule.past_days,
        }
        found = _SLOW.search(alert.text)
        if found is None:
            return (
                self._("P95 latency is %(times)s times that of the %(days)s days before") % values
            )
        now, before = (self._language.duration(_number(each)) for each in found.groups())
        text = self._(
            "P95 latency is %(now)s, %(times)s times that of the %(days)s days before (%(before)s)"
        )
        return text % {**values, "now": now, "before": before}

    def _cost(self, alert: AlertRow) -> str | None:
        span = self._span(alert)
        if span is None:
            return None
        values: dict[str, Any] = {
            "span": span,
            "times": self._language.number(alert.last_value, 1),
            "currency": alert.subject,
        }
        found = _SPENT.search(alert.text)
        if found is None:
            return (
                self._("cost in %(currency)s within %(span)s is %(times)s times the usual") % values
            )
        now, currency, usual = found.groups()
        values["now"] = self._labels.amount(now, currency)
        values["usual"] = self._labels.amount(usual, currency)
        return (
            self._("cost within %(span)s is %(now)s, %(times)s times the usual (%(usual)s)")
            % values
        )

    def _unpriced(self, alert: AlertRow) -> str | None:
        values = self._counted(alert)
        if values is None:
            return None
        return self._("calls without a price within %(span)s: %(num)s") % values

    def _undelivered(self, alert: AlertRow) -> str | None:
        text = {
            "waiting": self._("records that wait: %(num)s"),
            "dropped": self._("calls, or parts of them, that were given up: %(num)s"),
            "quarantined": self._("records set aside that no sink takes: %(num)s"),
        }.get(alert.subject)
        if text is None:
            return None
        return text % {"num": self._language.number(alert.last_value)}

    def _silence(self, alert: AlertRow) -> str | None:
        span = self._span(alert, alert.last_value)
        return None if span is None else self._("no calls within %(span)s") % {"span": span}

    # What they share

    def _counted(self, alert: AlertRow) -> dict[str, Any] | None:
        """How many calls, of how many, within which time."""
        span = self._span(alert)
        if span is None:
            return None
        values = {"span": span, "num": self._language.number(alert.last_value)}
        found = _COUNTED.search(alert.text)
        if found is not None:
            values["num"] = self._language.number(_number(found[1]))
            values["all"] = self._language.number(_number(found[2]))
        return values

    def _span(self, alert: AlertRow, times: float = 1) -> str | None:
        """The rule's window, or so many of them; none is known of a rule that was removed."""
        rule = self._rules.get(alert.rule_id)
        seconds = _window(alert)
        if seconds is None and rule is not None:
            seconds = rule.window_s
        return None if seconds is None else self._language.span(seconds * times)


def sentences(desk: Desk, language: Language) -> Sentences:
    """Those for what *desk* may see."""
    rules: Iterable[Rule] = desk.alerts.rules()
    return Sentences(language, {rule.id: rule for rule in rules if rule.id is not None})


def _window(alert: AlertRow) -> float | None:
    """How far back was looked, if the alert is about calls."""
    since, until = alert.calls.since, alert.calls.until
    return None if since is None or until is None else (until - since).total_seconds()


def _number(text: str) -> int:
    return int(text.replace(",", ""))
