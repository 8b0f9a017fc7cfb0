"""
Policies that come with the ledger: budgets, quotas, a circuit breaker, words.

Importing this package loads none of them: names are looked up when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ai_ledger.policies.breaker import Breaker
    from ai_ledger.policies.budgets import Budget
    from ai_ledger.policies.quotas import Quotas
    from ai_ledger.policies.words import Words

__all__: list[str] = ["Breaker", "Budget", "Quotas", "Words"]

_MODULES: Final[dict[str, str]] = {
    "Breaker": "breaker",
    "Budget": "budgets",
    "Quotas": "quotas",
    "Words": "words",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
