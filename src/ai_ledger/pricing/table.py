"""The table that calls are priced by: your own prices, then the shipped ones, then list prices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from ai_ledger.errors import InvalidValue
from ai_ledger.money import rounded
from ai_ledger.pricing.fallback import ListPrices
from ai_ledger.pricing.load import load_prices, price_from
from ai_ledger.pricing.match import Index
from ai_ledger.pricing.price import Price
from ai_ledger.records import MAX_COST, CallRecord

PROVIDER_STATED: Final = "provider"
"""The ``price_id`` of a call whose provider stated its cost."""

_NEVER_SENT: Final = ("blocked", "circuit_open")
_NO_ANSWER: Final = ("failed", "unfinished")


class PriceTable:
    """
    Prices, and which of them a call is charged by.

    Your own entries come first, whatever the provider; then, for the model that
    answered and after it for the model that was asked for, the shipped entries
    and the list prices of genai-prices. In each of them an exact name comes
    before a dated snapshot, and that before a pattern; an entry for the call's
    provider before one for any.

    Threads may share one table. Entries can be added at any time; they hold for
    calls that are priced from then on.

    Args:
        prices: Your own.
        shipped: The ones to fall back to.
        list_prices: Where to look last.

    Raises:
        PriceError: Entries contradict each other.
    """

    def __init__(
        self,
        prices: Iterable[Price] = (),
        *,
        shipped: Iterable[Price] = (),
        list_prices: ListPrices | None = None,
    ) -> None:
        self._own = Index(prices)
        self._shipped = Index(shipped)
        self._list_prices = list_prices

    @classmethod
    def default(cls) -> PriceTable:
        """The shipped prices, then genai-prices if it is installed. Downloads nothing, ever."""
        return cls(shipped=_shipped_prices(), list_prices=ListPrices())

    @classmethod
    def load(cls, source: Path | str | Mapping[str, Any], *, defaults: bool = True) -> PriceTable:
        """
        The prices of a file, before those of `default`.

        Args:
            source: A TOML or ``.json`` file, or a mapping of the same form.
            defaults: False for nothing but *source*.

        Raises:
            PriceError: The file cannot be read, or contradicts itself; names the
                entry and the field.
        """
        prices = load_prices(source)
        if not defaults:
            return cls(prices)
        return cls(prices, shipped=_shipped_prices(), list_prices=ListPrices())

    def add(
        self,
        model: str,
        *,
        input: Any = None,
        output: Any = None,
        currency: str = "USD",
        per: int = 1_000_000,
        provider: str | None = None,
        **more: Any,
    ) -> Price:
        """
        Add a price of your own: ``table.add("my-model", input=0.4, output=2, currency="CNY")``.

        Args:
            model: A name, or a pattern with ``*``.
            input: Rate for *per* input tokens: a Decimal, a text or a number.
            output: Rate for *per* output tokens.
            currency: A code of ISO 4217.
            per: 1, 1_000 or 1_000_000 tokens.
            provider: The provider that asks this price; ``None`` for any.
            **more: The other keys of the price file: ``cache_read``, ``cache_write``,
                ``reasoning``, ``audio_input``, ``audio_output``, ``per_call``, ``tiers``,
                ``valid_from``, ``valid_to``, ``name``, ``source``, ``checked``,
                ``not_providers``.

        Raises:
            PriceError: A value is wrong, or contradicts another entry of yours.
        """
        entry = {
            "model": model,
            "input": input,
            "output": output,
            "currency": currency,
            "per": per,
            "provider": provider,
            **more,
        }
        price = price_from(entry)
        self._own = Index((*self._own, price))
        return price

    def find(
        self, provider: str | None, model: str, at: datetime, *, service_tier: str | None = None
    ) -> Price | None:
        """
        The price of *model* at *provider* for a call that started *at* (aware).

        *service_tier* matters to list prices alone; other prices have their tiers inside.

        Raises:
            InvalidValue: *at* has no time zone.
        """
        if getattr(at, "tzinfo", None) is None:
            raise InvalidValue("at", at, "a datetime with a time zone")
        return self._own.find(provider, model, at) or self._default_price(
            provider, model, at, service_tier
        )

    def price_of(self, record: CallRecord) -> Price | None:
        """The price that *record* is charged by: that of what answered, else of what was asked."""
        at = record.started_at
        asked, answered = record.request_model, record.response_model
        names = [answered] if answered else []
        if asked and asked != answered:
            names.append(asked)
        for name in names:
            price = self._own.find(record.provider, name, at)
            if price is not None:
                return price
        for name in names:
            price = self._default_price(record.provider, name, at, record.service_tier)
            if price is not None:
                return price
        return None

    def _default_price(
        self, provider: str | None, model: str, at: datetime, service_tier: str | None
    ) -> Price | None:
        price = self._shipped.find(provider, model, at)
        if price is None and self._list_prices is not None:
            price = self._list_prices.find(provider, model, at, service_tier=service_tier)
        return price

    def priced(self, record: CallRecord) -> CallRecord:
        """
        *record* with its cost, rounded once to whole nano-units, or without one.

        A cost that the provider or the caller stated is kept. Calls that were
        never sent, and failed ones that nobody counted tokens for, have none.
        Nothing that a record can hold makes this raise. Called by the delivery
        thread.
        """
        if is_stated(record) or record.status in _NEVER_SENT:
            return record
        try:
            charged = self._charged(record)
        except (TypeError, ValueError, ArithmeticError, AttributeError):
            # A record built by hand may hold anything; a naive start, for one,
            # cannot be compared. InvalidValue, a ValueError, is a cost too large to keep.
            charged = None
        return charged or _without_cost(record)

    def _charged(self, record: CallRecord) -> CallRecord | None:
        nothing_counted = record.input_tokens is None and record.output_tokens is None
        if nothing_counted and record.status in _NO_ANSWER:
            return None
        price = self.price_of(record)
        if price is None:
            return None
        cost = price.cost_of(record, service_tier=record.service_tier)
        if cost is None or cost > MAX_COST:
            return None
        return record.replace(cost=rounded(cost), currency=price.currency, price_id=price.id)

    def __iter__(self) -> Iterator[Price]:
        """Your own prices, then the shipped ones. List prices are too many to go through."""
        yield from self._own
        yield from self._shipped

    def __len__(self) -> int:
        return len(self._own) + len(self._shipped)


def is_stated(record: CallRecord) -> bool:
    """Whether the cost of *record* was stated by the provider or the caller."""
    return record.price_id == PROVIDER_STATED or (
        record.cost is not None and record.price_id is None
    )


def _without_cost(record: CallRecord) -> CallRecord:
    if record.cost is None and record.currency is None and record.price_id is None:
        return record
    return record.replace(cost=None, currency=None, price_id=None)


@cache
def _shipped_prices() -> tuple[Price, ...]:
    with as_file(files("ai_ledger.pricing") / "prices.toml") as path:
        return tuple(load_prices(path, origin="ai-ledger"))
