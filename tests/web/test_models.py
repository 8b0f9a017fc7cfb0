"""The catalogue in the console: providers, models, prices, who may see and change them."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.databases import fresh_database
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.catalog import Catalog
from ai_ledger.catalog.entries import Kind
from ai_ledger.database.upgrade import upgrade
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app

HOSTILE = '"><img src=x onerror=alert(1)>{{7+41}}'
HX = {"HX-Request": "true"}
PRICE = {"currency": "CNY", "input": "0.8", "output": "2"}


@pytest.fixture
def catalog(ledger: Ledger) -> Catalog:
    """Two providers and three models; names have slashes and colons."""
    catalog = Catalog(ledger)
    catalog.add_provider(
        "dashscope",
        settings={"base_url": "https://dashscope.example/v1", "api_key": "env:DASHSCOPE_KEY"},
        default=True,
    )
    catalog.add_provider("router", settings={"api_key": "env:ROUTER_KEY"}, sort_order=5)
    catalog.add_model("qwen-plus", provider="dashscope", prices=[PRICE])
    catalog.add_model("openai/gpt-4o", provider="router", parameters={"seed": 7})
    catalog.add_model("ft:gpt-4o:acme::x", provider="router")
    return catalog


def test_the_pages_show_the_catalogue(visitor: Visitor, filled: Ledger, catalog: Catalog) -> None:
    """
    Each part of the page answers, and so does each entry's, whatever its name.
    """
    client = visitor()

    for path, text in (
        ("/models", "openai/gpt-4o"),
        ("/models?view=providers", "env:DASHSCOPE_KEY"),
        ("/models?view=prices&model=qwen-plus", "catalog:dashscope/qwen-plus"),
        ("/models?view=file", "catalog.toml"),
        ("/models/entry?kind=model&name=openai%2Fgpt-4o", "openai/gpt-4o"),
        ("/models/entry?kind=provider&name=router", "env:ROUTER_KEY"),
        ("/models/new?kind=provider", "New provider"),
    ):
        answer = client.get(path)
        assert (answer.status_code, text in answer.text) == (200, True), path


def test_unpriced_calls_are_told_and_a_price_is_a_click_away(
    visitor: Visitor, filled: Ledger, catalog: Catalog
) -> None:
    """
    A model that calls name without a price is listed with its unpriced calls.
    """
    client = visitor()

    found = client.get("/api/v1/models").json()["unlisted"]

    mini = next(each for each in found if each["model"] == "gpt-4o-mini")
    assert mini["listed"] is False
    assert mini["provider"] == "openai"
    assert mini["unpriced_calls"] > 0
    assert f"unpriced: {mini['unpriced_calls']} calls" in client.get("/models").text


def test_a_provider_says_how_it_did(visitor: Visitor, filled: Ledger, catalog: Catalog) -> None:
    """
    Calls, success rate and the last call are those of the last seven days.
    """
    (use, *_) = [each["use"] for each in visitor().get("/api/v1/providers").json()["providers"]]

    calls = [each for each in sample.calls() if each.provider == "dashscope"]
    since = sample.NOW.replace(hour=0, minute=0)
    recent = [each for each in calls if (since - each.started_at).days < 6]
    good = sum(each.status == "success" for each in recent)
    assert use["calls"] == len(recent)
    assert use["success_rate"] == pytest.approx(good / len(recent))
    assert use["last_call_at"] == recent[0].started_at.isoformat().replace("+00:00", "Z")


def test_edits_from_end_to_end(visitor: Visitor, catalog: Catalog) -> None:
    """
    What the API adds, changes, switches and removes is in the catalogue, signed.
    """
    client = visitor(name="ada")
    name = "meta/llama:free"

    added = client.post("/api/v1/models", json={"name": name, "provider": "router"})
    edited = client.patch(f"/api/v1/models/{name}", json={"version": 1, "timeout_s": 20})
    stale = client.patch(f"/api/v1/models/{name}", json={"version": 1, "timeout_s": 30})
    price = {"version": 2, "currency": "USD", "input": "0.50", "per": 1000}
    priced = client.post(f"/api/v1/models/{name}/prices", json=price)
    off = client.post(f"/api/v1/models/{name}/disable", json={"version": 3})
    on = client.post(f"/api/v1/models/{name}/enable")
    gone = client.delete(f"/api/v1/models/{name}")
    history = client.get(f"/api/v1/models/{name}/history").json()

    assert [each.status_code for each in (added, edited, stale, priced, off, on, gone)] == [
        201, 200, 409, 201, 200, 200, 200,
    ]  # fmt: skip
    assert priced.json()["price"]["rates"] == {"input": "500"}
    assert [each.json()["status"] for each in (off, on, gone)] == ["disabled", "enabled", "deleted"]
    assert len(history) == 6
    assert {each["changed_by"] for each in history} == {"ada"}
    assert name not in [each.name for each in catalog.models()]


def test_a_new_price_leaves_those_that_are_there(visitor: Visitor, catalog: Catalog) -> None:
    """
    A price from a day on comes after the others; one from the same day is refused.
    """
    client = visitor(clock=lambda: sample.NOW)
    body = {"version": 1, "currency": "CNY", "input": "0.4", "valid_from": "2026-05-01T00:00:00Z"}

    first = client.post("/api/v1/models/qwen-plus/prices", json=body)
    again = client.post("/api/v1/models/qwen-plus/prices", json={**body, "version": 2})
    before = client.get("/api/v1/prices?model=qwen-plus&provider=dashscope&at=2026-04-30T23:59:59Z")
    now = client.get("/api/v1/prices?model=qwen-plus&provider=dashscope")

    assert [each["rates"]["input"] for each in first.json()["prices"]] == ["0.8", "0.4"]
    assert again.status_code == 409
    assert before.json()["current"]["rates"]["input"] == "0.8"
    assert now.json()["current"]["rates"]["input"] == "0.4"


def test_a_day_begins_in_the_readers_zone(ledger: Ledger, catalog: Catalog) -> None:
    """
    A price that a page adds from a day on begins at its midnight where the console is.
    """
    who = Access(name="ada", role="admin")
    app = create_app(ledger, auth=lambda request: who, tz="Asia/Shanghai")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        form = {"name": "qwen-plus", "version": "1", "price.input": "0.4", "price.currency": "CNY",
                "price.valid_from": "2026-05-01"}  # fmt: skip
        answer = client.post(
            "/models/price",
            data=form,
            headers={"HX-Request": "true", "Sec-Fetch-Site": "same-origin"},
        )

    assert answer.status_code == 204
    start = catalog.model("qwen-plus").prices[1].valid_from
    assert start is not None
    assert start.isoformat() == "2026-04-30T16:00:00+00:00"


@pytest.mark.parametrize("kind", ["provider", "model"])
def test_every_edit_of_a_page_can_be_taken_back(
    visitor: Visitor, catalog: Catalog, kind: Kind
) -> None:
    """
    Undo makes an entry what it was: after an edit, a switch, a removal and an addition.
    """
    client = visitor()
    name = "router" if kind == "provider" else "openai/gpt-4o"
    read = catalog.provider if kind == "provider" else catalog.model
    first = read(name).fields()

    def newest(name: str) -> str:
        return str(catalog.history(kind, name, limit=1)[0].id)

    def act(path: str, **form: str) -> None:
        version = str(read(name).version)
        answer = client.post(
            path, data={"kind": kind, "name": name, "version": version, **form}, headers=HX
        )
        assert answer.status_code == 204, answer.text

    for path, form in (
        ("/models/switch", {"action": "disable"}),
        ("/models/switch", {"action": "remove"}),
        ("/models/save", {"display_name": "Other", "provider": "router"}),
    ):
        act(path, **form)
        assert read(name).fields() != first
        act("/models/undo", edit=newest(name))
        assert read(name).fields() == first

    client.post("/models/save", data={"kind": kind, "name": "fresh", "provider": "router"})
    form = {"kind": kind, "name": "fresh", "version": str(read("fresh").version)}
    client.post("/models/undo", data={**form, "edit": newest("fresh")}, headers=HX)
    assert read("fresh").status == "deleted"


def test_undo_gives_the_default_back(visitor: Visitor, catalog: Catalog) -> None:
    """
    To the provider that had it before, whatever was edited there since, unless it is gone.
    """
    client = visitor()

    def default() -> str | None:
        found = catalog.default_provider()
        return None if found is None else found.name

    def edit(name: str, **fields: Any) -> int:
        seen = catalog.provider(name).version
        return catalog.edit_provider(name, version=seen, by="ann", **fields).version

    def make_default(name: str) -> int:
        return edit(name, default=True)

    def undo(name: str, version: int) -> int:
        newest = catalog.history("provider", name, limit=1)[0].id
        form = {"kind": "provider", "name": name, "version": str(version), "edit": str(newest)}
        return client.post("/models/undo", data=form, headers=HX).status_code

    version = make_default("router")
    edit("dashscope", display_name="Bailian")
    assert (default(), undo("router", version), default()) == ("router", 204, "dashscope")
    assert catalog.provider("dashscope").display_name == "Bailian"

    added = catalog.add_provider("third", default=True)
    assert (undo("third", added.version), default()) == (204, "dashscope")

    # An edit that has nothing to do with it gives nobody anything.
    version = make_default("router")
    version = edit("router", display_name="R")
    assert (undo("router", version), default()) == (204, "router")

    edit("router", default=False)
    version = make_default("router")
    assert (undo("router", version), default()) == (204, None)

    make_default("dashscope")
    version = make_default("router")
    catalog.remove_provider("dashscope")
    assert (undo("router", version), default()) == (204, None)


def test_undo_takes_back_no_other_edit(visitor: Visitor, catalog: Catalog) -> None:
    """
    Once somebody else has edited the entry, undoing the edit before is refused.
    """
    client = visitor()
    entry = {"kind": "model", "name": "qwen-plus"}
    client.post("/models/switch", data={**entry, "action": "disable", "version": "1"})
    edit = catalog.history("model", "qwen-plus", limit=1)[0].id
    catalog.edit_model("qwen-plus", version=2, timeout_s=9)

    form = {**entry, "version": "2", "edit": str(edit)}
    answer = client.post("/models/undo", data=form, headers=HX)

    assert answer.status_code == 409
    assert (catalog.model("qwen-plus").status, catalog.model("qwen-plus").timeout_s) == (
        "disabled", 9.0,
    )  # fmt: skip


def test_a_confined_reader_sees_names_and_prices_alone(
    visitor: Visitor, filled: Ledger, catalog: Catalog
) -> None:
    """
    No base URL, key reference, setting, parameter, history, file, nor another's calls.
    """
    client = visitor(org_id="acme")
    everybody = visitor()

    for path in (
        "/models", "/models?view=providers", "/models?view=prices", "/models?view=file",
        "/models/entry?kind=provider&name=dashscope", "/models/entry?kind=model&name=openai/gpt-4o",
        "/api/v1/providers", "/api/v1/models", "/api/v1/providers/dashscope",
        "/api/v1/models/openai/gpt-4o",
    ):  # fmt: skip
        text = client.get(path).text
        for secret in ("dashscope.example", "DASHSCOPE_KEY", "ROUTER_KEY", "seed"):
            assert secret not in text, (path, secret)
    for path in (
        "/models/catalog.toml", "/api/v1/catalog.toml", "/api/v1/models/qwen-plus/history",
        "/models/new?kind=model",
    ):  # fmt: skip
        assert client.get(path).status_code == 403, path
    own = client.get("/api/v1/models/qwen-plus").json()["use"]["calls"]
    whole = everybody.get("/api/v1/models/qwen-plus").json()["use"]["calls"]
    assert 0 < own < whole


WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/api/v1/providers", {"name": "x"}),
    ("PATCH", "/api/v1/providers/router", {"version": 1, "sort_order": 3}),
    ("POST", "/api/v1/providers/router/disable", None),
    ("POST", "/api/v1/providers/router/enable", None),
    ("DELETE", "/api/v1/providers/router", None),
    ("POST", "/api/v1/models", {"name": "x", "provider": "router"}),
    ("PATCH", "/api/v1/models/qwen-plus", {"version": 1, "timeout_s": 3}),
    ("POST", "/api/v1/models/qwen-plus/disable", None),
    ("DELETE", "/api/v1/models/qwen-plus", None),
    ("POST", "/api/v1/models/qwen-plus/prices", {"version": 1, "currency": "CNY", "input": 1}),
    ("POST", "/api/v1/catalog/import", {"text": "", "dry_run": False}),
]
FORMS: list[tuple[str, dict[str, str]]] = [
    ("/models/save", {"kind": "provider", "name": "x"}),
    ("/models/switch", {"kind": "model", "name": "qwen-plus", "action": "remove", "version": "1"}),
    ("/models/price", {"name": "qwen-plus", "version": "1", "price.input": "1",
                       "price.currency": "CNY"}),
    ("/models/undo", {"kind": "model", "name": "qwen-plus", "version": "1"}),
]  # fmt: skip


@pytest.mark.parametrize(
    "access",
    [{"role": "viewer"}, {"role": "operator"}, {"role": "admin", "org_id": "acme"}],
    ids=["viewer", "operator", "confined admin"],
)
def test_only_admins_of_all_change_the_catalogue(
    visitor: Visitor, catalog: Catalog, access: dict[str, str]
) -> None:
    """
    Nobody else does, by API or form; all of it stays as it was.
    """
    client = visitor(**access)
    before = catalog.export_toml()

    for method, path, body in WRITES:
        assert client.request(method, path, json=body).status_code == 403, path
    for path, form in FORMS:
        assert client.post(path, data=form, headers=HX).status_code == 403, path
    files = {"file": ("c.toml", b"", "text/plain")}
    assert client.post("/models/import", files=files, headers=HX).status_code == 403
    assert catalog.export_toml() == before


def test_a_key_is_never_stored(visitor: Visitor, catalog: Catalog) -> None:
    """
    A key in place of a reference is refused by page and API, and not quoted.
    """
    key = "sk-canary7Qf93Bd81Zkk20PqRsT"
    client = visitor()

    form = {"kind": "provider", "name": "new", "settings.api_key": key}
    said = [
        client.post("/models/save", data=form, headers=HX),
        client.post("/models/save", data={**form, "settings": f'{{"x_token": "{key}"}}'}),
        client.post("/api/v1/providers", json={"name": "new", "settings": {"api_key": key}}),
    ]

    assert [each.status_code for each in said] == [422, 422, 422]
    assert not any(key in each.text for each in said)
    assert key not in catalog.export_toml()


def test_hostile_names_are_texts(visitor: Visitor, catalog: Catalog) -> None:
    """
    Markup in names, prices' sources and display names comes out as text.
    """
    client = visitor()
    catalog.add_provider(HOSTILE, display_name=HOSTILE, description=HOSTILE)
    catalog.add_model(
        HOSTILE,
        provider=HOSTILE,
        display_name=HOSTILE,
        prices=[{**PRICE, "source": HOSTILE}],
        parameters={"x": HOSTILE},
    )

    for path in ("/models", "/models?view=providers", "/models?view=prices"):
        page = client.get(path).text
        assert "<img src=x" not in page
        assert "onerror=alert(1)&gt;48" not in page
    for kind in ("model", "provider"):
        page = client.get("/models/entry", params={"kind": kind, "name": HOSTILE})
        assert page.status_code == 200
        assert "<img src=x" not in page.text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_languages(visitor: Visitor, filled: Ledger, catalog: Catalog, language: str) -> None:
    """
    The pages are in the reader's language.
    """
    client = visitor()
    client.cookies.set("ai_ledger_language", language)

    assert ("供应商" in client.get("/models?view=providers").text) == (language == "zh")
    entry = client.get("/models/entry?kind=model&name=qwen-plus").text
    assert ("连接测试" in entry) == (language == "zh")


TOML = """
[[providers]]
name = "router"
sort_order = 9

