"""Quotas and the switches of models in the console: rows, edits, conflicts, walls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.policies.quotas import Quotas
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app
from ai_ledger.web.language import Labels, Language

PARTIAL = {"HX-Request": "true"}
SLASHED = {"org_id": "acme/eu..", "model": "openai/gpt-4o"}
START = datetime(2026, 4, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def client(visitor: Visitor) -> TestClient:
    """An admin of everything."""
    return visitor()


def done(answer: Any) -> dict[str, Any]:
    """What a form's answer says was done."""
    assert answer.status_code == 204, answer.text
    return json.loads(answer.headers["HX-Trigger"])["done"]


def rows(client: TestClient) -> list[tuple[str, str, bool, int, int]]:
    """The rows as the API tells them."""
    return [
        (row["org_id"], row["model"], row["enabled"], row["tokens"], row["version"])
        for row in client.get("/api/v1/quotas").json()
    ]


@pytest.fixture
def everywhere(sql_url: str, tmp_path: Path) -> Iterator[TestClient]:
    """The console over a ledger in each database in turn."""
    with Ledger(sql_url, journal=tmp_path / "journal") as ledger:
        who = Access(name="ada", role="admin")
        app = create_app(ledger, auth=lambda request: who, clock=lambda: sample.NOW)
        with TestClient(
            app, base_url="http://127.0.0.1", headers={"Sec-Fetch-Site": "same-origin"}
        ) as client:
            yield client
        app.state.house.close()
    close_databases()


def test_a_quota_is_made_changed_disabled_and_removed(everywhere: TestClient) -> None:
    """
    A quota goes through its whole life by the API, whatever its names contain.
    """
    client = everywhere
    made = client.put("/api/v1/quota", params=SLASHED, json={"tokens": 1000, "version": 0})
    changed = client.put(
        "/api/v1/quota", params=SLASHED, json={"valid_from": START.isoformat(), "version": 1}
    )
    off = client.post("/api/v1/quota/disable", params={**SLASHED, "version": 2})
    on = client.post("/api/v1/quota/enable", params=SLASHED)
    detail = client.get("/api/v1/quota", params=SLASHED)
    gone = client.delete("/api/v1/quota", params={**SLASHED, "version": 4})
    history = client.get("/api/v1/quota/history", params=SLASHED).json()

    assert [each.status_code for each in (made, changed, off, on, detail, gone)] == [200] * 6
    assert (made.json()["tokens"], made.json()["tokens_used"]) == (1000, 0)
    assert datetime.fromisoformat(changed.json()["valid_from"]) == START
    assert (off.json()["enabled"], on.json()["enabled"]) == (False, True)
    assert (detail.json()["version"], detail.json()["active_users"]) == (4, 0)
    assert client.get("/api/v1/quota", params=SLASHED).status_code == 404
    assert [(each["changed_by"], each["after"] is None) for each in history] == [
        ("ada", True),
        ("ada", False),
        ("ada", False),
        ("ada", False),
        ("ada", False),
    ]


def test_models_are_switched_and_bounded(everywhere: TestClient) -> None:
    """
    A model is switched off and its calls in flight are bounded as one edit each.
    """
    client = everywhere
    off = client.put("/api/v1/model-switch", params={"model": "a/b"}, json={"off": True})
    capped = client.put(
        "/api/v1/model-switch", params={"model": "a/b"}, json={"max_concurrent": 3, "version": 1}
    )
    late = client.put(
        "/api/v1/model-switch", params={"model": "a/b"}, json={"off": False, "version": 1}
    )

    assert (off.json()["off"], off.json()["max_concurrent"]) == (True, 0)
    assert (capped.json()["off"], capped.json()["max_concurrent"]) == (True, 3)
    assert late.status_code == 409
    assert [each["model"] for each in client.get("/api/v1/model-switches").json()] == ["a/b"]
    assert len(client.get("/api/v1/model-switch/history", params={"model": "a/b"}).json()) == 2


def test_what_is_used_is_what_is_charged(ledger: Ledger, client: TestClient) -> None:
    """
    A row with a limit tells the tokens of its calls, one for every organisation does not.
    """
    quotas = Quotas(ledger)
    quotas.set("acme", "qwen-plus", tokens=100_000)
    quotas.set("*", "qwen-plus", tokens=5)
    quotas.set("globex", "qwen-plus")
    ledger.store.write(sample.calls())

    found = {row["org_id"]: row for row in client.get("/api/v1/quotas").json()}

    assert found["acme"]["tokens_used"] == quotas.used("acme", "qwen-plus").tokens_used > 0
    assert found["acme"]["share"] == found["acme"]["tokens_used"] / 100_000
    assert (found["*"]["tokens_used"], found["globex"]["tokens_used"]) == (None, None)


