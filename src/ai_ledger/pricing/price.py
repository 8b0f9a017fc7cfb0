"""One price: what the tokens of a model cost in a span of time, and the sum for a call."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Final

import msgspec

from ai_ledger.money import EXACT
from ai_ledger.records import CallRecord, Usage

STANDARD_TIERS: Final = frozenset({"default", "standard", "auto", "scale"})
"""Service tiers that cost what no tier costs. OpenAI answers ``default`` to most calls."""


class TokenRates(msgspec.Struct, frozen=True, kw_only=True):
    """Rates per million tokens. ``None`` means: not said."""

    input_per_mtok: Decimal | None = None
    cache_read_per_mtok: Decimal | None = None
    cache_write_per_mtok: Decimal | None = None
    output_per_mtok: Decimal | None = None
    reasoning_per_mtok: Decimal | None = None
    audio_input_per_mtok: Decimal | None = None
    audio_output_per_mtok: Decimal | None = None


RATE_FIELDS: Final = TokenRates.__struct_fields__
_rates_of: Final = attrgetter(*RATE_FIELDS)
_NO_RATES: Final = (None,) * len(RATE_FIELDS)
_ZERO: Final = Decimal(0)


class Tier(TokenRates, frozen=True, kw_only=True):
    """
    Rates that take the place of the price's own under a condition.

    The tier applies to the whole call when the call has more than
    ``above_input_tokens`` of input and was served by ``service_tier``. Rates
    that it does not name stay as they are.
    """

    above_input_tokens: int = 0
    service_tier: str | None = None
    """``flex``, ``priority``, ``batch``, …; ``None`` for any."""


class Price(TokenRates, frozen=True, kw_only=True):
    """
    What a model costs from one moment to another.

    Parts are charged once: cached, written and audio tokens are taken out of
    the input before the rest is charged at the input rate, reasoning and audio
    out of the output. A part without a rate of its own costs what its whole costs.
    """

    model: str
    """The model's name, or a pattern with ``*``, ``?`` or ``[…]``."""
    provider: str | None = None
    """The provider that asks this price; ``None`` for any."""
    not_providers: tuple[str, ...] = ()
    """Providers that this price is not for."""
    currency: str = "USD"
    per_call: Decimal | None = None
    """What one call costs besides its tokens."""
    tiers: tuple[Tier, ...] = ()
    valid_from: datetime | None = None
    """Inclusive, aware; ``None`` for always."""
    valid_to: datetime | None = None
    """Exclusive, aware; ``None`` until the next price of this model begins."""
    name: str | None = None
    """How people call the model."""
    source: str | None = None
    """Where the rates were read."""
    checked: str | None = None
    """When they were read: a date or a month."""
    origin: str = "own"
    """Which table the price is in; the first part of its id."""
    version: str | None = None
    """What tells this price from another of the same model; by default its first day."""

    @property
    def id(self) -> str:
        """The name that records carry: ``own:dashscope/qwen-plus@2025-10-01``."""
        model = f"{self.provider}/{self.model}" if self.provider else self.model
        version = self.version
        if version is None and self.valid_from is not None:
            start = self.valid_from
            midnight = (start.hour, start.minute, start.second) == (0, 0, 0)
            version = start.date().isoformat() if midnight else start.isoformat()
        version = version or self.checked
        return f"{self.origin}:{model}@{version}" if version else f"{self.origin}:{model}"

    def is_valid_at(self, at: datetime) -> bool:
        """Whether a call that started *at* (aware) is charged by this price."""
        return (self.valid_from is None or self.valid_from <= at) and (
            self.valid_to is None or at < self.valid_to
        )

    def cost_of(
        self, usage: Usage | CallRecord, *, service_tier: str | None = None
    ) -> Decimal | None:
        """
        What *usage* costs, in units of ``currency``, exactly: nothing is rounded.

        A side (input or output) that nobody counted adds nothing. More parts
        than their whole are cut to it, cached tokens first.

        Args:
            usage: The tokens of one call, or its record.
            service_tier: The tier that served it, as the answer says.

        Returns:
            ``None`` when nothing was counted although the price is by the token,
            or when tokens were used that the price has no rate for.
        """
        input_tokens = _known(usage.input_tokens)
        output_tokens = _known(usage.output_tokens)
        rates = self.rates_for(input_tokens or 0, service_tier)
        if rates == _NO_RATES:
            return self.per_call
        if input_tokens is None and output_tokens is None:
            return None
        fresh, cache_read, cache_write, answer, reasoning, audio_in, audio_out = rates
        # Cached tokens are counted inside input_tokens and reasoning inside
        # output_tokens: https://platform.openai.com/docs/guides/prompt-caching
        input_cost = _side(
            input_tokens or 0,
            fresh,
            (usage.cache_read_tokens, cache_read),
            (usage.cache_write_tokens, cache_write),
            (usage.audio_input_tokens, audio_in),
        )
        output_cost = _side(
            output_tokens or 0,
            answer,
            (usage.audio_output_tokens, audio_out),
            (usage.reasoning_tokens, reasoning),
        )
        if input_cost is None or output_cost is None:
            return None
        cost = EXACT.scaleb(EXACT.add(input_cost, output_cost), -6)
        return cost if self.per_call is None else EXACT.add(cost, self.per_call)

    def rates_for(self, input_tokens: int, service_tier: str | None) -> tuple[Decimal | None, ...]:
        """
        The rates, in the order of `RATE_FIELDS`, for a call of this size and tier.

        Where several tiers apply, the longer context wins, and a tier for this
        service wins over one for any.
        """
        rates = _rates_of(self)
        if not self.tiers:
            return rates
        served = standard_tier(service_tier)
        applying = [
            tier
            for tier in self.tiers
            if tier.service_tier in (None, served)
            and (not tier.above_input_tokens or input_tokens > tier.above_input_tokens)
        ]
        applying.sort(key=lambda tier: (tier.service_tier is not None, tier.above_input_tokens))
        for tier in applying:
            rates = tuple(
                old if new is None else new for new, old in zip(_rates_of(tier), rates, strict=True)
            )
        return rates


def standard_tier(service_tier: str | None) -> str | None:
    """*service_tier* in lower case, or ``None`` for the names of the ordinary one."""
    if not service_tier:
        return None
    lowered = service_tier.lower()
    return None if lowered in STANDARD_TIERS else lowered


def _known(count: int | None) -> int | None:
    return None if count is None or count < 0 else count


def _side(
    left: int, rate: Decimal | None, *parts: tuple[int | None, Decimal | None]
) -> Decimal | None:
    """What *left* tokens cost at *rate*, after *parts* at their own; times a million."""
    cost = _ZERO
    for count, own_rate in parts:
        if count is not None and count > 0 and left:
            share = min(count, left)
            left -= share
            part_rate = rate if own_rate is None else own_rate
            if part_rate is None:
                return None
            cost = EXACT.add(cost, EXACT.multiply(part_rate, share))
    if not left:
        return cost
    return None if rate is None else EXACT.add(cost, EXACT.multiply(rate, left))
