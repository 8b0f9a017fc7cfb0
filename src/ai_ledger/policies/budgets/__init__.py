"""
Budgets: so much money, or so many tokens, in a period.

Importing this package loads none of it: names are looked up when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__: list[str] = []

_MODULES: Final[dict[str, str]] = {}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