def test_the_form_makes_a_row_and_undo_takes_it_away(client: TestClient) -> None:
    """
    Adding by the form offers to undo, and that removes the row.
    """
    said = done(
        client.post(
            "/budgets/quota/save",
            data={
                **SLASHED,
                "version": "0",
                "tokens": "7",
                "rates": "60/minute",
                "min_interval_s": "0.5",
                "enabled": "1",
                "valid_from": "2026-04-01T00:00",
            },
            headers=PARTIAL,
        )
    )
    (row,) = client.get("/api/v1/quotas").json()
    done(client.post(said["undo"]["path"], data=said["undo"]["fields"], headers=PARTIAL))

    assert (row["tokens"], row["rates"], row["min_interval_s"], row["shared"]) == (
        7,
        "60/minute",
        0.5,
        False,
    )
    assert datetime.fromisoformat(row["valid_from"]) == datetime(2026, 4, 1, tzinfo=UTC)
    assert rows(client) == []


def test_an_edit_by_the_form_is_undone_to_the_microsecond(
    ledger: Ledger, client: TestClient
) -> None:
    """
    A time that the form shows in seconds stays as it was, and undo brings all back.
    """
    Quotas(ledger).set("acme", "m", tokens=5, valid_from=START, shared=False, enabled=False)
    fields = {"org_id": "acme", "model": "m", "version": "1", "tokens": "9", "enabled": "1"}

    said = done(
        client.post(
            "/budgets/quota/save",
            data={**fields, "valid_from": "2026-04-01T12:30:15"},
            headers=PARTIAL,
        )
    )
    changed = Quotas(ledger).get("acme", "m")
    done(client.post(said["undo"]["path"], data=said["undo"]["fields"], headers=PARTIAL))
    back = Quotas(ledger).get("acme", "m")

    assert (changed.tokens, changed.valid_from, changed.enabled) == (9, START, True)
    assert (back.tokens, back.valid_from, back.enabled, back.shared) == (5, START, False, False)


def test_removing_a_row_is_undone_with_all_that_it_said(ledger: Ledger, client: TestClient) -> None:
    """
    A removed row comes back as it was.
    """
    Quotas(ledger).set("acme", "m", tokens=5, rates="1/second", max_concurrent=2, valid_from=START)

    said = done(
        client.post(
            "/budgets/quota/remove",
            data={"org_id": "acme", "model": "m", "version": "1"},
            headers=PARTIAL,
        )
    )
    gone = rows(client)
    done(client.post(said["undo"]["path"], data=said["undo"]["fields"], headers=PARTIAL))
    back = Quotas(ledger).get("acme", "m")

    assert gone == []
    assert (back.tokens, back.rates, back.max_concurrent, back.valid_from, back.enabled) == (
        5,
        "1/second",
        2,
        START,
        True,
    )


@pytest.mark.parametrize(
    ("language", "words"),
    [
        pytest.param("en", "Somebody else was quicker", id="english"),
        pytest.param("zh", "别人抢先修改了", id="chinese"),
    ],
)
def test_somebody_else_was_quicker(
    ledger: Ledger, client: TestClient, language: str, words: str
) -> None:
    """
    An edit of a row that changed meanwhile is refused, and says who changed it to what.
    """
    quotas = Quotas(ledger)
    quotas.set("acme", "m", tokens=5)
    quotas.set("acme", "m", tokens=123_456, by="bob")
    client.cookies.set("ai_ledger_language", language)

    answer = client.post(
        "/budgets/quota/save",
        data={"org_id": "acme", "model": "m", "version": "1", "tokens": "9"},
        headers=PARTIAL,
    )

    assert answer.status_code == 409
    detail = answer.json()["detail"]
    assert words in detail
    assert "bob" in detail
    assert "123,456" in detail
    assert Quotas(ledger).get("acme", "m").tokens == 123_456


def test_a_model_is_switched_off_by_its_button_and_on_by_undo(
    ledger: Ledger, client: TestClient
) -> None:
    """
    Switching off offers to undo, and that switches on again and keeps the bound.
    """
    Quotas(ledger).cap("m", 4)

    said = done(
        client.post(
            "/budgets/switch/save",
            data={"model": "m", "version": "1", "off": "1"},
            headers=PARTIAL,
        )
    )
    (off,) = Quotas(ledger).switches()
    done(client.post(said["undo"]["path"], data=said["undo"]["fields"], headers=PARTIAL))
    (on,) = Quotas(ledger).switches()

    assert (off.off, off.max_concurrent) == (True, 4)
    assert (on.off, on.max_concurrent, on.updated_by) == (False, 4, "tester")


