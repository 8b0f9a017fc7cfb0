"""The catalogue as a reader sees it: providers, models, prices, and how they are used."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from ai_ledger.catalog import ModelEntry, ProviderEntry
from ai_ledger.catalog.entries import Kind
from ai_ledger.pricing import Price
from ai_ledger.pricing.match import snapshot_base
from ai_ledger.pricing.price import RATE_FIELDS, Tier, TokenRates
from ai_ledger.query import Query
from ai_ledger.stats.results import Group
from ai_ledger.web.edits import SHOWN, Edit, edits_of
from ai_ledger.web.house import Desk
from ai_ledger.web.models.shapes import (
    ModelView,
    PriceTier,
    PriceView,
    ProviderView,
    Stranger,
    Use,
)
from ai_ledger.web.unpriced import (
    MODEL_DAYS,
    answered_by,
    charged_by,
    days_ago,
    without_usage,
)

PROVIDER_DAYS: Final = 7
MAX_STRANGERS: Final = 50
MAX_PRICES: Final = 1_000


def providers(desk: Desk, *, deleted: bool = False) -> list[ProviderView]:
    """All providers in their order, with how they did in the last `PROVIDER_DAYS`."""
    catalog = desk.house.catalog
    counts: dict[str, int] = {}
    for model in catalog.models():
        counts[model.provider] = counts.get(model.provider, 0) + 1
    uses = _uses(desk, "provider", PROVIDER_DAYS)
    return [
        _provider(desk, each, counts.get(each.name, 0), uses.get(each.name.lower()))
        for each in catalog.providers(deleted=deleted)
    ]


def provider(desk: Desk, name: str) -> ProviderView:
    """
    One provider, also when it was removed.

    Raises:
        NotFound: There is none of this name.
    """
    entry = desk.house.catalog.provider(name)
    count = len(desk.house.catalog.models(provider=entry.name))
    use = _uses(desk, "provider", PROVIDER_DAYS, entry.name).get(entry.name.lower())
    return _provider(desk, entry, count, use)


def models(
    desk: Desk,
    *,
    provider: str | None = None,
    text: str | None = None,
    status: str | None = None,
) -> list[ModelView]:
    """
    Models by provider and name, with their use in the last `MODEL_DAYS`.

    Args:
        desk: Whose.
        provider: Only this one's.
        text: Only those with this in their name or display name, whatever the capitals.
        status: Only those with it; removed ones are listed only if it is ``deleted``.
    """
    found = desk.house.catalog.models(provider=provider, deleted=status == "deleted")
    wanted = (text or "").lower()
    kept = [
        each
        for each in found
        if status in (None, each.status)
        and (wanted in each.name.lower() or wanted in (each.display_name or "").lower())
    ]
    uses = _uses(desk, "request_model", MODEL_DAYS)
    return [_model(desk, each, uses.get(each.name.lower())) for each in kept]


def model(desk: Desk, name: str) -> ModelView:
    """
    One model, also when it was removed.

    Raises:
        NotFound: There is none of this name.
    """
    entry = desk.house.catalog.model(name)
    uses = _uses(desk, "request_model", MODEL_DAYS, entry.name)
    return _model(desk, entry, uses.get(entry.name.lower()))


def strangers(desk: Desk) -> list[Stranger]:
    """
    Models that calls of the last `MODEL_DAYS` name, without an entry or without a price.

    Those with unpriced calls come first, the most of them before the others.
    """
    listed = {each.name.lower(): each for each in desk.house.catalog.models()}
    groups = [
        group
        for group in _groups(desk, "request_model", MODEL_DAYS)
        if group.key["request_model"]
        and (group.unpriced_calls or _entry_of(listed, group.key["request_model"]) is None)
    ]
    groups.sort(key=lambda group: (-group.unpriced_calls, -group.calls))
    found: list[Stranger] = []
    for group in groups[:MAX_STRANGERS]:
        name = str(group.key["request_model"])
        entry = _entry_of(listed, name)
        who = entry.provider if entry is not None else answered_by(desk, name)
        price = price_at(desk, name, who, desk.house.clock())
        if price is not None and entry is not None and not group.unpriced_calls:
            continue
        found.append(
            Stranger(
                model=name,
                provider=who,
                listed=entry is not None,
                price=price,
                calls=group.calls,
                unpriced_calls=group.unpriced_calls,
                without_usage=without_usage(desk, group, days_ago(desk, MODEL_DAYS)),
            )
        )
    return found


def price_at(desk: Desk, model: str, provider: str | None, at: datetime) -> PriceView | None:
    """The price that a call to *model* is charged by when it starts *at* (aware)."""
    found = charged_by(desk, model, provider, at)
    return None if found is None else price_view(found)


def prices(desk: Desk, *, model: str | None = None, provider: str | None = None) -> list[PriceView]:
    """The catalogue's prices, those of the program, and the shipped ones."""
    found: list[PriceView] = []
    for each in desk.house.ledger.prices:
        if model is not None and each.model.lower() != model.lower():
            continue
        if provider is not None and (each.provider or "") != provider.lower():
            continue
        found.append(price_view(each))
        if len(found) >= MAX_PRICES:
            break
    return found


