"""Where days, hours and months begin, in zones that are not simple."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue
from ai_ledger.stats import calendar

ZONES = [
    "UTC",
    "Asia/Shanghai",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
    "Europe/Dublin",
]
zones = st.sampled_from(ZONES).map(calendar.time_zone)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))


def hours(edges: calendar.Edges) -> list[float]:
    return [(end - start) / timedelta(hours=1) for start, end in pairwise(edges)]


@pytest.mark.parametrize(
    ("tz", "first", "lengths"),
    [
        pytest.param("UTC", "2026-03-28", [24, 24, 24], id="no change"),
        pytest.param("Europe/Berlin", "2026-03-28", [24, 23, 24], id="spring forward"),
        pytest.param("Europe/Berlin", "2026-10-24", [24, 25, 24], id="fall back"),
        pytest.param("Australia/Lord_Howe", "2026-04-04", [24, 24.5, 24], id="half an hour back"),
        pytest.param("Australia/Lord_Howe", "2026-10-03", [24, 23.5, 24], id="half an hour on"),
        pytest.param("America/Sao_Paulo", "2018-11-03", [24, 23, 24], id="midnight left out"),
        pytest.param("America/Sao_Paulo", "2019-02-15", [24, 25, 24], id="ends an hour twice"),
        pytest.param("Africa/Cairo", "2026-04-23", [24, 23, 24], id="midnight left out in Cairo"),
        pytest.param("Pacific/Apia", "2011-12-29", [24, 24], id="a day that never was"),
        pytest.param("Asia/Kathmandu", "1985-12-31", [24, 23.75, 24], id="a quarter of an hour"),
    ],
)
def test_length_of_days(tz, first, lengths):
    """
    A day is as long as the clocks of its zone make it.
    """
    edges = calendar.day_edges(date.fromisoformat(first), 3, calendar.time_zone(tz))

    assert hours(edges) == lengths


@pytest.mark.parametrize(
    ("tz", "day", "start"),
    [
        pytest.param("Asia/Kolkata", "2026-03-01", "2026-02-28T18:30:00+00:00", id="half"),
        pytest.param("Asia/Kathmandu", "2026-03-01", "2026-02-28T18:15:00+00:00", id="quarter"),
        pytest.param("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00+00:00", id="gap"),
        pytest.param("America/Havana", "2026-11-01", "2026-11-01T04:00:00+00:00", id="twice"),
        pytest.param("America/Toronto", "1919-03-31", "1919-03-31T04:30:00+00:00", id="half gap"),
    ],
)
def test_day_start(tz, day, start):
    """
    A day begins at its first instant, also where midnight is missing or comes twice.
    """
    begun = calendar.day_start(date.fromisoformat(day), ZoneInfo(tz))

    assert begun.isoformat() == start


@pytest.mark.parametrize(
    ("tz", "now", "starts"),
    [
        pytest.param(
            "Asia/Kolkata", "2026-03-01T00:10:00+05:30", ["22:00", "23:00", "00:00"], id="half"
        ),
        pytest.param(
            "Australia/Lord_Howe",
            "2026-04-05T02:20:00+10:30",
            ["01:00", "01:30", "02:00"],
            id="half an hour back",
        ),
        pytest.param(
            "Australia/Lord_Howe",
            "2026-10-04T03:20:00+11:00",
            ["01:00", "02:30", "03:00"],
            id="half an hour on",
        ),
        pytest.param(
            "Europe/Berlin", "2026-10-25T02:20:00+01:00", ["01:00", "02:00", "02:00"], id="twice"
        ),
        pytest.param(
            "Europe/Berlin", "2026-03-29T03:20:00+02:00", ["00:00", "01:00", "03:00"], id="missing"
        ),
    ],
)
def test_hours_of_the_clock(tz, now, starts):
    """
    Hours begin when the clock strikes, or changes.
    """
    zone = calendar.time_zone(tz)
    edges = calendar.last_hours(datetime.fromisoformat(now), 3, zone)

    assert [edge.astimezone(zone).strftime("%H:%M") for edge in edges[:-1]] == starts


@given(zones, moments, st.integers(1, 400))
def test_last_days(tz, now, days):
    """
    The last days end with today, one follows the other, and each begins a new date.
    """
    edges = calendar.last_days(now, days, tz)
    dates = [edge.astimezone(tz).date() for edge in edges]
    today = now.astimezone(tz).date()

    assert edges[-2] <= now < edges[-1]
    assert dates[-2] == today
    assert dates == sorted(set(dates))
    assert dates[0] >= today - timedelta(days=days - 1)
    assert all(edge.tzinfo is UTC for edge in edges)
    # The instant before the first one belongs to the day before.
    before = (edges[0] - timedelta(seconds=1)).astimezone(tz).date()
    assert before < dates[0]


@given(zones, moments, st.integers(1, 100))
def test_last_hours(tz, now, count):
    """
    The last hours end with this one, are as many as asked for, and none exceeds an hour.
    """
    edges = calendar.last_hours(now, count, tz)

    assert len(edges) == count + 1
    assert edges[-2] <= now < edges[-1]
    assert all(0 < length <= 1 for length in hours(edges))


@given(zones, moments, st.integers(1, 60))
def test_hours_nest_in_days(tz, now, days):
    """
    Every edge of a day is an edge of an hour, so hours add up to their day.
    """
    edges = calendar.last_days(now, days, tz)
    by_hour = calendar.hours_of(edges, tz)

    assert set(edges) <= set(by_hour)
    assert (by_hour[0], by_hour[-1]) == (edges[0], edges[-1])
    assert list(by_hour) == sorted(set(by_hour))


@given(zones, st.integers(1990, 2036), st.integers(1, 12))
def test_months(tz, year, month):
    """
    The days of a month end where the next month begins.
    """
    year_on, month_on = (year + 1, 1) if month == 12 else (year, month + 1)
    edges = calendar.month_days(year, month, tz)

    assert edges[0] == calendar.day_start(date(year, month, 1), tz)
    assert edges[-1] == calendar.month_days(year_on, month_on, tz)[0]
    assert calendar.last_months(edges[0], 1, tz) == (edges[0], edges[-1])


@pytest.mark.parametrize(
    ("call", "field"),
    [
        pytest.param(lambda: calendar.time_zone("Mars/Olympus"), "tz", id="no such zone"),
        pytest.param(lambda: calendar.time_zone("../../etc/passwd"), "tz", id="a path"),
        pytest.param(lambda: calendar.time_zone("Asia"), "tz", id="a folder of zones"),
        pytest.param(lambda: calendar.time_zone("a/" * 30_000), "tz", id="a long path"),
        pytest.param(lambda: calendar.time_zone(""), "tz", id="empty"),
        pytest.param(lambda: calendar.time_zone("a\x00b"), "tz", id="NUL"),
        pytest.param(lambda: calendar.time_zone(None), "tz", id="nothing"),
        pytest.param(lambda: calendar.last_days(datetime.now(UTC), 0, UTC), "days", id="no days"),
        pytest.param(lambda: calendar.last_days(datetime.now(UTC), True, UTC), "days", id="bool"),
        pytest.param(lambda: calendar.last_days(datetime.now(UTC), 10**9, UTC), "days", id="many"),
        pytest.param(lambda: calendar.last_hours(datetime.now(UTC), -1, UTC), "hours", id="less"),
        pytest.param(lambda: calendar.month_days(2026, 13, UTC), "month", id="month 13"),
        pytest.param(lambda: calendar.month_days(10**5, 1, UTC), "year", id="far away"),
    ],
)
def test_refused(call, field):
    """
    What cannot be a zone, a number or a month is refused by its name.
    """
    with pytest.raises(InvalidValue) as caught:
        call()
    assert caught.value.field == field
