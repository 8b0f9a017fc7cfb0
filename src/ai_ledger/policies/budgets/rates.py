"""What tokens cost at the most, in whole nano-units, quick enough to ask before each call."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, Protocol

from ai_ledger.money import EXACT, MAX_NANO
from ai_ledger.pricing import Price
from ai_ledger.records import CallRecord
from ai_ledger.terms import Terms

_MILLION: Final = 1_000_000
_ALMOST: Final = _MILLION - 1
_MAX_CACHED: Final = 2_048
_INPUT: Final = (
    "input_per_mtok",
    "cache_read_per_mtok",
    "cache_write_per_mtok",
    "audio_input_per_mtok",
)
_OUTPUT: Final = ("output_per_mtok", "reasoning_per_mtok", "audio_output_per_mtok")


class Prices(Protocol):
    """Where prices are found: the table of a ledger."""

    def price_of(self, record: CallRecord) -> Price | None:
        """The price that *record* is charged by."""
        ...

    def priced(self, record: CallRecord) -> CallRecord:
        """*record* with its cost."""
        ...


class Rates:
    """
    The dearest that a price can become, in nano-units for a million tokens.

    Args:
        steps: Input tokens that have to be passed, then the rates for input and
            output from there on; ``None`` for a rate that is not known. The first
            begins at 0.
        per_call: Nano-units that one call costs besides.
    """

    __slots__ = ("_input", "_output", "_steps", "per_call")

    def __init__(
        self, steps: tuple[tuple[int, int | None, int | None], ...], per_call: int = 0
    ) -> None:
        self._steps = steps[1:]
        _, self._input, self._output = steps[0]
        self.per_call = per_call

    def amount(self, input_tokens: int, output_tokens: int) -> int | None:
        """At most what so many tokens cost; ``None`` when a rate for them is not known."""
        input_rate, output_rate = self._input, self._output
        for above, of_input, of_output in self._steps:
            if input_tokens > above:
                input_rate, output_rate = of_input, of_output
        if input_rate is None or output_rate is None:
            if (input_tokens and input_rate is None) or (output_tokens and output_rate is None):
                return None
            input_rate, output_rate = input_rate or 0, output_rate or 0
        millionths = input_tokens * input_rate + output_tokens * output_rate
        return (millionths + _ALMOST) // _MILLION + self.per_call


def dearest(price: Price, factor: Decimal = Decimal(1)) -> Rates:
    """
    The dearest that *price* can become: no part, no service tier costs more.

    Args:
        price: Of a model.
        factor: What one unit of its currency is worth.
    """
    marks = sorted({0, *(tier.above_input_tokens for tier in price.tiers)})
    steps = [
        (mark, _highest(price, _INPUT, mark, factor), _highest(price, _OUTPUT, mark, factor))
        for mark in marks
    ]
    free = all(step[1:] == (None, None) for step in steps)
    if free and price.per_call is not None:
        steps = [(0, 0, 0)]  # by the call alone
    per_call = 0 if price.per_call is None else _nano(price.per_call, factor)
    return Rates(tuple(steps), per_call)


def _highest(price: Price, names: tuple[str, ...], mark: int, factor: Decimal) -> int | None:
    sources = (price, *(tier for tier in price.tiers if tier.above_input_tokens <= mark))
    found = [
        rate for source in sources for name in names if (rate := getattr(source, name)) is not None
    ]
    whole = getattr(price, names[0]) is not None or any(
        getattr(source, names[0]) is not None for source in sources
    )
    # Without a rate for the whole, tokens that are no special part cost nobody knows what.
    return _nano(max(found), factor) if found and whole else None


def _nano(amount: Decimal, factor: Decimal) -> int:
    scaled = EXACT.scaleb(EXACT.multiply(amount, factor), 9)
    return min(MAX_NANO, int(scaled.to_integral_value(rounding=ROUND_CEILING, context=EXACT)))


class Pricing:
    """
    The rates of models in the currency of one budget. Threads may share one.

    Args:
        prices: The ledger's.
        terms: Of the budget, in a currency.
    """

    def __init__(self, prices: Prices, terms: Terms) -> None:
        self._prices = prices
        self._terms = terms
        self._known: dict[tuple[Any, ...], tuple[int, Rates]] = {}

    def rates(self, record: CallRecord, request: Mapping[str, Any] | None = None) -> Rates | None:
        """
        What *record*'s tokens cost at the most; ``None`` without a price.

        Args:
            record: Of a call, before it or after it.
            request: The body, which may ask for a service tier.
        """
        tier = record.service_tier
        if tier is None and request is not None:
            asked = request.get("service_tier")
            tier = asked if isinstance(asked, str) else None
        key = (record.provider, record.request_model, record.response_model, tier)
        # Prices are dated, some of them to the minute.
        minute = record.started_at.minute
        known = self._known.get(key)
        if known is not None and known[0] == minute:
            return known[1]
        rates = self._found(record, tier)
        if rates is not None:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            self._known[key] = (minute, rates)
        return rates

    @property
    def is_known(self) -> bool:
        """Whether the prices are here, or have to be read from the store first."""
        return bool(getattr(self._prices, "is_known", True))

    def charged(self, record: CallRecord) -> int:
        """What the row of *record* will be charged with; 0 when it will not be counted."""
        return self._terms.amount_of(self._prices.priced(record)) or 0

    def _found(self, record: CallRecord, tier: str | None) -> Rates | None:
        price = self._prices.price_of(record)
        if tier is not None and tier != record.service_tier:
            asked = self._prices.price_of(record.replace(service_tier=tier))
            if price is not None and asked is not None and asked.currency == price.currency:
                price = max(price, asked, key=_order)
        terms = self._terms
        if price is None:
            if terms.unpriced_as is None:
                return None
            input_nano, output_nano = terms.unpriced_as
            return Rates(((0, input_nano * _MILLION, output_nano * _MILLION),))
        if price.currency == terms.unit:
            return dearest(price)
        text = terms.rates.get(price.currency)
        return None if text is None else dearest(price, Decimal(text))


def _order(price: Price) -> Decimal:
    return (price.output_per_mtok or Decimal(0)) + (price.input_per_mtok or Decimal(0))
