"""The catalogue as TOML: there and back, all or nothing, and told before it is done."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ai_ledger.catalog import Catalog
from ai_ledger.catalog.files import EntryChange
from ai_ledger.errors import AlreadyThere, ConfigurationError, InvalidValue, PriceError

FILE = """\
[[providers]]
name = "deepseek"
type = "domestic"
default = true
settings = { api_key = "env:DEEPSEEK_API_KEY" }

[[models]]
name = "deepseek-chat"
provider = "deepseek"
api_url = "https://api.deepseek.com"
timeout_s = 60
parameters = { temperature = 0.7, stop = ["。"] }

[[models.prices]]
currency = "CNY"
per = 1000
input = 0.002
output = 0.008

[[models.prices]]
currency = "CNY"
input = "1"
output = 4
valid_from = 2026-01-01
tiers = [{ above_input_tokens = 128_000, input = 2 }, { service_tier = "batch", output = 1 }]
"""


def filled(catalog: Catalog) -> None:
    catalog.add_provider(
        'the "odd" one\\',
        display_name="名字\u3000“引号”",
        description="line\nanother\ttab \x7f \x1b[31m \u202e bidi 😀",
        site="https://example.com/a?b=c#d",
        type="internal",
        settings={
            "a b": {"ü": [1, -2.5, 1e-9, 1e22, True, "x"], "empty": {}, "none": []},
            "api_key": "env:A_KEY",
        },
        status="disabled",
        sort_order=-4,
    )
    catalog.add_provider("plain", default=True)
    catalog.add_provider("gone")
    catalog.add_model("m", provider="plain")
    catalog.add_model(
        "n",
        provider="plain",
        display_name="N",
        api_url="http://10.0.0.5:8000/v1",
        api_type="azure",
        parameters={"temperature": 0.1, "seed": 2**40},
        timeout_s=0.25,
        context_size=1_000_000,
        prices=[
            {"input": "0.000000000000000001", "per_call": "0.01", "valid_to": "2026-01-01"},
            {
                "currency": "CNY",
                "input": "1",
                "cache_read": "0",
                "valid_from": "2026-01-01",
                "valid_to": "2026-06-01T12:30:00+08:00",
                "name": "N plus",
                "tiers": [{"service_tier": "flex", "above_input_tokens": 5, "output": "3"}],
            },
        ],
        status="disabled",
    )
    catalog.add_model("of-gone", provider="gone")
    catalog.remove_model("of-gone")
    catalog.remove_provider("gone")


def contents(catalog: Catalog) -> list[Any]:
    return [(each.name, each.fields()) for each in (*catalog.providers(), *catalog.models())]


def test_there_and_back(catalog: Catalog, tmp_path: Path) -> None:
    """
    What is exported is read as the same, and a second import changes nothing.
    """
    filled(catalog)
    text = catalog.export_toml(tmp_path / "catalog.toml")
    other = Catalog(f"sqlite:///{tmp_path}/other.db")
    report = other.import_toml(tmp_path / "catalog.toml")

    assert contents(other) == contents(catalog)
    assert [each.prices for each in other.models()] == [each.prices for each in catalog.models()]
    assert [each.name for each in report.added] == ['the "odd" one\\', "plain", "m", "n"]
    again = other.import_toml(tmp_path / "catalog.toml")
    assert (again.added, again.changed, again.unchanged) == ((), (), 4)
    assert other.model("n").version == 1
    assert text.startswith("# ")
    assert all(each.isprintable() or each == "\n" for each in text)
    assert (tmp_path / "catalog.toml").read_text(encoding="utf-8") == text
    assert set(tomllib.loads(catalog.export_toml(models=False))) == {"providers"}


def test_what_would_change(catalog: Catalog, tmp_path: Path) -> None:
    """
    A dry run says what the import then does, and changes nothing.
    """
    path = tmp_path / "catalog.toml"
    path.write_text(FILE, encoding="utf-8")
    catalog.add_provider("deepseek", by="ada")
    catalog.add_provider("other", default=True)
    before = contents(catalog)

    dry = catalog.import_toml(path, dry_run=True, by="bob")
    assert contents(catalog) == before
    assert catalog.history("model", "deepseek-chat") == []
    done = catalog.import_toml(path, by="bob")

    assert (dry.dry_run, done.dry_run) == (True, False)
    assert dry.added == done.added == (EntryChange(kind="model", name="deepseek-chat", fields=()),)
    assert dry.changed == done.changed
    (changed,) = done.changed
    assert (changed.name, set(changed.fields)) == ("deepseek", {"type", "settings", "default"})
    assert catalog.history("provider", "deepseek")[0].changed_by == "bob"
    assert catalog.default_provider() == catalog.provider("deepseek")
    assert catalog.provider("other").default is False
    first, second = catalog.model("deepseek-chat").prices
    assert (str(first.input_per_mtok), str(second.input_per_mtok)) == ("2", "1")
    assert second.tiers[1].service_tier == "batch"


def test_what_was_removed_comes_back(catalog: Catalog, tmp_path: Path) -> None:
    """
    A file says what there is, also where it had been removed.
    """
    path = tmp_path / "catalog.toml"
    path.write_text(FILE, encoding="utf-8")
    catalog.import_toml(path)
    catalog.remove_model("deepseek-chat")
    catalog.import_toml(path)

    assert catalog.model("deepseek-chat").status == "enabled"


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ("timeout_s = 60", "timeout_s = -60", InvalidValue, "models[0].timeout_s"),
        ("timeout_s = 60", "timeout_s = nan", InvalidValue, "models[0].timeout_s"),
        ("timeout_s = 60", "time_out = 60", InvalidValue, "time_out"),
        ('type = "domestic"', 'type = "local"', InvalidValue, "providers[0].type"),
        ('provider = "deepseek"', 'provider = "nobody"', InvalidValue, "nobody"),
        ('provider = "deepseek"', "", InvalidValue, "models[0].provider"),
        ('name = "deepseek-chat"', "", InvalidValue, "models[0].name"),
        ("env:DEEPSEEK_API_KEY", "sk-abcdef0123456789", InvalidValue, "settings.api_key"),
        ("valid_from = 2026-01-01", "", AlreadyThere, "prices[0] and"),
        ("valid_from = 2026-01-01", "valid_from = 2026-01-01T00:00:00", PriceError, "time zone"),
        ("output = 0.008", "output = inf", PriceError, "output"),
        ("[[models]]", "[[modules]]", ConfigurationError, "modules"),
        ("[[providers]]", "[providers]", ConfigurationError, "[[providers]]"),
        ("[[providers]]", "[[providers", ConfigurationError, "line 1"),
        ("[[models]]", '[[providers]]\nname = "DeepSeek"\n[[models]]', AlreadyThere, "twice"),
        (
            "[[models]]",
            '[[providers]]\nname = "b"\ndefault = true\n[[models]]',
            InvalidValue,
            "one default",
        ),
    ],
)
def test_all_or_nothing(
    old: str, new: str, error: type[Exception], said: str, tmp_path: Path
) -> None:
    """
    One wrong entry, named in the error, keeps the whole file out.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    path = tmp_path / "catalog.toml"
    assert old in FILE
    path.write_text(FILE.replace(old, new, 1), encoding="utf-8")
    for dry_run in (True, False):
        with pytest.raises(error) as refusal:
            catalog.import_toml(path, dry_run=dry_run)
        assert said in str(refusal.value)
        assert "sk-abcdef" not in str(refusal.value)
    assert contents(catalog) == []
    assert catalog.history("provider", "deepseek") == []


def test_files_that_are_none(tmp_path: Path) -> None:
    """
    What cannot be read is told by name.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    for name in ("missing.toml", "bytes.toml", "deep.toml"):
        with pytest.raises(ConfigurationError, match=name):
            catalog.import_toml(tmp_path / name)


def test_an_export_that_fails_leaves_the_old_file(
    catalog: Catalog, tmp_path: Path, monkeypatch
) -> None:
    """
    A file is replaced whole, and keeps its permissions; else it stays, and nothing is beside it.
    """
    filled(catalog)
    path = tmp_path / "catalog.toml"
    path.write_text("the old one")
    path.chmod(0o640)

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            catalog.export_toml(path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.glob(".catalog*")) == []
    text = catalog.export_toml(path)
    assert path.read_text(encoding="utf-8") == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_export_through_a_link(catalog: Catalog, tmp_path: Path) -> None:
    """
    A link stays one, and what it points to is replaced.
    """
    filled(catalog)
    link, file = tmp_path / "link.toml", tmp_path / "file.toml"
    link.symlink_to(file)

    text = catalog.export_toml(link)

    assert link.is_symlink()
    assert file.read_text(encoding="utf-8") == text
