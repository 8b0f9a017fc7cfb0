"""What the filters of pages and of the API have in common."""

from __future__ import annotations

import re
from datetime import UTC
from decimal import Decimal
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.web.filters import TEXTS, FieldFilter
from ai_ledger.web.links import calls_query


@pytest.mark.parametrize(
    ("tags", "ids"),
    [
        pytest.param(["team="], {"none"}, id="not set"),
        pytest.param(["team=red"], {"red"}, id="set"),
        pytest.param(["team=red", "team="], {"red", "none"}, id="either"),
    ],
)
def test_a_tag_without_a_value_is_one_that_is_not_set(
    ledger: Ledger, visitor: Visitor, tags: list[str], ids: set[str]
) -> None:
    """
    In the list of calls, in costs and in reports, on pages and in the API.
    """
    ledger.store.write(
        [
            sample.call(0, id="red", tags={"team": "red"}),
            sample.call(1, id="blue", tags={"team": "blue"}),
            sample.call(2, id="none", tags={}),
        ]
    )
    client = visitor()
    asked: dict[str, Any] = {"tag": tags}

    listed = client.get("/api/v1/calls", params=asked).json()["calls"]
    added = client.get("/api/v1/calls/totals", params=asked).json()
    costs = client.get("/api/v1/costs", params=asked).json()["total"]
    summary = client.get("/api/v1/stats/summary", params=asked).json()
    calls_page = client.get("/calls", params=asked).text
    costs_page = client.get("/costs", params={**asked, "by": "device_id", "wait": "1"}).text

    assert {each["id"] for each in listed} == ids
    assert [added["calls"], costs["calls"], summary["calls"]] == [len(ids)] * 3
    assert {id for id in ("red", "blue", "none") if f"/calls/one?id={id}" in calls_page} == ids
    assert costs_page.count('class="ids name"') == len(ids)


VALUES = (None, "", " ", "a=b", "50%", "%3D", "&x#y+z")


@pytest.mark.parametrize(
    "field",
    ["user_id", "tags.team", "tags.a=b", "tags.50%", "tags.a%3Db", "tags.a%253D=", "tags.="],
)
def test_each_row_leads_to_its_calls(ledger: Ledger, visitor: Visitor, field: str) -> None:
    """
    Whatever a value or the key of a tag is, each value has calls of its own, and not set has too.
    """
    key = field.removeprefix("tags.")
    ledger.store.write(
        [
            sample.call(n, user_id=value)
            if key == field
            else sample.call(n, tags={} if value is None else {key: value})
            for n, value in enumerate(VALUES)
        ]
    )
    client = visitor()

    page = client.get("/costs", params={"by": field, "wait": "1"}).text
    links = [unescape(each) for each in re.findall(r'href="(/calls\?[^"]*)"', page)]
    shown = [re.findall(r'data-call="(call-\d+)"', client.get(each).text) for each in links]

    assert sorted(shown) == [[f"call-{n:05}"] for n in range(len(VALUES))]
    for value in VALUES:
        condition = {field: [value]}
        assert FieldFilter.of(condition).conditions() == condition


@pytest.mark.parametrize("value", ["", "x"])
def test_a_call_leads_to_those_with_the_same(ledger: Ledger, visitor: Visitor, value: str) -> None:
    """
    The page of a call filters by what it shows, the empty text included; so do budgets' links.
    """
    same = {"user_id": value, "tags": {"a=b": value}}
    ledger.store.write([sample.call(0, **same), sample.call(1, user_id=None, tags={})])
    client = visitor()

    page = client.get("/calls/call-00000").text
    links = [unescape(each) for each in re.findall(r'href="(/calls\?[^"]*)"', page)]
    wanted = [each for each in links if "user_id" in each or "a%" in each]
    query = calls_query({"user_id": value, "tags.a=b": [value]}, None, None, UTC)

    assert len(wanted) == 2
    for path in (*wanted, f"/calls?{urlencode(query or {}, doseq=True)}"):
        listed = client.get(path).text
        assert re.findall(r'data-call="(call-\d+)"', listed) == ["call-00000"]


def test_the_form_keeps_what_it_has_no_field_for(ledger: Ledger, visitor: Visitor) -> None:
    """
    Filtering further does not forget that a field must be the empty text.
    """
    ledger.store.write([sample.call(0, user_id="")])

    page = visitor().get("/calls?empty=user_id&empty=tags.team").text

    for name in ("user_id", "tags.team"):
        assert f'<input type="hidden" name="empty" value="{name}">' in page


