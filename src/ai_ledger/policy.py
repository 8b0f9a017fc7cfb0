"""Policies: asked before a call, told after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from ai_ledger.records import CallRecord

MARK_PREFIX: Final = "ai_ledger."
"""How the names of tags begin that policies and sinks put on records; nobody else's may."""


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a policy changes about a call that it admits.

    Args:
        request: The body to send in place of the one that was given, whole;
            ``None`` leaves it. The caller's own objects are never touched.
        marks: Tags for the record; their names begin with `MARK_PREFIX`.
    """

    request: Mapping[str, Any] | None = None
    marks: Mapping[str, str] = {}


@runtime_checkable
class Policy(Protocol):
    """
    Something that may refuse a call, and learns how it ended.

    Policies are asked in the order given; all must admit the call. Each that
    admitted it is told the outcome exactly once, also when a later one refused.
    A policy that breaks (raises anything but `CallRefused`) is logged, counted,
    and passed over, and counts as one that admitted the call: one that is to refuse
    when in doubt does so itself. What a signal handler of the program raises meanwhile,
    such as the time limit of a worker's task, is no fault of the policy: it ends the call.

    Beside the two methods below a policy may have:

    ``bind(ledger)``
        Called once before the first call, with each ledger it is used with.
    ``async acheck(call, request)``
        Awaited in place of ``check`` by asynchronous clients, so that waiting
        holds nobody else up.
    ``review(record, answer) -> Mapping[str, str] | None``
        Shown the outcome and the answer's text before they are on the books, if it
        admitted the call; what it returns are marks, as in `Revision`.
    ``passes_on = True``
        What else than a refusal its ``check`` raises ends the call as well, instead of
        counting as a fault: for a policy that deals with its own faults, so that all it
        raises was raised by the program, in whatever way.
    ``reads_only = True``
        A promise not to change the body it is shown. When all policies make it,
        no copy of the body is made for them.
    """

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """
        Admit *call* by returning, in the caller's thread, before anything is sent.

        Args:
            call: The call as far as it is known: who, why, which model.
                Its ``id`` is that of the record to come.
            request: The body to be sent, not to be changed; ``None`` when unknown.

        Returns:
            What to change about it; ``None`` for nothing.

        Raises:
            CallRefused: The call must not be made. It is recorded with the
                status that the exception's class names, and costs nothing.
        """
        ...

    def settle(self, record: CallRecord) -> None:
        """Learn the outcome of an admitted call. Must not block for long."""
        ...
