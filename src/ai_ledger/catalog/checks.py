"""Checks: what people typed about a provider or a model, before anything of it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from ipaddress import ip_address
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from ai_ledger.bounds import storable
from ai_ledger.catalog.entries import (
    API_TYPES,
    ENTRY_STATUSES,
    MODEL_FIELDS,
    PROVIDER_FIELDS,
    PROVIDER_TYPES,
    ModelEntry,
    ProviderEntry,
)
from ai_ledger.catalog.literals import (
    is_key,
    looks_secret_url,
    refuse_secret,
    refuse_secrets,
    shown,
)
from ai_ledger.errors import AlreadyThere, InvalidValue
from ai_ledger.pricing import Price
from ai_ledger.pricing.match import Index
from ai_ledger.pricing.stored import entry_of, stored_price
from ai_ledger.references import without_references
from ai_ledger.secrets import REDACTED

MAX_PROVIDER_NAME: Final = 64
# With the provider and a moment it makes the id of a price, which is 255 characters at most.
MAX_MODEL_NAME: Final = 128
MAX_DISPLAY_NAME: Final = 255
MAX_DESCRIPTION: Final = 4_000
MAX_URL: Final = 2_000
MAX_JSON: Final = 20_000
"""Characters of settings and of parameters."""
MAX_TIMEOUT_S: Final = 86_400.0
MAX_CONTEXT: Final = 2**53
MAX_SORT: Final = 2**31 - 1
MAX_PRICES: Final = 200

# The SDK has arguments of its own for these, and decides by them what a call gives back.
_NOT_PARAMETERS: Final = frozenset(
    {"model", "messages", "input", "prompt", "stream", "stream_options"}
)


def checked_name(field: str, name: object, longest: int) -> str:
    """
    *name* as the name of an entry.

    Raises:
        InvalidValue: It is empty, too long, has signs of a pattern or unseen ones, or is a key.
    """
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= longest
        or name != name.strip()
        or not name.isprintable()
        or any(sign in name for sign in "*?[]")
    ):
        expected = f"a name of 1 to {longest} visible characters, without * ? [ ]"
        raise InvalidValue(field, shown(name), expected)
    if is_key(name):
        raise InvalidValue(field, REDACTED, "a name, not a key")
    return name


def checked_provider(name: object, fields: Mapping[str, Any], where: str = "") -> ProviderEntry:
    """
    A provider, with each field checked.

    Args:
        name: Its name.
        fields: Its other fields; what is not there has its default.
        where: Comes before the names of fields in errors.

    Raises:
        InvalidValue: Names the field.
    """
    _refuse_unknown(where, fields, PROVIDER_FIELDS)
    return ProviderEntry(
        name=checked_name(f"{where}name", name, MAX_PROVIDER_NAME),
        display_name=_text(f"{where}display_name", fields.get("display_name"), MAX_DISPLAY_NAME),
        description=_text(f"{where}description", fields.get("description"), MAX_DESCRIPTION),
        site=_url(f"{where}site", fields.get("site")),
        type=_word(f"{where}type", fields.get("type", "international"), PROVIDER_TYPES),
        settings=_settings(f"{where}settings", fields.get("settings")),
        status=_word(f"{where}status", fields.get("status", "enabled"), ENTRY_STATUSES),
        sort_order=_whole(f"{where}sort_order", fields.get("sort_order", 0), -MAX_SORT, MAX_SORT),
        default=_truth(f"{where}default", fields.get("default", False)),
    )


def checked_model(name: object, fields: Mapping[str, Any], where: str = "") -> ModelEntry:
    """
    A model, with each field checked.

    Raises:
        InvalidValue: Names the field.
        PriceError: A price is wrong, or contradicts another one.
    """
    _refuse_unknown(where, fields, MODEL_FIELDS)
    name = checked_name(f"{where}name", name, MAX_MODEL_NAME)
    provider = checked_name(f"{where}provider", fields.get("provider"), MAX_PROVIDER_NAME)
    context = fields.get("context_size")
    return ModelEntry(
        name=name,
        provider=provider,
        display_name=_text(f"{where}display_name", fields.get("display_name"), MAX_DISPLAY_NAME),
        api_url=_url(f"{where}api_url", fields.get("api_url")),
        api_type=_word(f"{where}api_type", fields.get("api_type", "openai"), API_TYPES),
        parameters=_parameters(f"{where}parameters", fields.get("parameters")),
        timeout_s=_seconds(f"{where}timeout_s", fields.get("timeout_s")),
        context_size=(
            None if context is None else _whole(f"{where}context_size", context, 1, MAX_CONTEXT)
        ),
        prices=_prices(f"{where}prices", name, provider, fields.get("prices")),
        status=_word(f"{where}status", fields.get("status", "enabled"), ENTRY_STATUSES),
    )


def _refuse_unknown(where: str, fields: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in fields:
        if name not in known:
            # Not its value, which may be a key that somebody wanted to store.
            raise InvalidValue(f"{where}field", shown(name), f"one of {', '.join(known)}")


def _word(field: str, value: object, accepted: tuple[str, ...]) -> Any:
    if not isinstance(value, str) or value not in accepted:
        raise InvalidValue(field, shown(value), f"one of {', '.join(accepted)}")
    return value


def _text(field: str, value: object, longest: int) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidValue(field, shown(value), f"a text of at most {longest:,} characters")
    if storable(value) != value:
        raise InvalidValue(field, "…", "a text that every database can store")
    refuse_secret(field, value)
    return value


def _whole(field: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidValue(field, shown(value), f"a whole number from {least:,} to {most:,}")
    return value


def _truth(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue(field, shown(value), "true or false")
    return value


def _seconds(field: str, value: object) -> float | None:
    if value is None:
        return None
    # False for NaN as well.
    fits = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    if not fits or not 0 < float(cast("float", value)) <= MAX_TIMEOUT_S:
        raise InvalidValue(field, shown(value), f"seconds, above 0 and up to {MAX_TIMEOUT_S:,.0f}")
    return float(cast("float", value))


def _url(field: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    expected = "a URL that begins with http:// or https:// and names a host"
    if not isinstance(value, str) or len(value) > MAX_URL or not value.isprintable():
        raise InvalidValue(field, shown(value), expected)
    if looks_secret_url(without_references(value)):
        raise InvalidValue(
            field, REDACTED, "a URL without a login and without keys; env:NAME can stand for one"
        )
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidValue(field, shown(value), expected) from None
    if parts.scheme not in ("http", "https") or not host or " " in value or port == 0:
        raise InvalidValue(field, shown(value), expected)
    if _is_nobodys(host):
        # Where clouds keep the credentials of the machine that asks: 169.254.169.254.
        raise InvalidValue(field, value, "the address of a server that answers AI calls")
    return value


def _is_nobodys(host: str) -> bool:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host.rstrip(".") == "metadata.google.internal"
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified


def _settings(field: str, value: object) -> dict[str, Any]:
    settings = _tree(field, value)
    refuse_secrets(field, settings)
    if settings.get("base_url") is not None:
        _url(f"{field}.base_url", settings["base_url"])
    headers = settings.get("default_headers", {})
    if not isinstance(headers, dict) or not all(
        isinstance(each, str) for each in cast("dict[str, Any]", headers).values()
    ):
        raise InvalidValue(f"{field}.default_headers", "…", "names of headers and their texts")
    for name in ("api_key", "api_version", "organization", "project"):
        if not isinstance(settings.get(name, ""), str):
            raise InvalidValue(f"{field}.{name}", "…", "a text")
    return settings


def _parameters(field: str, value: object) -> dict[str, Any]:
    parameters = _tree(field, value)
    for name in parameters:
        if name in _NOT_PARAMETERS:
            raise InvalidValue(field, name, f"none of {', '.join(sorted(_NOT_PARAMETERS))}")
    refuse_secrets(field, parameters)
    return parameters


def _tree(field: str, value: object) -> dict[str, Any]:
    """*value* as JSON and TOML can both hold it: no null, no number that is none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidValue(field, type(value).__name__, "names and values")
    found: dict[str, Any] = _plain(field, value, 0)
    if len(msgspec.json.encode(found)) > MAX_JSON:
        raise InvalidValue(field, "…", f"at most {MAX_JSON:,} characters of JSON")
    return found


