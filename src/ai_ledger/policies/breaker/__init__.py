"""A circuit breaker: who fails too often is left alone for a while."""

from ai_ledger.policies.breaker.breaker import (
    Breaker,
    BreakerChange,
    BreakerState,
    living_breakers,
)

__all__ = ["Breaker", "BreakerChange", "BreakerState", "living_breakers"]
