"""Deleting all calls of a filter: just those that were counted, and they can be brought back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.database.changes import changes_of
from ai_ledger.query import Query
from ai_ledger.sinks.sql.shared import database_url_of, shared_database
from ai_ledger.web.calls import changes

DELETE, RESTORE = "/api/v1/calls/delete", "/api/v1/calls/restore"


def deleted(ledger: Ledger) -> set[str]:
    found = ledger.store.calls(Query.build(scope=None, deleted=True), limit=1000)
    return {call.id for call in found}


def ids_of(**fields: Any) -> set[str]:
    return {
        call.id
        for call in sample.calls()
        if all(getattr(call, name) == value for name, value in fields.items())
    }


def test_a_filter_and_back(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    All calls of the filter go, in batches; what else was deleted stays so when they come back.
    """
    monkeypatch.setattr(changes, "MAX_IDS", 7)
    client = visitor(role="operator", name="ada")
    meant = ids_of(function="search", status="failed") | ids_of(function="search", status="timeout")
    assert len(meant) > 14
    other = client.post(DELETE, json={"ids": ["call-00000"]}).json()
    before = client.get("/api/v1/calls/totals").json()
    body = {"filter": {"function": ["search"], "status": ["failed", "timeout"]}}

    answer = client.post(DELETE, json={**body, "expected": len(meant)})

    assert answer.status_code == 200
    assert answer.json()["changed"] == len(meant)
    assert answer.json()["deleted_at"] != other["deleted_at"]
    assert deleted(filled) == meant | {"call-00000"}
    back = client.post(RESTORE, json={"deleted_at": answer.json()["deleted_at"]})
    assert back.json() == {"changed": len(meant)}
    assert deleted(filled) == {"call-00000"}
    assert client.get("/api/v1/calls/totals").json() == before
    assert client.post(RESTORE, json={"deleted_at": answer.json()["deleted_at"]}).status_code == 404

    with shared_database(database_url_of(filled)).reading() as connection:
        kept = changes_of(connection, "calls", f"{len(meant)} calls")
    assert [(each.changed_by, each.after) for each in reversed(kept)] == [
        (
            "ada",
            {
                "deleted": len(meant),
                "filter": {"function": ["search"], "status": ["failed", "timeout"]},
                "deleted_at": answer.json()["deleted_at"].replace("Z", "+00:00"),
            },
        ),
        (
            "ada",
            {
                "restored": len(meant),
                "deleted_at": answer.json()["deleted_at"].replace("Z", "+00:00"),
            },
        ),
    ]


@pytest.mark.parametrize("difference", [-1, 1])
def test_another_number(filled: Ledger, visitor: Visitor, difference: int) -> None:
    """
    When more or fewer calls are meant than were seen, nothing is deleted: 409.
    """
    client = visitor(role="operator")
    there = len(ids_of(function="search"))

    answer = client.post(
        DELETE, json={"filter": {"function": ["search"]}, "expected": there + difference}
    )

    assert answer.status_code == 409
    assert "nothing was deleted" in answer.json()["detail"]
    assert deleted(filled) == set()


@pytest.mark.parametrize(
    "body",
    [
        {"filter": {"functoin": ["search"]}, "expected": 40},
        {"filter": {"function": ["search"]}},
        {"filter": {"function": ["search"], "deleted": True}, "expected": 40},
        {"filter": {}, "expected": 100_001},
        {"filter": {}, "expected": 0},
        {"filter": {}, "expected": 120, "ids": ["call-00000"]},
        {"expected": 120},
        {},
    ],
)
def test_what_is_not_clear(filled: Ledger, visitor: Visitor, body: dict[str, Any]) -> None:
    """
    A mistyped or missing filter is none that means everything: 422, and nothing is done.
    """
    assert visitor().post(DELETE, json=body).status_code == 422
    assert deleted(filled) == set()


def test_only_ones_own(filled: Ledger, visitor: Visitor) -> None:
    """
    A filter means calls of the reader's organisation alone; so does bringing a deletion back.
    """
    own = ids_of(org_id="acme")
    client = visitor(role="operator", org_id="acme")
    assert client.post(DELETE, json={"filter": {}, "expected": 120}).status_code == 409
    theirs = visitor(clock=lambda: sample.NOW + timedelta(seconds=1)).post(
        DELETE, json={"filter": {"org_id": ["globex"]}, "expected": 120 - len(own)}
    )

    answer = client.post(DELETE, json={"filter": {}, "expected": len(own)})

    assert answer.json()["changed"] == len(own)
    refused = client.post(RESTORE, json={"deleted_at": theirs.json()["deleted_at"]})
    unknown = client.post(RESTORE, json={"deleted_at": "2020-01-01T00:00:00Z"})
    assert (refused.status_code, unknown.status_code) == (404, 404)
    assert len(deleted(filled)) == 120


def test_viewers_delete_nothing(filled: Ledger, visitor: Visitor) -> None:
    """
    It takes an operator.
    """
    client = visitor(role="viewer")
    answers = [
        client.post(DELETE, json={"filter": {}, "expected": 120}),
        client.post(RESTORE, json={"deleted_at": "2020-01-01T00:00:00Z"}),
        client.post("/calls/delete", data={"filter": "", "expected": "120"}),
        client.post("/calls/restore", data={"deleted_at": "2020-01-01T00:00:00+00:00"}),
    ]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert deleted(filled) == set()


def test_on_the_page(filled: Ledger, visitor: Visitor) -> None:
    """
    The form of the page sends the filter of its address with the number told; undo takes it back.
    """
    import json

    client = visitor(role="operator")
    there = len(ids_of(function="search"))
    page = client.get("/calls?function=search").text
    totals = client.get("/calls/totals?function=search", headers={"HX-Request": "true"}).text
    assert 'name="filter" value="function=search" disabled' in page
    assert f'data-calls="{there}"' in totals
    form = {"filter": "function=search", "expected": str(there)}
    hx = {"HX-Request": "true"}

    wrong = client.post("/calls/delete", data={**form, "filter": "functoin=search"}, headers=hx)
    late = client.post("/calls/delete", data={**form, "expected": str(there + 1)}, headers=hx)
    answer = client.post("/calls/delete", data=form, headers=hx)

    assert (wrong.status_code, late.status_code, answer.status_code) == (422, 409, 204)
    assert deleted(filled) == ids_of(function="search")
    undo = json.loads(answer.headers["HX-Trigger"])["done"]["undo"]
    assert undo["path"] == "/calls/restore"
    assert client.post(undo["path"], data=undo["fields"], headers=hx).status_code == 204
    assert deleted(filled) == set()
    odd = client.post("/calls/restore", data={"deleted_at": "yesterday"}, headers=hx)
    assert odd.status_code == 422


def test_only_what_was_counted(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A call that comes between the count and the deletion stays.
    """
    real = changes._moment

    def moment(house: Any) -> Any:
        filled.store.write([sample.call(900, function="search", started_at=sample.NOW)])
        return real(house)

    monkeypatch.setattr(changes, "_moment", moment)
    there = len(ids_of(function="search"))

    visitor().post(DELETE, json={"filter": {"function": ["search"]}, "expected": there})

    assert deleted(filled) == ids_of(function="search")


def test_an_empty_list_is_not_a_fresh_ledger(filled: Ledger, visitor: Visitor) -> None:
    """
    With all calls deleted the page keeps its list, into which they come back.
    """
    client = visitor()
    client.post(DELETE, json={"filter": {}, "expected": 120})

    page = client.get("/calls").text

    assert ('id="list"' in page, "All calls have been deleted." in page) == (True, True)
    assert "/calls/first" not in page
