"""Pages of calls by key: forwards, backwards and from the end."""

from __future__ import annotations

import re
from html import unescape
from typing import Any, get_args

import pytest
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.query import Query
from ai_ledger.sinks.scan import SORT_FIELDS
from ai_ledger.web.calls.filter import Order


def test_the_orders_are_those_of_stores() -> None:
    """
    Whatever a store can order by, people can.
    """
    assert set(get_args(Order.__value__ if hasattr(Order, "__value__") else Order)) == set(
        SORT_FIELDS
    )


@pytest.mark.parametrize("descending", ["true", "false"])
@pytest.mark.parametrize("order", ["started_at", "cost", "duration_ms", "retries", "http_status"])
def test_both_ways(filled: Ledger, visitor: Visitor, order: str, descending: str) -> None:
    """
    All pages forwards, and all back from the last, are the calls in their order.
    """
    client = visitor()
    whole = [
        call.id
        for call in filled.store.calls(
            Query.build(scope=None), limit=200, order=order, descending=descending == "true"
        )
    ]
    asked = {"order": order, "descending": descending, "limit": 50}

    on = walk(client, asked, "next")
    back = walk(client, {**asked, "end": "true"}, "previous")

    assert on == [whole[:50], whole[50:100], whole[100:]]
    assert back == [whole[70:], whole[20:70], whole[:50]]


def walk(client: TestClient, asked: dict[str, Any], to: str) -> list[list[str]]:
    pages: list[list[str]] = []
    while True:
        answer = client.get("/api/v1/calls", params=asked).json()
        pages.append([call["id"] for call in answer["calls"]])
        if answer[to] is None:
            return pages
        asked = {**asked, "cursor": answer[to]}
        asked.pop("end", None)


def test_links_of_the_page(filled: Ledger, visitor: Visitor) -> None:
    """
    First, previous, next and last lead where they say, and keep the filter and the order.
    """
    client = visitor()
    first = client.get("/calls?limit=25&order=cost&operation=chat").text
    assert [name for name, _ in links(first)] == ["Next", "Last"]

    second = client.get(dict(links(first))["Next"]).text
    last = client.get(dict(links(second))["Last"]).text
    back = client.get(dict(links(second))["Previous"]).text

    assert [name for name, _ in links(second)] == ["First", "Previous", "Next", "Last"]
    assert [name for name, _ in links(last)] == ["First", "Previous"]
    assert rows(back) == rows(first) == rows(client.get(dict(links(last))["First"]).text)
    assert all("order=cost" in to and "operation=chat" in to for _, to in links(second))
    whole = filled.store.calls(Query.build(scope=None), limit=200, order="cost")
    assert rows(second) == [call.id for call in whole[25:50]]
    assert rows(last) == [call.id for call in whole[-25:]]


def links(page: str) -> list[tuple[str, str]]:
    pages = page[page.index('<nav class="pages"') :]
    found = re.findall(r'<a class="button button-small" href="([^"]+)">(\w+)</a>', pages)
    return [(name, unescape(to)) for to, name in found]


def rows(page: str) -> list[str]:
    return re.findall(r'data-call="([^"]+)"', page)


def test_sorting(filled: Ledger, visitor: Visitor) -> None:
    """
    A column's heading sorts by it, largest first, and once more the other way.
    """
    page = visitor().get("/calls?order=cost").text

    assert 'aria-sort="descending"' in page
    assert "order=cost&amp;descending=false" in page
    assert "order=duration_ms" in page


def test_no_prompts_in_lists(filled: Ledger, visitor: Visitor) -> None:
    """
    A list tells no prompt and no answer, whoever reads it.
    """
    for path in ("/api/v1/calls?limit=200", "/calls?limit=100"):
        text = visitor().get(path).text
        assert ("prompt 1" in text, "answer 1" in text) == (False, False)


@pytest.mark.parametrize("limit", ["0", "-1", "201", "9" * 30])
def test_limits_are_bounded(visitor: Visitor, limit: str) -> None:
    """
    No page is longer than 200 calls.
    """
    assert visitor().get("/api/v1/calls", params={"limit": limit}).status_code == 422


def test_a_place_of_another_organisation_shows_none_of_it(filled: Ledger, visitor: Visitor) -> None:
    """
    A cursor made from somebody else's call leads to one's own calls behind it.
    """
    theirs = visitor().get("/api/v1/calls?limit=1&org_id=globex").json()
    ours = visitor(org_id="acme").get("/api/v1/calls", params={"cursor": theirs["next"]}).json()

    assert {call["org_id"] for call in ours["calls"]} == {"acme"}
    assert len(sample.calls()) == 120
