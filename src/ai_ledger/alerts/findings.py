"""What each kind of rule looks at: whom or what its condition holds for now."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ai_ledger.alerts.alert import CallsBehind, Finding
from ai_ledger.alerts.calls import calls_of
from ai_ledger.alerts.channel import one_line
from ai_ledger.alerts.rule import DAY_S, Rule, plain_of
from ai_ledger.bounds import value_of_key
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.budgets import accounts, budgets
from ai_ledger.money import from_nano, to_nano
from ai_ledger.policies.breaker import living_breakers
from ai_ledger.query import AnyOf, Condition, Query
from ai_ledger.sinks.sql.reader import Reader
from ai_ledger.terms import TOKENS, Terms
from ai_ledger.totals import Totals

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger

LINKED: Final = 20
"""Ids of calls that an alert names."""
_DAY: Final = timedelta(seconds=DAY_S)
# Of the days that a window is compared with, so many must have calls.
_LEAST_DAYS: Final = 3
_SENT: Final = ("success", "failed", "timeout", "cancelled", "unfinished")


class Sight:
    """
    What is looked at, and when.

    Args:
        store: The calls.
        database: The accounts of budgets.
        ledgers: Those of this process, for what waits in their journals.
        now: When.
    """

    def __init__(
        self, store: Reader, database: Database, ledgers: Sequence[Ledger], now: datetime
    ) -> None:
        self.store = store
        self.database = database
        self.ledgers = ledgers
        self.now = now

    def findings(self, rule: Rule) -> list[Finding]:
        """What the condition of *rule* holds for."""
        return _KINDS[rule.kind](self, rule)

    def totals(self, rule: Rule, edges: Sequence[datetime]) -> dict[str | None, list[Totals]]:
        """For each value of the rule's field, the totals of each interval between *edges*."""
        query = Query.build(
            scope=rule.org_id, since=edges[0], until=edges[-1], where=rule.conditions()
        )
        found: dict[str | None, list[Totals]] = {}
        by = (rule.each,) if rule.each else ()
        for group in self.store.aggregate(query, by, tuple(edges)):
            value = group.key[0] if group.key else None
            intervals = found.setdefault(value, [Totals() for _ in edges[1:]])
            intervals[group.interval] = group.totals
        return found

    def calls_behind(
        self, rule: Rule, whose: str | None, since: datetime, more: Mapping[str, Condition] | None
    ) -> CallsBehind:
        """The newest calls of *whose* in the window, and the filter for all of them."""
        where: dict[str, Condition] = {**rule.conditions(), **(more or {})}
        if rule.each:
            where[rule.each] = AnyOf((whose,))
        query = Query.build(scope=rule.org_id, since=since, until=self.now, where=where)
        newest = calls_of(self.store, query, limit=LINKED)
        return CallsBehind(
            ids=tuple(call.id for call in newest),
            since=since,
            until=self.now,
            where={field: plain_of(condition) for field, condition in where.items()},
        )

    def finding(
        self,
        rule: Rule,
        whose: str | None,
        value: float,
        text: str,
        *,
        subject: str = "",
        more: Mapping[str, Condition] | None = None,
        linked: bool = True,
    ) -> Finding:
        """A finding about calls in the rule's window."""
        since = self.now - _window(rule)
        return Finding(
            whose=whose,
            subject=subject,
            value=value,
            text=one_line(f"{_whose(rule, whose)}{text}"),
            org_id=whose if rule.each == "org_id" else None,
            calls=self.calls_behind(rule, whose, since, more) if linked else CallsBehind(),
        )


