"""
Every AI call on the books: who made it, why, how many tokens, at what price.

Importing this package loads neither an SDK nor a database: names are looked up
when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ai_ledger._version import __version__

if TYPE_CHECKING:
    # What TrackedClient(client) does and gives back. Of a class, mypy would believe nothing
    # but that it makes instances of itself.
    from ai_ledger.capture.client import track as TrackedClient
    from ai_ledger.capture.decorator import track_ai_usage
    from ai_ledger.capture.instrument import instrument, uninstrument
    from ai_ledger.context import (
        ContextThreadPoolExecutor,
        bind,
        call_context,
        current_context,
    )
    from ai_ledger.defaults import default_ledger, open_ledger, record_ai_usage, use_ledger
    from ai_ledger.delivery import Health
    from ai_ledger.errors import (
        AccessDenied,
        AILedgerError,
        AlreadyThere,
        BudgetExceeded,
        BudgetUnavailable,
        CallRefused,
        CircuitOpen,
        ConfigurationError,
        ContentBlocked,
        ContextMissing,
        EditConflict,
        EditError,
        InvalidValue,
        MissingExtra,
        ModelNotAllowed,
        NotFound,
        PriceError,
        QuotaExceeded,
        RecordRefused,
        SchemaError,
        SinkError,
        SinkUnavailable,
        TooSoon,
        WordsUnavailable,
    )
    from ai_ledger.ledger import Ledger
    from ai_ledger.policies import Budget
    from ai_ledger.policy import Policy, Revision
    from ai_ledger.pricing import Price, PriceTable
    from ai_ledger.query import AnyOf, Between, Contains, Query
    from ai_ledger.records import CallRecord, Usage
    from ai_ledger.signals import install_signal_flush
    from ai_ledger.sinks import Sink, Store, open_sink
    from ai_ledger.stats import Stats as Stats

# Without Stats, which needs an extra: `from ai_ledger import *` does with the core.
__all__ = [
    "AILedgerError",
    "AccessDenied",
    "AlreadyThere",
    "AnyOf",
    "Between",
    "Budget",
    "BudgetExceeded",
    "BudgetUnavailable",
    "CallRecord",
    "CallRefused",
    "CircuitOpen",
    "ConfigurationError",
    "Contains",
    "ContentBlocked",
    "ContextMissing",
    "ContextThreadPoolExecutor",
    "EditConflict",
    "EditError",
    "Health",
    "InvalidValue",
    "Ledger",
    "MissingExtra",
    "ModelNotAllowed",
    "NotFound",
    "Policy",
    "Price",
    "PriceError",
    "PriceTable",
    "Query",
    "QuotaExceeded",
    "RecordRefused",
    "Revision",
    "SchemaError",
    "Sink",
    "SinkError",
    "SinkUnavailable",
    "Store",
    "TooSoon",
    "TrackedClient",
    "Usage",
    "WordsUnavailable",
    "__version__",
    "bind",
    "call_context",
    "current_context",
    "default_ledger",
    "install_signal_flush",
    "instrument",
    "open_ledger",
    "open_sink",
    "record_ai_usage",
    "track_ai_usage",
    "uninstrument",
    "use_ledger",
]

_HOME = {
    "capture.client": ("TrackedClient",),
    "capture.decorator": ("track_ai_usage",),
    "capture.instrument": ("instrument", "uninstrument"),
    "context": ("ContextThreadPoolExecutor", "bind", "call_context", "current_context"),
    "delivery": ("Health",),
    "errors": (
        "AILedgerError",
        "AccessDenied",
        "AlreadyThere",
        "BudgetExceeded",
        "BudgetUnavailable",
        "CallRefused",
        "CircuitOpen",
        "ConfigurationError",
        "ContentBlocked",
        "ContextMissing",
        "EditConflict",
        "EditError",
        "InvalidValue",
        "MissingExtra",
        "ModelNotAllowed",
        "NotFound",
        "PriceError",
        "QuotaExceeded",
        "RecordRefused",
        "SchemaError",
        "SinkError",
        "SinkUnavailable",
        "TooSoon",
        "WordsUnavailable",
    ),
    "defaults": ("default_ledger", "open_ledger", "record_ai_usage", "use_ledger"),
    "ledger": ("Ledger",),
    "policies": ("Budget",),
    "policy": ("Policy", "Revision"),
    "pricing": ("Price", "PriceTable"),
    "query": ("AnyOf", "Between", "Contains", "Query"),
    "records": ("CallRecord", "Usage"),
    "signals": ("install_signal_flush",),
    "sinks": ("Sink", "Store", "open_sink"),
    "stats": ("Stats",),
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "Stats"])