def test_a_value_of_spaces_is_a_value(ledger: Ledger, visitor: Visitor) -> None:
    """
    It is kept in records, so what a link says of it never becomes no filter: not all calls.
    """
    ledger.store.write(
        [sample.call(0, id="spaces", user_id=" "), sample.call(1, id="other", user_id="ann")]
    )
    client = visitor()

    costs = client.get("/costs", params={"by": "user_id", "wait": "1"}).text
    calls = client.get("/calls?user_id=+", follow_redirects=False)
    totals = client.get("/calls/totals?user_id=+")
    empty = client.get("/calls?user_id=", follow_redirects=False)

    assert "user_id=+" in costs
    assert [calls.text.count(f"/calls/one?id={each}") > 0 for each in ("spaces", "other")] == [
        True,
        False,
    ]
    assert "<dd>1</dd>" in totals.text
    assert (empty.status_code, empty.headers["location"]) == (303, "/calls")


ODD = {
    **{field: f"odd-{field}" for field in TEXTS if field != "currency"},
    "currency": "EUR",
    "cost": Decimal(1),
    "status": "blocked",
    "usage_source": "estimated",
    "streamed": True,
    "http_status": 418,
    "tags": {"odd": "yes"},
}
ASKED: dict[str, Any] = {
    **{field: ODD[field] for field in TEXTS},
    "status": "blocked",
    "usage_source": "estimated",
    "streamed": "true",
    "http_status": "418",
    "tag": "odd=yes",
    "unset": "function",
    "empty": "function",
}


def test_every_field_is_tried() -> None:
    """
    A field that is new fails here until it has been tried.
    """
    assert set(ASKED) == set(FieldFilter.model_fields)


@pytest.mark.parametrize("field", ASKED)
def test_each_field_is_a_filter_everywhere(filled: Ledger, visitor: Visitor, field: str) -> None:
    """
    Of calls, of costs and of reports, in the API and on pages: the same one call is meant.
    """
    odd = {**ODD, "function": {"unset": None, "empty": ""}.get(field, ODD["function"])}
    filled.store.write([sample.call(1000, **odd, started_at=sample.NOW)])
    client, asked = visitor(), {field: ASKED[field]}

    counts = {
        "calls": client.get("/api/v1/calls/totals", params=asked).json()["calls"],
        "costs": client.get("/api/v1/costs", params=asked).json()["total"]["calls"],
        "models": len(client.get("/api/v1/costs/models", params=asked).json()["models"]),
        "unpriced": client.get("/api/v1/unpriced", params=asked).json()["of_calls"],
        "calls page": client.get("/calls", params=asked).text.count("data-call="),
        "costs page": client.get("/costs", params={**asked, "wait": "1"}).text.count(
            'class="ids name"'
        ),
    }
    for report in ("current", "hourly", "daily", "monthly", "summary", "trend"):
        answer = client.get(f"/api/v1/stats/{report}", params=asked).json()
        counts[report] = answer.get("total", answer.get("today", answer))["calls"]

    assert counts == dict.fromkeys(counts, 1)
    for report in ("top", "forecast"):
        assert client.get(f"/api/v1/stats/{report}", params=asked).status_code == 200


FILTERED = (
    "/calls", "/calls/totals", "/costs", "/costs/time", "/costs/models", "/costs/forecast",
    "/costs/suggestions", "/costs/unpriced", "/costs/reports", "/api/v1/calls",
    "/api/v1/calls/totals", "/api/v1/costs", "/api/v1/costs/models", "/api/v1/unpriced",
    "/api/v1/stats/summary", "/api/v1/stats/top", "/api/v1/stats/forecast",
)  # fmt: skip

LABELS = {
    "user_id": "User", "tag": "Tag", "status": "Status", "unset": "not set",
    "empty": "empty text", "http_status": "HTTP status",
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("user_id", list(map(str, range(51))), id="too many"),
        pytest.param("user_id", "x" * 1_001, id="too long"),
        pytest.param("tag", "team", id="no tag"),
        pytest.param("tag", "=red", id="no key"),
        pytest.param("status", "lost", id="no status"),
        pytest.param("unset", "id", id="never unset"),
        pytest.param("empty", "status", id="never empty"),
        pytest.param("empty", "tags.", id="no key of an empty tag"),
        pytest.param("http_status", "99", id="no status of HTTP"),
    ],
)
def test_the_same_is_refused_everywhere(
    filled: Ledger, visitor: Visitor, field: str, value: Any
) -> None:
    """
    With 422, and by name.
    """
    client = visitor()

    answers = {path: client.get(path, params={field: value}) for path in FILTERED}

    # A page calls it as its form does.
    named = rf">{LABELS[field]} [^<]*: expected "
    said = {
        path: (
            each.status_code,
            field in each.text if path.startswith("/api/") else bool(re.search(named, each.text)),
        )
        for path, each in answers.items()
    }
    assert said == dict.fromkeys(FILTERED, (422, True))


def test_as_much_is_taken_everywhere(filled: Ledger, visitor: Visitor) -> None:
    """
    As many values of one field as any of them takes.
    """
    client, asked = visitor(), {"user_id": [f"user-{number}" for number in range(50)]}

    answers = {path: client.get(path, params=asked).status_code for path in FILTERED}

    assert answers == dict.fromkeys(FILTERED, 200)
