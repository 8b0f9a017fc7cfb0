"""Counting what could be saved, call by call, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from itertools import chain, zip_longest
from typing import Final, TypeAlias, TypeVar

import msgspec

from ai_ledger.errors import InvalidValue
from ai_ledger.money import from_nano, to_nano
from ai_ledger.pricing.price import Price
from ai_ledger.pricing.table import PriceTable
from ai_ledger.records import MAX_COST, TOKEN_FIELDS, CallRecord, Usage
from ai_ledger.redaction import FAILED
from ai_ledger.stats.advice import Basis, CheaperModel, LowCaching, RepeatedCalls
from ai_ledger.totals import Group

MAX_GROUPS: Final = 200
"""So many uses of a model by a function are compared with other models: those with most tokens."""
MAX_MODELS: Final = 50
"""So many models are compared with: those with most calls."""
MIN_ELSEWHERE: Final = 10
"""A model is in use when it has answered so many calls elsewhere."""
MIN_CALLS: Final = 20
"""Fewer calls say nothing about caching."""
LONG_PROMPT: Final = 1024
"""Tokens: what providers begin to cache at, https://platform.openai.com/docs/guides/prompt-caching."""
LOW_SHARE: Final = 0.25
"""Of the input read from the cache; below, there is something to be said."""

_MODELS_EACH: Final = 3
_IDS: Final = 5
USE_FIELDS: Final = ("function", "operation", "provider", "request_model")


class Use(msgspec.Struct, frozen=True):
    """A function's use of one model."""

    function: str | None
    operation: str
    provider: str | None
    model: str | None

    @classmethod
    def of(cls, record: CallRecord) -> Use:
        """The one that *record* belongs to."""
        return cls(record.function, record.operation, record.provider, record.request_model)

    def basis(self, calls: int, ids: Sequence[str]) -> Basis:
        """Its calls as what a suggestion is based on."""
        where = {
            "function": self.function,
            "operation": self.operation,
            "provider": self.provider,
            "request_model": self.model,
            "status": "success",
        }
        return Basis(calls=calls, ids=tuple(ids[:_IDS]), where=where)


_Model: TypeAlias = tuple[str | None, str]
"""Provider and name."""


class Prices:
    """The prices of now, each looked up once."""

    def __init__(self, table: PriceTable, now: datetime) -> None:
        self._table = table
        self._now = now
        self._of_models: dict[_Model, Price | None] = {}
        self._of_calls: dict[tuple[str | None, ...], Price | None] = {}

    def of_model(self, provider: str | None, model: str) -> Price | None:
        """The price of *model*, if it has one."""
        key = (provider, model)
        if key not in self._of_models:
            self._of_models[key] = self._table.find(provider, model, self._now)
        return self._of_models[key]

    def of_call(self, record: CallRecord) -> Price | None:
        """The price that *record* would be charged by now."""
        key = (
            record.provider,
            record.request_model,
            record.response_model,
            record.service_tier,
        )
        if key not in self._of_calls:
            if len(self._of_calls) >= 10_000:
                self._of_calls.clear()  # names are the caller's, and may be without number
            self._of_calls[key] = self._table.price_of(record.replace(started_at=self._now))
        return self._of_calls[key]


class _Moved(msgspec.Struct):
    """A use of a model, and what it would cost on others."""

    candidates: dict[_Model, Price]
    elsewhere: dict[_Model, int]
    calls: int = 0
    ids: list[str] = msgspec.field(default_factory=list[str])
    currency: str | None = None
    paid: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    cost: int = 0
    others: dict[_Model, int] = msgspec.field(default_factory=dict[_Model, int])


