"""Deleting and restoring calls: who may, what follows, and that nothing else does."""

from __future__ import annotations

import pytest
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.database.changes import changes_of
from ai_ledger.query import Query
from ai_ledger.sinks.sql.shared import database_url_of, shared_database

ONE, TWO = "call-00000", "call-00003"
THEIRS = "call-00001"
"""Of globex; the others are acme's."""


def deleted(ledger: Ledger) -> list[str]:
    return sorted(
        call.id for call in ledger.store.calls(Query.build(scope=None, deleted=True), limit=1000)
    )


def test_delete_and_restore_one(filled: Ledger, visitor: Visitor) -> None:
    """
    A deleted call leaves lists and totals, is still there by its id, and can be brought back.
    """
    client = visitor(role="operator")
    before = client.get("/api/v1/calls/totals").json()

    assert client.delete(f"/api/v1/calls/{ONE}").json() == {"changed": 1}
    assert client.delete(f"/api/v1/calls/{ONE}").json() == {"changed": 0}
    assert client.get("/api/v1/calls/totals").json()["calls"] == before["calls"] - 1
    assert client.get(f"/api/v1/calls/{ONE}").json()["call"]["deleted_at"] is not None
    assert client.post(f"/api/v1/calls/{ONE}/restore").json() == {"changed": 1}

    assert client.get("/api/v1/calls/totals").json() == before
    assert deleted(filled) == []


def test_delete_and_undo_on_the_page(filled: Ledger, visitor: Visitor) -> None:
    """
    The page's form deletes what was chosen and says how it is undone, which does just that.
    """
    client = visitor(role="operator")
    form = {"ids": [ONE, TWO]}

    answer = client.post("/calls/delete", data=form, headers={"HX-Request": "true"})

    assert answer.status_code == 204
    told = answer.headers["HX-Trigger"]
    assert ("2 calls deleted." in told, '"/calls/restore"' in told) == (True, True)
    assert deleted(filled) == [ONE, TWO]
    page = client.get("/calls?deleted=true").text
    assert (page.count("data-call="), "Restore" in page) == (2, True)

    assert client.post("/calls/restore", data=form, follow_redirects=False).status_code == 303
    assert deleted(filled) == []


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("DELETE", f"/api/v1/calls/{THEIRS}", {}),
        ("POST", f"/api/v1/calls/{THEIRS}/restore", {}),
        ("POST", "/api/v1/calls/delete", {"json": {"ids": [ONE, THEIRS]}}),
        ("POST", "/api/v1/calls/restore", {"json": {"ids": [ONE, THEIRS]}}),
        ("POST", "/calls/delete", {"data": {"ids": [ONE, THEIRS]}}),
        ("POST", "/calls/restore", {"data": {"ids": [ONE, THEIRS]}}),
        ("GET", f"/api/v1/calls/{THEIRS}", {}),
        ("GET", f"/calls/{THEIRS}", {}),
    ],
)
def test_calls_of_others(
    filled: Ledger, visitor: Visitor, method: str, path: str, sent: dict[str, object]
) -> None:
    """
    An id of another organisation is as unknown as any, and nothing at all is done.
    """
    client = visitor(role="admin", org_id="acme")
    if "restore" in path:
        visitor().post("/api/v1/calls/delete", json={"ids": [ONE, THEIRS]})
    before = deleted(filled)

    answer = client.request(method, path, **sent)  # type: ignore[arg-type]

    assert answer.status_code == 404
    unknown = client.request(method, path.replace(THEIRS, "call-none1"), **sent)  # type: ignore[arg-type]
    assert unknown.text.replace("call-none1", THEIRS) == answer.text
    assert deleted(filled) == before


def test_viewers_change_nothing(filled: Ledger, visitor: Visitor) -> None:
    """
    Whoever only looks is refused, and is offered neither button nor box.
    """
    client = visitor(role="viewer")
    answers = [
        client.delete(f"/api/v1/calls/{ONE}"),
        client.post("/api/v1/calls/delete", json={"ids": [ONE]}),
        client.post("/api/v1/calls/restore", json={"ids": [ONE]}),
        client.post("/calls/delete", data={"ids": [ONE]}),
        client.post("/calls/restore", data={"ids": [ONE]}),
    ]

    assert [answer.status_code for answer in answers] == [403] * 5
    assert deleted(filled) == []
    assert 'name="ids"' not in client.get("/calls").text
    assert 'name="ids"' not in client.get(f"/calls/{ONE}").text


@pytest.mark.parametrize("ids", [[], [""], [str(n) for n in range(1_001)], "call-00000", [None]])
def test_lists_are_bounded(filled: Ledger, visitor: Visitor, ids: object) -> None:
    """
    1 to 1,000 ids are taken, and nothing else.
    """
    answer = visitor().post("/api/v1/calls/delete", json={"ids": ids})

    assert (answer.status_code, deleted(filled)) == (422, [])


def test_the_history_says_who(filled: Ledger, visitor: Visitor) -> None:
    """
    Who deleted and restored calls stands in the history; what changed nothing does not.
    """
    client = visitor(name="ada", role="operator")
    client.delete(f"/api/v1/calls/{ONE}")
    client.delete(f"/api/v1/calls/{ONE}")
    client.post("/api/v1/calls/restore", json={"ids": [ONE, TWO]})

    with shared_database(database_url_of(filled)).reading() as connection:
        one = changes_of(connection, "call", ONE)
        many = changes_of(connection, "calls", "2 calls")

    assert [(c.changed_by, c.before, c.after) for c in one] == [
        ("ada", {"deleted": False}, {"deleted": True})
    ]
    assert [(c.changed_by, c.after) for c in many] == [("ada", {"restored": 1, "ids": [ONE, TWO]})]


def test_nothing_changes_by_looking(filled: Ledger, visitor: Visitor) -> None:
    """
    The paths of forms do nothing when they are only opened.
    """
    assert visitor().get("/calls/delete", params={"ids": ONE}).status_code in (404, 405, 422)
    assert deleted(filled) == []
