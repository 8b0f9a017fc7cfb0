"""What takes a deletion back, and a restoration; and texts of errors are prompts, too."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.query import Query
from ai_ledger.web.calls import changes

SCRIPT = {"HX-Request": "true"}


def test_the_undo_of_a_hundred_is_short(filled: Ledger, visitor: Visitor) -> None:
    """
    It names the deletion and not its calls, and brings all of them back.
    """
    client = visitor(role="operator")
    ids = [call.id for call in filled.store.calls(Query.build(scope=None), limit=100)]

    deleted = client.post("/calls/delete", data={"ids": ids}, headers=SCRIPT)

    said = deleted.headers["HX-Trigger"]
    assert len(said) < 1_000
    undo = json.loads(said)["done"]["undo"]
    assert client.post(undo["path"], data=undo["fields"], headers=SCRIPT).status_code == 204
    assert filled.store.calls(Query.build(scope=None, deleted=True), limit=1) == []


def said(answer: Any) -> dict[str, Any]:
    """What a form's answer says was done."""
    assert answer.status_code == 204, answer.text
    return json.loads(answer.headers["HX-Trigger"])["done"]


def deleted(ledger: Ledger) -> set[str]:
    found = ledger.store.calls(Query.build(scope=None, deleted=True), limit=1000)
    return {call.id for call in found}


@pytest.mark.parametrize("by", ["deletion", "ids"])
def test_a_restoration_is_taken_back(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """
    One click deletes just those again that came back, one more brings them back, in batches.
    """
    monkeypatch.setattr(changes, "MAX_IDS", 70)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    client = visitor(role="operator", clock=lambda: next(moments))
    ids = [call.id for call in filled.store.calls(Query.build(scope=None), limit=61)]
    kept = ids.pop()
    deletion = said(client.post("/calls/delete", data={"ids": ids}, headers=SCRIPT))
    # The page sends all that are ticked, deleted or not.
    fields = deletion["undo"]["fields"] if by == "deletion" else {"ids": [*ids, kept]}

    back = said(client.post("/calls/restore", data=fields, headers=SCRIPT))
    there = deleted(filled)
    again = said(client.post(back["undo"]["path"], data=back["undo"]["fields"], headers=SCRIPT))
    gone = deleted(filled)
    last = said(client.post(again["undo"]["path"], data=again["undo"]["fields"], headers=SCRIPT))

    assert (there, gone, deleted(filled)) == (set(), set(ids), set())
    assert [each["message"] for each in (back, again, last)] == [
        "60 calls restored.", "60 calls deleted.", "60 calls restored.",
    ]  # fmt: skip


def test_a_restoration_of_many_is_taken_back_in_batches(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    More calls than are worked on at once, and not one besides.
    """
    monkeypatch.setattr(changes, "MAX_IDS", 7)
    client = visitor(role="operator")
    form = {"filter": "function=search", "expected": "40"}
    deletion = said(client.post("/calls/delete", data=form, headers=SCRIPT))
    gone = deleted(filled)

    back = said(
        client.post(deletion["undo"]["path"], data=deletion["undo"]["fields"], headers=SCRIPT)
    )
    said(client.post(back["undo"]["path"], data=back["undo"]["fields"], headers=SCRIPT))

    assert len(gone) == 40
    assert deleted(filled) == gone


def test_a_restoration_of_too_many_is_not_remembered(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What a program has deleted comes back whole, read no further than an undo may remember.
    """
    monkeypatch.setattr(changes, "MAX_IDS", 7)
    monkeypatch.setattr(changes, "MAX_FILTERED", 20)
    read: list[int] = []
    calls = type(filled.store).calls

    def counted(store: Any, *args: Any, **options: Any) -> Any:
        found = calls(store, *args, **options)
        read.append(len(found))
        return found

    moment = sample.NOW
    ids = [call.id for call in filled.store.calls(Query.build(scope=None), limit=41)]
    filled.store.delete(Query.build(scope=None, where={"id": ids}), at=moment)
    client = visitor(role="operator")
    monkeypatch.setattr(type(filled.store), "calls", counted)

    back = said(
        client.post("/calls/restore", data={"deleted_at": moment.isoformat()}, headers=SCRIPT)
    )

    assert read == [7, 7, 7]
    assert back == {"message": "41 calls restored."}
    assert deleted(filled) == set()


def test_what_is_known_no_longer_deletes_nothing(filled: Ledger, visitor: Visitor) -> None:
    """
    Nor does what another organisation's reader brought back, nor may a viewer.
    """
    client, acme = visitor(role="operator"), visitor(role="operator", org_id="acme")
    said(client.post("/calls/delete", data={"ids": ["call-00000"]}, headers=SCRIPT))
    back = said(client.post("/calls/restore", data={"ids": ["call-00000"]}, headers=SCRIPT))
    undo = back["undo"]["fields"]

    answers = [
        client.post("/calls/delete", data={"restored": "0" * 32}, headers=SCRIPT),
        acme.post("/calls/delete", data=undo, headers=SCRIPT),
        visitor(role="viewer").post("/calls/delete", data=undo, headers=SCRIPT),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 403]
    assert deleted(filled) == set()


def test_texts_of_errors_are_hidden_with_prompts(ledger: Ledger, visitor: Visitor) -> None:
    """
    Providers quote prompts in errors: lists, details and files are without, the kind is told.
    """
    call = sample.call(
        1, status="failed", error_type="BadRequest", error_message="canary", http_status=400
    )
    ledger.store.write([call])
    client, full = visitor(role="viewer", prompts=False), visitor(role="viewer")

    for path in (
        "/api/v1/calls", f"/api/v1/calls/{call.id}", f"/calls/{call.id}", "/alerts/failures",
        "/api/v1/calls/export?format=csv", "/api/v1/calls/export?format=jsonl",
    ):  # fmt: skip
        hidden, told = client.get(path), full.get(path)
        assert (hidden.status_code, "canary" in hidden.text, "canary" in told.text) == (
            200, False, True,
        ), path  # fmt: skip
        assert "BadRequest" in hidden.text
