"""Terms: which calls a budget counts, how much of each, and when its periods begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue
from ai_ledger.records import CallRecord
from ai_ledger.terms import Per, Terms

ZONES = (
    "UTC", "Asia/Shanghai", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin", "America/New_York",
    "America/St_Johns", "America/Sao_Paulo", "Australia/Lord_Howe", "Antarctica/Troll",
    "Pacific/Apia", "Africa/Casablanca", "Asia/Beirut",
)  # fmt: skip
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)

calendar = st.sampled_from(["hour", "day", "week", "month"])
zones = st.sampled_from(ZONES)
moments = st.datetimes(
    datetime(1902, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)
) | st.datetimes(datetime(2011, 12, 29), datetime(2012, 1, 1), timezones=st.just(UTC))


def terms(**changes: Any) -> Terms:
    return Terms(**({"name": "b", "unit": "CNY", "limit": 10**9} | changes))


def call(**fields: Any) -> CallRecord:
    return CallRecord(**({"id": "a", "started_at": NOON} | fields))


@given(per=calendar, tz=zones, moment=moments)
def test_periods_tile_time(per: Per, tz: str, moment: datetime) -> None:
    """
    Each moment is in one period, whose end is the beginning of the next, later one.
    """
    budget = terms(per=per, tz=tz)
    period = budget.period_of(moment)
    assert period is not None
    bounds = budget.bounds_of(period)
    assert bounds is not None
    start, end = bounds

    assert start <= moment < end
    assert budget.period_of(start) == budget.period_of(end - timedelta(microseconds=1)) == period
    before, after = budget.period_of(start - timedelta(microseconds=1)), budget.period_of(end)
    assert before is not None
    assert after is not None
    assert before < period < after
    assert (budget.bounds_of(before) or ())[1] == start
    assert (budget.bounds_of(after) or ())[0] == end


@given(per=calendar, tz=zones, one=moments, other=moments)
def test_later_moments_have_no_earlier_period(
    per: Per, tz: str, one: datetime, other: datetime
) -> None:
    """
    Periods sort by time as texts, whatever the clocks do.
    """
    budget = terms(per=per, tz=tz)
    first, last = (budget.period_of(moment) for moment in sorted((one, other)))

    assert first is not None
    assert last is not None
    assert first <= last


@pytest.mark.parametrize(
    ("per", "tz", "moment", "period", "start", "end"),
    [
        pytest.param("day", "Asia/Shanghai", "2026-03-04T16:00", "2026-03-05",
                     "2026-03-04T16:00", "2026-03-05T16:00", id="a day in Shanghai"),
        pytest.param("hour", "Asia/Kolkata", "2026-03-04T12:29", "2026-03-04T17",
                     "2026-03-04T11:30", "2026-03-04T12:30", id="an hour at half past"),
        pytest.param("week", "UTC", "2027-01-03T23:59", "2026-W53",
                     "2026-12-28T00:00", "2027-01-04T00:00", id="the last week of 2026"),
        pytest.param("month", "America/New_York", "2026-03-01T04:59", "2026-02",
                     "2026-02-01T05:00", "2026-03-01T05:00", id="a month"),
        pytest.param("month", "America/New_York", "2026-03-20T00:00", "2026-03",
                     "2026-03-01T05:00", "2026-04-01T04:00", id="a month that is an hour short"),
        pytest.param("day", "Europe/Berlin", "2026-10-25T12:00", "2026-10-25",
                     "2026-10-24T22:00", "2026-10-25T23:00", id="a day of 25 hours"),
        pytest.param("hour", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T02",
                     "2026-10-25T00:00", "2026-10-25T02:00", id="an hour that strikes twice"),
        pytest.param("day", "America/Sao_Paulo", "2018-11-04T03:00", "2018-11-04",
                     "2018-11-04T03:00", "2018-11-05T02:00", id="a day without a midnight"),
        pytest.param("day", "Pacific/Apia", "2011-12-30T10:00", "2011-12-31",
                     "2011-12-30T10:00", "2011-12-31T10:00", id="behind a day left out"),
        pytest.param("hour", "Antarctica/Troll", "2026-10-25T01:30", "2026-10-25T02",
                     "2026-10-25T00:00", "2026-10-25T03:00", id="put back by two hours"),
    ],
)  # fmt: skip
def test_periods(per: Per, tz: str, moment: str, period: str, start: str, end: str) -> None:
    """
    Periods begin and end by the clocks of the zone.
    """
    budget = terms(per=per, tz=tz)

    assert budget.period_of(datetime.fromisoformat(moment + "+00:00")) == period
    assert budget.bounds_of(period) == (
        datetime.fromisoformat(start + "+00:00"),
        datetime.fromisoformat(end + "+00:00"),
    )


def test_a_window_and_no_end() -> None:
    """
    A window is one period from its beginning to before its end; a total has neither.
    """
    until = NOON + timedelta(hours=1)
    window = terms(per="window", since=NOON, until=until)
    moments = (NOON - timedelta(microseconds=1), NOON, until - timedelta(microseconds=1), until)

    assert [window.period_of(m) for m in moments] == [None, "window", "window", None]
    assert window.bounds_of("window") == (NOON, until)
    total = terms(per="total")
    assert [total.period_of(m) for m in moments] == ["total"] * 4
    assert total.bounds_of("total") is None


@pytest.mark.parametrize("year", [1, 1900, 9990, 9999])
def test_clocks_that_are_centuries_off(year: int) -> None:
    """
    Moments that no calendar of a zone reaches are in no period, and raise nothing.
    """
    budget = terms(per="day", tz="Asia/Shanghai")

    assert budget.period_of(datetime(year, 6, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    "period", ["2026-3-4", "2026-13-01", "2026-W01", "total", "", "9999-01-01"]
)
def test_no_such_period(period: str) -> None:
    """
    What is no period of the budget is refused.
    """
    with pytest.raises(InvalidValue):
        terms(per="day").bounds_of(period)


def test_matching() -> None:
    """
    All fields must have one of their values; aliases are known, and texts are compared
    as stores keep them.
    """
    budget = terms(where={"model": ("m", "n" * 300), "tags.team": (None, "a")})

    assert list(budget.where) == ["request_model", "tags.team"]
    assert budget.matches(call(request_model="m"))
    assert budget.matches(call(request_model="n" * 300, tags={"team": "a"}))
    assert not budget.matches(call(request_model="M"))
    assert not budget.matches(call(request_model="m", tags={"team": "b"}))
    assert not budget.matches(call())


def test_whose() -> None:
    """
    Nobody, the empty text and a text that looks like either are three different keys.
    """
    users, teams = terms(each="user_id"), terms(each="tags.team")

    keys = [users.whose(call(user_id=user)) for user in (None, "", "\\", "ada")]

    assert keys == ["", "\\", "\\\\", "ada"]
    assert teams.whose(call(tags={"team": "a"})) == "a"
    assert terms().whose(call(user_id="ada")) == ""


FREE = {"unpriced_as": (2, 3), "rates": {"USD": "7.1234567891"}}


@pytest.mark.parametrize(
    ("changes", "fields", "amount"),
    [
        pytest.param({}, {"cost": Decimal("0.25"), "currency": "CNY"}, 250_000_000, id="a cost"),
        pytest.param({}, {"cost": Decimal(0), "currency": "CNY"}, 0, id="nothing"),
        pytest.param({}, {"cost": Decimal(1), "currency": "USD"}, None, id="another currency"),
        pytest.param(FREE, {"cost": Decimal(1), "currency": "USD"}, 7_123_456_789, id="a rate"),
        pytest.param(FREE, {"cost": Decimal(1), "currency": "EUR"}, None, id="another rate"),
        pytest.param({}, {"input_tokens": 5}, None, id="no price"),
        pytest.param(FREE, {"input_tokens": 5, "output_tokens": 7}, 31, id="the worst case"),
        pytest.param(FREE, {}, None, id="no tokens either"),
        pytest.param({}, {"status": "failed"}, 0, id="failed without an answer"),
        pytest.param({}, {"status": "failed", "usage_source": "reported"}, None, id="failed late"),
        pytest.param({}, {"status": "blocked"}, 0, id="never sent"),
        pytest.param({}, {"status": "unfinished"}, None, id="in flight"),
        pytest.param({"unit": "tokens"}, {"input_tokens": 5, "output_tokens": 7}, 12, id="tokens"),
        pytest.param({"unit": "tokens"}, {"output_tokens": 7}, 7, id="output alone"),
        pytest.param({"unit": "tokens"}, {"cost": Decimal(1), "currency": "CNY"}, None,
                     id="a cost without tokens"),
    ],
)  # fmt: skip
def test_amounts(changes: dict[str, Any], fields: dict[str, Any], amount: int | None) -> None:
    """
    Amounts are whole, and unknown where they cannot be told.
    """
    assert terms(**changes).amount_of(call(**fields)) == amount


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": ""}),
        ("unit", {"unit": "XYZ"}),
        ("limit", {"limit": -1}),
        ("limit", {"limit": 2**63}),
        ("limit", {"limit": True}),
        ("per", {"per": "year"}),
        ("per", {"per": "day", "since": NOON}),
        ("since", {"per": "window"}),
        ("since", {"per": "window", "since": datetime(2026, 1, 1), "until": NOON}),
        ("until", {"per": "window", "since": NOON, "until": NOON}),
        ("tz", {"tz": "Mars/Olympus"}),
        ("mode", {"mode": "firm"}),
        ("field", {"where": {"colour": ("red",)}}),
        ("field", {"each": "cost"}),
        ("where", {"where": {"model": ("a",), "request_model": ("b",)}}),
        ("where[user_id]", {"where": {"user_id": "ada"}}),
        ("where[user_id]", {"where": {"user_id": ()}}),
        ("where[user_id]", {"where": {"user_id": (7,)}}),
        ("unit", {"unit": "tokens", "rates": {"USD": "7"}}),
        ("unpriced_as", {"unpriced_as": (1, -1)}),
        ("rates", {"rates": {"CNY": "1"}}),
        ("rates", {"rates": {"USD": "0"}}),
        ("rates", {"rates": {"USD": "NaN"}}),
        ("rates", {"rates": {"USD": "seven"}}),
    ],
)
def test_bad_terms(field: str, changes: dict[str, Any]) -> None:
    """
    Terms that cannot be so are refused, and the field is named.
    """
    with pytest.raises(InvalidValue) as refused:
        terms(**changes)

    assert refused.value.field == field


def test_there_and_back() -> None:
    """
    Terms survive JSON, and equal terms have equal texts.
    """
    one = terms(
        per="window", since=NOON, until=NOON + timedelta(days=9), each="site_id", mode="soft",
        where={"model": ("b", None, "a"), "user_id": ("é",)}, **FREE,
    )  # fmt: skip
    same = terms(
        per="window", since=NOON, until=NOON + timedelta(days=9), each="org_id", mode="soft",
        where={"user_id": ("é",), "request_model": ("a", "b", None)}, **FREE,
    )  # fmt: skip

    assert Terms.from_json(one.to_json()) == one
    assert one.to_json() == same.to_json()
    with pytest.raises(InvalidValue):
        Terms.from_json('{"name": "b", "unit": "CNY", "limit": -1}')
