"""``providers`` and ``models``: the catalogue from a terminal."""

from __future__ import annotations

import json

import pytest

from ai_ledger import Ledger
from ai_ledger.catalog import Catalog, guard
from ai_ledger.query import Query
from ai_ledger.testing import Provider

URL = "sqlite:///ai_ledger.db"
KEY = "7Qcanarykey9f3Bd81Zk"


@pytest.fixture
def catalog(command, monkeypatch) -> Catalog:
    """An empty catalogue in the present folder."""
    monkeypatch.setattr(guard, "WAIT_S", 60.0)
    catalog = Catalog(URL)
    assert catalog.providers() == []
    return catalog


@pytest.fixture
def shop(catalog, command) -> Catalog:
    """A catalogue with one provider and one model."""
    for arguments in (
        ("providers", "add", "shop", "--setting", "api_key=env:SHOP_KEY", "--by", "ada"),
        (
            "models", "add", "qwen-plus", "--provider", "shop", "--timeout", "20", "--by", "ada",
            "--api-url", "https://example.com/v1", "--parameter", "temperature=0.5",
            "--price", "currency=CNY,per=1000,input=0.0004,output=0.002",
        ),
    ):  # fmt: skip
        result = command(*arguments)
        assert (result.code, result.err) == (0, "")
    return catalog


def test_adding(shop) -> None:
    """
    What the options say is in the catalogue, with who said so.
    """
    provider, model = shop.provider("shop"), shop.model("qwen-plus")
    assert (provider.settings, provider.updated_by) == ({"api_key": "env:SHOP_KEY"}, "ada")
    assert (model.timeout_s, model.parameters, model.updated_by) == (
        20,
        {"temperature": 0.5},
        "ada",
    )
    assert [str(price.input_per_mtok) for price in model.prices] == ["0.4"]


def test_lists(shop, command) -> None:
    """
    Lists name what there is, with prices of now; JSON has every field.
    """
    providers = command("providers", "list")
    assert [line.split() for line in providers.out.splitlines()][1] == [
        "shop", "-", "international", "enabled", "1", "1",
    ]  # fmt: skip
    models = command("models", "list", "--provider", "shop")
    assert models.out.splitlines()[1].split() == [
        "qwen-plus", "shop", "enabled", "-", "20", "s", "0.4", "2", "CNY", "1",
    ]  # fmt: skip
    listed = json.loads(command("models", "list", "--json").out)
    assert listed == [json.loads(shop.model("qwen-plus").to_json())]
    assert json.loads(command("providers", "show", "shop", "--json").out)["type"] == "international"
    shown = command("models", "show", "qwen-plus").out
    assert "input=0.4" in shown
    assert "https://example.com/v1" in shown
    assert command("models", "list", "--provider", "other").code == 1


def test_editing(shop, command) -> None:
    """
    An edit changes what it names; a price is one more, an empty value takes away.
    """
    result = command(
        "models", "edit", "qwen-plus", "--parameter", "temperature=", "--parameter", "seed=7",
        "--price", "currency=CNY input=0.3 output=2 valid_from=2026-01-01", "--version", "1",
        "--by", "bob", "--json",
    )  # fmt: skip
    assert json.loads(result.out)["version"] == 2
    model = shop.model("qwen-plus")
    assert (model.parameters, model.timeout_s, len(model.prices)) == ({"seed": 7}, 20, 2)

    command("models", "edit", "qwen-plus", "--no-prices", "--api-url", "")
    assert (shop.model("qwen-plus").prices, shop.model("qwen-plus").api_url) == ((), None)
    command("providers", "edit", "shop", "--default", "--setting", "note=hi", "--sort-order", "2")
    provider = shop.provider("shop")
    assert (provider.default, provider.sort_order) == (True, 2)
    assert provider.settings == {"api_key": "env:SHOP_KEY", "note": "hi"}
    command("providers", "edit", "shop", "--no-default")
    assert shop.provider("shop").default is False


@pytest.mark.parametrize("kind", ["provider", "model"])
def test_switching(shop, command, kind) -> None:
    """
    Off, on, away, and who did it.
    """
    name = "shop" if kind == "provider" else "qwen-plus"
    for action, status in (("disable", "disabled"), ("enable", "enabled"), ("remove", "deleted")):
        result = command(f"{kind}s", action, name, "--by", "bob")
        assert (result.code, result.err) == (0, "")
        assert f"{name}: {status}" in result.out
        assert getattr(shop, kind)(name).status == status
    assert command(f"{kind}s", "list").code == 1
    assert name in command(f"{kind}s", "list", "--all").out

    lines = command(f"{kind}s", "history", name).out.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["bob", "bob", "bob", "ada"]
    assert "removed" in lines[1]
    assert 'status: "disabled" -> "enabled"' in lines[2]
    assert "added" in lines[4]
    assert len(json.loads(command(f"{kind}s", "history", name, "--json").out)) == 4


@pytest.mark.parametrize("verb", ["disable", "enable", "remove"])
def test_switches_at_a_version(shop, command, verb: str) -> None:
    """
    A switch is refused when the entry has changed since it was looked at.
    """
    late = shop.edit_model("qwen-plus", version=1, display_name="other").version
    assert command("models", verb, "qwen-plus", "--version", str(late - 1)).code == 2
    assert shop.model("qwen-plus").status == "enabled"
    assert command("models", verb, "qwen-plus", "--version", str(late)).code == 0


