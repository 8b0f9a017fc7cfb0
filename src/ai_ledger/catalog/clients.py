"""Clients: the SDK's, tracked and set up as the catalogue says."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from ai_ledger.capture.client import TrackedClient
from ai_ledger.capture.endpoints import operation_of
from ai_ledger.catalog.entries import ModelEntry, ProviderEntry
from ai_ledger.errors import ConfigurationError, MissingExtra
from ai_ledger.references import resolved
from ai_ledger.usage import as_mapping

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger
    from ai_ledger.policy import Policy

_DEFAULTS: Final = "_ai_ledger_defaults"
_NO_KEY: Final = "no-key"
# Two words for one thing, which servers refuse together.
_LIMITS: Final = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})


def make_client(
    model: ModelEntry,
    provider: ProviderEntry,
    *,
    asynchronous: bool,
    ledger: Ledger | None,
    policies: Iterable[Policy],
    context: Mapping[str, Any],
) -> Any:
    """
    A tracked client of the SDK for *model*.

    Raises:
        ConfigurationError: No URL, or a variable that is not set; names it.
        MissingExtra: The SDK is not installed.
    """
    where = f"model {model.name!r}"
    try:
        import openai
    except ImportError as error:
        raise MissingExtra("catalog.client()", "demo") from error
    if model.api_type == "other":
        raise ConfigurationError(f"{where}: its api_type is other, which no client here is for")
    settings: dict[str, Any] = resolved(f"provider {provider.name!r}", provider.settings)
    url = resolved(where, model.api_url) or settings.get("base_url")
    if not url:
        raise ConfigurationError(f"{where}: it has no api_url, and its provider no base_url")
    options: dict[str, Any] = {
        # Never none: the SDK would take OPENAI_API_KEY and send it to this URL.
        "api_key": settings.get("api_key") or _NO_KEY,
        "organization": settings.get("organization"),
        "project": settings.get("project"),
        "default_headers": settings.get("default_headers"),
    }
    if model.timeout_s is not None:
        options["timeout"] = model.timeout_s
    prefix = "Async" if asynchronous else ""
    if model.api_type == "azure":
        version = settings.get("api_version")
        if not version:
            raise ConfigurationError(
                f"provider {provider.name!r}: azure needs settings.api_version"
            )
        options |= {"azure_endpoint": url, "api_version": version}
        client = getattr(openai, f"{prefix}AzureOpenAI")(**options)
    else:
        client = getattr(openai, f"{prefix}OpenAI")(base_url=url, **options)
    _forget_environment(client, options)
    tracked = TrackedClient(
        client, ledger=ledger, policies=policies, **{"provider": provider.name, **context}
    )
    return _with_defaults(tracked, model.name, resolved(where, model.parameters))


def _forget_environment(client: Any, options: Mapping[str, Any]) -> None:
    """Undo what the SDK took from variables that are about another account than this one."""
    for name in ("organization", "project"):
        if hasattr(client, name):
            setattr(client, name, options[name])
    if hasattr(client, "_azure_ad_token"):
        client._azure_ad_token = None  # noqa: SLF001  # AZURE_OPENAI_AD_TOKEN


def _with_defaults(client: Any, model: str, parameters: Mapping[str, Any]) -> Any:
    if not parameters:
        return client
    kind = _defaulting(cast("type[Any]", type(client)))
    clone = object.__new__(kind)
    clone.__dict__.update(client.__dict__)
    setattr(clone, _DEFAULTS, (model, parameters))
    return clone


@functools.cache
def _defaulting(kind: type[Any]) -> type[Any]:
    """*kind*, whose requests say what the caller left out. Before the ledger sees them."""

    def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        # For coroutines too: what is returned is awaited by the caller.
        options = _completed(options, *getattr(self, _DEFAULTS))
        return kind.request(self, cast_to, options, *args, **kwargs)

    def copying(name: str) -> Any:
        original = getattr(kind, name)

        @functools.wraps(original)
        def copied(self: Any, *args: Any, **kwargs: Any) -> Any:
            clone = original(self, *args, **kwargs)
            setattr(clone, _DEFAULTS, getattr(self, _DEFAULTS))
            return clone

        return copied

    body = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "__qualname__": kind.__qualname__,
        "request": functools.wraps(kind.request)(request),
        "copy": copying("copy"),
        "with_options": copying("with_options"),
    }
    # The name stays, because the SDK sends it as its User-Agent.
    meta: Any = type(kind)
    return meta(kind.__name__, (kind,), body)


def _completed(options: Any, model: str, parameters: Mapping[str, Any]) -> Any:
    """*options* with the parameters that the caller did not name; the caller's stay as they are."""
    if operation_of(options.method, options.url) is None:
        return options
    body = as_mapping(options.json_data)
    given = {**body, **as_mapping(options.extra_json)}
    if given.get("model", model) != model:
        return options
    limited = not _LIMITS.isdisjoint(given)
    missing = {
        name: value
        for name, value in parameters.items()
        if name not in given and not (limited and name in _LIMITS)
    }
    if not missing:
        return options
    changed = copy.copy(options)
    changed.json_data = {**missing, **body}
    return changed
