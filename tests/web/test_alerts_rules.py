"""Rules in the console: forms of each kind, edits, conflicts, undo, walls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.alerts import Alerts, Rule
from ai_ledger.alerts.rule import KINDS
from ai_ledger.policies.budgets import Budget
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.web.alerts.conditions import lines_of, where_of

PARTIAL = {"HX-Request": "true"}
USUAL = {"severity": "warning", "per": "day", "tz": "UTC", "enabled": "1"}


def alerts_of(ledger: Ledger, org_id: str | None = None) -> Alerts:
    """The alerts of *ledger*, by the clock of these tests."""
    return Alerts(ledger, scope=org_id, clock=lambda: sample.NOW)


def done(answer: Any) -> dict[str, Any]:
    """What a form's answer says was done."""
    assert answer.status_code == 204, answer.text
    return json.loads(answer.headers["HX-Trigger"])["done"]


@pytest.fixture
def client(visitor: Visitor) -> TestClient:
    """An admin of everything."""
    return visitor()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_form_that_adds_what_is_usual(
    ledger: Ledger, client: TestClient, kind: str
) -> None:
    """
    The form of a kind, sent as it comes with a name, adds the rule with its defaults.
    """
    page = client.get("/alerts/rules/new", params={"kind": kind})
    usual = Rule(name="mine", kind=kind).checked()  # type: ignore[arg-type]
    fields = {"kind": kind, "name": "mine", "each": usual.each or "", **USUAL}

    added = client.post("/alerts/rules/save", data=fields, headers=PARTIAL)

    assert page.status_code == 200
    assert added.headers["HX-Redirect"] == "/alerts/rules/1"
    stored = alerts_of(ledger).rule("mine")
    assert stored.says_the_same(usual)
    assert client.get("/alerts/rules/1").status_code == 200


def test_shares_are_typed_in_per_cent_and_windows_in_minutes(
    ledger: Ledger, client: TestClient
) -> None:
    """
    The form says 12.5 per cent and 30 minutes; the rule has 0.125 and 1,800 seconds.
    """
    client.post(
        "/alerts/rules/save",
        data={
            **USUAL,
            "kind": "failure_rate",
            "name": "mine",
            "threshold": "12.5",
            "window_min": "30",
            "where": "provider = openai\nprovider =\ncost >= 0.5\nfunction ~ sum",
            "quiet": "22:00-08:00",
        },
        headers=PARTIAL,
    )

    rule = alerts_of(ledger).rule("mine")

    assert (rule.threshold, rule.window_s, rule.each, rule.quiet) == (
        0.125,
        1800,
        "",
        "22:00-08:00",
    )
    assert rule.where == {
        "provider": ["openai", None],
        "cost": {"at_least": "0.5"},
        "function": {"contains": "sum"},
    }
    assert 'value="12.5"' in client.get("/alerts/rules/1").text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("provider = openai\nprovider = azure", id="one of several"),
        pytest.param("user_id =", id="not set"),
        pytest.param("cost >= 0.5\ncost < 2", id="between"),
        pytest.param("tags.a = b = c", id="a tag with a sign in its value"),
        pytest.param("function ~ x", id="contains"),
    ],
)
def test_conditions_are_read_as_they_are_written(text: str) -> None:
    """
    What a filter is shown as is what it is read from.
    """
    rule = Rule(name="x", kind="timeouts", where=where_of(text)).checked()

    assert [line.rstrip() for line in lines_of(rule.where).splitlines()] == text.splitlines()
    assert where_of(lines_of(rule.where)).keys() == rule.where.keys()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        pytest.param({"threshold": "500"}, "Threshold", id="five hundred per cent"),
        pytest.param({"threshold": "1e400"}, "Threshold", id="infinite"),
        pytest.param({"window_min": "0"}, "Within so many minutes", id="no window"),
        pytest.param({"where": "nonsense"}, "Only these calls", id="no condition"),
        pytest.param({"where": "secret = 1"}, "secret", id="no field"),
        pytest.param({"where": "cost >= x"}, "Cost", id="no number"),
        pytest.param({"where": "input_tokens >= 1e2000000"}, "Input tokens", id="far too many"),
        pytest.param({"where": "cost >= 1e-2000000"}, "Cost '1E-2000000'", id="far too little"),
        pytest.param({"where": "retries = 99999999999999999999"}, "Retries", id="no 64 bits"),
        pytest.param({"where": "x" * 2_001}, "Only these calls", id="a line too long"),
        pytest.param({"tz": "Mars/Base"}, "Mars/Base", id="no zone"),
        pytest.param({"quiet": "always"}, "Quiet hours", id="no hours"),
        pytest.param({"severity": "huge"}, "Severity", id="no severity"),
        pytest.param({"name": " "}, "Name", id="no name"),
        pytest.param({"kind": "gossip"}, "Kind", id="no kind"),
        pytest.param({"each": "cost"}, "cost", id="nothing to group by"),
    ],
)
def test_what_cannot_be_is_refused(
    ledger: Ledger, client: TestClient, fields: dict[str, str], word: str
) -> None:
    """
    A form with a value that no rule can have says which, and adds nothing.
    """
    answer = client.post(
        "/alerts/rules/save",
        data={**USUAL, "kind": "failure_rate", "name": "mine", **fields},
        headers=PARTIAL,
    )

    assert answer.status_code == 422, answer.text
    assert word in answer.json()["detail"]
    assert alerts_of(ledger).rules() == []