def _failure_rate(sight: Sight, rule: Rule) -> list[Finding]:
    """Failed and timed-out calls among those that were sent."""
    found: list[Finding] = []
    for whose, [totals] in sight.totals(rule, _last_window(sight, rule)).items():
        sent = sum(totals.statuses.get(status, 0) for status in _SENT)
        failed = totals.statuses.get("failed", 0) + totals.statuses.get("timeout", 0)
        if not failed or sent < _least(rule) or failed / sent < _limit(rule):
            continue
        text = (
            f"{failed:,} of {sent:,} calls failed ({failed / sent:.1%}) within "
            f"{_duration(rule.window_s)}; at most {_limit(rule):.0%} should"
        )
        more = {"status": AnyOf(("failed", "timeout"))}
        found.append(sight.finding(rule, whose, failed / sent, text, more=more))
    return found


def _timeouts(sight: Sight, rule: Rule) -> list[Finding]:
    return _counted(sight, rule, "timeout", "timed out")


def _unpriced(sight: Sight, rule: Rule) -> list[Finding]:
    """
    Calls that succeeded and have no cost.

    Sums count time-outs among the unpriced as well, which no price would mend, so
    that the calls themselves are asked where the sums say that there may be some.
    """
    found: list[Finding] = []
    edges = _last_window(sight, rule)
    for whose, [totals] in sight.totals(rule, edges).items():
        if totals.unpriced_calls < _limit(rule) or totals.calls < _least(rule):
            continue
        where: dict[str, Condition] = {**rule.conditions(), "status": AnyOf(("success",))}
        if rule.each:
            where[rule.each] = AnyOf((whose,))
        query = Query.build(scope=rule.org_id, since=edges[0], until=edges[1], where=where)
        number = sum(group.totals.unpriced_calls for group in sight.store.aggregate(query, (), ()))
        if number >= _limit(rule):
            text = f"{number:,} calls have no price within {_duration(rule.window_s)}"
            more = {"status": AnyOf(("success",)), "cost": AnyOf((None,))}
            found.append(sight.finding(rule, whose, number, text, more=more))
    return found


def _counted(sight: Sight, rule: Rule, status: str, did: str) -> list[Finding]:
    found: list[Finding] = []
    for whose, [totals] in sight.totals(rule, _last_window(sight, rule)).items():
        number = totals.statuses.get(status, 0)
        if number >= _limit(rule) and totals.calls >= _least(rule):
            text = f"{number:,} of {totals.calls:,} calls {did} within {_duration(rule.window_s)}"
            more = {"status": AnyOf((status,))}
            found.append(sight.finding(rule, whose, number, text, more=more))
    return found


def _breaker_open(sight: Sight, rule: Rule) -> list[Finding]:
    """Circuits that are open in this process, and calls that others of them refused."""
    found = {
        (finding.whose, finding.subject): finding
        for finding in _counted(sight, rule, "circuit_open", "met an open circuit")
    }
    if rule.org_id is not None or rule.where:
        return list(found.values())  # a circuit is open for everybody
    for breaker in living_breakers():
        for state in breaker.states():
            if state.state == "closed":
                continue
            known = rule.each in state.fields
            whose = state.fields.get(rule.each) if rule.each and known else None
            subject = "" if known or not rule.each else state.key
            text = f"the circuit of {breaker.name} for {state.key!r} is open"
            told = sight.finding(rule, whose, 1, text, subject=subject, linked=False)
            found.setdefault((whose, subject), told)
    return list(found.values())


def _latency(sight: Sight, rule: Rule) -> list[Finding]:
    """The 95th percentile of durations, against that of the days before the window."""
    since = sight.now - _window(rule)
    edges = (since - rule.past_days * _DAY, since, sight.now)
    found: list[Finding] = []
    for whose, (past, present) in sight.totals(rule, edges).items():
        if min(past.timed_calls, present.timed_calls) < max(1, _least(rule)):
            continue
        before, now = past.percentile_ms(0.95), present.percentile_ms(0.95)
        if before is None or now is None or now < before * _limit(rule):
            continue
        text = (
            f"95 % of the answers within {_duration(rule.window_s)} took up to {now:,.0f} ms, "
            f"{now / before:.1f} times as long as in the {rule.past_days} days before "
            f"({before:,.0f} ms)"
        )
        found.append(sight.finding(rule, whose, now / before, text))
    return found


