"""
Tenants are walls, and roles are stairs: on every route there is.

The routes come from the application itself. One whose parameters nobody has thought of
fails here until somebody does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from tests.security.console_routes import API, ENDLESS, SAFE, Way, body_of, ways
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.alerts import Alerts, Rule
from ai_ledger.catalog import Catalog
from ai_ledger.database.tables import metadata
from ai_ledger.policies.budgets import Budget
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.quotas import Quotas
from ai_ledger.policies.words.store import WordList
from ai_ledger.sinks.sql.shared import close_databases, shared_database
from ai_ledger.web import create_app

# What may never be seen. It is sent with no request, so that no echo is taken for a leak.
SECRET = re.compile(r"SECRET|4,?242\.42|12,?727\.27|7,?777,?777|23,?333,?331", re.IGNORECASE)
# What somebody may have guessed, and sends.
GUESSED = re.compile(r"acme", re.IGNORECASE)

VIEWERS_MAY = {
    "POST /words/check": "tries a text, and keeps nothing of it",
    f"POST {API}/words/check": "the same",
}
"""What changes something by its method alone."""
for _way in ("POST /reports/make", f"POST {API}/reports"):
    VIEWERS_MAY[_way] = "writes down what viewers see anyway"

READ_FIRST = {
    f"POST {API}/words/import",
    "POST /costs/reprice/take-back",
    "POST /alerts/answer",
    "POST /alerts/failures/mark",
    "POST /alerts/rules/save",
    "POST /models/switch",
    "POST /models/undo",
    "POST /words/add",
    "POST /words/edit",
    "POST /words/switch",
    "POST /words/remove",
}
"""Refuse these fields before they ask who sends them: 422, and nothing is changed either."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A ledger with calls, a budget, a quota, a word, alerts, a report and a token of acme."""
    folder: Path = tmp_path_factory.mktemp("tenants")
    url = f"sqlite:///{folder / 'ledger.db'}"
    with Ledger(url, journal=folder / "journal") as ledger:
        ids = _filled(ledger, url)
        # One application for each reader: making it takes longer than most answers.
        yield {
            "url": url,
            "ids": ids,
            "globex": _client(ledger, org_id="globex"),
            "viewer": _client(ledger, role="viewer"),
            "everybody": _client(ledger),
        }
    close_databases()


def _filled(ledger: Ledger, url: str) -> dict[str, Any]:
    mine = {
        "org_id": "acme",
        "user_id": "acme-user",
        "session_id": "acme-session",
        "device_id": "acme-device",
        "reference_id": "SECRET-reference",
        "function": "SECRET-function",
        "business_type": "SECRET-type",
        "tags": {"SECRET-key": "SECRET-tag"},
        "request_content": '{"messages": [{"role": "user", "content": "SECRET-prompt"}]}',
        "response_content": "SECRET-answer",
        "input_tokens": 7_777_777,
    }
    theirs = [
        sample.call(
            number, **mine, id=f"acme-call-{number}", status="success", price_id="p",
            cost=Decimal("4242.424242"), currency="CNY", error_type=None, error_message=None,
        )
        for number in range(1, 4)
    ]  # fmt: skip
    theirs += [
        sample.call(
            4, **mine, id="acme-call-4", status="success", cost=None, currency=None, price_id=None
        ),
        sample.call(5, **mine, id="acme-call-5", status="failed", error_message="SECRET-error"),
    ]
    ledger.store.write(theirs)
    ledger.store.write([sample.call(n, id=f"own-{n}", org_id="globex") for n in range(10, 40)])
    accounts = Accounts(shared_database(url))
    accounts.register(
        Budget("5 CNY", name="SECRET-budget", where={"org_id": "acme"}).terms, by="SECRET-ann"
    )
    budget = next(each for each in accounts.budgets() if each.terms.name == "SECRET-budget")
    Quotas(url).set("acme", "qwen-plus", tokens=7_777_777, by="SECRET-ann")
    word = WordList(url).add("SECRET-word", org_id="acme", note="SECRET-note", by="SECRET-ann")
    catalog = Catalog(url)
    catalog.add_provider("dashscope", by="ann")
    catalog.add_model("qwen-plus", provider="dashscope", by="ann")
    with Alerts(url) as alerts:
        rule = alerts.add_rule(
            Rule(name="SECRET-rule", kind="unpriced", org_id="acme", threshold=1, window_s=86_400),
            by="SECRET-ann",
        )
        alerts.evaluate(sample.NOW)
        alert = next(each for each in alerts.list() if each.org_id == "acme")
        assert rule.id is not None
    with _client(ledger, org_id="acme") as acme:
        report = acme.post(f"{API}/reports", json={"days": 30})
        assert report.status_code == 201, report.text
        token = acme.app.state.house.tokens.add("SECRET-token", org_id="acme", by="ann")[1]  # pyright: ignore
    return {
        "call_id": "acme-call-1",
        "user_id": "acme-user",
        "session_id": "acme-session",
        "device_id": "acme-device",
        "budget_id": budget.id,
        "alert_id": alert.id,
        "rule_id": rule.id,
        "word_id": word.id,
        "report_id": report.json()["id"],
        "token_id": token.id,
        "providers.name": "dashscope",
        "models.name": "qwen-plus",
    }


