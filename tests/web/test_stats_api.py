"""Reports over HTTP: what `Stats` answers, for the reader's organisation, within bounds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.stats import Stats

CALLS = sample.calls()


def stats(ledger: Ledger, scope: str | None = None, tz: str = "UTC") -> Stats:
    return Stats(ledger.store, scope=scope, tz=tz, clock=lambda: sample.NOW)


def said(result: Any) -> Any:
    return result.model_dump(mode="json")


@pytest.mark.parametrize("org", [None, "acme"])
def test_reports_are_those_of_stats(filled: Ledger, visitor: Visitor, org: str | None) -> None:
    """
    Each route answers as the method of its name does, confined as the reader is.
    """
    client, asked = visitor(org_id=org), stats(filled, org, "Asia/Shanghai")
    where = {"status": ["success", "failed"], "tags.team": ["red"]}
    query = "tz=Asia/Shanghai&status=success&status=failed&tag=team=red"
    moments = "since=2026-05-14T00:00:00%2B08:00&until=2026-05-19T12:30:00Z"
    expected = {
        f"current?{query}&by=function": asked.current(where, ("function",)),
        f"hourly?{query}&hours=30": asked.hourly(30, where),
        f"daily?{query}&days=5&by=provider": asked.daily(5, where, ("provider",)),
        f"daily?{query}&first=2026-05-15&last=2026-05-17": asked.days(
            sample.NOW.date().replace(day=15), sample.NOW.date().replace(day=17), where
        ),
        f"monthly?{query}&year=2026&month=5": asked.monthly(2026, 5, where),
        f"monthly?{query}": asked.monthly(2026, 5, where),
        f"summary?{query}&by=function&by=tags.team": asked.summary(
            None, None, where, ("function", "tags.team")
        ),
        f"summary?{query}&{moments}": asked.summary(
            sample.NOW.replace(day=13, hour=16, minute=0),
            sample.NOW.replace(day=19, hour=12, minute=30),
            where,
        ),
        f"top?{query}&field=user_id&ranked_by=calls&limit=3": asked.top(
            "user_id", 3, 30, "calls", where
        ),
        f"trend?{query}&days=3&bucket=hour": asked.trend(3, "hour", (), where),
        f"trend?{query}&bucket=month&by=request_model": asked.trend(
            30, "month", ("request_model",), where
        ),
        f"forecast?{query}&level=0.9": asked.forecast((), where, level=0.9),
        "sessions/session-1?tz=Asia/Shanghai": asked.session("session-1"),
        "users/user-2?tz=Asia/Shanghai&days=4": asked.user("user-2", 4),
        "devices/device-3?tz=Asia/Shanghai": asked.device("device-3"),
    }

    for path, result in expected.items():
        answer = client.get(f"/api/v1/stats/{path}")
        assert answer.status_code == 200, answer.text
        assert answer.json() == said(result), path


def test_costs_are_exact_texts(filled: Ledger, visitor: Visitor) -> None:
    """
    The sum of the calls to the last digit, by currency, as a text without an exponent.
    """
    found = visitor().get("/api/v1/stats/summary").json()["cost"]

    assert all(isinstance(amount, str) and "E" not in amount for amount in found.values())
    assert {code: Decimal(amount) for code, amount in found.items()} == {
        code: sum((c.cost or Decimal(0) for c in CALLS if c.currency == code), Decimal(0))
        for code in ("CNY", "USD")
    }


def test_an_empty_filter_means_not_set(ledger: Ledger, visitor: Visitor) -> None:
    """
    ``function=`` asks for the calls without a function, and may stand beside others.
    """
    functions = (None, "search", "chat", "")
    ledger.store.write(
        [sample.call(n, id=f"f-{n}", function=name) for n, name in enumerate(functions[:3])]
    )
    client = visitor()

    found = [
        client.get(f"/api/v1/stats/summary?{query}").json()["calls"]
        for query in ("function=", "function=search", "function=&function=chat", "function=none")
    ]

    assert found == [1, 1, 2, 0]


def test_groups_are_cut_and_totals_are_not(filled: Ledger, visitor: Visitor) -> None:
    """
    The groups with most calls stay, in every point the same; the sums are of all calls.
    """
    client = visitor()

    summary = client.get("/api/v1/stats/summary?by=user_id&limit=2").json()
    trend = client.get("/api/v1/stats/daily?days=9&by=user_id&limit=2").json()

    assert (summary["calls"], len(summary["groups"])) == (len(CALLS), 2)
    kept = {group["key"]["user_id"] for group in trend["groups"]}
    assert len(kept) == 2
    assert {g["key"]["user_id"] for point in trend["points"] for g in point["groups"]} == kept
    assert trend["total"]["calls"] == sum(point["calls"] for point in trend["points"])


@pytest.mark.parametrize("org", [None, "acme"])
def test_another_organisation_is_not_there(
    filled: Ledger, visitor: Visitor, org: str | None
) -> None:
    """
    Its sessions, users and devices are unknown, and a filter widens nothing.
    """
    filled.store.write(
        [
            sample.call(
                900, org_id="globex", session_id="theirs", user_id="theirs", device_id="theirs"
            )
        ]
    )
    client = visitor(org_id=org)
    expected = 200 if org is None else 404

    for kind in ("sessions", "users", "devices"):
        path = f"/api/v1/stats/{kind}/theirs"
        filled_at = client.get(f"{path}?days=366" if kind != "sessions" else path)
        assert filled_at.status_code == expected
        assert client.get(f"/api/v1/stats/{kind}/nobody").status_code == 404
    calls = client.get("/api/v1/stats/summary?org_id=globex").json()["calls"]
    assert (calls > 0) is (org is None)


@pytest.mark.parametrize(
    "path",
    [
        "hourly?hours=0",
        "hourly?hours=745",
        "daily?days=367",
        "daily?first=2020-01-01&last=2026-01-01",
        "daily?first=2026-05-20&last=2026-05-01",
        "monthly?month=13",
        "monthly?year=1",
        "summary?since=2026-05-20T09:30:00",
        "summary?by=cost",
        "summary?by=request_content",
        "summary?by=function&by=status&by=user_id&by=org_id",
        "summary?tag=team",
        "summary?limit=1001",
        "summary?" + "&".join(f"function={n}" for n in range(51)),
        "top?field=id",
        "top?ranked_by=duration",
        "trend?bucket=week",
        "trend?bucket=hour&days=32",
        "forecast?level=1e400",
        "forecast?history_days=1",
        "current?tz=Mars/Olympus",
        "current?tz=../../etc/passwd",
    ],
)
def test_what_cannot_be_is_refused(visitor: Visitor, path: str) -> None:
    """
    With a problem that says so, not with a broken or an endless answer.
    """
    answer = visitor().get(f"/api/v1/stats/{path}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize("text", ["%00", "%ED%A0%80", "'; DROP TABLE x; --", "%", "\\", "x" * 900])
def test_hostile_texts_are_texts(filled: Ledger, visitor: Visitor, text: str) -> None:
    """
    As a filter they match nothing, and as an id they are unknown.
    """
    client = visitor()

    summary = client.get(f"/api/v1/stats/summary?function={text}&tag=team={text}")
    profile = client.get(f"/api/v1/stats/sessions/{text}")

    assert (summary.status_code, summary.json()["calls"]) == (200, 0)
    assert profile.status_code == 404


KINDS = [("sessions", "session_id"), ("users", "user_id"), ("devices", "device_id")]
IDS = [
    "a/b",
    "/",
    "//evil.example/x",
    "../../x",
    "..",
    ".",
    "a/",
    "50%",
    "a?b=c&d#e",
    "a b+c",
    " ",
    "用户/一",
    "\"'><b>",
    "x" * 255,
]


def encoded(id: str) -> str:
    """*id* as a program puts it into a path; with its dots, which are else taken for a way up."""
    return quote(id, safe="").replace(".", "%2E")


@pytest.mark.parametrize(("kind", "field"), KINDS)
@pytest.mark.parametrize("id", IDS)
def test_ids_may_be_any_text(
    ledger: Ledger, visitor: Visitor, kind: str, field: str, id: str
) -> None:
    """
    What somebody is called stands in the path, with slashes, signs and Chinese; a filter tells it.
    """
    own: dict[str, Any] = {field: id}
    others: dict[str, Any] = {field: "b"}
    ledger.store.write([sample.call(1, **own), sample.call(2, **others)])
    client = visitor()

    profile = client.get(f"/api/v1/stats/{kind}/{encoded(id)}?tz=UTC")
    filtered = client.get("/api/v1/stats/summary", params={field: id})

    assert profile.status_code == 200
    assert (profile.json()["value"], profile.json()["summary"]["calls"]) == (id, 1)
    assert filtered.json()["calls"] == 1


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_a_slash_in_a_path_needs_no_code(ledger: Ledger, visitor: Visitor, kind: str) -> None:
    """
    As people write it by hand: the id is the whole rest of the path, and empty it is none.
    """
    ids = {field: "team/ada" for _, field in KINDS}
    ledger.store.write([sample.call(1, **ids)])
    client = visitor()

    found = client.get(f"/api/v1/stats/{kind}/team/ada")
    others = [client.get(f"/api/v1/stats/{kind}/{path}") for path in ("team", "team%0A", "")]

    assert found.json()["value"] == "team/ada"
    assert [each.status_code for each in others] == [404, 404, 422]
    assert {each.headers["content-type"] for each in others} == {"application/problem+json"}


def test_walls_hold_for_ids_with_slashes(ledger: Ledger, visitor: Visitor) -> None:
    """
    Another organisation's user is not there, however the id is written.
    """
    ledger.store.write([sample.call(1, user_id="globex/ada", org_id="globex")])

    answers = [
        visitor(org_id="acme").get(f"/api/v1/stats/users/{path}")
        for path in ("globex/ada", "globex%2Fada", "x/../globex/ada")
    ]

    assert [each.status_code for each in answers] == [404] * 3