def test_files(shop, command, tmp_path) -> None:
    """
    What is exported is imported as the same; a dry run says what would change.
    """
    assert command("models", "export", "catalog.toml").code == 0
    text = (tmp_path / "catalog.toml").read_text(encoding="utf-8")
    assert command("models", "export").out == text
    assert "[[models]]" not in command("providers", "export").out

    (tmp_path / "catalog.toml").write_text(text.replace("20.0", "30.0"), encoding="utf-8")
    dry = command("models", "import", "catalog.toml", "--dry-run")
    assert dry.out.splitlines() == [
        "~ model qwen-plus: timeout_s",
        "0 would be added, 1 would be changed, 1 unchanged",
    ]
    assert shop.model("qwen-plus").timeout_s == 20
    done = json.loads(command("providers", "import", "catalog.toml", "--by", "eve", "--json").out)
    assert (done["dry_run"], done["changed"][0]["name"]) == (False, "qwen-plus")
    assert (shop.model("qwen-plus").timeout_s, shop.model("qwen-plus").updated_by) == (30, "eve")


def test_a_try(shop, command, monkeypatch) -> None:
    """
    One real call each, on the books; the exit code tells whether all answered.
    """
    monkeypatch.setenv("SHOP_KEY", KEY)
    with Provider() as provider:
        shop.edit_model("qwen-plus", version=1, api_url=provider.base_url)
        good = command("models", "test", "qwen-plus")
        assert (good.code, good.err) == (0, "")
        assert good.out.splitlines()[1].split()[:2] == ["qwen-plus", "ok"]
        result = json.loads(command("models", "test", "qwen-plus", "--json").out)
        assert (result["ok"], result["currency"]) == (True, "CNY")
        shop.add_model("bad", provider="shop", api_url=provider.base_url)
        provider.on(model="bad", status=401, message=f"no {KEY}")
        both = command("providers", "test", "shop")
        assert both.code == 1
        assert [line.split()[:2] for line in both.out.splitlines()[1:]] == [
            ["bad", "failed"],
            ["qwen-plus", "ok"],
        ]
        assert KEY not in both.out + both.err
        assert command("models", "test", "qwen-plus", "--operation", "embeddings").code == 0
    shop.disable_model("qwen-plus")
    shop.disable_model("bad")
    assert command("models", "test", "qwen-plus").code == 1
    assert command("providers", "test", "shop").code == 1
    with Ledger(URL) as ledger:
        found = ledger.store.calls(Query.build(scope=None))
    assert {each.business_type for each in found} == {"connection_test"}
    assert sorted(each.status for each in found) == ["blocked", "failed", *["success"] * 4]


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["providers", "show", "nobody"], 1, "nobody"),
        (["models", "disable", "nobody"], 1, "nobody"),
        (["models", "history", "nobody"], 1, "nobody"),
        (["providers", "add", "shop"], 2, "already"),
        (["providers", "edit", "shop", "--version", "7", "--sort-order", "1"], 2, "version 1"),
        (["models", "add", "m", "--provider", "nobody"], 2, "provider"),
        (["models", "add", "m", "--provider", "shop", "--timeout", "-1"], 2, "timeout_s"),
        (["models", "add", "m", "--provider", "shop", "--timeout", "nan"], 2, "timeout_s"),
        (["models", "add", "m", "--provider", "shop", "--api-url", "nowhere"], 2, "api_url"),
        (["models", "add", "m", "--provider", "shop", "--price", "input=nan"], 2, "input"),
        (["models", "edit", "qwen-plus", "--price", "input=1"], 2, "overlap"),
        (["models", "edit", "qwen-plus", "--price", KEY], 2, "KEY=VALUE"),
        (["providers", "edit", "shop", "--setting", KEY], 2, "NAME=VALUE"),
        (["providers", "edit", "shop", "--setting", f"api_key={KEY}"], 2, "env:NAME"),
        (["providers", "edit", "shop", "--site", f"https://x/?key={KEY}"], 2, "site"),
        (["providers", "add", KEY], 2, "name"),
        (["models", "import", "missing.toml"], 2, "missing.toml"),
        (["models", "list", "--url", "jsonl:///calls"], 2, "sqlite:"),
        (["models", "list", "--url", "sqlite:///typo.db"], 3, "ai-ledger init"),
    ],
)  # fmt: skip
def test_errors(shop, command, arguments, code, hint) -> None:
    """
    One line that says what is wrong, the documented code, no key, and nothing written.
    """
    before = [each.to_dict() for each in (*shop.providers(), *shop.models())]
    result = command(*arguments)

    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("ai-ledger: ")
    assert result.err.count("\n") == 1
    assert hint in result.err
    assert KEY not in result.err
    assert [each.to_dict() for each in (*shop.providers(), *shop.models())] == before


def test_hostile_texts(catalog, command) -> None:
    """
    What somebody stored commands no terminal.
    """
    catalog.add_provider("p", display_name="\x1b]0;owned\x07\u202e", description="\x1b[2J")
    catalog.add_model("m", provider="p", display_name="\x1b[31m")
    for arguments in (
        ("providers", "list"),
        ("providers", "show", "p"),
        ("providers", "history", "p"),
        ("providers", "export"),
        ("models", "show", "m"),
        ("models", "list", "--json"),
    ):
        out = command(*arguments).out
        assert not set(out) & {"\x1b", "\x07", "\u202e"}, arguments


def test_pricing_again(shop, command) -> None:
    """
    The catalogue's prices are those of now, before the ones of a file.
    """
    with Ledger(URL) as ledger:
        ledger.record("qwen-plus", provider="elsewhere", input_tokens=1_000_000, output_tokens=0)
        ledger.record("qwen-plus", provider="shop", input_tokens=1_000_000, output_tokens=0)
        assert ledger.flush(30)
    shop.edit_model("qwen-plus", version=1, prices=[{"currency": "CNY", "input": 9, "output": 9}])
    report = json.loads(command("reprice", "--apply", "--json").out)
    assert (report["changed"], report["after"]) == (1, {"CNY": "9.4"})