def _cost_spike(sight: Sight, rule: Rule) -> list[Finding]:
    """The cost of the window, against its mean at the same time of the days before."""
    window = _window(rule)
    days = [sight.now - number * _DAY for number in range(rule.past_days, -1, -1)]
    edges = sorted({edge for end in days for edge in (end - window, end)})
    places = [edges.index(end - window) for end in days]
    found: list[Finding] = []
    for whose, intervals in sight.totals(rule, edges).items():
        *past, present = (intervals[place] for place in places)
        if present.calls < _least(rule):
            continue
        for currency, nano in sorted(present.cost_nano.items()):
            spent = [totals.cost_nano.get(currency, 0) for totals in past]
            while spent and not spent[0]:
                del spent[0]  # before it was first used
            if sum(1 for each in spent if each) < _LEAST_DAYS or nano < _floor(rule):
                continue
            mean = sum(spent) / len(spent)
            if nano < mean * _limit(rule):
                continue
            usual = from_nano(round(mean)).quantize(Decimal("0.000001"))
            text = (
                f"{from_nano(nano):f} {currency} within {_duration(rule.window_s)}, "
                f"{nano / mean:.1f} times the mean of the {len(spent)} days before "
                f"({usual:f} {currency})"
            )
            more = {"currency": AnyOf((currency,))}
            found.append(sight.finding(rule, whose, nano / mean, text, subject=currency, more=more))
    return found


def _silence(sight: Sight, rule: Rule) -> list[Finding]:
    """No calls now, of what had some in all windows (or the share asked for) before."""
    window = _window(rule)
    intervals = rule.past_days * DAY_S // (rule.window_s or DAY_S)
    edges = [sight.now - number * window for number in range(intervals + 1, -1, -1)]
    found: list[Finding] = []
    for whose, all_of in sight.totals(rule, edges).items():
        calls = [totals.calls for totals in all_of]
        if calls[-1]:
            continue
        while calls and not calls[-1]:
            calls.pop()  # since when it is silent
        ran = sum(1 for each in calls if each)
        # What has been silent for half of the past is gone for good.
        if len(calls) < max(3, intervals / 2) or ran / len(calls) < _limit(rule):
            continue
        silent = len(all_of) - len(calls)
        text = (
            f"no calls within {_duration(silent * (rule.window_s or 0))}; there were some in "
            f"{ran} of {len(calls)} times {_duration(rule.window_s)} before"
        )
        found.append(sight.finding(rule, whose, silent, text, linked=False))
    return found


def _undelivered(sight: Sight, rule: Rule) -> list[Finding]:
    """What waits in the journals of this process, and what was given up."""
    sums = {"waiting": 0, "dropped": 0, "quarantined": 0}
    oldest = 0.0
    for ledger in sight.ledgers:
        health = ledger.health()
        seconds = health.oldest_seconds or 0.0
        if seconds >= (rule.window_s or 0):
            sums["waiting"] += health.pending
            oldest = max(oldest, seconds)
        sums["dropped"] += sum(health.dropped.values())
        sums["quarantined"] += health.quarantined
    host = socket.gethostname()
    words = {
        "waiting": f"records wait, the oldest for {_duration(int(oldest))}",
        "dropped": "calls, or parts of them, were given up",
        "quarantined": "records were set aside, which no sink takes",
    }
    return [
        Finding(
            whose=host,
            field="host",
            subject=reason,
            value=number,
            text=one_line(f"host {host}: {number:,} {words[reason]}"),
        )
        for reason, number in sums.items()
        if number >= _limit(rule)
    ]


