"""Histories: one shape, one form of an answer, one table; and what is taken back by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.alerts import Alerts, Rule
from ai_ledger.catalog import Catalog
from ai_ledger.policies.quotas import Quotas
from ai_ledger.policies.words import WordList

API = "/api/v1"
SCRIPT = {"HX-Request": "true"}
EDIT = {"id", "changed_at", "changed_by", "before", "after"}


@pytest.fixture
def edited(ledger: Ledger) -> Ledger:
    """A ledger with one of each that people edit, made by ada and edited by bob."""
    catalog = Catalog(ledger)
    catalog.add_provider("dashscope", by="ada")
    catalog.edit_provider("dashscope", version=1, by="bob", sort_order=7)
    catalog.add_model("qwen-plus", provider="dashscope", by="ada")
    catalog.edit_model("qwen-plus", version=1, by="bob", timeout_s=7)
    quotas = Quotas(ledger)
    quotas.set("acme", "qwen-plus", tokens=5, by="ada")
    quotas.set("acme", "qwen-plus", tokens=7, by="bob")
    quotas.cap("qwen-plus", 5, by="ada")
    quotas.cap("qwen-plus", 7, by="bob")
    words = WordList(ledger)
    words.add("falcon", action="warn", by="ada")
    words.edit(1, note="seven", by="bob")
    with Alerts(ledger) as alerts:
        alerts.add_rule(Rule(name="failures", kind="failure_rate"), by="ada")
        alerts.edit_rule(1, min_calls=7, by="bob")
    return ledger


HISTORIES = [
    f"{API}/providers/dashscope/history",
    f"{API}/models/qwen-plus/history",
    f"{API}/quota/history?org_id=acme&model=qwen-plus",
    f"{API}/model-switch/history?model=qwen-plus",
    f"{API}/words/1/history",
    f"{API}/alert-rules/1/history",
]
PAGES = [
    "/models/entry?kind=provider&name=dashscope",
    "/models/entry?kind=model&name=qwen-plus",
    "/budgets/quota?org_id=acme&model=qwen-plus",
    "/budgets/switch?model=qwen-plus",
    "/words/1",
    "/alerts/rules/1",
]


@pytest.mark.parametrize("path", HISTORIES)
def test_a_history_is_a_list_of_edits(edited: Ledger, visitor: Visitor, path: str) -> None:
    """
    The newest first, each with who, when, and from what to what; as many as are asked for.
    """
    client = visitor()

    found = client.get(path).json()
    one = client.get(f"{path}{'&' if '?' in path else '?'}limit=1").json()

    assert [set(each) for each in found] == [EDIT, EDIT]
    assert [each["changed_by"] for each in found] == ["bob", "ada"]
    assert found[1]["before"] is None
    assert found[0]["before"] == found[1]["after"] != found[0]["after"]
    assert one == found[:1]


def test_every_history_answers_alike(visitor: Visitor) -> None:
    """
    Each route that ends in /history gives edits and takes the same limit, as /changes does.
    """
    document: dict[str, Any] = visitor().get(f"{API}/openapi.json").json()
    limits: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    for path, item in document["paths"].items():
        if path.endswith("/history") or path == "/changes":
            (limits[path],) = (
                {key: value for key, value in each["schema"].items() if key != "title"}
                for each in item["get"]["parameters"]
                if each["name"] == "limit"
            )
            content = item["get"]["responses"]["200"]["content"]["application/json"]
            answers[path] = content["schema"].get("items", content["schema"])["$ref"]

    assert len(limits) == 8
    assert [each | {"description": ""} for each in limits.values()] == [
        {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100, "description": ""}
    ] * 8
    assert answers.pop("/changes").endswith("/History")
    assert {each.rpartition("/")[2] for each in answers.values()} == {"Edit"}
    schemas = document["components"]["schemas"]
    assert set(schemas["KeyedEdit"]["properties"]) == EDIT | {"kind", "key"}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_its_edits_alike(edited: Ledger, visitor: Visitor, path: str) -> None:
    """
    One table: who, and from what to what, the newest first.
    """
    page = visitor().get(path).text
    table = page[page.index('aria-label="Who changed it"') :]

    assert table.index("bob") < table.index("<del>") < table.index("<ins>") < table.index("ada")
    assert "seven" in table or "7" in table


# Taking back


def offered(client: TestClient, path: str, form: dict[str, str]) -> dict[str, Any] | None:
    """The undo that the answer to a form offers."""
    answer = client.post(path, data=form, headers=SCRIPT)
    assert answer.status_code == 204, answer.text
    return json.loads(answer.headers["HX-Trigger"])["done"].get("undo")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        pytest.param(
            "/models/save",
            {"kind": "provider", "name": "dashscope", "sort_order": "7", "version": "2"},
            id="a provider",
        ),
        pytest.param(
            "/models/switch",
            {"kind": "model", "name": "qwen-plus", "action": "enable", "version": "2"},
            id="a model",
        ),
        pytest.param(
            "/budgets/quota/save",
            {"org_id": "acme", "model": "qwen-plus", "tokens": "7", "enabled": "1", "shared": "1",
             "version": "2"},
            id="a quota",
        ),
        pytest.param(
            "/budgets/quota/allow",
            {"org_id": "acme", "model": "qwen-plus", "enabled": "1", "version": "2"},
            id="whether a quota allows",
        ),
        pytest.param(
            "/budgets/switch/save",
            {"model": "qwen-plus", "max_concurrent": "7", "version": "2"},
            id="a switch",
        ),
        pytest.param(
            "/words/edit",
            {"id": "1", "word": "falcon", "action": "warn", "note": "seven", "version": "2"},
            id="a word",
        ),
        pytest.param("/words/switch", {"id": "1", "active": "1", "version": "2"}, id="its use"),
        pytest.param("/words/settings", {"fuzzy": "1", "version": "0"}, id="the filter"),
        pytest.param("/alerts/rules/1/enable", {"enabled": "1", "version": "2"}, id="a rule"),
    ],
)  # fmt: skip
def test_what_changed_nothing_is_not_taken_back(
    edited: Ledger, visitor: Visitor, path: str, form: dict[str, str]
) -> None:
    """
    Saving what is there already offers no undo, which would take back the edit before: bob's.
    """
    client = visitor()
    newest = client.get(f"{API}/changes?limit=1").json()

    assert offered(client, path, form) is None
    assert client.get(f"{API}/changes?limit=1").json() == newest


def test_a_long_edit_is_taken_back(edited: Ledger, visitor: Visitor) -> None:
    """
    An offer names the edit and not what was there before, which no header has room for.
    """
    client, words = visitor(), WordList(edited)
    words.edit(1, note="长" * 255, version=2)
    long = words.get(1)
    form = {"id": "1", "word": "falcon", "action": "warn", "version": "3"}

    undo = offered(client, "/words/edit", form)
    assert undo is not None
    assert offered(client, undo["path"], undo["fields"]) is None

    assert words.get(1).note == long.note


def test_nobody_takes_back_what_is_not_theirs(edited: Ledger, visitor: Visitor) -> None:
    """
    A word that the last edit took from another organisation does not go back by whom it has now.
    """
    words = WordList(edited)
    words.edit(1, org_id="globex", version=2)
    words.edit(1, org_id="acme", version=3)
    form = {"id": "1", "version": "4", "edit": str(words.history(1, limit=1)[0].id)}

    confined = visitor(org_id="acme").post("/words/undo", data=form, headers=SCRIPT)
    operator = visitor(role="operator").post("/words/undo", data=form, headers=SCRIPT)

    assert (confined.status_code, operator.status_code) == (404, 403)
    assert words.get(1).org_id == "acme"


def test_an_edit_of_somebody_else_is_not_taken_back(edited: Ledger, visitor: Visitor) -> None:
    """
    Once somebody has edited it since, the undo of a quota, a switch or a word is refused.
    """
    client = visitor()
    for history, path, form in (
        (HISTORIES[2], "/budgets/quota/undo", {"org_id": "acme", "model": "qwen-plus"}),
        (HISTORIES[3], "/budgets/switch/undo", {"model": "qwen-plus"}),
        (HISTORIES[4], "/words/undo", {"id": "1"}),
    ):
        first = str(client.get(history).json()[-1]["id"])
        answer = client.post(path, data={**form, "version": "1", "edit": first}, headers=SCRIPT)
        assert answer.status_code == 409, path

    assert Quotas(edited).get("acme", "qwen-plus").tokens == 7
    assert WordList(edited).get(1).note == "seven"


def remove_word(ledger: Ledger) -> None:
    WordList(ledger).remove(1, by="bob")


def remove_quota(ledger: Ledger) -> None:
    Quotas(ledger).remove("acme", "qwen-plus", by="bob")


def remove_rule(ledger: Ledger) -> None:
    with Alerts(ledger) as alerts:
        alerts.remove_rule(1, by="bob")


@pytest.mark.parametrize(
    ("edit", "remove"),
    [
        pytest.param(
            ("/words/switch", {"id": "1", "version": "2"}),
            remove_word,
            id="a word",
        ),
        pytest.param(
            ("/budgets/quota/allow", {"org_id": "acme", "model": "qwen-plus", "version": "2"}),
            remove_quota,
            id="a quota",
        ),
        pytest.param(
            ("/alerts/rules/1/enable", {"version": "2"}),
            remove_rule,
            id="a rule",
        ),
    ],
)
def test_a_removal_by_somebody_else_is_not_taken_back(
    edited: Ledger,
    visitor: Visitor,
    edit: tuple[str, dict[str, str]],
    remove: Callable[[Ledger], None],
) -> None:
    """
    What somebody else has removed since is not brought back by the undo of an edit.
    """
    client = visitor()

    def there() -> tuple[int, int, int]:
        with Alerts(edited) as alerts:
            rules = alerts.rules()
        words = WordList(edited).list(everybody=True)
        return len(words), len(Quotas(edited).rows()), len(rules)

    theirs = offered(client, *edit)
    remove(edited)
    left = there()
    assert theirs is not None
    late = client.post(theirs["path"], data=theirs["fields"], headers=SCRIPT)

    assert late.status_code == 409
    assert there() == left != (1, 1, 1)


def test_what_was_made_again_since_stays(edited: Ledger, visitor: Visitor) -> None:
    """
    The undo of a removal does not take away what somebody else has put in its place.
    """
    client, quotas = visitor(), Quotas(edited)
    form = {"org_id": "acme", "model": "qwen-plus", "version": "2"}
    removal = offered(client, "/budgets/quota/remove", form)
    quotas.set("acme", "qwen-plus", tokens=9, by="bob")
    quotas.set("acme", "qwen-plus", tokens=11, by="bob")
    assert removal is not None

    late = client.post(removal["path"], data=removal["fields"], headers=SCRIPT)

    assert late.status_code == 409
    assert quotas.get("acme", "qwen-plus").tokens == 11


def make_word(ledger: Ledger) -> None:
    WordList(ledger).add("falcon", action="warn", by="bob")


def make_quota(ledger: Ledger) -> None:
    Quotas(ledger).set("acme", "qwen-plus", tokens=9, by="bob")


def make_rule(ledger: Ledger) -> None:
    with Alerts(ledger) as alerts:
        alerts.add_rule(Rule(name="failures", kind="failure_rate"), by="bob")


def make_model(ledger: Ledger) -> None:
    Catalog(ledger).add_model("qwen-plus", provider="dashscope", by="bob")


def take_word(ledger: Ledger) -> None:
    (word,) = WordList(ledger).list()
    WordList(ledger).remove(word.id, by="bob")


def take_rule(ledger: Ledger) -> None:
    with Alerts(ledger) as alerts:
        alerts.remove_rule("failures", by="bob")


def take_model(ledger: Ledger) -> None:
    Catalog(ledger).remove_model("qwen-plus", by="bob")


@pytest.mark.parametrize(
    ("path", "form", "make", "take"),
    [
        pytest.param("/words/remove", {"id": "1"}, make_word, take_word, id="a word"),
        pytest.param(
            "/budgets/quota/remove",
            {"org_id": "acme", "model": "qwen-plus"},
            make_quota,
            remove_quota,
            id="a quota",
        ),
        pytest.param("/alerts/rules/1/remove", {}, make_rule, take_rule, id="a rule"),
        pytest.param(
            "/models/switch",
            {"kind": "model", "name": "qwen-plus", "action": "remove"},
            make_model,
            take_model,
            id="a model",
        ),
    ],
)
@pytest.mark.parametrize("by_undo", [False, True], ids=["by hand", "by the same undo"])
def test_what_was_removed_again_since_stays_away(
    edited: Ledger,
    visitor: Visitor,
    path: str,
    form: dict[str, str],
    make: Callable[[Ledger], None],
    take: Callable[[Ledger], None],
    by_undo: bool,
) -> None:
    """
    The undo of a removal is too late once it was there again and somebody else has removed it.
    """
    client = visitor()
    removal = offered(client, path, {**form, "version": "2"})
    assert removal is not None
    if by_undo:
        offered(client, removal["path"], removal["fields"])
    else:
        make(edited)
    take(edited)
    newest = client.get(f"{API}/changes?limit=1").json()

    late = client.post(removal["path"], data=removal["fields"], headers=SCRIPT)

    assert late.status_code == 409
    assert client.get(f"{API}/changes?limit=1").json() == newest


@pytest.mark.parametrize(("field", "value"), [("word", "eagle"), ("note", "mine")])
def test_a_word_that_was_added_again_and_edited_is_not_added_twice(
    edited: Ledger, visitor: Visitor, field: str, value: str
) -> None:
    """
    The undo of a removal is too late once somebody has added the word and edited it, its name too.
    """
    client = visitor()
    removal = offered(client, "/words/remove", {"id": "1", "version": "2"})
    make_word(edited)
    fields: dict[str, Any] = {field: value}
    WordList(edited).edit(2, by="bob", **fields)
    assert removal is not None

    late = client.post(removal["path"], data=removal["fields"], headers=SCRIPT)

    assert late.status_code == 409
    assert [each.id for each in WordList(edited).list()] == [2]


def test_words_of_others_are_no_reason_to_refuse(edited: Ledger, visitor: Visitor) -> None:
    """
    A word that was removed comes back whatever became of the same word of an organisation.
    """
    client = visitor()
    removal = offered(client, "/words/remove", {"id": "1", "version": "2"})
    words = WordList(edited)
    theirs = words.add("falcon", org_id="acme", by="bob")
    words.remove(theirs.id, by="bob")
    words.add("eagle", by="bob")
    assert removal is not None

    offered(client, removal["path"], removal["fields"])

    assert {each.word for each in words.list()} == {"eagle", "falcon"}


def test_a_version_that_comes_again_is_another_edit(edited: Ledger, visitor: Visitor) -> None:
    """
    A quota made anew counts its versions from 1: the undo of an edit before knows the difference.
    """
    client, quotas = visitor(), Quotas(edited)
    form = {"org_id": "acme", "model": "qwen-plus", "version": "2"}
    theirs = offered(client, "/budgets/quota/allow", form)
    quotas.remove("acme", "qwen-plus", by="bob")
    for tokens in (1, 2, 3):
        quotas.set("acme", "qwen-plus", tokens=tokens, by="bob")
    assert theirs is not None
    assert quotas.get("acme", "qwen-plus").version == int(theirs["fields"]["version"])

    late = client.post(theirs["path"], data=theirs["fields"], headers=SCRIPT)

    assert late.status_code == 409
    assert quotas.get("acme", "qwen-plus").tokens == 3
