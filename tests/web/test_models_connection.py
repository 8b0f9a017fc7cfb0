"""Connection tests from the console, against a provider on loopback."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.catalog import Catalog
from ai_ledger.testing import Provider
from ai_ledger.web.models import trials
from ai_ledger.web.models.shapes import ConnectionTest

KEY = "7Qcanarykey9f3Bd81Zk"
HX = {"HX-Request": "true"}


@pytest.fixture
def shop(ledger: Ledger, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A catalogue with two models of that provider, one of them switched off."""
    monkeypatch.setenv("SHOP_KEY", KEY)
    catalog = Catalog(ledger)
    settings = {"base_url": provider.base_url, "api_key": "env:SHOP_KEY"}
    catalog.add_provider("shop", settings=settings)
    catalog.add_model("vendor/chat:1", provider="shop", prices=[{"currency": "CNY", "input": 1,
                                                                 "output": 1}])  # fmt: skip
    catalog.add_model("old", provider="shop", status="disabled")
    return catalog


def test_it_answers(visitor: Visitor, shop: Catalog, ledger: Ledger, provider: Provider) -> None:
    """
    An operator tries a model: what answered, how long it took, what it cost; on the books.
    """
    client = visitor(role="operator")

    (result,) = client.post("/api/v1/models/vendor/chat:1/test").json()["results"]
    page = client.post(
        "/models/test", data={"kind": "model", "name": "vendor/chat:1"}, headers=HX
    ).text
    ledger.flush()

    assert (result["ok"], result["status"], result["response_model"]) == (
        True, "success", "vendor/chat:1",
    )  # fmt: skip
    assert result["currency"] == "CNY"
    assert result["latency_ms"] > 0
    assert "note-good" in page
    assert len(provider.requests) == 2
    calls = client.get("/api/v1/models/vendor/chat:1").json()
    assert calls["status"] == "enabled"


def test_a_provider_is_tried_by_its_enabled_models(
    visitor: Visitor, shop: Catalog, provider: Provider
) -> None:
    """
    Those that are switched off are left alone.
    """
    results = visitor().post("/api/v1/providers/shop/test").json()["results"]

    assert [(each["model"], each["ok"]) for each in results] == [("vendor/chat:1", True)]


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"status": 401, "message": f"Incorrect API key provided: {KEY}."}, id="401"),
        pytest.param({"status": 500, "message": f"<b>gateway</b> {KEY}"}, id="500"),
        pytest.param({"hang_up": True}, id="hang up"),
    ],
)
def test_what_fails_is_told_without_the_key(
    visitor: Visitor, shop: Catalog, provider: Provider, behaviour: dict[str, Any]
) -> None:
    """
    A provider that echoes the key finds it taken out, on the page and in the API.
    """
    provider.on(model="vendor/chat:1", **behaviour)
    client = visitor()

    answer = client.post("/api/v1/models/vendor/chat:1/test")
    page = client.post("/models/test", data={"kind": "model", "name": "vendor/chat:1"}, headers=HX)

    (result,) = answer.json()["results"]
    assert (result["ok"], result["http_status"]) == (False, behaviour.get("status"))
    assert result["error"]
    assert "note-bad" in page.text
    assert "<b>gateway" not in page.text
    assert KEY not in answer.text + page.text


def test_a_redirect_is_not_followed(visitor: Visitor, shop: Catalog, provider: Provider) -> None:
    """
    A test goes to the address in the catalogue, and to none that this one names.
    """

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", f"{provider.base_url}/chat/completions")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        shop.edit_model("vendor/chat:1", version=1, api_url=url)
        (result,) = visitor().post("/api/v1/models/vendor/chat:1/test").json()["results"]
        server.shutdown()

    assert (result["ok"], result["http_status"], provider.requests) == (False, 307, [])


