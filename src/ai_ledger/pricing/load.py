"""Reading prices: from TOML, JSON or a mapping, each value checked and named when wrong."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Any, Final, cast

from ai_ledger.currencies import CURRENCIES
from ai_ledger.errors import PriceError
from ai_ledger.money import EXACT, tidy
from ai_ledger.pricing.price import RATE_FIELDS, Price, Tier, standard_tier

SUFFIX: Final = "_per_mtok"
RATE_KEYS: Final = tuple(field.removesuffix(SUFFIX) for field in RATE_FIELDS)
TIER_KEYS: Final = ("above_input_tokens", "service_tier", *RATE_KEYS)
TEXT_KEYS: Final = ("provider", "name", "source", "checked")
SHARED_KEYS: Final = ("currency", "per", "provider", "not_providers", "source", "checked")
"""What a file may say once, above its entries."""
ENTRY_KEYS: Final = (
    "model",
    "name",
    *SHARED_KEYS,
    *RATE_KEYS,
    "per_call",
    "tiers",
    "valid_from",
    "valid_to",
)

_MAX_RATE: Final = Decimal(10) ** 12
_MAX_DECIMALS: Final = 18


def load_prices(source: Path | str | Mapping[str, Any], *, origin: str = "own") -> list[Price]:
    """
    The prices in *source*.

    Args:
        source: A TOML file, a ``.json`` file, or the same as a mapping: ``prices``
            is a list of entries; `SHARED_KEYS` beside it hold for all of them.
        origin: The first part of the entries' ids.

    Raises:
        PriceError: The file cannot be read, or an entry is wrong; names it.
    """
    data, label = read_source(source)
    shared = {key: value for key, value in data.items() if key != "prices"}
    _refuse_unknown(label, shared, (*SHARED_KEYS, "prices"))
    return [
        price_from({**shared, **entry}, label=f"{label}: prices[{index}]", origin=origin)
        for index, entry in enumerate(entries_of(data, "prices", label))
    ]


def read_source(source: Path | str | Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """What a file holds, with exact decimals, and how to call it in an error."""
    if isinstance(source, Mapping):
        return source, "prices"
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            data = json.loads(text, parse_float=Decimal, parse_constant=Decimal)
        else:
            data = tomllib.loads(text, parse_float=Decimal)
    except (OSError, ValueError, ArithmeticError, RecursionError) as error:
        raise PriceError(f"{path.name}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise PriceError(f"{path.name}: expected a table at the top, not {type(data).__name__}")
    return cast("dict[str, Any]", data), path.name


def entries_of(data: Mapping[str, Any], key: str, label: str) -> list[Mapping[str, Any]]:
    """The list of tables under *key*."""
    entries = data.get(key)
    if not isinstance(entries, Sequence) or isinstance(entries, (str, bytes)):
        raise PriceError(f"{label}: {key}: expected a list of entries, e.g. [[{key}]]")
    listed = cast("Sequence[Any]", entries)
    for index, entry in enumerate(listed):
        if not isinstance(entry, Mapping):
            raise PriceError(f"{label}: {key}[{index}]: expected a table, not {entry!r}")
    return [cast("Mapping[str, Any]", entry) for entry in listed]


def price_from(entry: Mapping[str, Any], *, label: str = "price", origin: str = "own") -> Price:
    """
    The price that *entry* describes, with the keys `ENTRY_KEYS`.

    Raises:
        PriceError: Names the entry, the field and what was expected.
    """
    model = entry.get("model")
    if not isinstance(model, str) or not model.strip():
        raise wrong(label, "model", model, "a model's name")
    label = f"{label} ({model})"
    _refuse_unknown(label, entry, ENTRY_KEYS)
    per = entry.get("per", 1_000_000)
    if isinstance(per, bool) or not isinstance(per, int) or per not in (1, 1_000, 1_000_000):
        raise wrong(label, "per", per, "1, 1_000 or 1_000_000 tokens")
    valid_from = moment(label, "valid_from", entry.get("valid_from"))
    valid_to = moment(label, "valid_to", entry.get("valid_to"))
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise wrong(label, "valid_to", entry["valid_to"], "a time after valid_from")
    rates = _rates(label, entry, per)
    per_call = rate_of(label, "per_call", entry.get("per_call"))
    tiers = tuple(
        _tier(f"{label}: tiers[{index}]", tier, per)
        for index, tier in enumerate(entries_of(entry, "tiers", label) if "tiers" in entry else ())
    )
    conditions = [(tier.above_input_tokens, tier.service_tier) for tier in tiers]
    if len(set(conditions)) < len(conditions):
        raise PriceError(f"{label}: tiers: two have the same condition")
    if per_call is None and not any(rate is not None for rate in rates.values()):
        raise PriceError(f"{label}: expected at least one rate: {', '.join(RATE_KEYS)} or per_call")
    texts = {key: _text(label, key, entry.get(key)) for key in TEXT_KEYS}
    if texts["provider"]:
        texts["provider"] = texts["provider"].lower()
    return Price(
        model=model.strip(),
        currency=currency_of(label, "currency", entry.get("currency", "USD")),
        not_providers=_names(label, "not_providers", entry.get("not_providers", ())),
        per_call=per_call,
        tiers=tiers,
        valid_from=valid_from,
        valid_to=valid_to,
        origin=origin,
        **texts,  # pyright: ignore[reportArgumentType]
        **rates,  # pyright: ignore[reportArgumentType]
    )


def wrong(label: str, field: str, value: object, expected: str) -> PriceError:
    """The error for a *field* of the entry *label*."""
    try:
        shown = repr(value)
    except ValueError:  # an integer of more than 4,300 digits is not written
        shown = f"<{type(value).__name__} too long to show>"
    return PriceError(f"{label}: {field}={shown[:80]}: expected {expected}")


def rate_of(label: str, field: str, value: object) -> Decimal | None:
    """*value* as an exact, finite amount of zero or more; ``None`` stays ``None``."""
    if value is None:
        return None
    expected = "a number from 0 to below 1e12 with at most 18 decimals"
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise wrong(label, field, value, expected)
    try:
        # The shortest text that means the float is what the person typed: 0.0004.
        rate = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation as error:
        raise wrong(label, field, value, expected) from error
    exponent = rate.as_tuple().exponent
    if not isinstance(exponent, int) or not 0 <= rate < _MAX_RATE or exponent < -_MAX_DECIMALS:
        raise wrong(label, field, value, expected)
    return rate


def currency_of(label: str, field: str, value: object) -> str:
    """*value* as a currency of ISO 4217."""
    if not isinstance(value, str) or value not in CURRENCIES:
        raise wrong(label, field, value, "a currency code of ISO 4217, such as USD or CNY")
    return value


def moment(label: str, field: str, value: object) -> datetime | None:
    """*value* as an aware datetime; a date is its midnight in UTC."""
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError as error:
            raise wrong(label, field, value, "a date, or a datetime with a time zone") from error
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise wrong(label, field, value.isoformat(), "a datetime with a time zone")
        try:
            return value.astimezone(UTC)
        except OverflowError:  # the first day of the first year, east of Greenwich
            expected = "a date, or a datetime with a time zone"
            raise wrong(label, field, value.isoformat(), expected) from None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise wrong(label, field, value, "a date, or a datetime with a time zone")


def _refuse_unknown(label: str, entry: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in entry:
        if key not in known:
            raise PriceError(f"{label}: unknown key {key!r}: expected one of {', '.join(known)}")


def _rates(label: str, entry: Mapping[str, Any], per: int) -> dict[str, Decimal | None]:
    digits = {1: 6, 1_000: 3, 1_000_000: 0}[per]
    found: dict[str, Decimal | None] = {}
    with localcontext(EXACT):
        for key in RATE_KEYS:
            rate = rate_of(label, key, entry.get(key))
            found[key + SUFFIX] = None if rate is None else tidy(rate.scaleb(digits))
    return found


def _tier(label: str, tier: Mapping[str, Any], per: int) -> Tier:
    _refuse_unknown(label, tier, TIER_KEYS)
    above = tier.get("above_input_tokens", 0)
    if isinstance(above, bool) or not isinstance(above, int) or above < 0:
        raise wrong(label, "above_input_tokens", above, "a whole number of tokens")
    service_tier = _text(label, "service_tier", tier.get("service_tier"))
    if not above and service_tier is None:
        raise PriceError(f"{label}: expected above_input_tokens or service_tier")
    if service_tier is not None and standard_tier(service_tier) is None:
        raise wrong(label, "service_tier", service_tier, "a tier besides the ordinary one")
    rates = _rates(label, tier, per)
    return Tier(
        above_input_tokens=above,
        service_tier=service_tier.lower() if service_tier else None,
        **rates,  # pyright: ignore[reportArgumentType]
    )


def _text(label: str, field: str, value: object) -> str | None:
    if isinstance(value, date):
        return value.isoformat()
    if value is None or (isinstance(value, str) and value):
        return value
    raise wrong(label, field, value, "a text")


def _names(label: str, field: str, value: object) -> tuple[str, ...]:
    names = tuple(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else (None,)
    if not all(isinstance(name, str) for name in names):
        raise wrong(label, field, names, "a list of providers")
    return tuple(str(name).lower() for name in names)