@pytest.mark.parametrize(
    "where",
    [
        pytest.param('{"input_tokens": {"at_least": 1e400}}', id="infinite"),
        pytest.param('{"input_tokens": {"below": NaN}}', id="no number"),
        pytest.param('{"input_tokens": {"at_least": "1e99999999"}}', id="a text with an exponent"),
        pytest.param('{"duration_ms": {"at_least": "1e-99999999"}}', id="a very small one"),
        pytest.param('{"input_tokens": "x"}', id="a text"),
        pytest.param('{"input_tokens": [1, true]}', id="a truth"),
        pytest.param('{"retries": 1' + "0" * 30 + "}", id="no 64 bits"),
        pytest.param('{"tags.a": {"at_least": 1}}', id="a bound of texts"),
        pytest.param('{"user_id": [' + '"x", ' * 10_000 + '"x"]}', id="too many"),
    ],
)
def test_what_no_store_can_be_asked_is_refused(
    ledger: Ledger, client: TestClient, where: str
) -> None:
    """
    A rule that would fail at each look is neither added nor edited into that.
    """
    json_ = {"Content-Type": "application/json"}
    before = alerts_of(ledger).add_rule(Rule(name="before", kind="timeouts"))
    body = f'{{"name": "mine", "kind": "timeouts", "where": {where}}}'
    added = client.post("/api/v1/alert-rules", content=body, headers=json_)
    edited = client.patch(
        f"/api/v1/alert-rules/{before.id}", content=f'{{"where": {where}}}', headers=json_
    )

    assert (added.status_code, edited.status_code) == (422, 422), added.text
    assert alerts_of(ledger).rules() == [before]


def test_a_long_filter_takes_no_time(visitor: Visitor) -> None:
    """
    Nobody but an admin has a filter read, and its length is all that counts.
    """
    fields = {**USUAL, "kind": "failure_rate", "name": "x", "where": "a" + " " * 1_900_000 + "b"}

    refused = visitor(role="viewer").post("/alerts/rules/save", data=fields, headers=PARTIAL)
    told = visitor().post("/alerts/rules/save", data=fields, headers=PARTIAL)

    assert (refused.status_code, told.status_code) == (403, 422)
    assert "2,000 characters" in told.json()["detail"]


def test_an_edit_a_switch_and_a_removal_are_undone(ledger: Ledger, client: TestClient) -> None:
    """
    Each of them offers to undo, and that brings back what the rule said.
    """
    rule = alerts_of(ledger).add_rule(
        Rule(name="mine", kind="cost_spike", threshold=4, at_least="2.50", quiet="22:00-08:00")  # type: ignore[arg-type]
    )
    fields = {**USUAL, "kind": "cost_spike", "id": "1", "name": "other", "threshold": "9"}

    edited = done(
        client.post("/alerts/rules/save", data={**fields, "version": "1"}, headers=PARTIAL)
    )
    between = alerts_of(ledger).rule(1)
    done(client.post(edited["undo"]["path"], data=edited["undo"]["fields"], headers=PARTIAL))
    back = alerts_of(ledger).rule(1)
    off = done(client.post("/alerts/rules/1/enable", data={"version": "3"}, headers=PARTIAL))
    disabled = alerts_of(ledger).rule(1).enabled
    done(client.post(off["undo"]["path"], data=off["undo"]["fields"], headers=PARTIAL))
    gone = done(client.post("/alerts/rules/1/remove", data={"version": "5"}, headers=PARTIAL))
    left = alerts_of(ledger).rules()
    done(client.post(gone["undo"]["path"], data=gone["undo"].get("fields"), headers=PARTIAL))
    (again,) = alerts_of(ledger).rules()

    assert (between.name, between.threshold, between.at_least, between.quiet) == (
        "other",
        9,
        None,
        None,
    )
    assert back.says_the_same(rule)
    assert back.name == "mine"
    assert disabled is False
    assert left == []
    assert again.says_the_same(rule)
    assert client.get("/api/v1/alert-rules/1/history").json()[0]["after"] is None


@pytest.mark.parametrize(
    ("language", "words"), [("en", "Somebody else was quicker"), ("zh", "别人抢先修改了")]
)
def test_somebody_else_was_quicker(
    ledger: Ledger, client: TestClient, language: str, words: str
) -> None:
    """
    An edit of a rule that changed meanwhile is refused, and says who changed it.
    """
    alerts_of(ledger).add_rule(Rule(name="mine", kind="latency"))
    alerts_of(ledger).edit_rule(1, threshold=5, by="bob")
    client.cookies.set("ai_ledger_language", language)

    answer = client.post(
        "/alerts/rules/save",
        data={**USUAL, "kind": "latency", "id": "1", "name": "mine", "version": "1"},
        headers=PARTIAL,
    )

    assert answer.status_code == 409
    assert words in answer.json()["detail"]
    assert "bob" in answer.json()["detail"]


