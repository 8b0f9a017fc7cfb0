"""The overview: its numbers are those of the calls, and it shows nobody more than is theirs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.journal import Journal, Limits
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app

FAILED = ("failed", "timeout", "circuit_open")
CALLS = sample.calls()


def within(calls: Sequence[CallRecord], since: datetime, until: datetime) -> list[CallRecord]:
    return [call for call in calls if since <= call.started_at < until]


def costs_of(calls: Sequence[CallRecord]) -> dict[str, str]:
    """Sums by currency, as JSON has them."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for call in calls:
        if call.cost is not None and call.currency is not None:
            sums[call.currency] += call.cost
    return {code: f"{amount.normalize():f}" for code, amount in sorted(sums.items())}


def facts_of(calls: Sequence[CallRecord]) -> dict[str, Any]:
    """What the dashboard should say of *calls*, added up by hand."""
    statuses = Counter(call.status for call in calls)
    durations = [call.duration_ms or 0.0 for call in calls]
    return {
        "calls": len(calls),
        "by_status": dict(sorted(statuses.items())),
        "success_rate": statuses["success"] / len(calls) if calls else None,
        "tokens": sum((call.input_tokens or 0) + (call.output_tokens or 0) for call in calls),
        "cost": costs_of(calls),
        "unpriced": sum(call.cost is None for call in calls),
        "average": round(sum(durations) / len(calls), 3) if calls else None,
    }


def told(figures: dict[str, Any]) -> dict[str, Any]:
    """The same facts, as the dashboard tells them."""
    return {
        "calls": figures["calls"],
        "by_status": figures["by_status"],
        "success_rate": figures["success_rate"],
        "tokens": figures["tokens"]["total"],
        "cost": plain(figures["cost"]),
        "unpriced": figures["unpriced_calls"],
        "average": figures["average_duration_ms"],
    }


def plain(costs: dict[str, str]) -> dict[str, str]:
    return {code: f"{Decimal(amount).normalize():f}" for code, amount in costs.items()}


def failures(calls: Sequence[CallRecord]) -> int:
    return sum(call.status in FAILED for call in calls)


