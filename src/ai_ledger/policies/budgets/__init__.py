"""
Budgets: so much money, or so many tokens, in a period.

Importing this package loads none of it: names are looked up when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.budget import Budget, Period
    from ai_ledger.policies.budgets.member import BudgetWarning

__all__: list[str] = ["Budget", "BudgetWarning", "Period"]

_MODULES: Final[dict[str, str]] = {
    "Budget": "budget",
    "BudgetWarning": "member",
    "Period": "budget",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
