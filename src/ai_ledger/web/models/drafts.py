"""What people type into the forms of the catalogue, and entries as these forms show them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, cast

from ai_ledger.catalog.entries import Kind
from ai_ledger.errors import InvalidValue
from ai_ledger.stats import calendar
from ai_ledger.web.forms import Fields
from ai_ledger.web.house import Desk
from ai_ledger.web.models.shapes import ModelView, ProviderView

SETTINGS: Final = ("base_url", "api_key", "api_version", "organization", "project")
"""Settings that have a field of their own; the others are typed as JSON."""
RATES: Final = ("input", "output", "cache_read", "cache_write", "reasoning", "per_call")


def provider(form: Fields) -> dict[str, Any]:
    """The fields of a provider."""
    settings = _object(form, "settings")
    for name in SETTINGS:
        value = form.text(f"settings.{name}")
        if value is not None:
            settings[name] = value
    return {
        "display_name": form.text("display_name"),
        "description": form.text("description"),
        "site": form.text("site"),
        "type": form.text("type") or "international",
        "settings": settings,
        "sort_order": form.whole("sort_order") or 0,
        "default": form.flag("default"),
    }


def model(form: Fields) -> dict[str, Any]:
    """The fields of a model, without its prices."""
    return {
        "provider": form.text("provider") or "",
        "display_name": form.text("display_name"),
        "api_url": form.text("api_url"),
        "api_type": form.text("api_type") or "openai",
        "parameters": _object(form, "parameters"),
        "timeout_s": form.number("timeout_s"),
        "context_size": form.whole("context_size"),
    }


def prices(desk: Desk, form: Fields) -> list[dict[str, Any]]:
    """The price that was typed, if any was: an entry as price files have it."""
    rates: dict[str, Any] = {
        name: text for name in RATES if (text := form.text(f"price.{name}")) is not None
    }
    if not rates:
        return []
    per = form.whole("price.per")
    price = {"currency": form.text("price.currency") or "", "per": 1_000_000, **rates}
    if per is not None:
        price["per"] = per
    since = day_start(desk, "valid_from", form.text("price.valid_from"))
    if since is not None:
        price["valid_from"] = since
    source = form.text("price.source")
    if source is not None:
        price["source"] = source
    return [price]


def day_start(desk: Desk, field: str, text: str | None) -> datetime | None:
    """
    When a day begins in the reader's zone; ``None`` for none.

    Raises:
        InvalidValue: *text* is no day.
    """
    if text is None:
        return None
    try:
        return calendar.day_start(date.fromisoformat(text), desk.tz)
    except (ValueError, OverflowError):
        raise InvalidValue(field, text, "a day, such as 2026-03-01") from None


def of(entry: ProviderView | ModelView) -> dict[str, Any]:
    """*entry* as its form shows it."""
    plain = entry.model_dump()
    if isinstance(entry, ProviderView):
        settings = dict(entry.settings or {})
        for name in SETTINGS:
            plain[f"settings.{name}"] = settings.pop(name, "")
        plain["settings"] = _written(settings)
    else:
        plain["parameters"] = _written(entry.parameters or {})
    return plain


def empty(kind: Kind, name: str, provider: str) -> dict[str, Any]:
    """The form of a new entry."""
    if kind == "provider":
        texts = ("display_name", "description", "site", "settings")
        settings = [f"settings.{each}" for each in SETTINGS]
        return {
            **dict.fromkeys((*texts, *settings), ""),
            "name": name,
            "type": "international",
            "sort_order": 0,
            "default": False,
        }
    texts = ("display_name", "api_url", "timeout_s", "context_size", "parameters")
    return {**dict.fromkeys(texts, ""), "name": name, "provider": provider, "api_type": "openai"}


def digest_of(data: bytes) -> str:
    """What tells one file from another."""
    return hashlib.sha256(data).hexdigest()


def _written(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) if value else ""


def _object(form: Fields, name: str) -> dict[str, Any]:
    text = form.text(name)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # Not quoted: somebody may have typed a key.
        raise InvalidValue(name, "…", 'names and values as JSON, such as {"temperature": 0.7}')
    return cast("dict[str, Any]", found)
