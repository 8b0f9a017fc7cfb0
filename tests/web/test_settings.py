"""Settings: what is stored, erasing what is old, tokens, who changed what."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access, AccessTokens
from ai_ledger.query import Query
from ai_ledger.web import create_app

API = "/api/v1"


def test_what_is_stored(visitor: Visitor, filled: Ledger) -> None:
    """
    An administrator of all sees where it is stored; others see what concerns them.
    """
    everything = visitor().get(f"{API}/settings").json()
    own = visitor(org_id="acme").get(f"{API}/settings").json()
    viewer = visitor(role="viewer").get(f"{API}/settings").json()

    calls = sample.calls()
    mine = [each for each in calls if each.org_id == "acme"]
    assert everything["calls"] == viewer["calls"] == len(calls)
    assert own["calls"] == own["with_content"] == len(mine)
    assert everything["last_at"] == "2026-05-20T09:30:00Z"
    assert everything["database"].startswith("SQLite 3.")
    assert everything["size_bytes"] > 100_000
    for hidden in (own, viewer):
        places = ("database", "where", "tables", "size_bytes")
        assert [hidden[name] for name in places] == [None] * 4


def test_answers_that_are_kept_do_not_outlive_an_erasure(visitor: Visitor, filled: Ledger) -> None:
    """
    Costs by user were counted a moment ago, and name nobody any more who was erased since.
    """
    client = visitor()
    asked = f"{API}/costs?by=user_id&days=7"

    before = {each["value"] for each in client.get(asked).json()["rows"]}
    # All but the calls of the last day.
    client.post("/settings/erasure", data={"days": "1", "confirmed": "1"})
    rows = client.get(asked).json()["rows"]

    assert before >= {"user-0", "user-1"}
    assert {each["value"]: each["calls"] for each in rows}[None] > 0
    assert sum(each["calls"] for each in rows if each["value"]) <= 15


def test_erasing_what_is_old(visitor: Visitor, filled: Ledger) -> None:
    """
    First the number is told, then it is typed once more, and then it cannot be undone:
    what old calls said is gone, their costs stay, and the history says who did it.
    """
    client = visitor(name="ann")
    old = [each for each in sample.calls() if each.started_at < sample.NOW - timedelta(days=3)]

    told = client.post("/settings/erasure", data={"days": "3"}).text
    wrong = client.post("/settings/erasure", data={"days": "3", "confirmed": "4"})
    assert f"{len(old)} calls began before 2026-05-17 09:30:00" in told
    assert wrong.status_code == 422
    assert filled.store.call(None, old[0].id).request_content is not None

    done = client.post("/settings/erasure", data={"days": "3", "confirmed": "3"})

    assert (done.status_code, done.url.path) == (200, "/settings")
    erased = filled.store.calls(Query.build(scope=None, until=sample.NOW - timedelta(days=3)))
    assert {(each.request_content, each.user_id, each.session_id) for each in erased} == {
        (None, None, None)
    }
    assert [each.cost for each in erased] == [each.cost for each in old]
    kept = filled.store.call(None, "call-00000")
    assert kept is not None
    assert kept.request_content is not None
    (change,) = client.get(f"{API}/changes?kind=calls").json()["changes"]
    assert (change["changed_by"], change["after"]) == ("ann", {"days": 3, "forgotten": len(old)})


@pytest.mark.parametrize(
    "access", [{"role": "operator"}, {"role": "viewer"}, {"org_id": "acme"}], ids=str
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/settings/erasure", {"days": 1, "dry_run": True}),
        ("POST", "/settings/erasure", {"days": 1, "dry_run": False, "confirmed": "1"}),
        ("POST", "/access-tokens", {"name": "x"}),
        ("POST", "/access-tokens/1/revoke", None),
        ("GET", "/changes", None),
    ],
    ids=str,
)
def test_what_concerns_all(
    visitor: Visitor, access: dict[str, Any], method: str, path: str, body: Any
) -> None:
    """
    Tokens, the history and erasing are for administrators of all organisations.
    """
    answer = visitor(**access).request(method, API + path, json=body)

    assert answer.status_code == 403


def test_a_token_is_shown_once(visitor: Visitor, ledger: Ledger) -> None:
    """
    The text of a new token is on the page that makes it, in no cache, and never again.
    """
    client = visitor(name="ann")

    made = client.post(
        "/settings/tokens",
        data={"name": "ada", "role": "operator", "org_id": "acme", "days": "7", "prompts": "1"},
    )

    text = made.text.partition('id="made">')[2].partition("<")[0]
    app: Any = client.app
    access = app.state.house.tokens.find(text)
    assert access is not None
    assert (access.name, access.role, access.org_id, access.prompts) == (
        "ada", "operator", "acme", True,
    )  # fmt: skip
    assert made.headers["Cache-Control"] == "no-store"
    assert text not in client.get("/settings/tokens").text
    (token,) = client.get(f"{API}/access-tokens").json()
    assert (token["expires_at"], token["created_by"]) == ("2026-05-27T09:30:00Z", "ann")

    gone = client.post("/settings/tokens/1/revoke", headers={"HX-Request": "true"})
    assert "Revoked the access token of ada." in gone.headers["HX-Trigger"]
    assert app.state.house.tokens.find(text) is None
    assert client.get(f"{API}/access-tokens/1").json()["state"] == "revoked"


def test_nobody_gives_what_they_have_not(visitor: Visitor) -> None:
    """
    Whoever does not see prompts makes no token that does.
    """
    client = visitor(prompts=False)

    refused = client.post(f"{API}/access-tokens", json={"name": "x", "prompts": True})
    made = client.post(f"{API}/access-tokens", json={"name": "x"})

    assert (refused.status_code, made.status_code) == (403, 201)


def test_others_see_their_own_token(visitor: Visitor, ledger: Ledger) -> None:
    """
    A viewer sees the token that they came in with, and of others not even that they exist.
    """
    tokens = AccessTokens(ledger)
    tokens.add("ada", by="ann")
    tokens.add("bob", by="ann")
    viewer = visitor(role="viewer", token_id=1)

    assert [each["name"] for each in viewer.get(f"{API}/access-tokens").json()] == ["ada"]
    assert viewer.get(f"{API}/access-tokens/1").status_code == 200
    assert viewer.get(f"{API}/access-tokens/2").status_code == 404
    assert "bob" not in viewer.get("/settings/tokens").text


def test_the_history_pages_by_key(visitor: Visitor, ledger: Ledger) -> None:
    """
    Pages of the history meet without a gap, filtered by kind and by who.
    """
    tokens = AccessTokens(ledger)
    for number in range(5):
        tokens.add(f"t{number}", by="ann" if number % 2 else "bob")
    client = visitor()

    seen: list[str] = []
    before = ""
    while True:
        page = client.get(f"{API}/changes?limit=2{before}").json()
        seen += [each["after"]["name"] for each in page["changes"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    by_ann = client.get(f"{API}/changes?by=ann&kind=access_token").json()["changes"]

    assert seen == ["t4", "t3", "t2", "t1", "t0"]
    assert [each["after"]["name"] for each in by_ann] == ["t3", "t1"]
    assert client.get(f"{API}/changes?kind=nothing").json() == {"changes": [], "next": None}
    assert "t3" in client.get("/settings/changes?by=ann").text


def test_the_first_token_is_an_administrators(ledger: Ledger) -> None:
    """
    Whoever is in without a token is told that it ends, and does not lock themselves out.
    """
    anonymous = Access(name="ann", role="admin", prompts=True)
    console = create_app(ledger, anonymous=anonymous)
    with TestClient(
        console,
        base_url="http://127.0.0.1",
        client=("127.0.0.1", 1234),
        headers={"Sec-Fetch-Site": "same-origin"},
    ) as client:
        before = client.get("/settings/tokens").text
        made = client.post("/settings/tokens", data={"name": "ann", "role": "admin", "days": ""})
        text = re.search(r'<code id="made">([^<]+)</code>', made.text)
        assert text
        after = client.get("/settings/tokens", headers={"Authorization": f"Bearer {text[1]}"}).text

    assert '<option value="admin" selected>' in before
    assert "This is the first one" in before
    assert 'name="prompts" value="1" checked' in before
    assert '<option value="viewer" selected>' in after
    assert "This is the first one" not in after


def test_a_page_that_is_loaded_again_makes_no_token(visitor: Visitor, ledger: Ledger) -> None:
    """
    The form is sent again by then; one that was refused may be put right and sent.
    """
    client = visitor()
    (once,) = re.findall(r'name="once" value="([^"]+)"', client.get("/settings/tokens").text)
    fields = {"name": "ada", "role": "viewer", "days": "90", "once": once}

    refused = client.post("/settings/tokens", data={**fields, "name": " "})
    made = client.post("/settings/tokens", data=fields)
    again = client.post("/settings/tokens", data=fields, follow_redirects=False)
    (other,) = re.findall(r'name="once" value="([^"]+)"', made.text)
    another = client.post("/settings/tokens", data={**fields, "once": other})

    assert (refused.status_code, made.status_code, another.status_code) == (422, 200, 200)
    assert (again.status_code, again.headers["location"]) == (303, "/settings/tokens")
    assert len(AccessTokens(ledger).list()) == 2


def test_tokens_that_let_nobody_in_need_no_warning(visitor: Visitor, ledger: Ledger) -> None:
    """
    Where the program itself knows its users, nobody signs in with a token.
    """
    text = visitor().get("/settings/tokens").text

    assert '<option value="viewer" selected>' in text
    assert "This is the first one" not in text


def test_the_history_says_what_became_of_calls(visitor: Visitor, filled: Ledger) -> None:
    """
    Calls are deleted and restored, not made; filters and numbers are told as people say them.
    """
    client = visitor()
    client.post("/calls/delete", data={"ids": "call-00001"})
    client.post("/calls/restore", data={"ids": "call-00001"})
    client.post("/calls/delete", data={"filter": "function=search", "expected": "40"})

    shown = client.get("/settings/changes").text
    chinese = client.get("/settings/changes", headers={"Accept-Language": "zh"}).text

    assert "made</span>" not in shown
    assert shown.count("deleted</span>") == 2
    assert shown.count("restored</span>") == 1
    assert "40 calls" in shown
    assert "Function: search" in shown
    for raw in ("deleted_at", "{", "'search'"):
        assert raw not in re.sub(r"(?s)<head>.*?</head>|<body[^>]*>", "", shown)
    assert "40 次调用" in chinese
    assert "功能: search" in chinese
    assert "40 calls" not in re.sub(r'title="[^"]*"', "", chinese)
