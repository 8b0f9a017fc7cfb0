"""``/metrics``: what it tells, to whom, how fast, and that the dashboard finds all of it."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metric_families,
)
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger, __version__
from ai_ledger.access import Access, AccessTokens
from ai_ledger.database.tables.alerts import alerts
from ai_ledger.errors import SinkUnavailable
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.query import Query
from ai_ledger.records import STATUSES
from ai_ledger.sinks.labels import MAX_SERIES, OTHER
from ai_ledger.sinks.prometheus import KINDS, PrometheusSink
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.terms import Terms
from ai_ledger.web import create_app
from ai_ledger.web.metrics import exposition
from ai_ledger.web.metrics.rising import Rising

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "ai-ledger.json"


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reading is a new one, but where a test says otherwise."""
    monkeypatch.setattr(exposition, "KEPT_S", 0.0)


def read(client: TestClient) -> dict[tuple[str, ...], float]:
    """Name and values of the labels, in the order of their names → value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(answer.text):
        for each in family.samples:
            key = (each.name, *(value for _, value in sorted(each.labels.items())))
            assert key not in found, "the same series twice"
            found[key] = each.value
    return found


def of(found: dict[tuple[str, ...], float], name: str) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in found.items() if key[0] == name and value}


def test_calls_of_the_store(ledger: Ledger, visitor: Visitor) -> None:
    """
    Counters begin at zero, with every model that there is, and gain what the store gains.
    """
    ledger.store.write(sample.calls(6))
    client = visitor()
    first = read(client)
    ledger.store.write(sample.calls(20))
    found = read(client)

    new = sample.calls(20)[6:]
    assert {key[1] for key in first if key[0] == "ai_ledger_calls_total"} == {
        model for model, _, _ in sample.MODELS
    }
    assert of(first, "ai_ledger_calls_total") == {}
    for index, (model, provider, currency) in enumerate(sample.MODELS):
        calls = [each for each in new if each.request_model == model]
        statuses = {
            status: sum(each.status == status for each in calls)
            for status in STATUSES
            if any(each.status == status for each in calls)
        }
        counted = of(found, "ai_ledger_calls_total")
        assert {status: n for (m, status), n in counted.items() if m == model} == statuses
        providers = of(found, "ai_ledger_provider_calls_total")
        assert {status: n for (p, status), n in providers.items() if p == provider} == statuses
        assert {
            kind: n for (kind, m), n in of(found, "ai_ledger_tokens_total").items() if m == model
        } == {
            "input": sum(each.input_tokens or 0 for each in calls),
            "output": sum(each.output_tokens or 0 for each in calls),
        }
        assert found["ai_ledger_cost_total", currency, model] == float(
            sum((each.cost or Decimal(0) for each in calls), Decimal(0))
        )
        assert found["ai_ledger_unpriced_calls_total", model] == sum(
            each.cost is None for each in calls
        )
        duration = "ai_ledger_call_duration_seconds"
        assert found[f"{duration}_count", model] == len(calls)
        assert found[f"{duration}_bucket", "+Inf", model] == len(calls)
        assert found[f"{duration}_sum", model] == pytest.approx(
            sum(each.duration_ms or 0 for each in calls) / 1000
        )
        # Between two edges that no duration of the sample is near.
        assert found[f"{duration}_bucket", "0.64", model] == sum(
            (each.duration_ms or 0) <= 640 for each in calls
        ), index
    assert sum(of(found, "ai_ledger_operation_calls_total").values()) == len(new)


def test_counters_never_fall(filled: Ledger, visitor: Visitor) -> None:
    """
    A call that is deleted takes nothing away, and what comes later is counted in full.
    """
    client = visitor()
    read(client)
    filled.store.write([sample.call(200), sample.call(202)])
    before = read(client)
    some = Query.build(scope=None, where={"user_id": "user-0"})
    assert filled.store.delete(some, at=sample.NOW) > 2
    after = read(client)
    filled.store.write([sample.call(204)])
    later = read(client)

    name, model = "ai_ledger_calls_total", sample.MODELS[0][0]
    counters = [key for key in before if key[0].endswith("_total")]
    assert {key: after[key] for key in counters} == {key: before[key] for key in counters}
    grown = {key: later[key] - after[key] for key in counters if later[key] != after[key]}
    assert {key: value for key, value in grown.items() if key[0] == name} == {
        (name, model, sample.call(204).status): 1
    }


def test_what_rises() -> None:
    """
    Falls are left out; what was not there at first began at zero, and what went may return.
    """
    rising: Rising[str] = Rising()

    assert rising.read({"a": 1_000}) == {"a": 0}
    assert rising.read({"a": 1_003, "b": 5}) == {"a": 3, "b": 5}
    assert rising.read({"a": 900}) == {"a": 3, "b": 5}
    assert rising.read({"a": 901, "b": 2}) == {"a": 4, "b": 7}


def test_two_consoles_agree(filled: Ledger, visitor: Visitor) -> None:
    """
    Consoles that have watched for the same time tell the same.
    """
    one, two = visitor(), visitor()
    read(one), read(two)
    filled.store.write([sample.call(number) for number in range(200, 220)])

    assert of(read(one), "ai_ledger_calls_total") == of(read(two), "ai_ledger_calls_total") != {}


def test_a_ledger_with_its_own_counters(tmp_path: Path) -> None:
    """
    Where the console's ledger has a sink for Prometheus, calls are told as it counted them.
    """
    sink = PrometheusSink(labels=["function"])
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger(url, sinks=[sink], journal=tmp_path / "journal") as ledger:
        app = create_app(ledger, auth=lambda request: Access(name="t", role="viewer"))
        ledger.record("m", function="ask", duration_ms=5)
        ledger.flush(60)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            found = read(client)

    assert of(found, "ai_ledger_calls_total") == {("ask", "m", "chat", "", "success"): 1}
    assert found["ai_ledger_build_info", __version__] == 1
    assert ("ai_ledger_sink_failing", "sqlite") in found
    assert "ai_ledger_provider_calls_total" not in {key[0] for key in found}


def budget(ledger: Ledger, name: str, limit: int, **terms: Any) -> None:
    accounts = Accounts(shared_database(ledger), lambda: sample.NOW)
    accounts.register(Terms(**{"name": name, "limit": limit, "unit": "tokens", **terms}))


def test_budgets(ledger: Ledger, visitor: Visitor) -> None:
    """
    Budgets tell what is used of them; those with an account for each say how many are full.
    """
    budget(ledger, "everything", 1_000)
    budget(ledger, "in money", 2_500_000_000, unit="CNY", per="day")
    budget(ledger, "each user", 140, each="user_id")
    budget(ledger, "the past", 5, per="window", since=sample.NOW, until=sample.NOW + _DAY)
    ledger.store.write(
        [
            *(sample.call(number, started_at=sample.NOW - _SECOND) for number in range(3)),
            sample.call(4, started_at=sample.NOW - _SECOND, cost=Decimal("1.25"), currency="CNY"),
        ]
    )

    found = read(visitor())

    assert of(found, "ai_ledger_budget_used") == {
        ("everything", "tokens"): 140 + 141 + 142 + 144,
        ("in money", "CNY"): 1.254,
    }
    assert of(found, "ai_ledger_budget_limit") == {
        ("everything", "tokens"): 1_000,
        ("in money", "CNY"): 2.5,
        ("each user", "tokens"): 140,
        ("the past", "tokens"): 5,
    }
    assert of(found, "ai_ledger_budget_accounts") == {
        ("everything",): 1,
        ("in money",): 1,
        ("each user",): 4,
    }
    assert of(found, "ai_ledger_budget_full_accounts") == {("each user",): 4}


_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    "where", [{"user_id": ("u-7Q",)}, {"org_id": ("7Q",)}, {"tags.team": ("7Q",)}]
)
def test_budgets_of_somebody_have_no_name(
    ledger: Ledger, visitor: Visitor, where: dict[str, tuple[str, ...]]
) -> None:
    """
    A budget for somebody in particular is named for them, so it is counted among others.
    """
    budget(ledger, "for 7Q only", 1, where=where)
    budget(ledger, "for 7Q too", 1, where=where)
    ledger.store.write(
        [
            sample.call(
                number,
                started_at=sample.NOW - _SECOND,
                user_id="u-7Q",
                org_id="7Q",
                tags={"team": "7Q"},
            )
            for number in range(3)
        ]
    )
    client = visitor()

    found = read(client)

    assert of(found, "ai_ledger_budget_full_accounts") == {(OTHER,): 2}
    assert "7Q" not in client.get("/metrics").text


def test_alerts(ledger: Ledger, visitor: Visitor) -> None:
    """
    Alerts are counted by severity and state, and those that nobody needs to see are not.
    """
    rows = [("critical", "open"), ("critical", "open"), ("info", "ignored"), ("info", "resolved")]
    values = {
        column.name: datetime(2026, 5, 1, tzinfo=UTC)
        if column.name.endswith(("_at", "_after"))
        else 1
        for column in alerts.columns
        if not column.nullable and column.name != "id"
    }
    texts = dict.fromkeys(("scope_key", "subject", "period", "rule", "kind", "text", "calls"), "x")
    with shared_database(ledger).writer.begin() as connection:
        for number, (severity, state) in enumerate(rows):
            values |= {**texts, "rule_id": number, "severity": severity, "state": state}
            connection.execute(sa.insert(alerts).values(values))

    found = read(visitor())

    assert of(found, "ai_ledger_alerts") == {("critical", "open"): 2, ("info", "ignored"): 1}
    assert len([key for key in found if key[0] == "ai_ledger_alerts"]) == 9


class Away:
    """A sink with an address, which takes nothing."""

    name = "postgresql://ada@db.internal/ledger"

    def write(self, records: Any) -> None:
        raise SinkUnavailable("away")


def test_delivery(tmp_path: Path) -> None:
    """
    What waits, for how long and for whom is told; an address is told by its kind alone.
    """
    url, journal = f"sqlite:///{tmp_path}/ledger.db", tmp_path / "journal"
    with Ledger(url, sinks=[Away(), Away()], journal=journal, exit_timeout=0.1) as ledger:
        app = create_app(ledger, auth=lambda request: Access(name="t"))
        ledger.record("m", started_at=datetime.now(UTC) - timedelta(hours=1))
        ledger.note("a fault of postgresql://ada@db.internal/ledger")
        deadline = threading.Event()
        while not any(sink.last_error for sink in ledger.health().sinks):
            deadline.wait(0.01)
        ledger.flush(0.1)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            text = client.get("/metrics").text
            found = read(client)

    assert of(found, "ai_ledger_pending_records") == {("postgresql",): 2}
    assert found["ai_ledger_sink_failing", "postgresql"] == 1
    assert found["ai_ledger_oldest_pending_seconds",] > 3_599
    assert found["ai_ledger_journal_bytes",] > 100
    assert of(found, "ai_ledger_incidents_total") == {("a fault of postgresql",): 1}
    assert "ada" not in text
    assert str(tmp_path) not in text


def test_formats(filled: Ledger, visitor: Visitor) -> None:
    """
    Who accepts OpenMetrics gets it, everybody else the text of old; both can be read.
    """
    client = visitor()
    plain = client.get("/metrics", headers={"Accept": "*/*"})
    modern = client.get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
    )

    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    names = {family.name for family in open_metric_families(modern.text)}
    assert names >= {"ai_ledger_calls", "ai_ledger_alerts", "ai_ledger_scrape_errors"}
    assert len(list(text_string_to_metric_families(plain.text))) == len(names)
    assert plain.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_sums_are_for_those_who_see_everything(filled: Ledger, visitor: Visitor, role: str) -> None:
    """
    Every role may read metrics, and nobody who is confined to an organisation.
    """
    assert visitor(role=role).get("/metrics").status_code == 200

    refused = visitor(role=role, org_id="acme").get("/metrics")
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert "ai_ledger_" not in refused.text


def test_whatever_parameters_a_scrape_has(filled: Ledger, visitor: Visitor) -> None:
    """
    No filter is meant here: what a scraper adds to the address is passed over.
    """
    answer = visitor().get("/metrics", params={"collect[]": ["cpu", "disk"], "_": "1"})

    assert (answer.status_code, "ai_ledger_calls_total" in answer.text) == (200, True)


def test_prometheus_shows_a_token(filled: Ledger) -> None:
    """
    A viewer's token is enough; without one the answer is no, and not where to sign in.
    """
    text, _ = AccessTokens(filled).add("prometheus")
    confined, _ = AccessTokens(filled).add("theirs", org_id="acme")
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1"}
    with TestClient(
        create_app(filled), base_url="http://127.0.0.1", headers=accept, follow_redirects=False
    ) as client:
        answers = [
            client.get("/metrics", headers={"Authorization": f"Bearer {token}"} if token else {})
            for token in (text, confined, "ail_wrong", None)
        ]

    assert [answer.status_code for answer in answers] == [200, 403, 401, 401]
    assert all("ai_ledger_" not in answer.text for answer in answers[1:])


def test_an_answer_is_given_again(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever comes within seconds gets the answer of before, and the store is left alone.
    """
    monkeypatch.setattr(exposition, "KEPT_S", 3_600.0)
    client = visitor()
    first = client.get("/metrics").text
    filled.store.write([sample.call(300)])

    assert client.get("/metrics").text == first