def _plain(field: str, value: Any, depth: int) -> Any:
    if depth > 8:
        raise InvalidValue(field, "…", "at most 8 levels")
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for key, each in cast("Mapping[Any, Any]", value).items():
            if not isinstance(key, str) or not key or storable(key) != key:
                raise InvalidValue(field, shown(key), "names that are texts")
            plain[key] = _plain(f"{field}.{shown(key)}", each, depth + 1)
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(field, each, depth + 1) for each in cast("list[Any]", value)]
    if isinstance(value, Decimal) and value.is_finite():
        value = float(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, str) and storable(value) == value:
        return value
    raise InvalidValue(
        field, shown(value), "a text, a finite number, true or false, a list or a table"
    )


def _prices(field: str, model: str, provider: str, value: object) -> tuple[Price, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise InvalidValue(field, type(value).__name__, "a list of price entries")
    given = cast("Sequence[Any]", value)
    if len(given) > MAX_PRICES:
        raise InvalidValue(field, len(given), f"at most {MAX_PRICES} prices")
    prices: list[Price] = []
    for index, each in enumerate(given):
        label = f"{field}[{index}]"
        entry = entry_of(each) if isinstance(each, Price) else each
        if not isinstance(entry, Mapping):
            raise InvalidValue(label, type(entry).__name__, "a price entry")
        entry = dict(cast("Mapping[str, Any]", entry))
        for key, owner in (("model", model), ("provider", provider)):
            if entry.pop(key, owner) != owner:
                raise InvalidValue(f"{label}.{key}", "another", f"that of the entry, {owner}")
        if "not_providers" in entry:
            raise InvalidValue(f"{label}.not_providers", "…", "none: a price here has one provider")
        for key in ("name", "source", "checked"):
            if isinstance(entry.get(key), str):
                refuse_secret(f"{label}.{key}", entry[key])
        price = stored_price(model, provider, entry, label)
        # As it will be read again: a rate per token is kept as one per million.
        prices.append(stored_price(model, provider, entry_of(price), label))
    _refuse_twice(field, prices)
    Index(prices)
    return tuple(sorted(prices, key=_start))


def _start(price: Price) -> float:
    return -math.inf if price.valid_from is None else price.valid_from.timestamp()


def _refuse_twice(field: str, prices: list[Price]) -> None:
    begun: dict[Any, int] = {}
    for index, price in enumerate(prices):
        earlier = begun.setdefault(price.valid_from, index)
        if earlier != index:
            since = price.valid_from.isoformat() if price.valid_from else "always"
            raise AlreadyThere(
                f"{field}[{earlier}] and {field}[{index}] overlap: both are valid from {since}"
            )