class CheaperModels:
    """
    What calls would cost on models that are in use elsewhere.

    Args:
        uses: Totals by `USE_FIELDS`: from their averages the three cheapest models
            for each use are taken, which are then compared call by call.
        prices: As of now.
    """

    def __init__(self, uses: Iterable[Group], prices: Prices) -> None:
        self._prices = prices
        known = [(Use(*_use_key(group)), group) for group in uses]
        known.sort(key=lambda use: -(use[1].totals.input_tokens + use[1].totals.output_tokens))
        answered: dict[tuple[str, _Model], int] = {}
        for use, group in known:
            if use.model is not None:
                key = (use.operation, (use.provider, use.model))
                answered[key] = answered.get(key, 0) + group.totals.calls
        most = sorted(answered, key=lambda key: -answered[key])[:MAX_MODELS]
        self._moved: dict[Use, _Moved] = {}
        for use, group in known[:MAX_GROUPS]:
            own = (use.provider, use.model)
            elsewhere = {
                model: answered[operation, model]
                for operation, model in most
                if operation == use.operation
                and model != own
                and answered[operation, model] >= MIN_ELSEWHERE
            }
            candidates = self._cheapest(_average(group), elsewhere)
            if candidates:
                self._moved[use] = _Moved(candidates, elsewhere)

    def _cheapest(self, usage: Usage, models: Iterable[_Model]) -> dict[_Model, Price]:
        """The three with the lowest price for *usage*, in each currency."""
        found: dict[str, list[tuple[int, _Model, Price]]] = {}
        for model in models:
            price = self._prices.of_model(*model)
            cost = None if price is None else _nano(price, usage)
            if price is not None and cost is not None:
                found.setdefault(price.currency, []).append((cost, model, price))
        return {
            model: price
            for rows in found.values()
            for _, model, price in sorted(rows, key=lambda row: row[0])[:_MODELS_EACH]
        }

    def look_at(self, record: CallRecord) -> None:
        """Count *record*."""
        moved = self._moved.get(Use.of(record))
        if moved is None or (record.input_tokens is None and record.output_tokens is None):
            return
        price = self._prices.of_call(record)
        cost = None if price is None else _nano(price, record, record.service_tier)
        if price is None or cost is None or moved.currency not in (None, price.currency):
            return
        moved.currency = price.currency
        moved.calls += 1
        if len(moved.ids) < _IDS:
            moved.ids.append(record.id)
        moved.cost += cost
        if record.cost is not None and record.currency is not None:
            paid = to_nano(record.cost)
            moved.paid[record.currency] = moved.paid.get(record.currency, 0) + paid
        for model, other in list(moved.candidates.items()):
            there = _nano(other, record) if other.currency == price.currency else None
            if there is None:
                # Not all of these calls have a price there, so it cannot be compared.
                del moved.candidates[model]
                continue
            moved.others[model] = moved.others.get(model, 0) + there

    def found(self, limit: int) -> tuple[CheaperModel, ...]:
        """The largest savings; for each use the cheapest model alone."""
        rows: list[tuple[str, int, CheaperModel]] = []
        for use, moved in self._moved.items():
            if not moved.candidates or moved.currency is None:
                continue
            model = min(moved.candidates, key=lambda each: moved.others.get(each, 0))
            there = moved.others.get(model, 0)
            if there >= moved.cost:
                continue
            advice = CheaperModel(
                function=use.function,
                operation=use.operation,
                provider=use.provider,
                model=use.model,
                currency=moved.currency,
                paid={code: from_nano(nano) for code, nano in sorted(moved.paid.items())},
                cost=from_nano(moved.cost),
                other_provider=model[0],
                other_model=model[1],
                other_calls=moved.elsewhere[model],
                other_cost=from_nano(there),
                saves=from_nano(moved.cost - there),
                basis=use.basis(moved.calls, moved.ids),
            )
            rows.append((moved.currency, moved.cost - there, advice))
        return _in_turn(rows, limit)


class _Repeated(msgspec.Struct):
    repeats: int = 0
    prompts: int = 0
    saves: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    ids: list[str] = msgspec.field(default_factory=list[str])


class Repeats:
    """
    Calls whose prompt was asked before.

    Keeps 16 bytes of each different prompt, so it costs about 100 bytes of memory
    for each.
    """

    def __init__(self) -> None:
        self.with_content = 0
        self._seen: dict[bytes, bool] = {}
        self._uses: dict[Use, _Repeated] = {}

    def look_at(self, record: CallRecord) -> None:
        """Count *record*."""
        content = record.request_content
        if content is None or content == FAILED:
            return
        self.with_content += 1
        # An answer must not reach another organisation. What redaction made alike
        # mostly differs in length still.
        of_whom = (
            record.org_id,
            *msgspec.structs.astuple(Use.of(record)),
            record.input_tokens,
            content,
        )
        digest = blake2b(msgspec.json.encode(of_whom), digest_size=16).digest()
        again = self._seen.get(digest)
        if again is None:
            self._seen[digest] = False
            return
        found = self._uses.setdefault(Use.of(record), _Repeated())
        if not again:
            self._seen[digest] = True
            found.prompts += 1
        found.repeats += 1
        if len(found.ids) < _IDS:
            found.ids.append(record.id)
        if record.cost is not None and record.currency is not None:
            nano = to_nano(record.cost)
            found.saves[record.currency] = found.saves.get(record.currency, 0) + nano

    def found(self, limit: int) -> tuple[RepeatedCalls, ...]:
        """The largest savings."""
        rows: list[tuple[str, int, RepeatedCalls]] = []
        for use, repeated in self._uses.items():
            advice = RepeatedCalls(
                function=use.function,
                operation=use.operation,
                provider=use.provider,
                model=use.model,
                repeats=repeated.repeats,
                prompts=repeated.prompts,
                saves={code: from_nano(nano) for code, nano in sorted(repeated.saves.items())},
                basis=use.basis(repeated.repeats, repeated.ids),
            )
            code, nano = max(repeated.saves.items(), key=lambda cost: cost[1], default=("", 0))
            rows.append((code, nano, advice))
        return _in_turn(rows, limit)


