"""Which prices are meant by a provider and a model: exact name, dated snapshot, pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from fnmatch import translate
from itertools import pairwise
from typing import Final

from ai_ledger.errors import PriceError
from ai_ledger.pricing.price import Price

MAX_NAME: Final = 256
"""Longer model names match nothing, so that hostile ones cost no time and no memory."""
_MAX_CACHED: Final = 2048

# gpt-4o-2024-08-06, qwen-plus-20250728, gpt-4-0613, qwen-max-latest. Four digits
# must be a month and a day: mistral-large-2407 and qwen3-…-2507 are models of
# their own, and so is gpt-4-0125-preview.
_MONTH_DAY: Final = r"(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])"
_SNAPSHOT: Final = re.compile(rf"^(?P<base>.+?)-(?:20\d\d-?{_MONTH_DAY}|{_MONTH_DAY}|latest)$")


def snapshot_base(model: str) -> str | None:
    """The model that *model* is a dated snapshot of: ``gpt-4o`` for ``gpt-4o-2024-08-06``."""
    found = _SNAPSHOT.match(model)
    return found["base"] if found else None


def is_pattern(model: str) -> bool:
    """Whether an entry's *model* is a pattern and not a name."""
    return any(sign in model for sign in "*?[")


class Series:
    """The prices of one provider and model, one after the other in time."""

    def __init__(self, prices: Iterable[Price]) -> None:
        """
        Args:
            prices: In any order.

        Raises:
            PriceError: Two begin at the same time, overlap, or leave a gap.
        """
        self.prices = tuple(sorted(prices, key=_start))
        for earlier, later in pairwise(self.prices):
            if _start(earlier) == _start(later):
                raise PriceError(f"{later.id}: duplicate: another price has the same valid_from")
            if earlier.valid_to is None:
                continue
            assert later.valid_from is not None  # only the first has none
            if earlier.valid_to > later.valid_from:
                raise PriceError(
                    f"{later.id}: valid_from={later.valid_from.isoformat()} overlaps with "
                    f"{earlier.id}, which ends at {earlier.valid_to.isoformat()}"
                )
            if earlier.valid_to < later.valid_from:
                raise PriceError(
                    f"{later.id}: valid_from={later.valid_from.isoformat()} leaves a gap after "
                    f"{earlier.id}, which ends at {earlier.valid_to.isoformat()}"
                )

    def at(self, at: datetime) -> Price | None:
        """The price that is valid at *at* (aware)."""
        for price in reversed(self.prices):
            if price.valid_from is None or price.valid_from <= at:
                return price if price.is_valid_at(at) else None
        return None


class Index:
    """
    Prices by provider and model. Threads may share one.

    Args:
        prices: Entries of one table.

    Raises:
        PriceError: Entries contradict each other.
    """

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        self._prices = tuple(prices)
        grouped: dict[tuple[str | None, str], list[Price]] = {}
        for price in self._prices:
            grouped.setdefault((price.provider, price.model.lower()), []).append(price)
        series = {key: Series(members) for key, members in grouped.items()}
        self._named = {key: value for key, value in series.items() if not is_pattern(key[1])}
        # The longest pattern says most, so it is asked first.
        self._patterns = sorted(
            (
                (key[0], re.compile(translate(key[1])), value)
                for key, value in series.items()
                if is_pattern(key[1])
            ),
            key=lambda entry: (-len(entry[1].pattern), entry[0] or ""),
        )
        self._cache: dict[tuple[str | None, str], tuple[Series, ...]] = {}

    def __iter__(self) -> Iterator[Price]:
        return iter(self._prices)

    def __len__(self) -> int:
        return len(self._prices)

    def find(self, provider: str | None, model: str, at: datetime) -> Price | None:
        """The price of *model* at *provider* for a call that started *at*."""
        if not self._prices or not model or len(model) > MAX_NAME:
            return None
        provider = provider.lower()[:MAX_NAME] if provider else None
        key = (provider, model.lower())
        series = self._cache.get(key)
        if series is None:
            series = tuple(self._candidates(*key))
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[key] = series
        for each in series:
            price = each.at(at)
            if price is not None and provider not in price.not_providers:
                return price
        return None

    def _candidates(self, provider: str | None, model: str) -> Iterator[Series]:
        providers = (provider, None) if provider else (None,)
        for name in (model, snapshot_base(model)):
            for each in providers:
                if name is not None and (each, name) in self._named:
                    yield self._named[each, name]
        for each in providers:
            for owner, pattern, series in self._patterns:
                if owner == each and pattern.match(model):
                    yield series


def _start(price: Price) -> float:
    return float("-inf") if price.valid_from is None else price.valid_from.timestamp()
