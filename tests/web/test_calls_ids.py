"""Calls whose ids are paths, words of routes, or anything else that imports brought along."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger

IDS = [
    "..",
    "../../x",
    "/",
    "//evil.example/x",
    "a/b/restore",
    "one",
    "totals",
    "live",
    "export",
    "delete",
    "first",
    "one/restore",
    "50%",
    "%2e%2e%2f",
    "a?b=c&d#e",
    "a b+c",
    " ",
    "?whole=1",
    "\"'><b>",
    "\\",
    "通话/一",
    "a\nb",
    "x" * 255,
]


@pytest.mark.parametrize("id", IDS)
def test_a_call_of_any_id_is_opened(ledger: Ledger, visitor: Visitor, id: str) -> None:
    """
    By the link in the list, from there as a page of its own, and in the API.
    """
    ledger.store.write([sample.call(1, id=id, user_id="this one"), sample.call(2)])
    client = visitor()

    listed = client.get("/calls?user_id=this+one").text
    link = re.search(r'<a href="([^"]*)" data-panel hx-get="([^"]*)"', listed)
    assert link is not None
    assert link[1] == link[2]
    part = client.get(unescape(link[1]), headers={"HX-Request": "true"})
    page = client.get(next(each for each in _links(part.text) if _id_of(each) == id))
    api = client.get("/api/v1/calls/one", params={"id": id})

    assert "prompt 1" in part.text
    assert ("prompt 1" in page.text, "<html" in page.text) == (True, True)
    assert api.json()["call"]["id"] == id


@pytest.mark.parametrize("id", IDS)
def test_a_call_of_any_id_is_deleted_and_restored(
    ledger: Ledger, visitor: Visitor, id: str
) -> None:
    """
    By the form of its page and by one request of the API; no other call is.
    """
    ledger.store.write([sample.call(1, id=id), sample.call(2)])
    client = visitor()
    where = {"id": id}

    def deleted() -> list[str]:
        return [call["id"] for call in client.get("/api/v1/calls?deleted=true").json()["calls"]]

    assert client.delete("/api/v1/calls/one", params=where).json() == {"changed": 1}
    assert deleted() == [id]
    assert client.post("/api/v1/calls/one/restore", params=where).json() == {"changed": 1}
    assert deleted() == []
    for path in ("/calls/delete", "/calls/restore"):
        form = client.get("/calls/one", params=where).text
        assert f'action="{path}"' in form
        sent = re.search(r'name="ids" value="([^"]*)"', form)
        assert sent is not None
        assert client.post(path, data={"ids": unescape(sent[1])}).status_code == 200
        assert deleted() == ([id] if path == "/calls/delete" else [])


@pytest.mark.parametrize("id", ["..", "totals", "acme/1?x"])
def test_a_call_of_another_organisation_is_not_there(
    ledger: Ledger, visitor: Visitor, id: str
) -> None:
    """
    However its id is written: 404, and nothing is changed.
    """
    ledger.store.write([sample.call(1, id=id, org_id="acme"), sample.call(2, org_id="globex")])
    client, where = visitor(org_id="globex"), {"id": id}

    answers = [
        client.get("/calls/one", params=where),
        client.get("/api/v1/calls/one", params=where),
        client.delete("/api/v1/calls/one", params=where),
        client.post("/api/v1/calls/one/restore", params=where),
        client.post("/calls/delete", data={"ids": id}),
    ]

    assert [each.status_code for each in answers] == [404] * 5
    assert not any("prompt 1" in each.text for each in answers)
    kept = ledger.store.call(None, id)
    assert kept is not None
    assert kept.deleted_at is None


def test_a_plain_id_may_be_a_path(filled: Ledger, visitor: Visitor) -> None:
    """
    As people write it by hand, and as it stood in links before.
    """
    client = visitor()

    assert "prompt 1" in client.get("/calls/call-00001").text
    assert client.get("/api/v1/calls/call-00001").json()["call"]["id"] == "call-00001"
    assert client.get("/calls/one").status_code == 404
    assert client.get("/api/v1/calls/one").status_code == 422


def test_alerts_lead_to_calls_of_any_id(ledger: Ledger, visitor: Visitor) -> None:
    """
    The list of failed calls has the same links.
    """
    ledger.store.write([sample.call(4, id="../live?x")])
    client = visitor()

    links: list[Any] = _links(client.get("/alerts/failures").text)

    assert [_id_of(each) for each in links if "/one" in each] == ["../live?x"]


def _links(text: str) -> list[str]:
    return [unescape(each) for each in re.findall(r'href="([^"]*)"', text)]


def _id_of(address: str) -> str | None:
    return parse_qs(urlsplit(address).query).get("id", [None])[0]
