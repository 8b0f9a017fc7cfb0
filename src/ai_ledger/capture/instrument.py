"""Instrumenting: tracking the clients that frameworks build for themselves. Can be undone."""

from __future__ import annotations

import threading
from typing import Any, Final

from ai_ledger.capture import client

_HOOKS: Final = ("request", "_process_response")
_lock = threading.Lock()
_originals: dict[type[Any], dict[str, Any]] = {}


def instrument(*classes: type[Any]) -> None:
    """
    Track every client of *classes*, including those that exist already.

    Their calls go to the default ledger (`use_ledger` sets another), each once,
    also when a client is tracked in its own right. Doing it twice changes nothing.

    Args:
        classes: Client classes of an SDK; ``OpenAI`` and ``AsyncOpenAI``, and
            with them their subclasses, when left out.
    """
    with _lock:
        for kind in classes or _openai_classes():
            if kind in _originals:
                continue
            _originals[kind] = {name: vars(kind).get(name) for name in _HOOKS}
            for name, hook in zip(_HOOKS, client.hooks(kind), strict=True):
                setattr(kind, name, hook(getattr(kind, name)))


def uninstrument(*classes: type[Any]) -> None:
    """
    Undo `instrument`.

    Args:
        classes: Those to undo; all when left out.
    """
    with _lock:
        for kind in classes or tuple(_originals):
            for name, original in _originals.pop(kind, {}).items():
                if original is None:
                    delattr(kind, name)
                else:
                    setattr(kind, name, original)


def _openai_classes() -> tuple[type[Any], ...]:
    from openai import AsyncOpenAI, OpenAI

    return OpenAI, AsyncOpenAI