def test_rules_by_the_api(client: TestClient) -> None:
    """
    A rule is added, read, changed in part, and removed, each with its version.
    """
    added = client.post(
        "/api/v1/alert-rules",
        json={"name": "a", "kind": "cost_spike", "at_least": "0.10", "where": {"model": "m"}},
    )
    twice = client.post("/api/v1/alert-rules", json={"name": "a", "kind": "latency"})
    patched = client.patch("/api/v1/alert-rules/1", json={"severity": "info", "version": 1})
    late = client.patch("/api/v1/alert-rules/1", json={"severity": "critical", "version": 1})
    unknown = client.patch("/api/v1/alert-rules/1", json={"kind": "latency"})
    gone = client.delete("/api/v1/alert-rules/1", params={"version": 2})

    assert added.status_code == 201
    assert (added.json()["at_least"], added.json()["where"]) == ("0.10", {"request_model": ["m"]})
    assert (twice.status_code, late.status_code, unknown.status_code) == (409, 409, 422)
    assert (patched.json()["severity"], patched.json()["version"]) == ("info", 2)
    assert gone.json() == {"id": 1, "name": "a"}
    assert client.get("/api/v1/alert-rules/1").status_code == 404


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_an_admin_edits_rules(ledger: Ledger, visitor: Visitor, role: str) -> None:
    """
    Whoever is less is refused, and sees the rules without buttons.
    """
    alerts_of(ledger).add_rule(Rule(name="mine", kind="latency"))
    client = visitor(role=role)

    refused = [
        client.post("/api/v1/alert-rules", json={"name": "b", "kind": "latency"}),
        client.post("/api/v1/alert-rules/defaults"),
        client.patch("/api/v1/alert-rules/1", json={"enabled": False}),
        client.delete("/api/v1/alert-rules/1"),
        client.post("/alerts/rules/save", data={**USUAL, "kind": "latency", "name": "b"}),
        client.post("/alerts/rules/1/remove", data={}),
        client.post("/alerts/rules/1/enable", data={}),
        client.post("/alerts/rules/1/undo", data={}),
        client.post("/alerts/rules/defaults", data={}),
        client.get("/alerts/rules/new", params={"kind": "latency"}),
    ]

    assert [each.status_code for each in refused] == [403] * 10
    assert [(rule.name, rule.version) for rule in alerts_of(ledger).rules()] == [("mine", 1)]
    assert "/remove" not in client.get("/alerts/rules").text


def test_a_confined_admin_edits_the_rules_of_its_organisation(
    ledger: Ledger, visitor: Visitor
) -> None:
    """
    Rules of all and of others are not there for an admin of acme, and theirs are acme's.
    """
    alerts_of(ledger).add_rule(Rule(name="of all", kind="latency"))
    alerts_of(ledger, "globex").add_rule(Rule(name="of globex", kind="latency"))
    client = visitor(org_id="acme")

    added = client.post("/api/v1/alert-rules", json={"name": "own", "kind": "latency"})
    client.post(
        "/alerts/rules/save",
        data={**USUAL, "kind": "timeouts", "name": "by form"},
        headers=PARTIAL,
    )

    assert added.json()["org_id"] == "acme"
    assert {rule["name"]: rule["org_id"] for rule in client.get("/api/v1/alert-rules").json()} == {
        "own": "acme",
        "by form": "acme",
    }
    for rule_id in (1, 2):
        for path in (f"/api/v1/alert-rules/{rule_id}", f"/alerts/rules/{rule_id}"):
            assert client.get(path).status_code == 404
        assert client.delete(f"/api/v1/alert-rules/{rule_id}").status_code == 404
        form = {"version": "1", "edit": "1"}
        assert client.post(f"/alerts/rules/{rule_id}/undo", data=form).status_code == 404
    assert "of globex" not in client.get("/alerts/rules").text


def test_a_confined_admin_is_not_told_the_budgets_of_others(
    ledger: Ledger, visitor: Visitor
) -> None:
    """
    A rule about another organisation's budget is refused in the same words as about none.
    """
    accounts = Accounts(shared_database(ledger), clock=lambda: sample.NOW)
    accounts.register(Budget("1 CNY", where={"org_id": "globex"}, name="secret of globex").terms)
    client = visitor(org_id="acme")
    form = client.get("/alerts/rules/new", params={"kind": "budget_threshold"}).text

    answers = [
        client.post(
            "/api/v1/alert-rules",
            json={"name": "mine", "kind": "budget_threshold", "budget": name},
        )
        for name in ("secret of globex", "nobody's")
    ]

    assert [each.status_code for each in answers] == [422, 422]
    assert "secret" not in form
    assert "secret" not in answers[1].text
    said = [each.json()["detail"] for each in answers]
    assert said[0].replace("secret of globex", "nobody's") == said[1].replace('"', "'") or (
        "a budget of 'acme'" in said[0] and "a budget of 'acme'" in said[1]
    )