class _Cached(msgspec.Struct):
    calls: int = 0
    ids: list[str] = msgspec.field(default_factory=list[str])
    input_tokens: int = 0
    cached_tokens: int = 0
    currency: str | None = None
    saves: int = 0


class Caching:
    """Long prompts, and how much of them was read from the provider's cache."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._uses: dict[Use, _Cached] = {}

    def look_at(self, record: CallRecord) -> None:
        """Count *record*, if its prompt is long enough and the provider said what was cached."""
        tokens, cached = record.input_tokens, record.cache_read_tokens
        if tokens is None or cached is None or tokens < LONG_PROMPT:
            return
        price = self._prices.of_call(record)
        if price is None:
            return
        cost = _nano(price, record, record.service_tier)
        whole = record.replace(cache_read_tokens=tokens, cache_write_tokens=None)
        best = _nano(price, whole, record.service_tier)
        if cost is None or best is None or best >= cost:
            return  # nothing is cheaper by being cached
        use = Use.of(record)
        found = self._uses.get(use)
        if found is None:
            found = self._uses[use] = _Cached(currency=price.currency)
        if found.currency != price.currency:
            return
        found.calls += 1
        if len(found.ids) < _IDS:
            found.ids.append(record.id)
        found.input_tokens += tokens
        found.cached_tokens += min(cached, tokens)
        found.saves += cost - best

    def found(self, limit: int) -> tuple[LowCaching, ...]:
        """The largest savings."""
        rows: list[tuple[str, int, LowCaching]] = []
        for use, cached in self._uses.items():
            share = cached.cached_tokens / cached.input_tokens
            if cached.calls < MIN_CALLS or share >= LOW_SHARE or cached.currency is None:
                continue
            advice = LowCaching(
                function=use.function,
                operation=use.operation,
                provider=use.provider,
                model=use.model,
                input_tokens=cached.input_tokens,
                cached_tokens=cached.cached_tokens,
                cached_share=share,
                currency=cached.currency,
                saves_at_most=from_nano(cached.saves),
                basis=use.basis(cached.calls, cached.ids),
            )
            rows.append((cached.currency, cached.saves, advice))
        return _in_turn(rows, limit)


_Advice = TypeVar("_Advice")


def _in_turn(rows: Iterable[tuple[str, int, _Advice]], limit: int) -> tuple[_Advice, ...]:
    """The largest of each currency in turn: amounts of different ones cannot be compared."""
    by_currency: dict[str, list[tuple[int, _Advice]]] = {}
    for code, nano, advice in rows:
        by_currency.setdefault(code, []).append((nano, advice))
    # What has no cost comes last.
    rankings = [
        sorted(by_currency[code], key=lambda row: -row[0])
        for code in sorted(by_currency, key=lambda code: (not code, code))
    ]
    found = [row[1] for row in chain.from_iterable(zip_longest(*rankings)) if row is not None]
    return tuple(found[:limit])


def _use_key(group: Group) -> tuple[str | None, str, str | None, str | None]:
    function, operation, provider, model = group.key
    return function, operation or "chat", provider, model


def _average(group: Group) -> Usage:
    """The usage of an average call: a sum would be charged as one enormous prompt."""
    totals = group.totals
    calls = max(totals.calls, 1)
    return Usage(**{name: getattr(totals, name) // calls for name in TOKEN_FIELDS})


def _nano(price: Price, usage: Usage | CallRecord, service_tier: str | None = None) -> int | None:
    """What *usage* costs, rounded as a call on the books is; ``None`` without a price for it."""
    cost: Decimal | None = price.cost_of(usage, service_tier=service_tier)
    if cost is None or cost > MAX_COST:
        return None
    try:
        return to_nano(cost)
    except InvalidValue:
        return None
