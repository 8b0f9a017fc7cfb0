"""Keys: found in nothing that the catalogue stores, logs, prints or raises."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger import Ledger
from ai_ledger.catalog import Catalog
from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.references import resolved
from ai_ledger.testing import Provider

from .conftest import KEY

LITERALS: list[dict[str, Any]] = [
    {"settings": {"api_key": KEY}},
    {"settings": {"api_key": "short"}},
    {"settings": {"apiKey": "short"}},
    {"settings": {"client_secret": "short"}},
    {"settings": {"DB_PASSWORD": "short"}},
    {"settings": {"api_key": f"env:{KEY}"}},
    {"settings": {"api_key": f"env:SHOP_KEY{KEY}-x"}},
    {"settings": {"api_key": ["env:SHOP_KEY", KEY]}},
    {"settings": {"region": KEY}},
    {"settings": {"deep": {"deeper": [{"note": f"use {KEY} here"}]}}},
    {"settings": {KEY: "beijing"}},
    {"settings": {"default_headers": {"Authorization": f"Bearer {KEY}"}}},
    {"settings": {"default_headers": {"X-Gateway": "sk-abcdef0123"}}},
    {"settings": {"base_url": f"https://user:{KEY}@example.com/v1"}},
    {"settings": {"base_url": f"https://example.com/{KEY}/v1"}},
    {"settings": {"base_url": "https://example.com/v1?key=abc"}},
    {"settings": {"note": "postgresql://ledger:hunter22@db/ai"}},
    {"site": f"https://example.com/?token={KEY}"},
    {"description": f"the key is {KEY}"},
    {"display_name": "sk-abcdef0123"},
    {KEY: "x"},
    {"type": KEY},
    {"status": f"Bearer {KEY}"},
]
MODEL_LITERALS: list[dict[str, Any]] = [
    {"api_url": f"https://user:{KEY}@example.com/v1"},
    {"api_url": f"https://example.com/{KEY}/v1"},
    {"api_url": f"ftp://example.com/{KEY}"},
    {"api_url": f"https://example.com/v1#{KEY}"},
    {"api_url": f"{KEY}"},
    {"parameters": {"user": KEY}},
    {"parameters": {"token": "short"}},
    {"parameters": {"metadata": {"auth": "short"}}},
    {"prices": [{"input": 1, "source": f"found with {KEY}"}]},
    {"api_type": KEY},
    {"timeout_s": KEY},
    {"context_size": KEY},
    {"provider": KEY},
]


@pytest.mark.parametrize("fields", LITERALS)
def test_literal_keys_of_providers(fields: dict[str, Any], tmp_path: Path, caplog) -> None:
    """
    A key is refused wherever it is put, is not quoted, and reaches no file.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p", description="marker5150")
    for attempt in (
        lambda: catalog.add_provider("q", **fields),
        lambda: catalog.edit_provider("p", version=1, **fields),
    ):
        with caplog.at_level(logging.DEBUG), pytest.raises(InvalidValue) as refusal:
            attempt()
        assert KEY not in f"{refusal.value!r} {refusal.value.field}"
        assert "short" not in str(refusal.value)
    assert KEY not in caplog.text
    assert_nowhere(tmp_path)


@pytest.mark.parametrize("fields", MODEL_LITERALS)
def test_literal_keys_of_models(fields: dict[str, Any], tmp_path: Path) -> None:
    """
    A key is refused wherever it is put, is not quoted, and reaches no file.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p", description="marker5150")
    with pytest.raises((InvalidValue, ConfigurationError)) as refusal:
        catalog.add_model("m", **{"provider": "p", **fields})
    assert KEY not in repr(refusal.value)
    assert_nowhere(tmp_path)


def test_keys_as_names(tmp_path: Path) -> None:
    """
    A key is nobody's name.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p")
    with pytest.raises(InvalidValue) as refusal:
        catalog.add_provider(KEY)
    assert KEY not in str(refusal.value)
    with pytest.raises(InvalidValue) as refusal:
        catalog.add_model(KEY, provider="p")
    assert KEY not in str(refusal.value)


def assert_nowhere(folder: Path) -> None:
    """The key is in no file of *folder*, where the search finds what there is."""
    files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(b"marker5150" in content for content in files.values())
    assert [name for name, content in files.items() if KEY.encode() in content] == []


def test_a_whole_life(tmp_path: Path, provider: Provider, monkeypatch, caplog, capfd) -> None:
    """
    A key that is used, echoed by the server and tried again later is in no file and no output.
    """
    monkeypatch.setenv("SHOP_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        catalog = Catalog(ledger)
        catalog.add_provider(
            "shop",
            description="marker5150",
            settings={
                "api_key": "env:SHOP_KEY",
                "default_headers": {"X-Pass": "Bearer env:SHOP_KEY"},
            },
        )
        catalog.add_model("m", provider="shop", api_url=f"{provider.base_url}/env:SHOP_KEY")
        provider.on(path="/chat/completions", status=401, message=f"marker5150 no {KEY} here")
        results = [catalog.test("m")]
        assert provider.requests[0].path == f"/v1/{KEY}/chat/completions"
        monkeypatch.delenv("SHOP_KEY")
        with pytest.raises(ConfigurationError) as missing:
            catalog.client("m")
        told = [
            *map(repr, (results, missing.value, catalog, catalog.providers(), catalog.models())),
            catalog.export_toml(tmp_path / "catalog.toml"),
            *map(repr, catalog.history("model", "m")),
            repr(ledger.health()),
        ]
        assert ledger.flush(30)
    out = capfd.readouterr()

    assert not results[0].ok
    assert "marker5150" in (results[0].error or "")
    # What the SDK and its HTTP client log is theirs.
    told += [each.getMessage() for each in caplog.records if each.name.startswith("ai_ledger")]
    assert KEY not in "".join([*told, out.out, out.err])
    assert_nowhere(tmp_path)


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        ({"api_key": "env:SHOP_KEY"}, {"api_key": KEY}),
        ({"headers": {"A": "Bearer env:SHOP_KEY"}}, {"headers": {"A": f"Bearer {KEY}"}}),
        ({"project": "proj-1", "tenant": "0f8fad5b-d9cb-469f-a165-70867728950e"}, None),
        ({"api_version": "2024-10-21-preview", "max_tokens": 5, "max_token": 7}, None),
        ({"base_url": "https://hf-mirror.com/v1"}, None),
        ({"region": "cn-beijing", "note": "模型在北京"}, None),
        ({"key_id": "LTAI", "token_limit": "100k", "monkey": "yes"}, None),
    ],
)  # fmt: skip
def test_what_is_no_key(settings: dict, meant: dict | None, tmp_path: Path, monkeypatch) -> None:
    """
    References stand for what the variable says at the moment; other settings stay as they are.
    """
    monkeypatch.setenv("SHOP_KEY", KEY)
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    added = catalog.add_provider("p", settings=settings)

    assert added.settings == settings
    assert resolved("p", added.settings) == (meant or settings)


@given(key=st.from_regex(r"sk-[A-Za-z0-9]{20,48}", fullmatch=True), place=st.sampled_from("abc"))
def test_any_key_of_the_usual_form(key: str, place: str, tmp_path_factory) -> None:
    """
    No key of the form that most providers issue is taken for a setting.
    """
    catalog = Catalog(f"sqlite:///{tmp_path_factory.getbasetemp()}/never.db")
    settings = {"a": {"note": key}, "b": {"note": [f"see {key}."]}, "c": {key: "x"}}[place]
    with pytest.raises(InvalidValue) as refusal:
        catalog.add_provider("p", settings=settings)
    assert key not in str(refusal.value)