@pytest.mark.parametrize(
    "access",
    [
        pytest.param({"role": "viewer"}, id="a viewer"),
        pytest.param({"role": "operator"}, id="an operator"),
        pytest.param({"role": "admin", "org_id": "acme"}, id="an admin of one organisation"),
    ],
)
def test_only_an_admin_of_everything_edits(
    ledger: Ledger, visitor: Visitor, access: dict[str, str]
) -> None:
    """
    Nobody else makes, changes, switches or removes anything, and sees no form for it.
    """
    Quotas(ledger).set("acme", "m", tokens=5)
    client = visitor(**access)
    own = {"org_id": "acme", "model": "m"}

    refused = [
        client.put("/api/v1/quota", params=own, json={"tokens": 9}),
        client.delete("/api/v1/quota", params=own),
        client.post("/api/v1/quota/disable", params=own),
        client.put("/api/v1/model-switch", params={"model": "m"}, json={"off": True}),
        client.post("/budgets/quota/save", data={**own, "tokens": "9"}, headers=PARTIAL),
        client.post("/budgets/quota/remove", data=own, headers=PARTIAL),
        client.post("/budgets/quota/allow", data=own, headers=PARTIAL),
        client.post("/budgets/switch/save", data={"model": "m", "off": "1"}, headers=PARTIAL),
    ]

    assert [each.status_code for each in refused] == [403] * 8
    assert rows(client) == [("acme", "m", True, 5, 1)]
    page = client.get("/budgets").text + client.get("/budgets/quota", params=own).text
    assert "quota/save" not in page
    assert "quota/remove" not in page


def test_a_confined_reader_sees_its_own_rows(ledger: Ledger, visitor: Visitor) -> None:
    """
    Rows of others, of every organisation, and switches are not there for a reader of acme.
    """
    quotas = Quotas(ledger)
    for org_id in ("acme", "globex", "*"):
        quotas.set(org_id, "secret-model" if org_id != "acme" else "m", by="boss")
    quotas.switch_off("secret-model")
    client = visitor(org_id="acme")
    other = {"org_id": "globex", "model": "secret-model"}

    assert [row[0] for row in rows(client)] == ["acme"]
    assert "secret-model" not in client.get("/budgets").text
    for path in ("/api/v1/quota", "/api/v1/quota/history", "/budgets/quota"):
        assert client.get(path, params=other).status_code == 404
        assert client.get(path, params={**other, "org_id": "*"}).status_code == 404
    assert client.get("/api/v1/model-switches").status_code == 403
    assert client.get("/budgets/switch", params={"model": "secret-model"}).status_code == 403


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("tokens", "-1", id="negative"),
        pytest.param("tokens", "9" * 19, id="more than a database holds"),
        pytest.param("tokens", "1e3", id="no whole number"),
        pytest.param("rates", "often", id="no rate"),
        pytest.param("min_interval_s", "nan", id="not a number"),
        pytest.param("min_interval_s", "1e400", id="infinite"),
        pytest.param("valid_from", "tomorrow", id="no time"),
        pytest.param("valid_until", "0001-01-01T00:00", id="before all time"),
        pytest.param("max_concurrent", "9999999", id="too many"),
        pytest.param("model", "", id="no model"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    client: TestClient, field: str, value: str
) -> None:
    """
    A form with a value that no quota can have says which, and changes nothing.
    """
    answer = client.post(
        "/budgets/quota/save",
        data={"org_id": "acme", "model": "m", "version": "0", "enabled": "1", field: value},
        headers=PARTIAL,
    )

    assert answer.status_code == 422, answer.text
    name = Labels(Language("en")).typed(field)
    assert name is not None
    assert answer.json()["detail"].startswith(name)
    assert rows(client) == []


def test_hostile_names_are_text_on_every_page(ledger: Ledger, client: TestClient) -> None:
    """
    An organisation and a model that are markup are shown as what they are.
    """
    quotas = Quotas(ledger)
    names = {"org_id": "<b>x</b>", "model": '"><script>alert(1)</script>'}
    quotas.set(**names, by="<i>eve</i>")
    quotas.switch_off(names["model"], by="<i>eve</i>")

    for page in (
        client.get("/budgets"),
        client.get("/budgets/quota", params=names),
        client.get("/budgets/switch", params={"model": names["model"]}),
    ):
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<b>x" not in page.text
        assert "<i>eve" not in page.text
        assert "&lt;script&gt;alert" in page.text


def test_a_quota_that_is_there_already_is_nobodys_hurry(ledger: Ledger, client: TestClient) -> None:
    """
    Adding it once more says that it is there, and what it is; nothing is changed.
    """
    Quotas(ledger).set("acme", "m", tokens=5)

    answer = client.post(
        "/budgets/quota/save",
        data={"org_id": "acme", "model": "m", "version": "0", "tokens": "9", "enabled": "1"},
        headers=PARTIAL,
    )

    assert answer.status_code == 409
    assert answer.json()["title"] == "There is one of that name already"
    assert answer.json()["detail"].startswith("There is a quota for acme / m already. It is:")
    assert "quicker" not in answer.text
    assert Quotas(ledger).get("acme", "m").tokens == 5
