"""Bounds: what a request says is known to be short before anything is made of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.web.conftest import Visitor

from ai_ledger import Ledger

DAWN = "0001-01-01T00:00:00+14:00"
DUSK = "9999-12-31T23:59:59-12:00"
DIGITS = "1" * 5_000


@pytest.mark.parametrize("moment", [DAWN, DUSK])
@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/alerts", "since"),
        ("GET", "/stats/summary", "since"),
        ("GET", "/stats/summary", "until"),
        ("GET", "/prices", "at"),
        ("GET", "/reports", "before_made_at"),
        ("POST", "/calls/restore", "deleted_at"),
        ("POST", "/reprice", "since"),
    ],
)
def test_moments_that_no_zone_knows(
    filled: Ledger, visitor: Visitor, method: str, path: str, name: str, moment: str
) -> None:
    """
    A moment that is none in UTC is refused by name, and is no fault of the store's.
    """
    said: dict[str, Any] = {"params" if method == "GET" else "json": {name: moment}}
    if path == "/prices":
        said["params"]["model"] = "gpt-4o"

    answer = visitor().request(method, f"/api/v1{path}", **said)

    assert (answer.status_code, name in answer.json()["detail"]) == (422, True), answer.text


@pytest.mark.parametrize("moment", [DAWN, DUSK])
def test_a_form_with_a_moment_that_no_zone_knows(
    filled: Ledger, visitor: Visitor, moment: str
) -> None:
    """
    Also where a page sends it.
    """
    answer = visitor().post(
        "/calls/restore", data={"deleted_at": moment}, headers={"HX-Request": "true"}
    )

    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"valid_from": DAWN},
        {"valid_from": DUSK},
        {"input": "1e-99999999"},
        {"input": "0e-99999999"},
        {"input": "1e99999999"},
        {"per_call": "1" * 5_000},
    ],
)
def test_prices_that_nobody_could_write_out(visitor: Visitor, wrong: dict[str, str]) -> None:
    """
    A price with such a rate or such a beginning is refused, by the API and in a form.
    """
    client = visitor()
    client.post("/api/v1/providers", json={"name": "mine"})
    made = client.post("/api/v1/models", json={"name": "m", "provider": "mine"})
    price = {"currency": "USD", "input": "1", **wrong}
    fields = {f"price.{name}": value for name, value in price.items()}

    priced = client.post("/api/v1/models/m/prices", json=price)
    typed = client.post(
        "/models/price",
        data={"name": "m", "version": "1", **fields},
        headers={"HX-Request": "true"},
    )

    assert made.status_code == 201
    assert (priced.status_code, typed.status_code) == (422, 422), typed.text
    assert client.get("/api/v1/models/m").json() == made.json()


@pytest.mark.parametrize(
    ("order", "value"),
    [
        pytest.param("started_at", DAWN, id="before the first year"),
        pytest.param("started_at", DUSK, id="after the last"),
        pytest.param("started_at", "2026-01-01T00:00:00", id="without a zone"),
        pytest.param("cost", "sNaN", id="no number"),
        pytest.param("cost", "Infinity", id="no end"),
        pytest.param("cost", "1e999999999", id="too much"),
        pytest.param("cost", "1" * 1_400, id="too long"),
        pytest.param("input_tokens", 10**300, id="too many"),
        pytest.param("duration_ms", "1", id="a text"),
    ],
)
def test_cursors_that_nobody_gave(
    filled: Ledger, visitor: Visitor, order: str, value: object
) -> None:
    """
    A cursor that was made by hand is refused, whatever it says.
    """
    text = json.dumps([order, value, "call-00001", False]).encode()
    cursor = base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    answer = visitor().get("/api/v1/calls", params={"order": order, "cursor": cursor})

    assert answer.status_code == 422, answer.text


def test_a_cursor_of_next_to_nothing(filled: Ledger, visitor: Visitor) -> None:
    """
    What rounds to no cost is no cost, and is not written out.
    """
    text = json.dumps(["cost", "1e-999999999", "call-00001", False]).encode()
    cursor = base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    answer = visitor().get("/api/v1/calls", params={"order": "cost", "cursor": cursor})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        f"/alerts/{DIGITS}",
        f"/alerts/rules/{DIGITS}",
        f"/api/v1/alerts/{DIGITS}",
        f"/api/v1/calls/{DIGITS}",
        f"/settings/tokens/{DIGITS}/revoke",
    ],
)
def test_numbers_too_long_for_an_address(visitor: Visitor, path: str) -> None:
    """
    There is nothing with a number of 5,000 digits.
    """
    client = visitor()

    assert client.get(path).status_code == 404
    assert client.post(path).status_code == 404


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"context_size = {DIGITS}", id="an integer"),
        pytest.param(f"context_size = 0x{'f' * 5_000}", id="in hexadecimal"),
        pytest.param("timeout_s = 1e9999999999999999999999", id="an exponent"),
        pytest.param("timeout_s = 1e99999999", id="no float"),
        pytest.param(f"prices = [{{currency='USD', input={DIGITS}}}]", id="a rate"),
        pytest.param(f"prices = [{{currency='USD', input=0x{'f' * 5_000}}}]", id="a large rate"),
        pytest.param("prices = [{currency='USD', input=1e-99999999}]", id="a small rate"),
        pytest.param("prices = [{currency='USD', input=0e-99999999}]", id="no rate"),
        pytest.param(f"prices = [{{currency='USD', input=1, valid_from='{DAWN}'}}]", id="dawn"),
        pytest.param(f"parameters = {{seed = 0x{'f' * 5_000}}}", id="a parameter"),
    ],
)
def test_a_catalogue_with_numbers_too_long(visitor: Visitor, line: str) -> None:
    """
    An import that cannot be is refused, and says why.
    """
    text = f"[[models]]\nname = 'm'\nprovider = 'p'\n{line}\n"

    answer = visitor().post("/api/v1/catalog/import", json={"text": text})

    assert answer.status_code == 422, answer.text
    assert "set_int_max_str_digits" not in answer.text


@pytest.mark.parametrize(
    "name", [pytest.param("1" * 1_900_000, id="digits"), pytest.param("eyJa-" * 300_000, id="keys")]
)
def test_a_name_is_not_looked_through_for_keys(visitor: Visitor, name: str) -> None:
    """
    What is far too long to be a name is refused for that, and quoted by its beginning.
    """
    fields = {"kind": "provider", "name": name, "type": "international"}

    answer = visitor().post("/models/save", data=fields, headers={"HX-Request": "true"})

    assert answer.status_code == 422
    assert len(answer.content) < 2_000
