"""What an address or a body may say: what is not known is refused, and never means everything."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.routing import Route
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.web import create_app
from ai_ledger.web.app import _api

METHODS = ("get", "post", "put", "patch", "delete")


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of all there are."""
    return [
        (method, path, item[method])
        for path, item in _api().openapi()["paths"].items()
        for method in METHODS
        if method in item
    ]


def test_every_operation_refuses_unknown_parameters(filled: Ledger, visitor: Visitor) -> None:
    """
    Whatever else a request says, a parameter that its route does not know is 422, by its name.
    """
    client = visitor()

    wrong: list[str] = []
    for method, path, _ in operations():
        filled_in = path.replace("{", "").replace("}", "")
        answer = client.request(method, f"/api/v1{filled_in}", params={"retires": "1"})
        places = [each["place"] for each in answer.json().get("errors", ())]
        if (answer.status_code, places) != (422, ["query.retires"]):
            wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")

    assert wrong == []


def test_every_body_refuses_unknown_fields() -> None:
    """
    The document says of each object that is sent that it takes nothing else.
    """
    schemas = _api().openapi()["components"]["schemas"]
    open_ones: list[str] = []
    for method, path, operation in operations():
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        for each in schema.get("anyOf", [schema]):
            name = each.get("$ref", "").rpartition("/")[2]
            if name and schemas[name].get("additionalProperties") is not False:
                open_ones.append(f"{method} {path}: {name}")

    assert open_ones == []


def test_what_is_known_is_said(filled: Ledger, visitor: Visitor) -> None:
    """
    The answer names the parameter and those that there are; known ones go on as before.
    """
    client = visitor()

    odd = client.get("/api/v1/calls/totals?status=failed&sttaus=failed")

    assert odd.status_code == 422
    assert (
        "query.sttaus: there is no such parameter here: one of business_type"
        in (odd.json()["detail"])
    )
    assert client.get("/api/v1/calls/totals?status=failed&tz=Asia/Shanghai").status_code == 200
    assert client.get("/api/v1/stats/summary?function=search&by=function").status_code == 200


@pytest.mark.parametrize(
    ("accept", "path"),
    [("application/json", "/api/v1/calls"), ("application/json", "/calls")],
)
def test_the_hint_to_sign_in_is_whole(ledger: Ledger, accept: str, path: str) -> None:
    """
    Nothing of what people are told to do is taken for a credential.
    """
    from starlette.testclient import TestClient

    with TestClient(create_app(ledger), base_url="http://127.0.0.1") as client:
        nobody = client.get(path, headers={"Accept": accept})
        wrong = client.get(path, headers={"Accept": accept, "Authorization": "Bearer x"})
        foreign = client.post(path, headers={"Accept": accept})

    assert nobody.json()["detail"] == (
        "show an access token, as a Bearer token in the Authorization header; "
        "`ai-ledger tokens add` makes one"
    )
    assert wrong.json()["detail"] == (
        "nobody is known by this access token: it may have expired or been revoked"
    )
    assert foreign.json()["detail"] == (
        "this request changes something, and it does not say which page it comes from; programs "
        "send a Bearer token in the Authorization header, or JSON with "
        "Content-Type: application/json"
    )


def test_pages_refuse_unknown_filters(filled: Ledger, visitor: Visitor) -> None:
    """
    A page of calls with a filter that it does not know shows no list of everything.
    """
    client = visitor()

    for path in ("/calls", "/calls/totals"):
        odd = client.get(f"{path}?functoin=search")
        assert (odd.status_code, "functoin" in odd.text) == (422, True)
        assert client.get(f"{path}?functoin=+").status_code == 422
    assert client.get("/calls?functoin=&function=search").status_code == 200


def test_every_page_refuses_unknown_parameters(filled: Ledger, visitor: Visitor) -> None:
    """
    As a page and as a part of one, before anything is looked for: 422, by its name.
    """
    client = visitor()

    wrong: list[str] = []
    for route in create_app(filled).routes:
        # Whoever signs in, scrapes, or asks whether it runs, may come with whatever they like.
        if not isinstance(route, Route) or route.path in ("/sign-in", "/healthz", "/metrics"):
            continue
        if "GET" not in (route.methods or ()):
            continue
        path = re.sub(r"{\w+(:\w+)?}", "1", route.path)
        for headers in ({}, {"HX-Request": "true"}):
            answer = client.get(path, params={"nonsense": "1"}, headers=headers)
            if (answer.status_code, "nonsense" in answer.text) != (422, True):
                wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")

    assert wrong == []
    assert "<html" in client.get("/costs?nonsense=1").text


def test_names_of_routes(ledger: Ledger) -> None:
    """
    Templates know them, in one way of writing.
    """
    routes: Any = create_app(ledger).routes

    assert [each.name for each in routes if not re.fullmatch("[a-z]+(_[a-z]+)*", each.name)] == []


PARTS = {
    "/calls/values?days=7": "/calls?days=7",
    "/calls/first": "/calls",
    "/overview/board?days=3": "/?days=3",
    "/budgets/standings": "/budgets",
    "/budgets/quotas": "/budgets",
    "/alerts/list?state=open": "/alerts?state=open",
    "/alerts/rules/list": "/alerts/rules",
    "/alerts/failures/list?days=3": "/alerts/failures?days=3",
    "/costs/rows?days=3": "/costs?days=3",
    "/costs/suggestions/found": "/costs/suggestions",
    "/costs/unpriced/rows": "/costs/unpriced",
    "/costs/repricing?watched=x": "/costs/unpriced?watched=x",
    "/costs/reports/rows": "/costs/reports",
}


@pytest.mark.parametrize(("part", "page"), PARTS.items())
def test_a_part_leads_to_its_page(filled: Ledger, visitor: Visitor, part: str, page: str) -> None:
    """
    Who opens the address of a part gets the page that it belongs to; a script gets the part.
    """
    client = visitor()

    opened = client.get(part, follow_redirects=False)
    asked = client.get(part, headers={"HX-Request": "true"})

    assert (opened.status_code, opened.headers.get("location")) == (303, page)
    assert client.get(part).status_code == 200
    assert (asked.status_code in (200, 204), "<html" in asked.text) == (True, False)


@pytest.mark.parametrize("path", ["/alerts/rules/new", "/models/new"])
def test_a_new_thing_of_no_kind(visitor: Visitor, path: str) -> None:
    """
    A form for something new is of the usual kind, when the address says none.
    """
    client = visitor()

    assert client.get(path).status_code == 200
    assert client.get(f"{path}?kind=nothing").status_code == 404