def test_a_store_that_is_away(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What cannot be read is left out and counted; the rest is told.
    """
    client = visitor()
    whole = read(client)

    def away(*_: Any, **__: Any) -> Any:
        raise SinkUnavailable("away")

    monkeypatch.setattr(exposition, "quick_database", away)
    part = read(client)
    again = read(client)

    names = {key[0] for key in part}
    assert "ai_ledger_calls_total" in {key[0] for key in whole}
    assert not {"ai_ledger_calls_total", "ai_ledger_alerts", "ai_ledger_budget_used"} & names
    assert "ai_ledger_pending_records" in names
    errors = "ai_ledger_scrape_errors_total"
    assert of(whole, errors) == {}
    assert of(part, errors) == {("calls",): 1, ("budgets",): 1, ("alerts",): 1}
    assert of(again, errors) == {("calls",): 2, ("budgets",): 2, ("alerts",): 2}


def test_a_scrape_has_a_time_limit(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the time is up, what has not been read yet is left out, and counted.
    """
    moments = iter(range(0, 1_000, 4))
    monkeypatch.setattr(exposition.time, "monotonic", lambda: float(next(moments)))
    found = read(visitor())

    assert sum(of(found, "ai_ledger_scrape_errors_total").values()) >= 2
    assert ("ai_ledger_pending_records", "sqlite") in found


def test_without_the_package(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A console without prometheus_client says what brings it, and is otherwise whole.
    """
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = visitor().get("/metrics")

    assert answer.status_code == 501
    assert "ai-ledger[metrics]" in answer.json()["detail"]


def test_many_models(ledger: Ledger, visitor: Visitor) -> None:
    """
    However many models a store has, no metric has more series than it may.
    """
    client = visitor()
    read(client)
    ledger.store.write(
        [
            sample.call(
                number,
                request_model=f"model-{number}",
                provider=f"provider-{number}",
                currency=("CNY", "USD", "EUR", "JPY")[number % 4],
                cost=Decimal(1),
                started_at=sample.NOW - _SECOND,
            )
            for number in range(3_000)
        ]
    )

    found = read(client)

    assert max(series_of_metrics(found).values()) <= MAX_SERIES
    calls = of(found, "ai_ledger_calls_total")
    assert sum(calls.values()) == 3_000
    assert sum(value for (model, _), value in calls.items() if model == OTHER) == 2_900
    assert sum(of(found, "ai_ledger_cost_total").values()) == 3_000


def series_of_metrics(found: dict[tuple[str, ...], float]) -> dict[str, int]:
    """How many series each metric has, the parts of histograms together."""
    counts: dict[str, int] = {}
    for key in found:
        name = re.sub(r"_(bucket|count|sum|created)$", "", key[0])
        counts[name] = counts.get(name, 0) + 1
    return counts


# The dashboard

_METRIC = re.compile(r"\bai_ledger_[a-z_]+")
_LABELS = re.compile(r"(ai_ledger_[a-z_]+)(\{[^}]*\})?")


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    def walk(listed: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for panel in listed:
            yield panel
            yield from walk(panel.get("panels", []))

    for panel in walk(json.loads(DASHBOARD.read_text("utf-8"))["panels"]):
        for target in panel.get("targets", []):
            yield str(panel["title"]), target


@pytest.fixture(params=["store", "sink"])
def exposed(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, set[str]]:
    """Metrics with the names of their labels, of either kind of ledger."""
    sinks = [PrometheusSink()] if request.param == "sink" else []
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger(url, sinks=sinks, journal=tmp_path / "journal") as ledger:
        budget(ledger, "everything", 1_000)
        ledger.note("something")
        ledger._delivery.journal.count("something")
        app = create_app(ledger, auth=lambda request: Access(name="t"), clock=lambda: sample.NOW)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            read(client)
            calls = [sample.call(n, started_at=sample.NOW - _SECOND, retries=1) for n in range(20)]
            calls = [each.replace(time_to_first_token_ms=5.0) for each in calls]
            ledger.store.write(calls)
            for sink in sinks:
                sink.write(calls)
            text = client.get("/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            found.setdefault(each.name, set()).update(each.labels)
    return found


def test_the_dashboard_finds_what_it_asks_for(exposed: dict[str, set[str]]) -> None:
    """
    Each metric of each panel is told, with the labels that the panel tells apart.
    """
    asked = list(panels())
    assert len(asked) >= 15
    for title, target in asked:
        expression = target["expr"]
        names = set(_METRIC.findall(expression))
        assert names, title
        assert names - set(exposed) == set(), title
        grouped = {
            label.strip()
            for listed in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
            for label in listed.split(",")
            if label.strip()
        }
        filtered = {
            label
            for _, braces in _LABELS.findall(expression)
            for label in re.findall(r"([a-z_]+)\s*(?:=|!=|=~|!~)", braces)
        }
        shown = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")))
        labels = set[str]().union(*(exposed[name] for name in names)) | {"job", "instance"}
        assert (grouped | filtered | shown) - labels == set(), title


def test_the_dashboard_knows_no_host() -> None:
    """
    It can be imported anywhere: the source of its data is chosen there, and nobody is called.
    """
    text = DASHBOARD.read_text("utf-8")
    dashboard = json.loads(text)

    assert re.findall(r"https?://", text) == []
    assert {target["datasource"]["uid"] for _, target in panels()} == {"${datasource}"}
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert dashboard["id"] is None


def test_the_reference_names_every_metric(exposed: dict[str, set[str]]) -> None:
    """
    The reference leaves out no metric and no label.
    """
    text = (DASHBOARD.parents[1] / "reference" / "metrics.md").read_text("utf-8")
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed}
    names -= {name for name in names if name.endswith("_created")}

    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    labels = set[str]().union(*exposed.values()) - {"le"}
    assert [label for label in sorted(labels) if f"`{label}`" not in text] == []
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
