"""List prices in USD from the package genai-prices, when it is installed."""

from __future__ import annotations

import sys
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from typing import Any, Final, cast

from ai_ledger.loading import loading
from ai_ledger.pricing.match import MAX_NAME
from ai_ledger.pricing.price import Price, Tier, standard_tier

_MAX_CACHED: Final = 2048

# Our name of a provider → theirs. Names that are the same in both are not listed.
_PROVIDERS: Final = {
    "azure_openai": "azure",
    "bedrock": "aws",
    "aws_bedrock": "aws",
    "gemini": "google",
    "vertex": "google",
    "google_vertex": "google",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "xai": "x-ai",
    "together_ai": "together",
    "togetherai": "together",
    "fireworks_ai": "fireworks",
    "zhipu": "zhipuai",
}

# Names that only their maker gives: a call to gpt-4o through a gateway that
# nobody knows is charged its maker's list price. Open models (llama, mistral,
# deepseek, gpt-oss, …) are served by anyone, at home for nothing: no guess.
_MAKERS: Final = (
    ("gpt-oss", None),
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4-", "openai"),
    ("text-embedding-3-", "openai"),
    ("text-embedding-ada-002", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "google"),
    ("grok-", "x-ai"),
)

_RATES: Final = {
    "input_mtok": "input_per_mtok",
    "cache_read_mtok": "cache_read_per_mtok",
    "cache_write_mtok": "cache_write_per_mtok",
    "output_mtok": "output_per_mtok",
    "output_reasoning_mtok": "reasoning_per_mtok",
    "input_audio_mtok": "audio_input_per_mtok",
    "output_audio_mtok": "audio_output_per_mtok",
}

# Charged by something that a record does not count. A sum without it would be
# too low without saying so, so such a model stays unpriced.
_UNCOUNTED: Final = ("image", "video", "_seconds", "hours", "mchars", "kpages", "pixels")


class ListPrices:
    """
    Prices of genai-prices, as `Price`. Threads may share one.

    The package takes about a second and 66 MiB to load, so that happens on the
    first question, which is asked by the delivery thread and never by a caller.
    Its updater, which downloads, is never started.
    """

    def __init__(self) -> None:
        self._library: Any = None
        self._missing = False
        self._version = ""
        self._data: _Data | None = None

    def find(
        self, provider: str | None, model: str, at: datetime, *, service_tier: str | None = None
    ) -> Price | None:
        """
        The list price of *model* at *provider* for a call that started *at*.

        A provider that nobody named, or that genai-prices does not know, is
        charged the maker's price for names that only the maker gives. ``None``
        also when genai-prices is not installed.
        """
        if not model or len(model) > MAX_NAME or not self._load():
            return None
        provider = provider[:MAX_NAME] if provider else None
        # A program may run the package's updater itself: then its prices change.
        snapshot = self._library.get_snapshot()
        data = self._data
        if data is None or data.snapshot is not snapshot:
            data = self._data = _Data(self._library, snapshot, self._version)
        return data.find(provider, model.lower(), at, standard_tier(service_tier))

    def _load(self) -> bool:
        if self._library is None and not self._missing:
            with loading:
                try:
                    _stand_in("genai_prices")
                    data_snapshot = import_module("genai_prices.data_snapshot")
                except ImportError:
                    self._missing = True
                else:
                    # The data is a module of its own, which this loads.
                    data_snapshot.get_snapshot()
                    self._version = version("genai_prices")
                    self._library = data_snapshot
        return not self._missing


def _stand_in(name: str) -> None:
    """
    Let modules of the package *name* be imported without what its ``__init__`` imports.

    That of genai-prices imports httpx2, for an updater that is never started
    here. openai 2.x looks into ``sys.modules`` for httpx2 and, in another thread,
    would find it half loaded and raise. So the package stands there without
    having run; whoever else asks it for anything runs it then.
    """
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    package, loader = module_from_spec(spec), spec.loader

    def run_and_get(attribute: str) -> Any:
        if attribute.startswith("__") and attribute not in ("__version__", "__all__"):
            raise AttributeError(attribute)
        # `from . import types` asks for an attribute before it tries the module.
        if find_spec(f"{name}.{attribute}") is not None:
            return import_module(f"{name}.{attribute}")
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__getattr__ = run_and_get  # type: ignore[method-assign]
    sys.modules[name] = package


