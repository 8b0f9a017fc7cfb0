"""What the API and the pages of models say: providers, models, prices, tests, imports."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ai_ledger.catalog.checks import (
    MAX_CONTEXT,
    MAX_DESCRIPTION,
    MAX_DISPLAY_NAME,
    MAX_MODEL_NAME,
    MAX_PROVIDER_NAME,
    MAX_SORT,
    MAX_TIMEOUT_S,
    MAX_URL,
)
from ai_ledger.catalog.entries import APIType, EntryStatus, ProviderType
from ai_ledger.stats.results import Money
from ai_ledger.web.parameters import MAX_VERSION

MAX_CATALOG_CHARS = 1_000_000


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Use(_Shape):
    """What the calls of the last days say of a provider or a model, as far as the reader may."""

    days: int
    calls: int = 0
    success_rate: float | None = None
    cost: dict[str, Money] = Field(default_factory=dict[str, Money])
    """By currency."""
    unpriced_calls: int = 0
    without_usage: int = 0
    """Of the unpriced calls, at least so many have no token counts: no price helps."""
    last_call_at: datetime | None = None
    last_status: str | None = None


class PriceTier(_Shape):
    """Rates that take the place of the price's own under a condition."""

    above_input_tokens: int
    service_tier: str | None
    rates: dict[str, Money]


class PriceView(_Shape):
    """A price: rates per million tokens, and from when to when they hold."""

    id: str
    model: str
    provider: str | None
    origin: str = Field(
        description="catalog, own (of the program), ai-ledger (shipped), or genai-prices."
    )
    currency: str
    rates: dict[str, Money] = Field(
        description="Per million tokens: input, output, cache_read, cache_write, reasoning, "
        "audio_input, audio_output."
    )
    per_call: Money | None
    tiers: list[PriceTier]
    valid_from: datetime | None
    valid_to: datetime | None
    source: str | None
    checked: str | None


class ProviderView(_Shape):
    """A provider. Whoever is confined to an organisation is told no settings."""

    name: str
    display_name: str | None
    description: str | None
    site: str | None
    type: ProviderType
    status: EntryStatus
    sort_order: int
    default: bool
    version: int
    updated_at: datetime | None
    updated_by: str | None
    base_url: str | None
    key: str | None = Field(description="The reference of the key, such as env:NAME; no key.")
    settings: dict[str, Any] | None
    models: int = Field(description="How many of its models are in the catalogue.")
    use: Use


class ModelView(_Shape):
    """A model. Whoever is confined to an organisation is told no address and no parameters."""

    name: str
    provider: str
    display_name: str | None
    api_type: APIType
    api_url: str | None
    parameters: dict[str, Any] | None
    timeout_s: float | None
    context_size: int | None
    status: EntryStatus
    version: int
    updated_at: datetime | None
    updated_by: str | None
    price: PriceView | None = Field(description="What a call of this moment is charged by.")
    prices: list[PriceView] = Field(description="Those of the catalogue, the first one first.")
    use: Use


class Stranger(_Shape):
    """A model that calls name, and that has no entry or no price."""

    model: str
    provider: str | None
    listed: bool = Field(description="Whether it is in the catalogue.")
    price: PriceView | None
    calls: int
    unpriced_calls: int
    without_usage: int = Field(
        description="Of the unpriced calls, at least so many have no token counts: no price helps."
    )


class Providers(_Shape):
    """The providers in their order."""

    providers: list[ProviderView]


class Models(_Shape):
    """Models by provider and name."""

    models: list[ModelView]
    total: int
    unlisted: list[Stranger] = Field(
        description="What calls of the last 30 days name, and has no entry or no price."
    )


class Prices(_Shape):
    """Prices, and the one that a call is charged by."""

    at: datetime
    current: PriceView | None = Field(
        description="What a call to the model, which must be named, is charged by at that time."
    )
    prices: list[PriceView]


class ConnectionTest(_Shape):
    """What came back of one small real call."""

    model: str
    ok: bool
    status: str
    http_status: int | None = None
    latency_ms: float | None = None
    response_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Money | None = None
    currency: str | None = None
    price_id: str | None = None
    call_id: str | None = None
    error_type: str | None = None
    error: str | None = Field(None, description="Without secrets.")


class ConnectionTests(_Shape):
    """One for each model that was tried."""

    results: list[ConnectionTest]


class ImportedEntry(_Shape):
    """What an import does to one entry."""

    kind: str
    name: str
    fields: list[str] = Field(description="Which become different; none for a new entry.")


class CatalogImport(_Shape):
    """What an import changed, or would change."""

    dry_run: bool
    added: list[ImportedEntry]
    changed: list[ImportedEntry]
    unchanged: int


# What comes in


class _ProviderFields(_Shape):
    display_name: str | None = Field(None, max_length=MAX_DISPLAY_NAME)
    description: str | None = Field(None, max_length=MAX_DESCRIPTION)
    site: str | None = Field(None, max_length=MAX_URL)
    type: ProviderType = "international"
    settings: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="base_url, api_key (a reference such as env:NAME), api_version, …",
    )
    sort_order: int = Field(0, ge=-MAX_SORT, le=MAX_SORT)
    default: bool = False


class NewProvider(_ProviderFields):
    """A provider to be added."""

    name: str = Field(min_length=1, max_length=MAX_PROVIDER_NAME)
    status: Literal["enabled", "disabled"] = "enabled"


class ProviderEdit(_ProviderFields):
    """What becomes different; what is left out stays. Settings are replaced whole."""

    version: int = Field(ge=1, le=MAX_VERSION, description="That of the entry that was seen.")


class _ModelFields(_Shape):
    display_name: str | None = Field(None, max_length=MAX_DISPLAY_NAME)
    api_url: str | None = Field(None, max_length=MAX_URL)
    api_type: APIType = "openai"
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    timeout_s: float | None = Field(None, gt=0, le=MAX_TIMEOUT_S)
    context_size: int | None = Field(None, ge=1, le=MAX_CONTEXT)


class NewModel(_ModelFields):
    """A model to be added; its prices are added afterwards."""

    name: str = Field(min_length=1, max_length=MAX_MODEL_NAME)
    provider: str = Field(min_length=1, max_length=MAX_PROVIDER_NAME)
    status: Literal["enabled", "disabled"] = "enabled"


class ModelEdit(_ModelFields):
    """What becomes different; what is left out stays. Parameters are replaced whole."""

    provider: str | None = Field(None, min_length=1, max_length=MAX_PROVIDER_NAME)
    version: int = Field(ge=1, le=MAX_VERSION, description="That of the entry that was seen.")


class Switch(_Shape):
    """Which version of the entry was seen; any, if left out."""

    version: int | None = Field(None, ge=1, le=MAX_VERSION)


class NewPrice(_Shape):
    """A further price of a model; those that are there stay."""

    version: int = Field(ge=1, le=MAX_VERSION, description="That of the model that was seen.")
    currency: str = Field(min_length=3, max_length=3)
    per: Literal[1, 1_000, 1_000_000] = 1_000_000
    input: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    output: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    cache_read: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    cache_write: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    reasoning: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    audio_input: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    audio_output: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    per_call: Decimal | None = Field(None, ge=0, max_digits=30, decimal_places=18)
    valid_from: AwareDatetime | None = Field(
        None, description="From when on it holds; always, if left out."
    )
    source: str | None = Field(None, min_length=1, max_length=500)


class CatalogText(_Shape):
    """A catalogue as TOML."""

    text: str = Field(max_length=MAX_CATALOG_CHARS)
    dry_run: bool = Field(True, description="Only say what would change.")