def _client(ledger: Ledger, **access: Any) -> TestClient:
    who = Access(**{"name": "tester", "role": "admin", "prompts": True, **access})
    app = create_app(ledger, auth=lambda request: who, clock=lambda: sample.NOW)
    return TestClient(
        app,
        base_url="http://127.0.0.1",
        headers={"Sec-Fetch-Site": "same-origin"},
        raise_server_exceptions=False,
        follow_redirects=False,
    )


def _guesses(ids: dict[str, Any]) -> dict[str, Any]:
    """What forms, bodies and query strings are filled with, by name."""
    return {
        **{name: value for name, value in ids.items() if "." not in name},
        "org_id": "acme",
        "org": "acme",
        "id": ids["call_id"],
        "ids": ids["call_id"],
        "call_ids": ids["call_id"],
        "call": ids["call_id"],
        "call_id": ids["call_id"],
        "alert_ids": ids["alert_id"],
        "model": "qwen-plus",
        "request_model": "qwen-plus",
        "provider": "dashscope",
        "kind": "model",
        "name": "qwen-plus",
        "days": 30,
        "currency": "CNY",
        "action": "delete",
        "confirmed": "30",
        "q": "acme",
        "field": "user_id",
        "by": "org_id",
    }


def _routes(safe: bool) -> list[Any]:
    """The routes as they are now, for test ids; the application is that of an empty ledger."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/none.db", journal=False)
        app = create_app(ledger, auth=lambda request: None)
        found = ways(app)
        app.state.house.close()
        ledger.close()
        close_databases()
    return [pytest.param(way, id=str(way)) for way in found if (way.method in SAFE) == safe]


def _sent(client: TestClient, way: Way, house: dict[str, Any]) -> Any:
    """*way* as somebody goes it who has guessed ids."""
    guesses = _guesses(house["ids"])
    path = way.filled(house["ids"])
    required = [
        each["name"]
        for each in way.operation.get("parameters", ())
        if each["in"] == "query" and each.get("required")
    ]
    params = {name: guesses[name] for name in required}
    body = body_of(way, guesses)
    if body is not None:
        return client.request(way.method, path, params=params, json=body)
    if path.startswith(API):
        return client.request(way.method, path, params=params)
    return client.request(way.method, path, data=guesses)


@pytest.mark.parametrize("way", _routes(safe=True))
def test_nothing_of_another_organisation_is_seen(way: Way, house: dict[str, Any]) -> None:
    """
    Whoever is confined to globex sees no id, name, prompt or sum of acme: neither unasked,
    nor by its ids in the path, nor by asking for it in the query string.
    """
    path = way.filled(house["ids"])
    if path in ENDLESS:
        pytest.skip("never ends; the tests of calls read it")
    client = house["globex"]
    if not way.parameters:
        bare = client.get(path)
        assert bare.status_code < 500
        assert not SECRET.search(bare.text)
        assert not GUESSED.search(bare.text)
    guesses = _guesses(house["ids"])
    required = {
        each["name"]: guesses[each["name"]]
        for each in way.operation.get("parameters", ())
        if each["in"] == "query" and each.get("required")
    }
    guesses = {name: value for name, value in guesses.items() if name in way.takes}
    ours = ("org_id", "org", "user_id", "session_id", "q")
    ours = tuple(name for name in ours if name in guesses)
    for question in ({}, guesses, *({name: guesses[name]} for name in ours)):
        answer = client.get(path, params={**required, **question})
        assert answer.status_code < 500, (question, answer.text[:500])
        assert not SECRET.search(answer.text + str(answer.headers)), question


@pytest.mark.parametrize("way", _routes(safe=False))
def test_nothing_of_another_organisation_is_changed(way: Way, house: dict[str, Any]) -> None:
    """
    An administrator confined to globex changes no row that is not globex's, and reads none.
    """
    before = _rows(house["url"])
    answer = _sent(house["globex"], way, house)

    assert answer.status_code < 500, answer.text[:500]
    assert not SECRET.search(answer.text + str(answer.headers))
    assert before - _rows(house["url"]) == set()


@pytest.mark.parametrize("way", _routes(safe=False))
def test_viewers_change_nothing(way: Way, house: dict[str, Any]) -> None:
    """
    Each route that changes something refuses a viewer, also one of all organisations.
    """
    if str(way) in VIEWERS_MAY:
        pytest.skip(VIEWERS_MAY[str(way)])
    before = _rows(house["url"], everybody=True)
    answer = _sent(house["viewer"], way, house)

    refused = (403, 422) if str(way) in READ_FIRST else (403,)
    assert answer.status_code in refused, answer.text[:500]
    assert _rows(house["url"], everybody=True) == before


def test_an_administrator_of_all_sees_it(house: dict[str, Any]) -> None:
    """
    What the other tests look for is there to be found.
    """
    seen = ""
    for path in ("/calls", "/calls/acme-call-1", "/budgets", "/words", "/settings/tokens"):
        seen += house["everybody"].get(path).text
    seen += house["everybody"].get(f"{API}/stats/summary").text

    found = {each.upper() for each in SECRET.findall(seen)}
    assert {"SECRET"} < found


def _rows(url: str, *, everybody: bool = False) -> set[tuple[str, str]]:
    """All rows of all tables; those of globex only if *everybody*."""
    found: set[tuple[str, str]] = set()
    with shared_database(url).reading() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                text = repr(tuple(row))
                if everybody or "globex" not in text:
                    found.add((table.name, text))
    return found