def test_a_missing_variable_is_named(
    visitor: Visitor, shop: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing is sent without the key; the result says which variable is not set.
    """
    monkeypatch.delenv("SHOP_KEY")

    (result,) = visitor().post("/api/v1/models/vendor/chat:1/test").json()["results"]

    assert (result["ok"], "SHOP_KEY" in result["error"]) == (False, True)


@pytest.mark.parametrize(
    "access",
    [{"role": "viewer"}, {"role": "operator", "org_id": "acme"}, {"role": "admin", "org_id": "b"}],
    ids=["viewer", "confined operator", "confined admin"],
)
def test_who_may_not(
    visitor: Visitor, shop: Catalog, provider: Provider, access: dict[str, str]
) -> None:
    """
    A test costs money of all: it takes an operator who is confined to no organisation.
    """
    client = visitor(**access)

    for path in ("/api/v1/models/vendor/chat:1/test", "/api/v1/providers/shop/test"):
        assert client.post(path).status_code == 403
    form = {"kind": "provider", "name": "shop"}
    assert client.post("/models/test", data=form, headers=HX).status_code == 403
    assert provider.requests == []


def test_no_address_comes_from_a_request(
    visitor: Visitor, shop: Catalog, provider: Provider
) -> None:
    """
    Only what the catalogue has is tried; addresses of clouds' credentials are refused there.
    """
    client = visitor()

    unknown = client.post("/api/v1/models/http://169.254.169.254/x/test")
    settings = {"base_url": "http://169.254.169.254/latest"}
    refused = client.post("/api/v1/providers", json={"name": "evil", "settings": settings})

    assert (unknown.status_code, refused.status_code) == (404, 422)


def test_time_and_number_are_bounded() -> None:
    """
    What does not end in time has timed out; as long as it goes on, no more are begun.
    """
    release = threading.Event()

    def stuck(name: str) -> ConnectionTest:
        release.wait(60)
        return ConnectionTest(model=name, ok=True, status="success")

    try:
        for _ in range(trials.MAX_TESTS):
            (result,) = trials.in_threads(["m"], stuck, wait_s=0.01)
            assert (result.ok, result.status) == (False, "timeout")
        with pytest.raises(HTTPException) as refused:
            trials.in_threads(["m"], stuck, wait_s=0.01)
        assert refused.value.status_code == 409
    finally:
        release.set()
    for _ in range(trials.MAX_TESTS):
        # All places become free again.
        assert trials._free.acquire(timeout=30)
    for _ in range(trials.MAX_TESTS):
        trials._free.release()


def test_places_are_free_again_where_threads_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Those that were started do all of the work; where there are none, it is an error.
    """
    start, room = threading.Thread.start, [0]

    def started(self: threading.Thread) -> None:
        if not room[0]:
            raise RuntimeError("can't start new thread")
        room[0] -= 1
        start(self)

    def work(name: str) -> ConnectionTest:
        return ConnectionTest(model=name, ok=True, status="success")

    monkeypatch.setattr(threading.Thread, "start", started)
    for _ in range(trials.MAX_TESTS + 1):
        with pytest.raises(RuntimeError, match="new thread"):
            trials.in_threads(["a", "b"], work)
    for _ in range(trials.MAX_TESTS + 1):
        room[0] = 1
        found = trials.in_threads(["a", "b"], work, wait_s=60.0)
        assert [(each.model, each.ok) for each in found] == [("a", True), ("b", True)]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        pytest.param("DATABASE_URL", {"settings": {"api_key": "env:{}"}}, id="no key"),
        pytest.param("AI_LEDGER_DB_SECRET", {"settings": {"api_key": "env:{}"}}, id="our own"),
        pytest.param("PGPASSWORD", {"settings": {"default_headers": {"X": "env:{}"}}}, id="header"),
        pytest.param("HOME", {"settings": {"base_url": "https://x.example/env:{}"}}, id="in a URL"),
    ],
)  # fmt: skip
def test_the_console_sends_no_other_variables(
    visitor: Visitor,
    shop: Catalog,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fields: dict[str, Any],
) -> None:
    """
    A variable that is no key is refused in pages, API and files, and what the command
    line has set is neither sent by a test nor taken away by another edit.
    """
    monkeypatch.setenv(name, "canary")
    settings = {"base_url": provider.base_url, **_named(fields["settings"], name)}
    client = visitor()

    lines = "\n".join(f"{key} = {_toml(value)}" for key, value in settings.items())
    text = f'\ufeff[[providers]]\nname = "shop"\n[providers.settings]\n{lines}\n'
    answers = [
        client.post("/api/v1/providers", json={"name": "new", "settings": settings}),
        client.patch("/api/v1/providers/shop", json={"version": 1, "settings": settings}),
        client.post("/api/v1/catalog/import", json={"text": text, "dry_run": False}),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 422]
    for answer in answers:
        assert name in answer.text
        assert "`ai-ledger providers` can" in answer.text
    assert shop.provider("shop").version == 1

    shop.edit_provider("shop", version=1, settings=settings)
    (result,) = client.post("/api/v1/models/vendor/chat:1/test").json()["results"]
    assert (result["ok"], result["error_type"]) == (False, "ConfigurationError")
    assert name in result["error"]
    assert provider.requests == []
    kept = {"version": 2, "settings": settings, "sort_order": 3}
    assert client.patch("/api/v1/providers/shop", json=kept).status_code == 200


def _named(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _named(each, name) for key, each in value.items()}
    return value.format(name)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return f'"{value}"'
