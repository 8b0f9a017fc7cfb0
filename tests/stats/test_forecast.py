"""Looking ahead: the end of the month and the day a budget runs out, with honest intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue
from ai_ledger.records import CallRecord
from ai_ledger.sinks import Store
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.stats import Forecast, RunsOut, Stats, runs_out
from ai_ledger.stats.calendar import day_start
from ai_ledger.stats.projection import Ahead, learn

NOW = datetime(2026, 3, 19, 12, 0, tzinfo=UTC)
MONDAY = date(2026, 1, 5)
_numbers = count(1)


def call(at: datetime, cost: str | Decimal | None = "1", **fields) -> CallRecord:
    return CallRecord(
        id=f"call-{next(_numbers):06}",
        started_at=at,
        cost=None if cost is None else Decimal(cost),
        currency=None if cost is None else fields.pop("currency", "CNY"),
        input_tokens=1,
        usage_source="reported",
        **fields,
    )


def days_back(days: Iterable[int], *, hour: int = 9, now: datetime = NOW) -> list[datetime]:
    midnight = now.replace(hour=0, minute=0)
    return [midnight - timedelta(days=day) + timedelta(hours=hour) for day in days]


def stats_over(store: Store, calls: Iterable[CallRecord], now: datetime = NOW, **options) -> Stats:
    store.write(list(calls))
    return Stats(store, clock=lambda: now, **options)


def test_even_days(store: Store):
    """
    Days that cost the same every day go on so: spent, the rest of today, and the days to come.
    """
    # One at nine, one at fifteen; at noon half of today is still to come.
    times = [*days_back(range(60), hour=9), *days_back(range(1, 60), hour=15)]
    stats = stats_over(store, [call(at) for at in times])

    found = stats.forecast()

    assert (found.month_start.day, found.month_end.month, found.calls) == (1, 4, 113)
    (outlook,) = found.costs
    assert outlook.model_dump() == {
        "currency": "CNY",
        "spent": Decimal(37),
        "expected": Decimal(62),
        "low": Decimal(62),
        "high": Decimal(62),
        "history_days": 56,
        "active_days": 56,
        "by_weekday": False,
        "growing": False,
        "not_enough": None,
    }


@pytest.mark.parametrize(("hour", "left"), [(8, 2), (9, 2), (10, 1), (15, 1), (16, 0), (23, 0)])
def test_the_running_day(hour: int, left: int):
    """
    Of today, what usually comes after this time of the day is still to come, and no more.
    """
    now = NOW.replace(hour=hour)
    done = [at for at in (*days_back([0], hour=9), *days_back([0], hour=15)) if at < now]
    past = [*days_back(range(1, 60), hour=9), *days_back(range(1, 60), hour=15)]
    stats = stats_over(MemorySink(), [call(at) for at in (*past, *done)], now)

    (outlook,) = stats.forecast().costs

    # Twelve whole days follow the nineteenth.
    assert outlook.expected == outlook.spent + left + 24


@pytest.mark.parametrize(("minute", "left"), [(0, "1"), (45, "0.25"), (59, "0.0166667")])
def test_the_running_hour(minute: int, left: str):
    """
    Within the hour in which the calls of a day usually come, they are taken as even.
    """
    now = NOW.replace(hour=0, minute=minute)
    past = days_back(range(1, 60), hour=0)

    (outlook,) = stats_over(MemorySink(), [call(at) for at in past], now).forecast().costs

    assert outlook.spent == 18
    assert outlook.expected == pytest.approx(30 + Decimal(left), rel=Decimal("1e-5"))


def test_currencies_are_apart(store: Store):
    """
    Each currency has an outlook of its own, exact to the last digit in what is spent.
    """
    calls = [call(at, "0.000000001") for at in days_back(range(40))]
    calls += [call(at, "2", currency="USD") for at in days_back(range(30))]

    found = stats_over(store, calls).forecast()

    assert {each.currency: each.spent for each in found.costs} == {
        "CNY": Decimal("0.000000019"),
        "USD": Decimal(38),
    }
    assert [each.expected for each in found.costs] == [Decimal("0.000000031"), Decimal(62)]
    assert [each.history_days for each in found.costs] == [38, 28]


def test_groups(store: Store):
    """
    Each function has an outlook, the most expensive one first, and unpriced calls are told.
    """
    calls = [call(at, "1", function="match") for at in days_back(range(60))]
    calls += [call(at, "3", function="chat") for at in days_back(range(5))]
    calls += [call(at, None, function="chat") for at in days_back(range(3))]

    found = stats_over(store, calls).forecast("function")

    assert [(group.key, group.calls, group.unpriced_calls) for group in found.groups] == [
        ({"function": "match"}, 57, 0),
        ({"function": "chat"}, 8, 3),
    ]
    match, chat = (group.costs[0] for group in found.groups)
    assert (match.expected, match.not_enough) == (Decimal(31), None)
    assert (chat.spent, chat.expected, chat.low, chat.high) == (Decimal(15), None, None, None)
    assert chat.not_enough == "3 complete days of history, 14 are needed"
    assert found.unpriced_calls == 3
    text = str(found)
    assert "not enough data: 3 complete days" in text
    assert "without 3 unpriced calls" in text
    assert Forecast.model_validate_json(found.model_dump_json()) == found


def test_many_groups_are_bounded():
    """
    A hundred groups have an outlook; how many more there are is told.
    """
    calls = [call(NOW, str(number), function=f"f{number}") for number in range(1, 131)]

    found = stats_over(MemorySink(), calls).forecast("function")

    assert (len(found.groups), found.groups_left_out) == (100, 30)
    assert found.groups[0].key == {"function": "f130"}
    assert "… and 30 more" in str(found)


def test_days_without_calls_count_as_zero():
    """
    A cost of ten on every second day is five a day.
    """
    calls = [call(at, "10") for at in days_back(range(0, 120, 2))]

    (outlook,) = stats_over(MemorySink(), calls).forecast().costs

    assert (outlook.history_days, outlook.active_days) == (56, 28)
    assert outlook.expected is not None
    assert outlook.spent == 100
    assert abs(outlook.expected - 160) < 15


def test_the_first_day_is_incomplete():
    """
    What began within the history is judged from the day after its first one.
    """
    calls = [call(NOW - timedelta(days=20), "0.01")]
    calls += [call(at, "4") for at in days_back(range(20))]

    (outlook,) = stats_over(MemorySink(), calls).forecast().costs

    assert outlook.history_days == 19
    assert outlook.expected == outlook.spent + 4 * 12


def test_weekdays_are_told_apart_on_enough_days():
    """
    From four whole weeks on, a free weekend is expected to stay free; before, nobody can tell.
    """

    def outlook(days: int):
        times = [at for at in days_back(range(days)) if at.weekday() < 5]
        return stats_over(MemorySink(), [call(at, "5") for at in times]).forecast().costs[0]

    long, short = outlook(60), outlook(26)

    # From Friday the 20th to Tuesday the 31st there are eight working days.
    assert (long.by_weekday, long.expected) == (True, long.spent + 40)
    assert long.low == long.high == long.expected
    assert short.by_weekday is False
    assert short.low is not None
    assert short.high is not None
    assert short.low < short.spent + 40 < short.high


def test_growth_is_carried_on():
    """
    Steady growth goes on, and is told.
    """
    calls = [call(at, str(100 - day)) for day, at in enumerate(days_back(range(60)))]

    (outlook,) = stats_over(MemorySink(), calls).forecast().costs

    assert outlook.growing
    assert outlook.expected is not None
    assert abs(outlook.expected - outlook.spent - sum(range(101, 113))) < 5


@pytest.mark.parametrize(
    ("days", "why"),
    [
        pytest.param([], None, id="no calls"),
        pytest.param([0], "0 complete days of history, 14 are needed", id="today alone"),
        pytest.param(range(10), "8 complete days of history, 14 are needed", id="nine days"),
        pytest.param(
            [1, 5, 30, 40], "calls on 3 days of 39, 5 are needed", id="few days with calls"
        ),
    ],
)
def test_not_enough_data(store: Store, days: Iterable[int], why: str | None):
    """
    Too little to judge by is said to be too little, and what is spent is still told.
    """
    found = stats_over(store, [call(at) for at in days_back(days)]).forecast()

    assert [each.not_enough for each in found.costs] == ([why] if why else [])
    assert all(each.expected is each.low is each.high is None for each in found.costs)
    assert ("not enough data" in str(found)) == bool(why)
    assert ("no costs since" in str(found)) == (not why)


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("month", [3, 4, 10, 11])
def test_days_of_a_zone(zone: str, month: int):
    """
    One call at each local midnight and one just before is two a day, also where clocks change.
    """
    tz = ZoneInfo(zone)
    now = datetime(2026, month, 20, 12, 0, tzinfo=tz)
    calls: list[CallRecord] = []
    for back in range(60):
        day = now.date() - timedelta(days=back)
        calls.append(call(day_start(day, tz)))
        if back:
            calls.append(call(day_start(day + timedelta(1), tz) - timedelta(seconds=1)))

    found = stats_over(MemorySink(), calls, now, tz=zone).forecast()

    (outlook,) = found.costs
    # Calls at the edges of days: one too many or too few in any of them would spread.
    last = (found.month_end - timedelta(hours=3)).day
    assert outlook.spent == 39
    assert outlook.low == outlook.high == 2 * last
    assert found.month_start == datetime(2026, month, 1, tzinfo=tz)


def test_the_scope_confines(store: Store):
    """
    Within a scope, nothing of another organisation takes part.
    """
    calls = [call(at, "1", org_id="a") for at in days_back(range(60))]
    calls += [call(at, "500", org_id="b") for at in days_back(range(60))]
    stats = stats_over(store, calls)

    found = stats.scoped("a").forecast("org_id", {"org_id": ["a", "b"]})

    assert found.scope == "a"
    assert [group.key for group in found.groups] == [{"org_id": "a"}]
    assert found.costs == found.groups[0].costs == stats.forecast(where={"org_id": "a"}).costs


@pytest.mark.parametrize(
    "options", [{"level": 1}, {"level": 0.3}, {"level": "0.8"}, {"history_days": 3}, {"by": "cost"}]
)
def test_bad_options(options: dict):
    """
    A level that is no probability, too little history and unknown fields are refused.
    """
    with pytest.raises(InvalidValue):
        Stats(MemorySink()).forecast(**options)


# Intervals


def _even(random: Random, days: int) -> list[float]:
    return [random.gammavariate(4, 25) for _ in range(days)]


def _skewed(random: Random, days: int) -> list[float]:
    return [math.exp(random.gauss(3, 0.8)) for _ in range(days)]


def _sparse(random: Random, days: int) -> list[float]:
    return [random.gammavariate(2, 50) * (random.random() < 0.35) for _ in range(days)]


def _weekly(random: Random, days: int) -> list[float]:
    return [(100 if day % 7 < 5 else 15) * random.gammavariate(8, 1 / 8) for day in range(days)]


def _persistent(random: Random, days: int) -> list[float]:
    found, state = list[float](), 0.0
    for _ in range(days):
        state = 0.6 * state + random.gauss(0, 20)
        found.append(max(0.0, 100 + state))
    return found


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("history", [28, 56])
@pytest.mark.parametrize("usage", [_even, _skewed, _sparse, _weekly, _persistent])
def test_the_interval_covers_what_it_says(
    usage: Callable[[Random, int], list[float]], history: int, level: float
):
    """
    Over many histories the sum of the days to come lies in the interval about as often as stated.
    """
    random = Random(20260319)
    runs, to_come = 300, 12
    first = MONDAY + timedelta(days=history)
    tail = (1 - level) / 2
    inside = 0
    for _ in range(runs):
        days = usage(random, history + to_come)
        ahead = learn(MONDAY, days[:history]).ahead(
            [(first + timedelta(days=number), 1.0) for number in range(to_come)]
        )
        inside += ahead.quantile(tail) <= sum(days[history:]) <= ahead.quantile(1 - tail)

    # The spread that 300 runs have by themselves is 2.3 points.
    assert level - 0.08 <= inside / runs <= level + 0.13


@example(daily=[0.0] * 13 + [5e-320, 1e12], shares=[5e-324])
@example(daily=[0.0] * 30 + [1e12], shares=[1e-300])
@given(
    daily=st.lists(st.floats(0, 1e12), min_size=14, max_size=80),
    shares=st.lists(st.floats(0, 1), max_size=40),
)
def test_intervals_are_in_order(daily: list[float], shares: list[float]):
    """
    Whatever the history: nothing negative, nothing that is no number, low before high.
    """
    ahead = learn(MONDAY, daily).ahead(
        [(MONDAY + timedelta(days=len(daily) + at), share) for at, share in enumerate(shares)]
    )

    low, middle, high = (ahead.quantile(share) for share in (0.1, 0.5, 0.9))
    assert 0 <= low <= middle <= high < math.inf
    assert 0 <= ahead.mean < math.inf


def test_a_certain_sum():
    """
    Without a spread every quantile is the sum itself, and a sum below nothing is nothing.
    """
    assert Ahead(5.0, 0.0, 20).quantile(0.9) == 5.0
    assert Ahead(-1.0, 3.0, 20).quantile(0.9) == 0.0


# Budgets

HISTORY = {date(2026, 2, 1) + timedelta(days=number): 100 for number in range(46)}
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


def ask(**options) -> RunsOut:
    given = {"used": 1850, "daily": HISTORY, "until": APRIL, "now": NOW, **options}
    return runs_out(**given)


@pytest.mark.parametrize(
    ("limit", "day"),
    [
        pytest.param(1850, date(2026, 3, 19), id="used up"),
        pytest.param(1900, date(2026, 3, 19), id="with the rest of today"),
        pytest.param(1901, date(2026, 3, 20), id="tomorrow"),
        pytest.param(2000, date(2026, 3, 20), id="at the end of tomorrow"),
        pytest.param(3100, date(2026, 3, 31), id="the last day"),
        pytest.param(3101, None, id="lasts"),
    ],
)
def test_the_day_a_budget_runs_out(limit: int, day: date | None):
    """
    Even use reaches the limit on the day that the sum says, and half of today is still to come.
    """
    found = ask(limit=limit)

    assert (found.day, found.earliest, found.latest) == (day, day, day)
    assert (found.expected, found.not_enough) == (Decimal(3100), None)
    assert RunsOut.model_validate_json(found.model_dump_json()) == found
    assert ("lasts" in str(found)) == (day is None)


def test_a_budget_without_an_end():
    """
    A total budget is looked at for a year.
    """
    assert ask(limit=5000, until=None).day == date(2026, 4, 19)
    assert ask(limit=5000, until=None).expected is None
    assert ask(limit=10**6, until=None).day is None


def test_an_uncertain_day():
    """
    Uneven use gives a range of days around the expected one.
    """
    random = Random(1)
    daily = {day: round(random.gammavariate(2, 50)) for day in HISTORY}

    found = ask(limit=2600, daily=daily)

    assert found.earliest is not None
    assert found.day is not None
    assert found.latest is not None
    assert found.earliest < found.day < found.latest


def test_the_range_of_days_covers_what_it_says():
    """
    Over many histories the day on which the limit is reached lies in the range as often as stated.
    """
    random = Random(7)
    runs, inside = 300, 0
    for _ in range(runs):
        days = [Decimal(round(each, 2)) for each in _even(random, 70)]
        daily = {MONDAY + timedelta(days=number): each for number, each in enumerate(days[:40])}
        today = MONDAY + timedelta(days=40)
        now = datetime(today.year, today.month, today.day, tzinfo=UTC)
        found = runs_out(used=0, limit=1200, daily=daily, until=None, now=now)
        total, at = Decimal(0), 40
        while total < 1200:
            total += days[at]
            at += 1
        reached = MONDAY + timedelta(days=at - 1)
        assert found.earliest is not None
        inside += found.earliest <= reached <= (found.latest or reached)

    # Days are whole, so the range is rounded outwards.
    assert 0.74 <= inside / runs <= 0.97


def test_too_little_history_for_a_budget():
    """
    Without enough days there is no day, only what is known: that it is used up already.
    """
    few = dict(list(HISTORY.items())[-6:])

    open_, spent = ask(limit=9999, daily=few), ask(limit=5, daily=few)

    assert (open_.day, open_.earliest, open_.expected) == (None, None, None)
    assert open_.not_enough == "6 complete days of history, 14 are needed"
    assert "no forecast" in str(open_)
    assert spent.day == NOW.date()


def test_today_is_no_history():
    """
    What was used today is in the sum used, and not taken for a whole day.
    """
    assert ask(limit=2000, daily={**HISTORY, NOW.date(): 10**6}).day == date(2026, 3, 20)


def test_a_changing_clock():
    """
    On a day of 23 hours half past twelve has a share of its own left.
    """
    zone = ZoneInfo("America/New_York")
    now = datetime(2026, 3, 8, 12, 30, tzinfo=zone)
    until = datetime(2026, 3, 9, tzinfo=zone)

    found = ask(used=0, limit=10**6, now=now, until=until, tz=zone)

    assert found.expected == Decimal(str(round(100 * 11.5 / 23, 4)).rstrip("0").rstrip("."))


@pytest.mark.parametrize(
    "options",
    [
        {"used": -1},
        {"limit": -1},
        {"used": Decimal("NaN")},
        {"now": datetime(2026, 3, 1)},
        {"until": datetime(2026, 3, 1)},
        {"level": 0.1},
        {"tz": "Moon/Base"},
    ],
)
def test_bad_budgets(options: dict):
    """
    Negative amounts, times without a zone and unknown zones are refused.
    """
    with pytest.raises(InvalidValue):
        ask(**{"limit": 5, **options})