[[models]]
name = "kimi"
provider = "router"
"""


def test_a_rehearsal_says_what_the_import_does(visitor: Visitor, catalog: Catalog) -> None:
    """
    Nothing changes at first; applied, the report is the same but for its mark.
    """
    client = visitor()
    before = catalog.export_toml()

    tried = client.post("/api/v1/catalog/import", json={"text": TOML}).json()
    unchanged = catalog.export_toml()
    done = client.post("/api/v1/catalog/import", json={"text": TOML, "dry_run": False}).json()

    assert unchanged == before
    assert (tried.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert tried == done
    assert tried["added"] == [{"kind": "model", "name": "kimi", "fields": []}]
    assert tried["changed"] == [
        {"kind": "provider", "name": "router", "fields": ["settings", "sort_order"]}
    ]
    assert catalog.provider("router").sort_order == 9


def test_only_the_rehearsed_file_is_applied(visitor: Visitor, catalog: Catalog) -> None:
    """
    The page's button applies the file that it has told of, and no other.
    """
    from hashlib import sha256

    client = visitor()
    files = {"file": ("c.toml", TOML.encode(), "text/plain")}
    digest = sha256(TOML.encode()).hexdigest()

    rehearsed = client.post("/models/import", files=files, headers=HX)
    other = client.post("/models/import", files=files, data={"apply": "0" * 64}, headers=HX)
    untouched = catalog.provider("router").sort_order
    applied = client.post("/models/import", files=files, data={"apply": digest}, headers=HX)

    assert digest in rehearsed.text
    assert (other.status_code, untouched) == (422, 5)
    assert (applied.status_code, catalog.provider("router").sort_order) == (200, 9)


def test_what_is_exported_is_imported_as_the_same(visitor: Visitor, catalog: Catalog) -> None:
    """
    The file that the page gives changes nothing.
    """
    client = visitor()

    text = client.get("/models/catalog.toml").text

    report = client.post("/api/v1/catalog/import", json={"text": text}).json()
    assert (report["added"], report["changed"], report["unchanged"]) == ([], [], 5)
    assert client.get("/api/v1/catalog.toml").text == text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/models/nothing", None),
        ("GET", "/api/v1/models/%00%ff/history", None),
        ("GET", "/api/v1/providers/", None),
        ("GET", "/api/v1/prices?model=%00&at=0001-01-01T00:00:00%2B23:59", None),
        ("GET", "/api/v1/models?status=broken", None),
        ("GET", "/api/v1/models?limit=1000000000", None),
        ("POST", "/api/v1/providers", {"name": "a\x00b"}),
        ("POST", "/api/v1/providers", {"name": "x", "settings": {"a": 1e308, "b": [[[[]]]]}}),
        ("POST", "/api/v1/catalog/import", {"text": "\x00", "dry_run": True}),
        ("PATCH", "/api/v1/models/qwen-plus", {"version": 10**30}),
        ("POST", "/api/v1/models/qwen-plus/prices",
         {"version": 1, "currency": "XXX", "input": "1e400"}),
    ],
)  # fmt: skip
def test_nothing_sent_breaks_it(
    visitor: Visitor, catalog: Catalog, method: str, path: str, body: Any
) -> None:
    """
    Odd values are answered with a documented status, never with 500.
    """
    answer = visitor().request(method, path, json=body, follow_redirects=False)

    assert answer.status_code in (200, 201, 307, 404, 409, 422), answer.text


def test_a_model_that_nobody_prices_is_a_click_from_its_price(
    visitor: Visitor, ledger: Ledger, catalog: Catalog
) -> None:
    """
    The form for its price has its name and provider, and adds the provider with it.
    """
    fields = {"request_model": "house/7b", "response_model": None, "provider": "in-house"}
    ledger.store.write([sample.call(6, **fields)])
    client = visitor()

    link = "/models/new?kind=model&amp;name=house%2F7b&amp;provider=in-house"
    assert link in client.get("/models").text
    form = client.get(link.replace("&amp;", "&")).text
    assert 'value="house/7b"' in form
    assert 'name="with_provider" value="1" checked' in form
    saved = client.post(
        "/models/save",
        data={"kind": "model", "name": "house/7b", "provider": "in-house", "with_provider": "1",
              "price.input": "1", "price.currency": "CNY"},
        follow_redirects=False,
    )  # fmt: skip

    assert saved.headers["location"] == "/models/entry?kind=model&name=house%2F7b"
    assert client.get("/api/v1/models/house/7b").json()["price"]["rates"] == {"input": "1"}
    (stranger,) = client.get("/api/v1/models").json()["unlisted"]
    assert (stranger["listed"], stranger["unpriced_calls"]) == (True, 1)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_on_servers(kind: str, tmp_path: Any) -> None:
    """
    The same API works on each database.
    """
    with fresh_database(kind) as url:
        upgrade(url)
        with Ledger(url, journal=tmp_path / "journal") as ledger:
            ledger.store.write(sample.calls(30))
            who = Access(name="ada", role="admin")
            app = create_app(ledger, auth=lambda request: who, clock=lambda: sample.NOW)
            headers = {"Sec-Fetch-Site": "same-origin"}
            with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
                client.post("/api/v1/catalog/import", json={"text": TOML, "dry_run": False})
                body = {"version": 1, "currency": "USD", "input": "0.000000001"}
                client.post("/api/v1/models/kimi/prices", json=body)
                model = client.get("/api/v1/models/kimi").json()
                found = client.get("/api/v1/models").json()
                pages = [
                    client.get(path).status_code
                    for path in ("/models", "/models?view=providers", "/models?view=prices")
                ]
            app.state.house.close()
        close_databases()

    assert model["price"]["rates"] == {"input": "0.000000001"}
    assert {each["model"] for each in found["unlisted"]} == {"qwen-plus", "gpt-4o-mini"}
    assert pages == [200, 200, 200]


def test_models_of_which_nothing_can_be_done_are_no_task(
    visitor: Visitor, ledger: Ledger, catalog: Catalog
) -> None:
    """
    A model in the catalogue, with a price, whose only unpriced calls have no token counts.
    """
    unknown = {"usage_source": "unknown", "input_tokens": None, "output_tokens": None}
    fields = {"request_model": "qwen-plus", "provider": "dashscope", "status": "timeout"}
    ledger.store.write([sample.call(6, **fields, **unknown)])
    client = visitor()

    (told,) = client.get("/api/v1/models").json()["unlisted"]
    before = client.get("/models").text
    ledger.store.write([sample.call(13, **fields | {"status": "success"})])
    after = client.get("/models").text

    assert (told["model"], told["unpriced_calls"], told["without_usage"]) == ("qwen-plus", 1, 1)
    assert "have no entry, or unpriced calls" not in before
    assert "has no entry, or unpriced calls" not in before
    assert "1 model in calls has no entry, or unpriced calls" in after
    assert "Re-price calls" in after
