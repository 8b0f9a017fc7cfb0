"""
Alerts: what needs a person, raised once, told to channels, and taken up by somebody.

Importing this package loads nothing heavy: names are looked up when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ai_ledger.alerts.alert import Alert, CallsBehind, Delivery, FailedCall
    from ai_ledger.alerts.alerts import Alerts
    from ai_ledger.alerts.channel import Callback, Channel, Log, NotSent
    from ai_ledger.alerts.rule import Rule, default_rules
    from ai_ledger.alerts.webhook import Webhook, verify_signature

__all__ = [
    "Alert",
    "Alerts",
    "Callback",
    "CallsBehind",
    "Channel",
    "Delivery",
    "FailedCall",
    "Log",
    "NotSent",
    "Rule",
    "Webhook",
    "default_rules",
    "verify_signature",
]

_MODULES: Final = {
    "Alert": "alert",
    "Alerts": "alerts",
    "Callback": "channel",
    "CallsBehind": "alert",
    "Channel": "channel",
    "Delivery": "alert",
    "FailedCall": "alert",
    "Log": "channel",
    "NotSent": "channel",
    "Rule": "rule",
    "Webhook": "webhook",
    "default_rules": "rule",
    "verify_signature": "webhook",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