class _Data:
    """One snapshot of their prices, with bounded memories of what was found in it."""

    def __init__(self, library: Any, snapshot: Any, version: str) -> None:
        self.snapshot = snapshot
        self._library = library
        self._version = version
        self._provider_ids: dict[str, str | None] = {}
        self._models: dict[tuple[str, str], tuple[Any, Any] | None] = {}
        self._prices: dict[tuple[str, str, str | None, datetime], Price | None] = {}

    def find(
        self, provider: str | None, model: str, at: datetime, service_tier: str | None
    ) -> Price | None:
        provider_id = self._provider_id(provider, model)
        if provider_id is None:
            return None
        # Some prices change with the hour, on whole minutes.
        key = (provider_id, model, service_tier, at.replace(second=0, microsecond=0))
        if key not in self._prices:
            _make_room(self._prices)
            self._prices[key] = self._price(*key)
        return self._prices[key]

    def _provider_id(self, provider: str | None, model: str) -> str | None:
        if provider:
            if provider not in self._provider_ids:
                name = provider.lower()
                found = self._library.find_provider_by_id(
                    self.snapshot.providers, _PROVIDERS.get(name, name)
                )
                _make_room(self._provider_ids)
                self._provider_ids[provider] = found and str(found.id)
            known = self._provider_ids[provider]
            if known is not None:
                return known
        return next((maker for prefix, maker in _MAKERS if model.startswith(prefix)), None)

    def _price(
        self, provider_id: str, model: str, service_tier: str | None, at: datetime
    ) -> Price | None:
        found = self._model(provider_id, model)
        if found is None:
            return None
        provider, info = found
        context: dict[str, str] | None = None
        # A variant belongs to the provider that lists the model, not to one that
        # borrows its price, as Azure does OpenAI's.
        if service_tier is not None and any(info is own for own in provider.models):
            kind = "processing" if service_tier == "batch" else "service_tier"
            context = {kind: service_tier}
        try:
            prices = info.get_prices(at, context)
        except (LookupError, ValueError):
            return None
        return self._converted(provider_id, info, prices)

    def _model(self, provider_id: str, model: str) -> tuple[Any, Any] | None:
        key = (provider_id, model)
        if key not in self._models:
            # Not through calc_price(): its caches of hits and misses never end.
            providers = self.snapshot.providers
            provider = self._library.find_provider_by_id(providers, provider_id)
            info = provider and provider.find_model(model, all_providers=providers)
            _make_room(self._models)
            self._models[key] = (provider, info) if info else None
        return self._models[key]

    def _converted(self, provider_id: str, info: Any, prices: Any) -> Price | None:
        rates: dict[str, Decimal] = {}
        steps: dict[int, dict[str, Decimal]] = {}
        per_call: Decimal | None = None
        for key, value in cast("dict[str, Any]", vars(prices)).items():
            if value is None:
                continue
            if key in _RATES:
                rates[_RATES[key]] = getattr(value, "base", value)
                for step in getattr(value, "tiers", ()):
                    steps.setdefault(step.start, {})[_RATES[key]] = step.price
            elif key == "requests_kcount":
                per_call = value.scaleb(-3)
            elif any(word in key for word in _UNCOUNTED):
                return None
        if not rates and per_call is None:
            return None
        return Price(
            model=info.id,
            provider=provider_id,
            currency="USD",
            per_call=per_call,
            tiers=tuple(
                Tier(above_input_tokens=start, **step)  # pyright: ignore[reportArgumentType]
                for start, step in sorted(steps.items())
            ),
            name=info.name,
            source=f"genai-prices {self._version}",
            origin="genai-prices",
            version=self._version,
            **rates,  # pyright: ignore[reportArgumentType]
        )


def _make_room(memory: dict[Any, Any]) -> None:
    if len(memory) >= _MAX_CACHED:
        memory.clear()
