"""Files: the catalogue as TOML, read whole or not at all, and written for people to edit."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from ai_ledger.catalog.checks import checked_model, checked_provider
from ai_ledger.catalog.entries import ModelEntry, ProviderEntry
from ai_ledger.errors import AlreadyThere, ConfigurationError, InvalidValue

MAX_BYTES: Final = 10_000_000

_HEADER: Final = """\
# The catalogue of an ai-ledger: providers and models.
#
#   ai-ledger models import FILE --dry-run     says what would change
#   ai-ledger models import FILE               changes it, all or nothing
#
# What is not in this file stays as it is; what is in it becomes what it says here, with
# the default for each field that is left out. Keys stand in environment variables: where
# one is needed, write "env:NAME". Prices are for `per` tokens, a million when left out,
# and each holds until the next of its model begins.
"""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_TABLES: Final = ("providers", "models")


class EntryChange(msgspec.Struct, frozen=True, kw_only=True):
    """What an import does to one entry."""

    kind: str
    name: str
    fields: tuple[str, ...]
    """Which fields become different; empty for a new entry."""


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import changed, or would change."""

    dry_run: bool
    added: tuple[EntryChange, ...]
    changed: tuple[EntryChange, ...]
    unchanged: int


def read_catalog(path: Path | str) -> list[ProviderEntry | ModelEntry]:
    """
    The entries of a file, each checked, providers first.

    Raises:
        ConfigurationError: It cannot be read, or is no catalogue.
        InvalidValue: Names the entry and the field.
        PriceError: Names the entry and the price.
        AlreadyThere: Two entries have one name.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path.name}: larger than {MAX_BYTES:,} bytes")
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, OSError) as error:
        # A syntax error of TOML names line and column, and quotes one character at most.
        raise ConfigurationError(f"{path.name}: cannot be read: {error}") from error
    except (ValueError, ArithmeticError) as error:  # of int() and Decimal()
        reason = "a number has too many digits"
        raise ConfigurationError(f"{path.name}: cannot be read: {reason}") from error
    for key in data:
        if key not in _TABLES:
            raise ConfigurationError(
                f"{path.name}: unknown key {key[:80]!r}: expected [[providers]] and [[models]]"
            )
    entries: list[ProviderEntry | ModelEntry] = []
    for key, check in (("providers", checked_provider), ("models", checked_model)):
        seen: set[str] = set()
        for index, given in enumerate(_listed(path.name, key, data.get(key, []))):
            fields = {name: _plain(value) for name, value in given.items() if name != "name"}
            entry = check(given.get("name"), fields, f"{path.name}: {key}[{index}].")
            if entry.name.lower() in seen:
                raise AlreadyThere(f"{path.name}: {key}: {entry.name!r} is there twice")
            seen.add(entry.name.lower())
            entries.append(entry)
    defaults = [each.name for each in entries if isinstance(each, ProviderEntry) and each.default]
    if len(defaults) > 1:
        raise InvalidValue("default", defaults, "one default provider at most")
    return entries


def _listed(file: str, key: str, value: Any) -> list[Mapping[str, Any]]:
    tables = cast("list[Any]", value)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigurationError(f"{file}: {key}: expected a list of tables, [[{key}]]")
    return cast("list[Mapping[str, Any]]", tables)


def _plain(value: Any) -> Any:
    # Dates stand in prices alone, which take them as text too.
    return value.isoformat() if isinstance(value, date) else value


def written(entries: Iterable[ProviderEntry | ModelEntry]) -> str:
    """*entries* as the text of a file that `read_catalog` reads as the same entries."""
    parts = [_HEADER]
    for entry in entries:
        is_model = isinstance(entry, ModelEntry)
        lines = [f"[[{'models' if is_model else 'providers'}]]", f"name = {_text(entry.name)}"]
        fields = entry.fields()
        prices = fields.pop("prices", [])
        default = type(entry)(name="x", provider="x") if is_model else ProviderEntry(name="x")
        usual = default.fields()
        for name, value in fields.items():
            if value is not None and (name == "provider" or value != usual[name]):
                lines.append(f"{name} = {_value(value)}")
        for price in prices:
            lines.append("")
            lines.append("[[models.prices]]")
            lines += [f"{name} = {_price_value(name, each)}" for name, each in price.items()]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def write_whole(path: Path, text: str) -> None:
    """
    Put *text* at *path*, whole or not at all; a file that was there keeps its permissions.

    Raises:
        OSError: It cannot be written; what was there is there still.
    """
    path = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        path.write_text(text, encoding="utf-8")  # a terminal or a pipe
        return
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _price_value(name: str, value: Any) -> str:
    if name in ("currency", "name", "source", "checked"):
        return _text(value)
    if name in ("valid_from", "valid_to"):
        return str(value).removesuffix("T00:00:00+00:00")
    if name == "tiers":
        tiers = [
            ", ".join(
                f"{key} = {_text(each) if key == 'service_tier' else each}"
                for key, each in tier.items()
            )
            for tier in value
        ]
        return "[" + ", ".join(f"{{ {tier} }}" for tier in tiers) + "]"
    return str(value)  # a rate, as exact as it was typed


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, cast("list[Any]", value))) + "]"
    if isinstance(value, dict):
        pairs = [
            f"{key if _BARE.fullmatch(key) else _text(key)} = {_value(each)}"
            for key, each in cast("dict[str, Any]", value).items()
        ]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    return repr(value)


def _text(text: str) -> str:
    # The escapes of JSON are all known to TOML. What no one sees, a terminal may obey.
    return "".join(
        each if each.isprintable() else f"\\U{ord(each):08x}"
        for each in json.dumps(text, ensure_ascii=False)
    )
