"""Entries: a provider and a model as frozen values, and what their fields may hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, Self, TypeAlias, cast, get_args

import msgspec

from ai_ledger.errors import InvalidValue
from ai_ledger.pricing import Price
from ai_ledger.pricing.stored import entry_of, stored_price

Kind: TypeAlias = Literal["provider", "model"]
EntryStatus: TypeAlias = Literal["enabled", "disabled", "deleted"]
ProviderType: TypeAlias = Literal["international", "domestic", "internal"]
APIType: TypeAlias = Literal["openai", "azure", "other"]

KINDS: Final[tuple[str, ...]] = get_args(Kind)
ENTRY_STATUSES: Final[tuple[str, ...]] = get_args(EntryStatus)
PROVIDER_TYPES: Final[tuple[str, ...]] = get_args(ProviderType)
API_TYPES: Final[tuple[str, ...]] = get_args(APIType)

_EDITED: Final = ("version", "updated_at", "updated_by")


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """Which one: unique, also when capitals are taken for small letters."""
    display_name: str | None = None
    """How people call it."""
    status: EntryStatus = "enabled"
    version: int = 1
    """Counts the edits. An edit names the version that it saw."""
    updated_at: datetime | None = None
    """When it was last edited; aware, UTC."""
    updated_by: str | None = None
    """Who did it."""

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        return cast("dict[str, Any]", msgspec.to_builtins(self))

    def fields(self) -> dict[str, Any]:
        """What people say about it: all but its name and who edited it when."""
        return {
            name: value
            for name, value in self.to_dict().items()
            if name != "name" and name not in _EDITED
        }

    def to_json(self) -> bytes:
        """One JSON object; prices have the keys of a price file, their rates as text."""
        return msgspec.json.encode(self.to_dict())

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """
        The entry that `to_json` wrote.

        Raises:
            InvalidValue: It is no such JSON.
        """
        try:
            return cls.from_dict(msgspec.json.decode(text, type=dict[str, Any]))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
            raise InvalidValue("entry", type(text).__name__, f"a {cls.__name__} as JSON") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The entry that `to_dict` wrote."""
        return msgspec.convert(dict(values), cls)


class ProviderEntry(_Entry, frozen=True, kw_only=True):
    """Who answers calls: a company, a cloud, a server of one's own."""

    description: str | None = None
    site: str | None = None
    """Where people read about it."""
    type: ProviderType = "international"
    settings: dict[str, Any] = {}
    """
    What its platform needs. ``api_key``, ``base_url``, ``api_version``,
    ``organization``, ``project`` and ``default_headers`` are given to clients; the
    rest is yours. ``env:NAME`` stands for an environment variable's value.
    """
    sort_order: int = 0
    """In lists, the smallest first."""
    default: bool = False
    """Whether it is the one to take when nothing else is said; at most one is."""


class ModelEntry(_Entry, frozen=True, kw_only=True):
    """A model at a provider."""

    provider: str
    """The name of its provider."""
    api_url: str | None = None
    """Where it is called; the provider's ``base_url`` otherwise."""
    api_type: APIType = "openai"
    """Which client calls it; ``other``: none of ours."""
    parameters: dict[str, Any] = {}
    """What requests say when the caller does not: ``temperature``, ``max_tokens``, …"""
    timeout_s: float | None = None
    context_size: int | None = None
    """How many tokens it can attend to."""
    prices: tuple[Price, ...] = ()
    """One after the other in time; each holds until the next begins."""

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON has it; prices as entries of a price file."""
        plain = cast(
            "dict[str, Any]", msgspec.to_builtins(msgspec.structs.replace(self, prices=()))
        )
        return {**plain, "prices": [entry_of(price) for price in self.prices]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """
        The entry that `to_dict` wrote.

        Raises:
            PriceError: A price is wrong.
        """
        entry = msgspec.convert({**values, "prices": ()}, cls)
        prices = tuple(
            stored_price(entry.name, entry.provider, price) for price in values.get("prices") or ()
        )
        return msgspec.structs.replace(entry, prices=prices)


PROVIDER_FIELDS: Final = tuple(
    name for name in ProviderEntry.__struct_fields__ if name != "name" and name not in _EDITED
)
MODEL_FIELDS: Final = tuple(
    name for name in ModelEntry.__struct_fields__ if name != "name" and name not in _EDITED
)