@pytest.mark.parametrize("org", [None, "acme", "globex"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kolkata"])
def test_today_is_compared_with_yesterday_by_this_time(
    filled: Ledger, visitor: Visitor, zone: str, org: str | None
) -> None:
    """
    Today, yesterday up to the same time of day and yesterday whole are sums of the calls.
    """
    calls = [call for call in CALLS if org in (None, call.org_id)]
    now = sample.NOW.astimezone(ZoneInfo(zone))
    midnight = now.replace(hour=0, minute=0)
    before, day = midnight - timedelta(days=1), timedelta(days=1)

    today = visitor(org_id=org).get(f"/api/v1/dashboard?tz={zone}").json()["today"]

    assert told(today["so_far"]) == facts_of(within(calls, midnight, midnight + day))
    assert told(today["yesterday_by_this_time"]) == facts_of(within(calls, before, now - day))
    assert told(today["yesterday"]) == facts_of(within(calls, before, midnight))
    assert today["failed"] == failures(within(calls, midnight, midnight + day))
    assert today["yesterday_failed_by_this_time"] == failures(within(calls, before, now - day))
    assert today["day"] == now.date().isoformat()


@pytest.mark.parametrize("org", [None, "acme"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("days", [1, 3, 7])
def test_the_trend_and_the_shares_are_sums_of_the_calls(
    filled: Ledger, visitor: Visitor, days: int, zone: str, org: str | None
) -> None:
    """
    Every point, every amount of a model and every share, in every currency by itself.
    """
    now = sample.NOW.astimezone(ZoneInfo(zone))
    since = now.replace(hour=0, minute=0) - timedelta(days=days - 1)
    calls = [call for call in CALLS if org in (None, call.org_id) and call.started_at >= since]

    board = visitor(org_id=org).get(f"/api/v1/dashboard?tz={zone}&days={days}").json()

    points = [
        within(calls, datetime.fromisoformat(p["start"]), datetime.fromisoformat(p["end"]))
        for p in board["trend"]
    ]
    assert sum(map(len, points)) == len(calls)
    assert [point["calls"] for point in board["trend"]] == [len(each) for each in points]
    assert [point["failed"] for point in board["trend"]] == [failures(each) for each in points]
    assert [plain(point["cost"]) for point in board["trend"]] == [costs_of(each) for each in points]
    assert told(board["total"]) == facts_of(calls)
    assert board["failed"] == failures(calls)
    assert board["bucket"] == ("hour" if days == 1 else "day")
    for trend in board["cost_by_model"]:
        code = trend["currency"]
        assert Decimal(trend["total"]) == Decimal(costs_of(calls)[code])
        for model in trend["models"]:
            mine = [[c for c in each if c.request_model == model["model"]] for each in points]
            assert [Decimal(amount) for amount in model["cost"]] == [
                Decimal(costs_of(each).get(code, "0")) for each in mine
            ]
    for field, name in (("function", "by_function"), ("request_model", "by_model")):
        shares = board[name]
        assert {each["value"]: int(each["number"]) for each in shares["calls"]} == Counter(
            getattr(call, field) for call in calls
        )
        assert {
            (each["value"], code): Decimal(each["number"])
            for code, slices in shares["cost"].items()
            for each in slices
        } == {
            (value, code): Decimal(amount)
            for value in {getattr(call, field) for call in calls}
            for code, amount in costs_of([c for c in calls if getattr(c, field) == value]).items()
        }


@pytest.mark.parametrize("org", [None, "globex"])
def test_services_tell_their_last_call(filled: Ledger, visitor: Visitor, org: str | None) -> None:
    """
    Functions and providers: calls, failures, and the newest call of the period.
    """
    since = sample.NOW.replace(hour=0, minute=0) - timedelta(days=2)
    calls = [call for call in CALLS if org in (None, call.org_id) and call.started_at >= since]

    board = visitor(org_id=org).get("/api/v1/dashboard?days=3").json()

    for field, name in (("function", "functions"), ("provider", "providers")):
        found = {each["value"]: each for each in board[name]["services"]}
        assert found.keys() == {getattr(call, field) for call in calls}
        for value, service in found.items():
            mine = [call for call in calls if getattr(call, field) == value]
            newest = max(mine, key=lambda call: call.started_at)
            assert (service["calls"], service["failed"]) == (len(mine), failures(mine))
            assert (service["last_call_id"], service["last_status"]) == (newest.id, newest.status)
            assert datetime.fromisoformat(service["last_call_at"]) == newest.started_at
            assert service["breaker"] is None


def test_many_models_are_the_largest_and_the_others(ledger: Ledger, visitor: Visitor) -> None:
    """
    Seven models have their names, the rest is added up; no currency is added to another.
    """
    calls = [
        sample.call(
            number,
            id=f"m-{number}",
            started_at=sample.NOW - timedelta(minutes=number + 1),
            request_model=f"model-{number}",
            cost=Decimal(20 - number),
            currency="CNY" if number < 10 else "JPY",
            price_id="p",
        )
        for number in range(12)
    ]
    ledger.store.write(calls)

    board = visitor().get("/api/v1/dashboard?days=1").json()

    cny, jpy = board["cost_by_model"]
    assert [model["model"] for model in cny["models"]] == [f"model-{n}" for n in range(7)] + [None]
    assert (cny["models"][-1]["others"], Decimal(cny["models"][-1]["total"])) == (True, 36)
    assert [Decimal(cny["total"]), Decimal(jpy["total"])] == [155, 19]
    assert [model["model"] for model in jpy["models"]] == ["model-10", "model-11"]
    assert board["by_model"]["values"] == 12
    assert sum(each["share"] for each in board["by_model"]["calls"]) == pytest.approx(1)


def test_a_reader_of_one_organisation_sees_nothing_of_another(
    filled: Ledger, visitor: Visitor, tmp_path: Path
) -> None:
    """
    Neither its names, nor budgets, nor where and how the ledger is delivered.
    """
    filled.store.write(
        [
            sample.call(
                1000 + number,
                org_id="secret-org",
                function="secret-function",
                provider="secret-provider",
                request_model="secret-model",
                currency="XAU",
                cost=Decimal(5),
                price_id="x",
                started_at=sample.NOW - timedelta(hours=number),
            )
            for number in range(5)
        ]
    )
    client = visitor(org_id="acme", role="viewer")

    for path in ("/", "/overview/board?days=30", "/api/v1/dashboard?days=30", "/api/v1/health"):
        answer = client.get(path)
        assert answer.status_code == 200
        for hidden in ("secret", "XAU", "globex", str(tmp_path)):
            assert hidden not in answer.text
    assert client.get("/api/v1/dashboard").json()["delivery"] is None
    assert client.get("/api/v1/health").json()["delivery"] is None


def test_two_dates_are_a_period(filled: Ledger, visitor: Visitor) -> None:
    """
    Both days are included, and the page has them in its address and its fields.
    """
    board = visitor().get("/api/v1/dashboard?first=2026-05-15&last=2026-05-17").json()
    page = visitor().get("/?first=2026-05-15&last=2026-05-17").text

    assert (board["first"], board["last"], len(board["trend"])) == ("2026-05-15", "2026-05-17", 3)
    assert board["total"]["calls"] == sum(
        date(2026, 5, 15) <= call.started_at.date() <= date(2026, 5, 17) for call in CALLS
    )
    assert 'value="2026-05-15"' in page
    assert "first=2026-05-15&amp;last=2026-05-17" in page


@pytest.mark.parametrize(
    "query",
    [
        "days=0",
        "days=367",
        "days=seven",
        "days=" + "9" * 400,
        "first=2026-05-20&last=2026-05-10",
        "first=2020-01-01&last=2026-05-20",
        "first=yesterday",
        "first=9999-12-31&last=9999-12-31",
        "days=%00",
    ],
)
def test_a_period_that_cannot_be_is_refused(filled: Ledger, visitor: Visitor, query: str) -> None:
    """
    By the page, its part and the API, with what would be right.
    """
    client = visitor()

    answers = [
        client.get(f"{path}?{query}") for path in ("/", "/overview/board", "/api/v1/dashboard")
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("days", [1, 30])
def test_the_page_stands_in_both_languages(
    filled: Ledger, visitor: Visitor, language: str, days: int
) -> None:
    """
    With its figures, charts, tables and the part that renews itself.
    """
    client = visitor()
    page = client.get(f"/?days={days}", headers={"Accept-Language": language})
    part = client.get(
        f"/overview/board?days={days}",
        headers={"Accept-Language": language, "HX-Request": "true"},
    )

    assert (page.status_code, part.status_code) == (200, 200)
    assert ("As of 09:30:00" if language == "en" else "数据截至 09:30:00") in page.text
    assert part.text.strip() in page.text
    assert f"/overview/board?days={days}" in page.text
    for name in ("today", "alerts", "budgets", "period", "functions", "providers", "delivery"):
        assert f'id="{name}"' in part.text


def test_more_cost_is_not_good(ledger: Ledger, visitor: Visitor) -> None:
    """
    Twice the cost of yesterday is told in the colour of what is bad; calls in none.
    """
    ledger.store.write(
        [
            sample.call(
                number,
                id=f"c-{number}",
                started_at=sample.NOW - timedelta(hours=hours),
                status="success",
                cost=Decimal(1),
                currency="CNY",
                price_id="p",
            )
            for number, hours in enumerate((1, 2, 25))
        ]
    )

    page = visitor().get("/").text

    cost = page[page.index('id="cost-CNY"') :]
    calls = page[page.index('id="figure-calls"') :]
    assert cost[cost.index('class="change') :].startswith('class="change bad"><b>+100%</b>')
    assert calls[calls.index('class="change') :].startswith('class="change"><span>')


def test_an_empty_ledger_teaches(ledger: Ledger, visitor: Visitor) -> None:
    """
    Three lines that record the first call, with the address of this ledger, and nothing else.
    """
    page = visitor().get("/").text

    assert "TrackedClient(OpenAI()" in page
    assert "ledger.db" in page
    assert "canvas" not in page
    assert 'name="first"' not in page
    assert "ledger.db" not in visitor(org_id="acme").get("/").text


def test_names_are_text(ledger: Ledger, visitor: Visitor) -> None:
    """
    Markup in names of functions, providers and models is shown, not run.
    """
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}%(x)s'
    names = dict.fromkeys(("function", "provider", "request_model"), hostile)
    ledger.store.write([sample.call(number, **names) for number in range(3)])
    client = visitor()

    for language in ("en", "zh"):
        page = client.get("/", headers={"Accept-Language": language})
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
        assert "&lt;script&gt;" in page.text


def test_huge_numbers_and_names_do_not_break_it(ledger: Ledger, visitor: Visitor) -> None:
    """
    Amounts near what a sum may be, and names of any length.
    """
    ledger.store.write(
        [
            sample.call(
                number,
                id=f"h-{number}",
                started_at=sample.NOW - timedelta(minutes=number),
                function="f" * 5000,
                provider=None,
                request_model=None,
                input_tokens=10**15,
                cost=Decimal("999999999.123456789"),
                currency=f"XX{chr(65 + number)}",
                price_id="p",
            )
            for number in range(6)
        ]
    )
    client = visitor()

    page = client.get("/")
    board = client.get("/api/v1/dashboard").json()

    assert page.status_code == 200
    assert "2 more currencies" in page.text
    assert board["total"]["cost"] == {f"XX{chr(65 + n)}": "999999999.123456789" for n in range(6)}
    assert board["by_model"]["calls"] == [
        {"value": None, "others": False, "number": "6", "share": 1.0}
    ]


def test_what_other_processes_left_is_told(
    filled: Ledger, visitor: Visitor, tmp_path: Path
) -> None:
    """
    A segment with an undelivered record is counted, though another journal wrote it.
    """
    other = Journal(tmp_path / "journal", Limits())
    other.add_sink("store", durable=True)
    other.end(sample.call(7))

    found = visitor().get("/api/v1/dashboard").json()["delivery"]

    other.close(())
    assert (found["segments"], found["orphaned"]) == (1, 0)
    assert found["waiting_bytes"] > 100
    assert found["oldest"][0]["name"].endswith(".segment")


@pytest.mark.parametrize("url", ["sqlite:///{}", "postgresql://nobody@127.0.0.1:1/none"])
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_it_says_when_the_store_is_away(tmp_path: Path, prefix: str, url: str) -> None:
    """
    A page that says so, and a problem; both with status 503.
    """
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database " * 1000)
    ledger = Ledger(url.format(damaged), journal=tmp_path / "journal")
    try:
        app = create_app(ledger, auth=lambda request: Access(name="tester", role="admin"))
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            if prefix:
                answers = [client.get(f"/api/v1/{name}") for name in ("dashboard", "health")]
            else:
                answers = [client.get(path) for path in ("/", "/overview/board")]
    finally:
        ledger.close(0)
        close_databases()

    assert [answer.status_code for answer in answers] == [503, 503]
    for answer in answers:
        if prefix:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"]
        else:
            assert "The store is away" in answer.text


def test_health_says_that_all_is_well(filled: Ledger, visitor: Visitor, tmp_path: Path) -> None:
    """
    The store answers, its tables are those of this version, and nothing waits.
    """
    health = visitor().get("/api/v1/health").json()

    assert (health["status"], health["store"]) == ("ok", "reachable")
    assert health["delivery"]["folder"] == str(tmp_path / "journal")
    assert health["delivery"]["segments"] == 0


def test_the_number_of_alerts_is_that_of_those_to_be_seen_to(
    filled: Ledger, visitor: Visitor
) -> None:
    """
    Whoever has taken an alert up is not asked again by the number; it stays in the list.
    """
    client = visitor()
    rule = {"kind": "timeouts", "name": "own", "severity": "warning", "per": "day"}
    times = {"enabled": "1", "threshold": "1", "window_min": "1440", "each": "request_model"}
    assert client.post("/alerts/rules/save", data=rule | times).status_code == 200
    client.post("/alerts/evaluate")
    before = client.get("/api/v1/dashboard").json()["alerts"]
    shown = client.get("/").text
    for alert in before["alerts"]:
        client.post(f"/alerts/{alert['id']}/ack", data={"version": alert["version"]})
    after = client.get("/api/v1/dashboard").json()["alerts"]
    answered = client.get("/").text

    badge = 'Needs a person <span class="badge'
    assert before["count"] == before["open"] == len(before["alerts"]) > 0
    assert (after["count"], after["open"]) == (before["count"], 0)
    assert badge in shown
    assert badge not in answered
    assert "acknowledged" in answered


def test_unpriced_calls_lead_to_those_of_today(filled: Ledger, visitor: Visitor) -> None:
    """
    The link is to what can be done about them, on the day that they were counted on.
    """
    filled.store.write([sample.call(6, id="today", started_at=sample.NOW.replace(minute=1))])

    assert 'href="/costs/unpriced?days=1"' in visitor().get("/").text