def _budget_threshold(sight: Sight, rule: Rule) -> list[Finding]:
    """The share of each budget that is used, in its present period."""
    statement = sa.select(budgets).where(budgets.c.active.is_(True)).order_by(budgets.c.name)
    if rule.budget is not None:
        statement = statement.where(budgets.c.name == rule.budget)
    found: list[Finding] = []
    with sight.database.reading() as connection:
        for budget in connection.execute(statement).all():
            terms = Terms.from_json(budget.terms)
            period = terms.period_of(sight.now)
            if period is None or terms.limit <= 0:
                continue
            least = _limit(rule) * terms.limit
            rows = connection.execute(
                sa.select(accounts.c.scope, accounts.c.used)
                .where(
                    accounts.c.budget_id == budget.id,
                    accounts.c.period == period,
                    accounts.c.used >= int(least),
                )
                .order_by(accounts.c.scope)
            )
            found += [
                finding
                for whose, used in rows
                if used >= least
                and (finding := _used(rule, terms, value_of_key(whose), used, period))
            ]
    return found


def _used(rule: Rule, terms: Terms, whose: str | None, used: int, period: str) -> Finding | None:
    org = whose if terms.each == "org_id" else None
    only = terms.where.get("org_id", ())
    if org is None and len(only) == 1:
        org = only[0]
    if rule.org_id is not None and org != rule.org_id:
        return None
    share = used / terms.limit
    for_whom = f" for {terms.each} {whose!r}" if terms.each else ""
    ends = terms.bounds_of(period)
    ending = f", which ends {ends[1]:%Y-%m-%d %H:%M} UTC" if ends else ""
    since, until = (None, None) if ends is None else ends
    where: dict[str, Any] = {field: list(values) for field, values in terms.where.items()}
    if terms.each:
        where[terms.each] = [whose]
    return Finding(
        whose=whose,
        field=terms.each,
        subject=terms.name,
        value=share,
        org_id=org,
        # With the limit: a budget that was raised, and is used up again, is news.
        period=f"{period} of {_in_units(terms.limit, terms.unit)}",
        text=one_line(
            f"budget {terms.name!r}{for_whom}: {share:.1%} used, {_in_units(used, terms.unit)} of "
            f"{_in_units(terms.limit, terms.unit)} in {period}{ending}"
        ),
        calls=CallsBehind(where=where, since=since, until=until),
    )


_KINDS: Final[Mapping[str, Callable[[Sight, Rule], list[Finding]]]] = {
    "budget_threshold": _budget_threshold,
    "failure_rate": _failure_rate,
    "timeouts": _timeouts,
    "breaker_open": _breaker_open,
    "latency": _latency,
    "cost_spike": _cost_spike,
    "unpriced": _unpriced,
    "undelivered": _undelivered,
    "silence": _silence,
}


def _window(rule: Rule) -> timedelta:
    assert rule.window_s is not None
    return timedelta(seconds=rule.window_s)


def _last_window(sight: Sight, rule: Rule) -> tuple[datetime, datetime]:
    return (sight.now - _window(rule), sight.now)


def _limit(rule: Rule) -> float:
    assert rule.threshold is not None
    return rule.threshold


def _least(rule: Rule) -> int:
    assert rule.min_calls is not None
    return rule.min_calls


def _floor(rule: Rule) -> int:
    return 0 if rule.at_least is None else to_nano(rule.at_least)


def _whose(rule: Rule, whose: str | None) -> str:
    if not rule.each:
        return ""
    return f"{rule.each} {whose!r}: " if whose is not None else f"{rule.each} not set: "


def _in_units(amount: int, unit: str) -> str:
    return f"{amount:,} tokens" if unit == TOKENS else f"{from_nano(amount):f} {unit}"


def _duration(seconds: int | None) -> str:
    seconds = seconds or 0
    for size, word in ((DAY_S, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            number = seconds // size
            return f"{number} {word}s" if number > 1 else f"1 {word}"
    return f"{seconds / 3_600:.1f} hours" if seconds >= 3_600 else f"{seconds} seconds"