def history(desk: Desk, kind: Kind, name: str, limit: int = SHOWN) -> list[Edit]:
    """
    Who changed an entry, the newest first; settings are in it.

    Raises:
        AccessDenied: The reader is confined to an organisation.
        NotFound: There never was one of this name.
    """
    desk.require("viewer", everywhere=True)
    catalog = desk.house.catalog
    entry = catalog.provider(name) if kind == "provider" else catalog.model(name)
    return edits_of(catalog.history(kind, entry.name, limit=limit))


def price_view(price: Price) -> PriceView:
    """*price* as it is told."""
    return PriceView(
        id=price.id,
        model=price.model,
        provider=price.provider,
        origin=price.origin,
        currency=price.currency,
        rates=_rates(price),
        per_call=price.per_call,
        tiers=[_tier(each) for each in price.tiers],
        valid_from=price.valid_from,
        valid_to=price.valid_to,
        source=price.source,
        checked=price.checked,
    )


def _rates(rates: TokenRates) -> dict[str, Decimal]:
    return {
        field.removesuffix("_per_mtok"): rate
        for field in RATE_FIELDS
        if (rate := getattr(rates, field)) is not None
    }


def _tier(tier: Tier) -> PriceTier:
    return PriceTier(
        above_input_tokens=tier.above_input_tokens,
        service_tier=tier.service_tier,
        rates=_rates(tier),
    )


def _provider(desk: Desk, entry: ProviderEntry, models: int, use: Group | None) -> ProviderView:
    open_to_all = desk.scope is None
    settings: dict[str, Any] = entry.settings
    url, key = settings.get("base_url"), settings.get("api_key")
    return ProviderView(
        name=entry.name,
        display_name=entry.display_name,
        description=entry.description if open_to_all else None,
        site=entry.site,
        type=entry.type,
        status=entry.status,
        sort_order=entry.sort_order,
        default=entry.default,
        version=entry.version,
        updated_at=entry.updated_at,
        updated_by=entry.updated_by if open_to_all else None,
        base_url=url if open_to_all else None,
        key=key if open_to_all else None,
        settings=settings if open_to_all else None,
        models=models,
        use=_use(desk, "provider", PROVIDER_DAYS, use),
    )


def _model(desk: Desk, entry: ModelEntry, use: Group | None) -> ModelView:
    open_to_all = desk.scope is None
    return ModelView(
        name=entry.name,
        provider=entry.provider,
        display_name=entry.display_name,
        api_type=entry.api_type,
        api_url=entry.api_url if open_to_all else None,
        parameters=entry.parameters if open_to_all else None,
        timeout_s=entry.timeout_s,
        context_size=entry.context_size,
        status=entry.status,
        version=entry.version,
        updated_at=entry.updated_at,
        updated_by=entry.updated_by if open_to_all else None,
        price=price_at(desk, entry.name, entry.provider, desk.house.clock()),
        prices=[price_view(each) for each in entry.prices],
        use=_use(desk, "request_model", MODEL_DAYS, use),
    )


def _groups(desk: Desk, field: str, days: int, name: str | None = None) -> Iterable[Group]:
    where = None if name is None else {field: name}
    return desk.stats.summary(days_ago(desk, days), None, where, by=(field,)).groups


def _uses(desk: Desk, field: str, days: int, name: str | None = None) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for group in _groups(desk, field, days, name):
        value = group.key[field]
        if value is not None:
            # Of names alike but for capitals, the one with the most calls.
            found.setdefault(value.lower(), group)
    return found


def _use(desk: Desk, field: str, days: int, group: Group | None) -> Use:
    if group is None:
        return Use(days=days)
    last = None
    if field == "provider":
        query = Query.build(
            scope=desk.scope, since=days_ago(desk, days), where={field: group.key[field]}
        )
        last = next(iter(desk.house.reader.calls(query, limit=1, content=False)), None)
    return Use(
        days=days,
        calls=group.calls,
        success_rate=group.success_rate,
        cost=group.cost,
        unpriced_calls=group.unpriced_calls,
        without_usage=without_usage(desk, group, days_ago(desk, days)),
        last_call_at=last.started_at if last else None,
        last_status=last.status if last else None,
    )


def _entry_of(listed: dict[str, ModelEntry], name: str | None) -> ModelEntry | None:
    lowered = (name or "").lower()
    return listed.get(lowered) or listed.get(snapshot_base(lowered) or "")
