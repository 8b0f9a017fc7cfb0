"""Lets the examples run without a key: a provider on loopback, unless you name one."""

from __future__ import annotations

import os

from ai_ledger.testing import Provider


def use_provider() -> Provider | None:
    """
    Start a provider on loopback and point the SDK at it.

    Does nothing, and gives ``None``, when ``OPENAI_BASE_URL`` is set: then the
    examples call that one, with the key in ``OPENAI_API_KEY``.
    """
    if os.environ.get("OPENAI_BASE_URL"):
        os.environ.setdefault("OPENAI_API_KEY", "sk-example")
        return None
    provider = Provider().start()
    os.environ["OPENAI_BASE_URL"] = provider.base_url
    os.environ["OPENAI_API_KEY"] = "sk-example"
    return provider
