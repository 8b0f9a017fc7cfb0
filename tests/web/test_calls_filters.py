"""Which calls a page and the API are about: every field is a filter, and stands in the address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from starlette.datastructures import QueryParams
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.errors import SinkUnavailable
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql.reader import Reader
from ai_ledger.web.calls.filter import FILTERS, Listing
from ai_ledger.web.language import Labels, Language

ODD = sample.call(
    500,
    status="blocked",
    error_type="Odd",
    operation="embeddings",
    provider="odd-provider",
    server_address="odd.example",
    request_model="odd-model",
    response_model="odd-model-2",
    response_id="resp-odd",
    service_tier="flex",
    finish_reason="length",
    price_id="odd-price",
    cost=Decimal("9.5"),
    currency="EUR",
    org_id="odd-org",
    user_id="odd-user",
    device_id="odd-device",
    session_id="odd-session",
    reference_id="odd-reference",
    function="odd-function",
    business_type="odd-business",
    usage_source="estimated",
    tags={"odd": "a=b"},
    streamed=True,
    http_status=418,
    duration_ms=7_000.5,
    retries=3,
    started_at=datetime(2026, 4, 1, 12, tzinfo=UTC),
)

NARROW: dict[str, dict[str, Any]] = {
    "days": {"days": "50", "provider": "odd-provider"},
    "first": {"first": "2026-04-01", "last": "2026-04-01"},
    "last": {"first": "2026-03-30", "last": "2026-04-02"},
    "search": {"search": "resp-od"},
    "status": {"status": ["blocked", "cancelled"]},
    "request_model": {"request_model": "odd-model"},
    "user_id": {"user_id": ["odd-user", "nobody"]},
    "org_id": {"org_id": "odd-org"},
    "device_id": {"device_id": "odd-device"},
    "session_id": {"session_id": "odd-session"},
    "reference_id": {"reference_id": "odd-reference"},
    "function": {"function": "odd-function"},
    "business_type": {"business_type": "odd-business"},
    "operation": {"operation": "embeddings"},
    "provider": {"provider": "odd-provider"},
    "server_address": {"server_address": "odd.example"},
    "response_model": {"response_model": "odd-model-2"},
    "response_id": {"response_id": "resp-odd"},
    "error_type": {"error_type": "Odd"},
    "finish_reason": {"finish_reason": "length"},
    "service_tier": {"service_tier": "flex"},
    "price_id": {"price_id": "odd-price"},
    "currency": {"currency": "EUR"},
    "tag": {"tag": ["odd=a=b", "odd=c"]},
    "unset": {"unset": "function"},
    "empty": {"empty": "function"},
    "usage_source": {"usage_source": ["estimated", "counted"]},
    "price": {"price": "priced", "status": "blocked"},
    "streamed": {"streamed": "true"},
    "http_status": {"http_status": "418"},
    "min_cost": {"min_cost": "9.5"},
    "max_cost": {"min_cost": "1", "max_cost": "9.5"},
    "min_duration_ms": {"min_duration_ms": "7000.5"},
    "max_duration_ms": {"min_duration_ms": "5000", "max_duration_ms": "7000.5"},
    "min_retries": {"min_retries": "3"},
    "max_retries": {"min_retries": "2", "max_retries": "3"},
    "deleted": {"deleted": "true"},
}


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [call["id"] for call in answer.json()["calls"]]


def test_every_filter_is_tried() -> None:
    """
    A filter that is new fails here until it has been tried.
    """
    assert set(NARROW) == set(FILTERS)


@pytest.mark.parametrize("name", NARROW)
def test_filters(filled: Ledger, visitor: Visitor, name: str) -> None:
    """
    Each filter finds the one call that it means, in the list, in totals and on the page.
    """
    odd = ODD.replace(function={"unset": None, "empty": ""}.get(name, ODD.function))
    odd = odd.replace(deleted_at=sample.NOW) if name == "deleted" else odd
    filled.store.write([odd])
    client, query = visitor(), NARROW[name]

    assert ids(client.get("/api/v1/calls", params=query)) == [ODD.id]
    assert client.get("/api/v1/calls/totals", params=query).json()["calls"] == 1
    page = client.get("/calls", params=query).text
    assert (page.count("data-call="), ODD.id in page) == (1, True)


@pytest.mark.parametrize(
    "query", [{"model": "odd-model"}, {"sn_code": "odd-device"}, {"tags": "odd=a=b"}]
)
def test_other_names(filled: Ledger, visitor: Visitor, query: dict[str, str]) -> None:
    """
    The page understands the names that existing systems have for a field.
    """
    filled.store.write([ODD])

    assert visitor().get("/calls", params=query).text.count("data-call=") == 1


@pytest.mark.parametrize("name", NARROW)
def test_the_address_says_it_again(name: str) -> None:
    """
    What was read from an address leads to the same address, and to the same filter.
    """
    asked = Listing.read(QueryParams(urlencode(NARROW[name], doseq=True)))
    again = Listing.read(QueryParams(urlencode(asked.shape, doseq=True)))

    assert again == asked
    assert dict(parse_qsl(urlencode(asked.shape, doseq=True))).keys() == NARROW[name].keys()


def test_empty_fields_leave_the_address(visitor: Visitor) -> None:
    """
    Without a script a form sends every field; those left empty are not kept.
    """
    answer = visitor().get(
        "/calls?user_id=&status=failed&search=&status=timeout", follow_redirects=False
    )

    assert answer.status_code == 303
    assert answer.headers["location"] == "/calls?status=failed&status=timeout"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "lost"),
        ("days", "0"),
        ("days", "1" * 400),
        ("first", "yesterday"),
        ("first", "0001-01-01"),
        ("min_cost", "NaN"),
        ("max_cost", "1e400"),
        ("max_cost", "1e-10"),
        ("min_cost", "1e-2000000"),
        ("min_cost", "1." + "0" * 400 + "1"),
        ("min_duration_ms", "-1"),
        ("max_duration_ms", "inf"),
        ("tag", "team"),
        ("unset", "cost"),
        ("price", "cheap"),
        ("streamed", "perhaps"),
        ("http_status", "99"),
        ("usage_source", "guessed"),
        ("order", "request_content"),
        ("limit", "101"),
        ("cursor", "x"),
        ("search", "x" * 256),
    ],
)
def test_wrong_values(filled: Ledger, visitor: Visitor, field: str, value: str) -> None:
    """
    What cannot be is refused with 422, and by name: as people call it, as the API does.
    """
    client = visitor()
    page = client.get("/calls", params={field: value})
    api = client.get("/api/v1/calls", params={field: "201" if field == "limit" else value})

    name = Labels(Language("en")).typed(field) or field
    assert (page.status_code, name in page.text) == (422, True)
    assert (api.status_code, field in api.json()["detail"]) == (422, True)


def test_a_range_backwards(visitor: Visitor) -> None:
    """
    Days that end before they begin are refused.
    """
    answer = visitor().get("/api/v1/calls?first=2026-05-02&last=2026-05-01")

    assert (answer.status_code, "first" in answer.json()["detail"]) == (422, True)


def test_search(ledger: Ledger, visitor: Visitor) -> None:
    """
    A whole id finds the calls of that one alone; a part of an id all that contain it.
    """
    ledger.store.write(
        [
            sample.call(1, user_id="user-1"),
            sample.call(2, user_id="user-10"),
            sample.call(3, session_id="user-1x", user_id=None),
        ]
    )
    client = visitor()

    assert ids(client.get("/api/v1/calls?search=user-1")) == ["call-00001"]
    assert ids(client.get("/api/v1/calls?search=ser-1")) == [
        "call-00001",
        "call-00002",
        "call-00003",
    ]
    assert ids(client.get("/api/v1/calls?search=USER-1")) == []


def test_unpriced_is_what_the_totals_call_so(filled: Ledger, visitor: Visitor) -> None:
    """
    As many calls are listed as unpriced as the totals count; others have a price or need none.
    """
    filled.store.write(
        [
            sample.call(600, status="blocked", cost=None, currency=None),
            sample.call(601, status="failed", usage_source="unknown", cost=None, currency=None),
        ]
    )
    client = visitor()
    totals = client.get("/api/v1/calls/totals").json()

    found = client.get("/api/v1/calls?price=unpriced&limit=200").json()["calls"]

    assert len(found) == totals["unpriced_calls"] == 17
    assert all(call["cost"] is None for call in found)


def test_a_question_that_takes_too_long(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A question that the store stops says what to do; it is no fault of the console.
    """
    import sqlite3

    from sqlalchemy.exc import OperationalError

    def slow(*_: Any, **__: Any) -> list[CallRecord]:
        driver = sqlite3.OperationalError("interrupted")
        raise SinkUnavailable("stopped") from OperationalError("SELECT", {}, driver)

    monkeypatch.setattr(Reader, "calls", slow)
    monkeypatch.setattr(Reader, "aggregate", slow)

    for path in ("/calls", "/api/v1/calls", "/api/v1/calls/totals", "/api/v1/calls/export"):
        answer = visitor().get(path)
        assert (answer.status_code, "narrow the filter" in answer.text) == (503, True), path


def test_days_are_those_of_the_zone(ledger: Ledger, visitor: Visitor) -> None:
    """
    A day begins where the reader is.
    """
    midnight = datetime(2026, 5, 20, tzinfo=UTC)
    ledger.store.write([sample.call(1, started_at=midnight - timedelta(hours=1))])
    client = visitor()

    day = "first=2026-05-20&last=2026-05-20"
    assert ids(client.get(f"/api/v1/calls?{day}")) == []
    assert ids(client.get(f"/api/v1/calls?{day}&tz=Asia/Shanghai")) == ["call-00001"]


def test_an_amount_is_written_out_only_if_it_can_be_one(filled: Ledger, visitor: Visitor) -> None:
    """
    A nought with a million places is a nought, in the form and in the addresses of the page.
    """
    page = visitor().get("/calls", params={"min_cost": "0e-2000000", "max_cost": "1E-9"})

    assert page.status_code == 200
    assert 'name="min_cost" inputmode="decimal" value="0"' in page.text
    assert 'name="max_cost" inputmode="decimal" value="0.000000001"' in page.text
    assert len(page.content) < 500_000
