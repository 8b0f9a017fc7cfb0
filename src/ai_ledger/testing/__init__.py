"""Helpers for tests, yours and ours: a provider on loopback, a clock, a ledger in memory."""

from __future__ import annotations

from ai_ledger.testing.behaviour import MISSING, Behaviour
from ai_ledger.testing.clock import FakeClock
from ai_ledger.testing.ledger import memory_ledger
from ai_ledger.testing.provider import Provider, Request
from ai_ledger.testing.tokens import tokens_of

__all__ = [
    "MISSING",
    "Behaviour",
    "FakeClock",
    "Provider",
    "Request",
    "memory_ledger",
    "tokens_of",
]
