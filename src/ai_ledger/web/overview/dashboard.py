"""`dashboard`: everything that the overview says, asked of one desk for one period."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ai_ledger.query import Query
from ai_ledger.stats import calendar
from ai_ledger.stats.results import Figures
from ai_ledger.totals import Group, Totals
from ai_ledger.web.budgets.standing import standings
from ai_ledger.web.overview.answers import Alerts, Dashboard, OpenAlert, Point, Today
from ai_ledger.web.overview.delivery import delivery
from ai_ledger.web.overview.services import FAILED, failures, services
from ai_ledger.web.overview.shares import cost_trends, costs, shares
from ai_ledger.zones import clock, first_instant

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk
    from ai_ledger.web.periods import Period

BUDGETS: Final = 12
ALERTS: Final = 8
ALERTS_COUNTED: Final = 100

__all__ = ["FAILED", "dashboard"]


def dashboard(desk: Desk, period: Period) -> Dashboard:
    """
    What *desk* may know of *period*, and of today.

    Raises:
        SinkUnavailable: The store is away.
        SchemaError: Its tables are not those of this version.
    """
    now = desk.house.clock()
    edges = edges_of(period)
    groups = desk.house.reader.daily(_query(desk, edges), "request_model", edges)
    by_model = _by_value(groups)
    by_function = _by_value(_asked(desk, edges, ("function",)))
    by_provider = _by_value(_asked(desk, edges, ("provider",)))
    total = Totals.of(by_provider.values())
    return Dashboard(
        as_of=now.astimezone(desk.tz),
        tz=str(desk.tz),
        scope=desk.scope,
        empty=not total.calls and _is_empty(desk),
        first=period.first,
        last=period.last,
        bucket="hour" if period.first == period.last else "day",
        today=_today(desk, now),
        total=Figures.of(total),
        failed=failures(total),
        trend=_trend(desk, groups, edges),
        cost_by_model=cost_trends(groups, len(edges) - 1),
        by_function=shares("function", by_function),
        by_model=shares("request_model", by_model),
        budgets=tuple(standings(desk, BUDGETS)),
        alerts=_alerts(desk),
        functions=services(desk, period, "function", by_function),
        providers=services(desk, period, "provider", by_provider),
        delivery=delivery(desk),
    )


def edges_of(period: Period) -> calendar.Edges:
    """The beginnings of the points of the trend, and the end of the last: hours of a single day."""
    if period.first == period.last:
        return calendar.hours_of(period.edges, period.tz)
    return period.edges


def _asked(
    desk: Desk, within: calendar.Edges, by: tuple[str, ...] = (), edges: calendar.Edges = ()
) -> list[Group]:
    return desk.house.reader.aggregate(_query(desk, within), by, edges)


def _query(desk: Desk, within: calendar.Edges) -> Query:
    return Query.build(scope=desk.scope, since=within[0], until=within[-1])


def _today(desk: Desk, now: datetime) -> Today:
    today = now.astimezone(desk.tz).date()
    start, end = (calendar.day_start(today + timedelta(days=n), desk.tz) for n in (0, 1))
    before = calendar.day_start(today - timedelta(days=1), desk.tz)
    shown = clock(now, desk.tz).time()
    same = first_instant(datetime.combine(today - timedelta(days=1), shown), desk.tz)
    edges = (before, min(max(same, before), start), start, end)
    parts = [Totals() for _ in edges[1:]]
    for group in _asked(desk, edges, (), edges):
        parts[group.interval].add(group.totals)
    early, late, so_far = parts
    return Today(
        day=today,
        so_far=Figures.of(so_far),
        failed=failures(so_far),
        yesterday_by_this_time=Figures.of(early),
        yesterday_failed_by_this_time=failures(early),
        yesterday=Figures.of(Totals.of((early, late))),
    )


def _trend(desk: Desk, groups: list[Group], edges: calendar.Edges) -> tuple[Point, ...]:
    sums = [Totals() for _ in edges[1:]]
    for group in groups:
        sums[group.interval].add(group.totals)
    return tuple(
        Point(
            start=start.astimezone(desk.tz),
            end=end.astimezone(desk.tz),
            calls=each.calls,
            failed=failures(each),
            success_rate=each.statuses.get("success", 0) / each.calls if each.calls else None,
            cost=costs(each),
        )
        for each, (start, end) in zip(sums, pairwise(edges), strict=True)
    )


def _alerts(desk: Desk) -> Alerts:
    found = desk.alerts.list(limit=ALERTS_COUNTED, by_urgency=True)
    return Alerts(
        count=len(found),
        open=sum(alert.state == "open" for alert in found),
        alerts=tuple(
            OpenAlert(
                id=alert.id,
                rule=alert.rule,
                kind=alert.kind,
                severity=alert.severity,
                state="open" if alert.state == "open" else "acknowledged",
                org_id=alert.org_id,
                text=alert.text,
                occurrences=alert.occurrences,
                raised_at=alert.raised_at.astimezone(desk.tz),
                last_seen_at=alert.last_seen_at.astimezone(desk.tz),
                version=alert.version,
            )
            for alert in found[:ALERTS]
        ),
    )


def _is_empty(desk: Desk) -> bool:
    return not desk.house.reader.aggregate(Query.build(scope=desk.scope))


def _by_value(groups: Iterable[Group]) -> dict[str | None, Totals]:
    found: dict[str | None, Totals] = {}
    for group in groups:
        found.setdefault(group.key[0], Totals()).add(group.totals)
    return found
