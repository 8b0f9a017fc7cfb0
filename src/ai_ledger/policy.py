"""Policies: asked before a call, told after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from ai_ledger.records import CallRecord


@runtime_checkable
class Policy(Protocol):
    """
    Something that may refuse a call, and learns how it ended.

    Policies are asked in the order given; all must admit the call. Each that
    admitted it is told the outcome exactly once, also when a later one refused.
    A policy that breaks (raises anything but `CallRefused`) is logged, counted,
    and passed over: one that is to refuse when in doubt does so itself.
    """

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        """
        Admit *call* by returning, in the caller's thread, before anything is sent.

        Args:
            call: The call as far as it is known: who, why, which model.
                Its ``id`` is that of the record to come.
            request: The body to be sent, not to be changed; ``None`` when unknown.

        Raises:
            CallRefused: The call must not be made. It is recorded with the
                status that the exception's class names, and costs nothing.
        """
        ...

    def settle(self, record: CallRecord) -> None:
        """Learn the outcome of an admitted call. Must not block for long."""
        ...
