"""Reports: what they add up to, and what no filter can reach."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue
from ai_ledger.pricing.convert import Rates
from ai_ledger.query import AnyOf, Between, Contains, Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks import CostChange, Store, open_sink
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.stats import (
    CallDetail,
    CallPage,
    Converted,
    Figures,
    Stats,
    Summary,
    Tokens,
    Trend,
)
from ai_ledger.totals import bucket_duration_ms, duration_bucket

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
ZONES = ["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York", "Pacific/Apia"]


def make(number: int, **fields) -> CallRecord:
    at = fields.pop("started_at", NOW - timedelta(minutes=number))
    return CallRecord(id=f"call-{number:04}", started_at=at, **fields)


CALLS = [
    make(
        1,
        user_id="ann",
        org_id="a",
        request_model="qwen-plus",
        function="match",
        provider="dashscope",
        input_tokens=100,
        cache_read_tokens=40,
        output_tokens=20,
        usage_source="reported",
        cost=Decimal("0.08"),
        currency="CNY",
        duration_ms=100,
        session_id="s1",
        device_id="d1",
        tags={"anchor_id": "x"},
        request_content="canary question",
    ),
    make(
        2,
        user_id="ann",
        org_id="a",
        request_model="gpt-4",
        function="match",
        input_tokens=10,
        output_tokens=5,
        reasoning_tokens=2,
        usage_source="estimated",
        cost=Decimal("0.0006"),
        currency="USD",
        duration_ms=900,
        time_to_first_token_ms=30,
        streamed=True,
        session_id="s1",
    ),
    make(
        90,
        user_id="bob",
        org_id="b",
        request_model="qwen-plus",
        usage_source="reported",
        input_tokens=1,
        output_tokens=1,
        cost=Decimal("0.0000004"),
        currency="CNY",
        duration_ms=10,
        retries=2,
    ),
    make(60 * 24 * 3, org_id="b", request_model="new-model", status="timeout", error_type="E"),
]


@pytest.fixture
def stats(store: Store) -> Stats:
    store.write(CALLS)
    return Stats(store, clock=lambda: NOW)


def ids(page: CallPage) -> list[str]:
    return [call.id for call in page.calls]


def within_a_bucket(duration_ms: float) -> float:
    return round(bucket_duration_ms(duration_bucket(duration_ms)), 3)


def test_summary(stats):
    """
    A summary counts calls, tokens, money and time, and says what it does not know.
    """
    assert stats.summary() == Summary(
        calls=4,
        by_status={"success": 3, "timeout": 1},
        success_rate=0.75,
        tokens=Tokens(
            input=111,
            cache_read=40,
            cache_write=0,
            audio_input=0,
            output=26,
            reasoning=2,
            audio_output=0,
            total=137,
        ),
        cost={"CNY": Decimal("0.0800004"), "USD": Decimal("0.0006")},
        unpriced_calls=1,
        average_duration_ms=336.667,
        p50_duration_ms=within_a_bucket(100),
        p95_duration_ms=within_a_bucket(900),
        p99_duration_ms=within_a_bucket(900),
        average_time_to_first_token_ms=30,
        estimated_calls=1,
        estimated_share=0.25,
        unknown_usage_calls=1,
        unattributed_calls=1,
        unattributed_share=0.25,
        retries=2,
        since=None,
        until=None,
        tz="UTC",
        scope=None,
        by=(),
        groups=(),
    )


def test_summary_of_nothing(stats):
    """
    Without calls, shares and averages are unknown and nothing is divided by zero.
    """
    summary = stats.summary(where={"user_id": "nobody"}, by="model")

    assert (summary.calls, summary.success_rate, summary.unattributed_share) == (0, None, None)
    assert (summary.p95_duration_ms, summary.cost, summary.groups) == (None, {}, ())
    assert str(summary) == (
        "all time\nno calls\n\nrequest_model  calls  success  in  out  p95  cost"
    )


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        pytest.param(
            "model",
            [
                ({"request_model": "qwen-plus"}, 2),
                ({"request_model": "gpt-4"}, 1),
                ({"request_model": "new-model"}, 1),
            ],
            id="alias",
        ),
        pytest.param(
            ["org_id", "status"],
            [
                ({"org_id": "a", "status": "success"}, 2),
                ({"org_id": "b", "status": "success"}, 1),
                ({"org_id": "b", "status": "timeout"}, 1),
            ],
            id="two fields",
        ),
        pytest.param(
            "tags.anchor_id",
            [({"tags.anchor_id": None}, 3), ({"tags.anchor_id": "x"}, 1)],
            id="tag",
        ),
        pytest.param(
            "user_id",
            [({"user_id": "ann"}, 2), ({"user_id": "bob"}, 1), ({"user_id": None}, 1)],
            id="unset comes last among equals",
        ),
    ],
)
def test_groups(stats, by, groups):
    """
    Groups are by fields, aliases or tags, most calls first.
    """
    summary = stats.summary(by=by)

    assert [(group.key, group.calls) for group in summary.groups] == groups


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"model": "gpt-4"}, [2]),
        ({"user_id": None}, [4320]),
        ({"user_id": ["bob", None]}, [90, 4320]),
        ({"input_tokens": Between(at_least=10)}, [1, 2]),
        ({"request_model": Contains("mod")}, [4320]),
        ({"tags.anchor_id": "x"}, [1]),
        ({"cost": AnyOf((None,))}, [4320]),
        ({"site_id": "a", "function": "match"}, [1, 2]),
    ],
)
def test_where(stats, where, found):
    """
    A filter means the same for sums and for calls.
    """
    assert ids(stats.calls(where)) == [f"call-{number:04}" for number in found]
    assert stats.summary(where=where).calls == len(found)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        (5, "where"),
        ([("user_id", "u")], "where"),
        ({"duration_ms": Between(at_least="x")}, "duration_ms"),
        ({"cost": Between(below=True)}, "cost"),
        ({"cost": Between(below=Decimal("nan"))}, "cost"),
    ],
)
def test_a_where_that_is_none(stats, where, named):
    """
    What is no filter is refused by name, whatever the store.
    """
    for ask in (stats.summary, stats.calls):
        with pytest.raises(InvalidValue, match=f"^{named}="):
            ask(where=where)


def test_current(stats):
    """
    This hour and today end now and begin with the clock.
    """
    current = stats.current()

    assert (current.hour.calls, current.today.calls) == (2, 3)
    assert (current.hour.since, current.hour.until) == (
        NOW.replace(minute=0),
        NOW.replace(minute=0) + timedelta(hours=1),
    )
    # In Kathmandu it is 18:15: the hour began at 18:00 and so at 12:15 UTC.
    assert stats.in_zone("Asia/Kathmandu").current().hour.since == NOW.replace(minute=15)


def test_daily(stats):
    """
    The last days include today, and days without calls are there with zeros.
    """
    daily = stats.daily(4, by="model")

    assert [(f"{point.start:%m-%d}", point.calls) for point in daily.points] == [
        ("03-07", 1),
        ("03-08", 0),
        ("03-09", 0),
        ("03-10", 3),
    ]
    assert [group.key["request_model"] for group in daily.points[3].groups] == [
        "qwen-plus",
        "gpt-4",
    ]
    assert (
        daily.total.model_dump()
        == Figures.model_validate(
            stats.summary().model_dump(include=set(Figures.model_fields))
        ).model_dump()
    )
    assert [group.calls for group in daily.groups] == [2, 1, 1]


def test_hourly_and_monthly(stats):
    """
    Hours end with this one; a month has all its days.
    """
    hourly = stats.hourly(3)
    monthly = stats.monthly(2026, 3)

    assert [(f"{point.start:%H:%M}", point.calls) for point in hourly.points] == [
        ("10:00", 0),
        ("11:00", 1),
        ("12:00", 2),
    ]
    assert (len(monthly.points), monthly.total.calls) == (31, 4)
    assert stats.monthly(2026, 2).total.calls == 0


def test_trend_by_month(stats):
    """
    By month, whole months reach back as far as the days asked for.
    """
    trend = stats.trend(days=40, bucket="month")

    assert [(f"{point.start:%Y-%m}", point.calls) for point in trend.points] == [
        ("2026-01", 0),
        ("2026-02", 0),
        ("2026-03", 4),
    ]


instants = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(
        st.tuples(st.timedeltas(timedelta(0), timedelta(days=12)), st.integers(0, 10**12)),
        max_size=30,
    ),
    instants,
    st.sampled_from(ZONES),
    st.integers(1, 10),
    st.sampled_from(["day", "hour"]),
)
def test_parts_add_up(ages, now, tz, days, bucket):
    """
    The days, or hours, of a range add up to the range, in every zone and at every change.
    """
    store = MemorySink()
    store.write(
        [
            make(number, started_at=now - age, cost=Decimal(nano).scaleb(-9), currency="USD")
            for number, (age, nano) in enumerate(ages)
        ]
    )
    stats = Stats(store, tz=tz, clock=lambda: now)
    trend = stats.trend(days, bucket)
    whole = stats.summary(trend.points[0].start, trend.points[-1].end)

    assert all(one.end == two.start for one, two in pairwise(trend.points))
    assert sum(point.calls for point in trend.points) == whole.calls == trend.total.calls
    total = sum((point.cost.get("USD", Decimal(0)) for point in trend.points), Decimal(0))
    assert total == whole.cost.get("USD", Decimal(0))
    assert trend.total.model_dump() == whole.model_dump(include=set(Figures.model_fields))


def test_all_stores_answer_alike(tmp_path):
    """
    A folder of files and a database answer what a list in memory answers.
    """
    random = Random(7)
    records = [
        make(
            number,
            started_at=NOW - timedelta(minutes=random.randrange(60 * 24 * 9)),
            org_id=random.choice(["a", "b", None]),
            user_id=random.choice(["ann", "bob", "", None]),
            request_model=random.choice(["qwen-plus", "模型", "A", "a"]),
            status=random.choice(["success", "failed", "unfinished", "blocked"]),
            input_tokens=random.choice([None, 0, 7, 10**12]),
            cost=(cost := random.choice([None, Decimal(random.randrange(10**9)).scaleb(-9)])),
            currency=None if cost is None else random.choice(["CNY", "USD"]),
            duration_ms=random.choice([None, random.uniform(0, 10**6)]),
            usage_source=random.choice(["reported", "estimated", "unknown"]),
            tags=random.choice([{}, {"k": "v"}, {"k": "w"}]),
        )
        for number in range(300)
    ]
    answers = []
    for url in ("memory:", f"jsonl:///{tmp_path}/folder", f"sqlite:///{tmp_path}/ledger.db"):
        store = open_sink(url)
        store.write(records)
        stats = Stats(store, scope="a", tz="Australia/Lord_Howe", clock=lambda: NOW)
        answers.append(
            [
                stats.summary(by=["model", "tags.k"]),
                stats.summary(since=NOW - timedelta(days=3), where={"user_id": ["ann", None]}),
                stats.hourly(50, by="user_id"),
                stats.daily(9, where={"tags.k": "v"}, by=["status", "model"]),
                stats.trend(60, "month"),
                stats.top("user_id", days=4),
                stats.user("ann", days=5),
                stats.calls({"cost": Between(below=1)}, page=2, page_size=7, order="cost"),
            ]
        )
        getattr(store, "close", lambda: None)()

    assert answers[1] == answers[0]
    assert answers[2] == answers[0]


def test_top(stats):
    """
    Rankings are by cost, calls or tokens; totals are those of all values.
    """
    by_calls = stats.top("model", limit=1, by="calls")
    by_tokens = stats.top("model", limit=2, by="tokens")

    assert [group.key["request_model"] for group in by_calls.rows] == ["qwen-plus"]
    assert (by_calls.values, by_calls.total.calls) == (3, 4)
    assert [group.tokens.total for group in by_tokens.rows] == [122, 15]


def test_top_by_cost_takes_currencies_in_turn():
    """
    Amounts of two currencies are never compared: each has a ranking, taken in turn.
    """
    store = MemorySink()
    costs = {"a": "9 CNY", "b": "8 CNY", "c": "7 CNY", "d": "0.2 USD", "e": "0.1 USD", "f": None}
    for number, (user, cost) in enumerate(costs.items()):
        amount, currency = cost.split() if cost else (None, None)
        store.write(
            [make(number, user_id=user, cost=amount and Decimal(amount), currency=currency)]
        )
    top = Stats(store, clock=lambda: NOW).top("user_id")

    assert [group.key["user_id"] for group in top.rows] == ["a", "d", "b", "e", "c", "f"]


def test_top_of_days(stats):
    """
    Only the last days count, or all time.
    """
    assert stats.top("model", days=1).total.calls == 3
    assert stats.top("model", days=None).total.calls == 4


def test_profiles(stats):
    """
    A user, a device and a session are told with their models, functions and days.
    """
    user = stats.user("ann", days=2)
    session = stats.session("s1")
    device = stats.device("d1")

    assert [(group.key["request_model"], group.calls) for group in user.summary.groups] == [
        ("gpt-4", 1),
        ("qwen-plus", 1),
    ]
    assert [point.calls for point in user.daily.points] == [0, 2]
    assert (user.first_call_at, user.last_call_at) == (
        NOW - timedelta(minutes=2),
        NOW - timedelta(minutes=1),
    )
    assert (session.summary.calls, session.summary.since, session.daily) == (2, None, None)
    assert (device.summary.calls, device.functions[0].key) == (1, {"function": "match"})


def test_pages(stats):
    """
    Pages follow each other, know the total, and leave prompts out unless asked.
    """
    pages = [stats.calls(page=page, page_size=3) for page in (1, 2, 3)]

    assert [ids(page) for page in pages] == [
        ["call-0001", "call-0002", "call-0090"],
        ["call-4320"],
        [],
    ]
    assert [(page.total, page.pages) for page in pages] == [(4, 2)] * 3
    assert pages[0].calls[0] == CALLS[0].replace(request_content=None)
    assert stats.calls(content=True).calls[0] == CALLS[0]
    assert ids(stats.calls(order="duration_ms", page_size=2)) == ["call-0002", "call-0001"]


def test_far_page_is_not_walked_to(stats, store, monkeypatch):
    """
    A page a thousand million pages away costs nothing.
    """
    monkeypatch.setattr(store, "calls", lambda *_, **__: pytest.fail("asked"), raising=True)

    assert ids(stats.calls(page=10**9, page_size=1000)) == []


def test_deleted_calls(stats, store):
    """
    Deleted calls are in no sum, and can be listed by themselves.
    """
    store.delete(Query.build(scope=None, where={"user_id": "bob"}), at=NOW)

    assert stats.summary().calls == 3
    assert ids(stats.calls(deleted=True)) == ["call-0090"]
    assert stats.call("call-0090").call.deleted_at == NOW


def test_call(stats, store):
    """
    One call comes whole, with the costs that it had before.
    """
    change = CostChange(
        call_id="call-4320",
        corrected_at=NOW,
        old_cost=None,
        old_currency=None,
        old_price_id=None,
        cost=Decimal("0.3"),
        currency="CNY",
        price_id="p",
    )
    store.correct_costs([change])
    detail = stats.call("call-4320")

    assert detail == CallDetail(
        call=CALLS[3].replace(cost=Decimal("0.3"), currency="CNY", price_id="p"),
        corrections=(change,),
    )
    assert stats.call("nothing") is None


ESCAPES: list[tuple[str, Callable[[Stats], int]]] = [
    ("summary", lambda stats: stats.summary(where={"org_id": "b"}).calls),
    ("alias", lambda stats: stats.summary(where={"site_id": "b"}).calls),
    ("any of", lambda stats: stats.summary(where={"org_id": ["b", None]}).calls),
    ("contains", lambda stats: stats.summary(where={"org_id": Contains("b")}).calls),
    ("current", lambda stats: stats.current({"org_id": "b"}).today.calls),
    ("hourly", lambda stats: stats.hourly(24, {"org_id": "b"}).total.calls),
    ("daily", lambda stats: stats.daily(7, {"org_id": "b"}).total.calls),
    ("monthly", lambda stats: stats.monthly(2026, 3, {"org_id": "b"}).total.calls),
    ("days", lambda stats: stats.days(NOW.date(), NOW.date(), {"org_id": "b"}).total.calls),
    ("trend", lambda stats: stats.trend(where={"org_id": "b"}).total.calls),
    ("top", lambda stats: stats.top("user_id", where={"org_id": "b"}).values),
    ("groups", lambda stats: len(stats.summary(by="org_id").groups) - 1),
    ("forecast", lambda stats: stats.forecast("org_id", {"org_id": "b"}).calls),
    ("suggestions", lambda stats: stats.suggestions(7, {"org_id": "b"}).looked_at),
    ("user", lambda stats: stats.user("bob").summary.calls),
    ("device", lambda stats: stats.device("d2").summary.calls),
    ("session", lambda stats: stats.session("s2").summary.calls),
    ("first call", lambda stats: int(stats.user("bob").first_call_at is not None)),
    ("calls", lambda stats: len(stats.calls({"org_id": "b"}).calls)),
    ("browse", lambda stats: len(stats.browse({"org_id": "b"}).calls)),
    ("total", lambda stats: stats.calls({"org_id": "b"}).total),
    ("deleted", lambda stats: stats.calls({"org_id": "b"}, deleted=True).total),
    ("call", lambda stats: int(stats.call("call-0090") is not None)),
]


@pytest.mark.parametrize(("way"), [pytest.param(way, id=name) for name, way in ESCAPES])
def test_no_way_out_of_a_scope(stats, way):
    """
    Reports confined to one organisation show nothing of another, whatever is asked.
    """
    assert way(stats.scoped("a")) == 0


def test_every_report_is_tried_for_a_way_out():
    """
    A new report fails here until its way out of the scope has been tried.
    """
    reports = {name for name in dir(Stats) if not name.startswith("_")}
    tried = {name for name, _ in ESCAPES} | {"export_report"}

    assert reports - tried == {"scope", "scoped", "tz", "in_zone"}


def test_scope_cannot_be_changed(stats):
    """
    A scope is narrowed once and never widened or exchanged.
    """
    confined = stats.scoped("a")

    assert (confined.scope, confined.scoped("a").scope) == ("a", "a")
    assert (confined.in_zone("Asia/Kolkata").scope, Stats(MemorySink(), scope=7).scope) == (
        "a",
        "7",
    )
    for other in ("b", "", None, True):
        with pytest.raises(InvalidValue):
            confined.scoped(other)
    with pytest.raises(AttributeError):
        confined.scope = None


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda s: s.summary(since=datetime(2026, 1, 1)), id="naive since"),
        pytest.param(lambda s: s.calls(until=datetime(2026, 1, 1)), id="naive until"),
        pytest.param(lambda s: s.summary(by="input_tokens"), id="group by a number"),
        pytest.param(lambda s: s.summary(by="user_id; DROP TABLE x"), id="hostile field"),
        pytest.param(lambda s: s.summary(by=""), id="no field"),
        pytest.param(lambda s: s.summary(where={"nothing": 1}), id="unknown filter"),
        pytest.param(lambda s: s.top("user_id", by="name"), id="unknown ranking"),
        pytest.param(lambda s: s.top("user_id", limit=0), id="no rows"),
        pytest.param(lambda s: s.trend(bucket="week"), id="unknown bucket"),
        pytest.param(lambda s: s.trend(3000, "hour"), id="too many hours"),
        pytest.param(lambda s: s.daily(10**9), id="too many days"),
        pytest.param(lambda s: s.calls(page=0), id="page 0"),
        pytest.param(lambda s: s.calls(page_size=10**9), id="page too large"),
        pytest.param(lambda s: s.calls(order="user_id"), id="order by text"),
        pytest.param(lambda s: s.user(None), id="nobody"),
        pytest.param(lambda s: s.in_zone("Nowhere"), id="unknown zone"),
        pytest.param(lambda s: s.summary(currency="CNY"), id="no rates"),
    ],
)
def test_refused(stats, ask):
    """
    What cannot be meant is refused with the name of the field.
    """
    with pytest.raises(InvalidValue):
        ask(stats)


def test_in_one_currency(stats):
    """
    Each day's costs are converted at that day's rate, and what has no rate is named.
    """
    rates = Rates()
    rates.add("2026-03-01", "CNY", "USD", "0.5")
    rates.add("2026-03-10", "CNY", "USD", "0.25")
    summary = stats.summary(by="model", currency="USD", rates=rates)

    assert summary.converted == Converted(
        currency="USD", amount=Decimal("0.0206001"), without_rate={}
    )
    assert summary.cost == {"CNY": Decimal("0.0800004"), "USD": Decimal("0.0006")}
    assert [group.converted.amount for group in summary.groups] == [
        Decimal("0.0200001"),
        Decimal("0.0006"),
        Decimal(0),
    ]
    assert stats.summary(currency="CNY", rates=rates).converted == Converted(
        currency="CNY", amount=Decimal("0.0800004"), without_rate={"USD": Decimal("0.0006")}
    )


def test_rate_of_the_day():
    """
    A rate that changes at midnight converts each side of it with its own.
    """
    midnight = datetime(2026, 3, 10, tzinfo=UTC)
    store = MemorySink()
    store.write(
        [
            make(1, started_at=midnight - timedelta(seconds=1), cost=Decimal(1), currency="USD"),
            make(2, started_at=midnight, cost=Decimal(1), currency="USD"),
        ]
    )
    rates = Rates()
    rates.add("2026-03-01", "USD", "CNY", 7)
    rates.add("2026-03-10", "USD", "CNY", 8)
    stats = Stats(store, tz="Asia/Kolkata", clock=lambda: NOW)

    def amount(since=None, until=None):
        return stats.summary(since, until, currency="CNY", rates=rates).converted.amount

    assert [amount(), amount(since=midnight), amount(until=midnight)] == [15, 8, 7]


def test_json_round_trip(stats):
    """
    Results go to JSON and come back equal; amounts are texts and lose no digit.
    """
    summary = stats.summary(by="user_id")
    trend = stats.daily(2, by="model")
    page = stats.calls(content=True)

    assert Summary.model_validate_json(summary.model_dump_json()) == summary
    assert Trend.model_validate_json(trend.model_dump_json()) == trend
    assert CallPage.model_validate_json(page.model_dump_json()) == page
    assert '"cost":{"CNY":"0.0800004","USD":"0.0006"}' in summary.model_dump_json()


def test_results_are_frozen(stats):
    """
    An answer cannot be changed by accident.
    """
    with pytest.raises(ValueError, match="frozen"):
        stats.summary().calls = 7


def test_summary_as_text(stats):
    """
    A summary prints as a block and a table.
    """
    assert str(stats.summary(by="model")) == (
        "all time\n"
        "calls   4   success 75.0 %   (success 3, timeout 1)\n"
        "tokens  137 = 111 in + 26 out (of which cached 40, reasoning 2)\n"
        "cost    0.0800004 CNY, 0.0006 USD   (unpriced calls: 1)\n"
        "time    average 337 ms   p50 101 ms   p95 882 ms   p99 882 ms   first token 30 ms\n"
        "shares  unattributed 25.0 %   estimated 25.0 %\n"
        "\n"
        "request_model  calls  success   in  out     p95           cost\n"
        "qwen-plus          2  100.0 %  101   21  101 ms  0.0800004 CNY\n"
        "gpt-4              1  100.0 %   10    5  882 ms     0.0006 USD\n"
        "new-model          1    0.0 %    0    0       —     1 unpriced"
    )


def test_all_results_print(stats):
    """
    Every result prints, and nothing that was stored commands the terminal.
    """
    stats._store.write(
        [make(5, request_model="\x1b[31mred\u202e\u2028" + "x" * 500, user_id="模\n型")]
    )
    results = [
        stats.current(),
        stats.hourly(3),
        stats.daily(2, by="user_id"),
        stats.top("model"),
        stats.user("ann"),
        stats.session("s1"),
        stats.calls(),
        stats.call("call-0005"),
        stats.trend(40, "month"),
    ]
    text = "\n".join(map(str, results))

    assert {char for char in text if char < " " or char in "\x7f\u202e\u2028"} == {"\n"}
    assert max(map(len, text.splitlines())) < 250
    assert r"\x1b[31mred\u202e\u2028" in text
