"""The API of stats: what `Stats` answers, under ``/stats``."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime

from ai_ledger.errors import InvalidValue, NotFound
from ai_ledger.stats import Current, Forecast, Profile, Summary, Top, Trend
from ai_ledger.stats.rank import Ranking
from ai_ledger.stats.results import Group
from ai_ledger.web.filters import By, Where
from ai_ledger.web.periods import MAX_DAYS, checked_moment
from ai_ledger.web.visit import DeskOf

router = APIRouter(prefix="/stats", tags=["stats"])

MAX_HOURS = 31 * 24
Days = Annotated[
    int, Query(ge=1, le=MAX_DAYS, description="The last so many days, today included.")
]
Limit = Annotated[
    int, Query(ge=1, le=1_000, description="At most so many groups, those with most calls.")
]
# Ids may be any text, so they take the whole rest of a path.
Id = Annotated[
    str, Path(min_length=1, max_length=1_000, description="Slashes stand as they are, or as %2F.")
]


@router.get("/current", operation_id="get_stats_current", summary="This hour, and today so far.")
def get_stats_current(desk: DeskOf, where: Where, by: By, limit: Limit = 100) -> Current:
    """Hours and days of the zone that ``tz`` names."""
    found = desk.stats.current(where, by)
    return Current(hour=_cut(found.hour, limit), today=_cut(found.today, limit))


@router.get("/hourly", operation_id="get_stats_hourly", summary="The last hours, one by one.")
def get_stats_hourly(
    desk: DeskOf,
    where: Where,
    by: By,
    hours: Annotated[int, Query(ge=1, le=MAX_HOURS, description="This one included.")] = 24,
    limit: Limit = 100,
) -> Trend:
    """Hours of the clock; each is a point, calls or not."""
    return _cut_trend(desk.stats.hourly(hours, where, by), limit)


@router.get("/daily", operation_id="get_stats_daily", summary="Days, one by one.")
def get_stats_daily(
    desk: DeskOf,
    where: Where,
    by: By,
    days: Days = 7,
    first: Annotated[date | None, Query(description="Instead of days: from this one on.")] = None,
    last: Annotated[date | None, Query(description="To this one; today, if left out.")] = None,
    limit: Limit = 100,
) -> Trend:
    """The last days, or those from first to last, both included."""
    if first is None and last is None:
        return _cut_trend(desk.stats.daily(days, where, by), limit)
    last = last or desk.house.clock().astimezone(desk.tz).date()
    first = first or last
    if (last - first).days >= MAX_DAYS:
        raise InvalidValue("first", first, f"at most {MAX_DAYS} days before {last}")
    return _cut_trend(desk.stats.days(first, last, where, by), limit)


@router.get("/monthly", operation_id="get_stats_monthly", summary="The days of a month.")
def get_stats_monthly(
    desk: DeskOf,
    where: Where,
    by: By,
    year: Annotated[
        int | None, Query(ge=1900, le=9990, description="This one if left out.")
    ] = None,
    month: Annotated[int | None, Query(ge=1, le=12, description="This one if left out.")] = None,
    limit: Limit = 100,
) -> Trend:
    """Its total is the month."""
    today = desk.house.clock().astimezone(desk.tz).date()
    found = desk.stats.monthly(year or today.year, month or today.month, where, by)
    return _cut_trend(found, limit)


@router.get(
    "/summary", operation_id="get_stats_summary", summary="What the calls of a time add up to."
)
def get_stats_summary(
    desk: DeskOf,
    where: Where,
    by: By,
    since: Annotated[AwareDatetime | None, Query(description="Inclusive; with a zone.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Exclusive; with a zone.")] = None,
    limit: Limit = 100,
) -> Summary:
    """Left out, from the first call on and to the last."""
    checked_moment("since", since)
    checked_moment("until", until)
    return _cut(desk.stats.summary(since, until, where, by), limit)


@router.get("/top", operation_id="get_stats_top", summary="Whose calls cost most, or are most.")
def get_stats_top(
    desk: DeskOf,
    where: Where,
    field: Annotated[
        str, Query(max_length=300, description="What is ranked: a field, or tags.<key>.")
    ] = "user_id",
    ranked_by: Annotated[Ranking, Query()] = "cost",
    days: Days = 30,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 10,
) -> Top:
    """With several currencies, each has a ranking of its own; rows are taken in turn."""
    return desk.stats.top(field, limit, days, ranked_by, where)


@router.get(
    "/trend", operation_id="get_stats_trend", summary="The last days by hour, day or month."
)
def get_stats_trend(
    desk: DeskOf,
    where: Where,
    by: By,
    days: Days = 30,
    bucket: Literal["hour", "day", "month"] = "day",
    limit: Limit = 100,
) -> Trend:
    """By hour, of at most 31 days."""
    if bucket == "hour" and days * 24 > MAX_HOURS:
        raise InvalidValue("days", days, f"at most {MAX_HOURS // 24}, by hour")
    return _cut_trend(desk.stats.trend(days, bucket, by, where), limit)


@router.get("/forecast", operation_id="get_stats_forecast", summary="What this month will cost.")
def get_stats_forecast(
    desk: DeskOf,
    where: Where,
    by: By,
    level: Annotated[float, Query(ge=0.5, le=0.99, description="How sure the interval is.")] = 0.8,
    history_days: Annotated[int, Query(ge=14, le=MAX_DAYS)] = 56,
) -> Forecast:
    """With an interval; it says so where there is not enough to judge by."""
    return desk.stats.forecast(by, where, level=level, history_days=history_days)


@router.get(
    "/sessions/{session_id:path}", operation_id="get_stats_session", summary="One session, ever."
)
def get_stats_session(desk: DeskOf, session_id: Id) -> Profile:
    """By model and function."""
    return _known(desk.stats.session(session_id), "session")


@router.get("/users/{user_id:path}", operation_id="get_stats_user", summary="What one user did.")
def get_stats_user(desk: DeskOf, user_id: Id, days: Days = 30) -> Profile:
    """404 where they made no call in these days."""
    return _known(desk.stats.user(user_id, days), "user")


@router.get(
    "/devices/{device_id:path}", operation_id="get_stats_device", summary="What one device did."
)
def get_stats_device(desk: DeskOf, device_id: Id, days: Days = 30) -> Profile:
    """404 where it made no call in these days."""
    return _known(desk.stats.device(device_id, days), "device")


def _known(profile: Profile, what: str) -> Profile:
    if not profile.summary.calls:
        raise NotFound(f"there are no calls of the {what} {profile.value!r} in this time")
    return profile


def _cut(found: Summary, limit: int) -> Summary:
    return found.model_copy(update={"groups": found.groups[:limit]})


def _cut_trend(found: Trend, limit: int) -> Trend:
    """*found* with its largest groups, and only these in its points."""
    if len(found.groups) <= limit:
        return found
    kept = found.groups[:limit]
    keys = {_key(group) for group in kept}
    points = tuple(
        point.model_copy(
            update={"groups": tuple(group for group in point.groups if _key(group) in keys)}
        )
        for point in found.points
    )
    return found.model_copy(update={"groups": kept, "points": points})


def _key(group: Group) -> tuple[str | None, ...]:
    return tuple(group.key.values())
