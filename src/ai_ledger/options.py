"""Options of a ledger: what cannot work is refused at set-up, by name, and not during a call."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.policy import Policy
from ai_ledger.pricing import PriceTable
from ai_ledger.records import ALIASES, CONTEXT_FIELDS
from ai_ledger.sinks import Sink


def wrong_option(name: str, value: object, expected: str) -> ConfigurationError:
    """The error to raise for the option *name*; says in words what was *expected*."""
    return ConfigurationError(str(InvalidValue(name, value, expected)))


def check_choice(name: str, value: object, accepted: tuple[str, ...]) -> None:
    """
    Refuse all but the *accepted* words.

    Raises:
        ConfigurationError: *value* is none of them.
    """
    if value not in accepted:
        raise wrong_option(name, value, f"one of {', '.join(map(repr, accepted))}")


def check_seconds(name: str, value: object) -> None:
    """
    Refuse what no thread can wait for.

    Raises:
        ConfigurationError: *value* is no number, negative, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_option(name, value, "a number of seconds")
    # False for NaN as well.
    if not 0 <= value <= threading.TIMEOUT_MAX:
        raise wrong_option(name, value, "a number of seconds, finite and at least 0")


def check_bytes(name: str, value: object) -> None:
    """
    Refuse what is no size.

    Raises:
        ConfigurationError: *value* is not whole, or negative.
    """
    if type(value) is not int or value < 0:
        raise wrong_option(name, value, "a whole number of bytes, at least 0")


def check_function(name: str, value: object) -> None:
    """
    Refuse what cannot be called; ``None`` is no function at all, which is fine.

    Raises:
        ConfigurationError: *value* is something else.
    """
    if value is not None and not callable(value):
        raise wrong_option(name, value, "a function")


def check_journal(value: object) -> None:
    """
    Refuse what names no folder.

    Raises:
        ConfigurationError: *value* is neither a path, ``False`` nor ``None``.
    """
    # An empty text would be the folder that the program happens to be in.
    if value is None or value is False or (isinstance(value, (str, Path)) and value != ""):
        return
    raise wrong_option("journal", value, "a folder's path, False for none, or None")


def sinks_of(sinks: object) -> tuple[Sink, ...]:
    """
    The sinks in *sinks*.

    Raises:
        ConfigurationError: One of them cannot be written to, or it is no collection.
    """
    listed = _several("sinks", sinks, "sinks")
    for sink in listed:
        if not callable(getattr(sink, "write", None)):
            raise ConfigurationError(f"{sink!r} is no sink: it has no write(records)")
    return cast("tuple[Sink, ...]", listed)


def policies_of(policies: object) -> tuple[Policy, ...]:
    """
    The policies in *policies*.

    Raises:
        ConfigurationError: One of them cannot be asked and told, or it is no collection.
    """
    listed = _several("policies", policies, "policies")
    for policy in listed:
        for method in ("check", "settle"):
            # A class has both, and neither works without an instance.
            if isinstance(policy, type) or not callable(getattr(policy, method, None)):
                raise wrong_option(
                    "policies", policy, "objects with check(call, request) and settle(record)"
                )
    return cast("tuple[Policy, ...]", listed)


def prices_of(prices: object) -> PriceTable:
    """
    The table meant by *prices*: itself, the default, or what a file or a mapping says.

    Raises:
        ConfigurationError: It is something else; `PriceError` when it cannot be read.
    """
    if prices is None:
        return PriceTable.default()
    if isinstance(prices, PriceTable):
        return prices
    if isinstance(prices, (str, Path, Mapping)):
        return PriceTable.load(cast("Path | str | Mapping[str, Any]", prices))
    raise wrong_option("prices", prices, "a PriceTable, the path of a price file, or a mapping")


def context_fields(require: object) -> tuple[str, ...]:
    """
    The fields of the context named in *require*, by our names.

    Raises:
        ConfigurationError: There is no such field, or it is no collection.
    """
    fields: list[str] = []
    for name in _several("require", require, "names of context fields"):
        field = ALIASES.get(name, name) if isinstance(name, str) else name
        if field not in CONTEXT_FIELDS:
            raise wrong_option("require", name, f"one of {', '.join(CONTEXT_FIELDS)}")
        fields.append(cast("str", field))
    return tuple(fields)


def _several(name: str, value: object, of: str) -> tuple[object, ...]:
    # A text can be gone through as well, letter by letter.
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise wrong_option(name, value, f"a collection of {of}")
    return tuple(cast("Iterable[object]", value))
