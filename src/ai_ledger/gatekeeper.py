"""The gatekeeper of a ledger: asks the policies before a call, and tells them after it."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Final

from ai_ledger.bounds import label
from ai_ledger.calls import Books, OpenCall, status_of
from ai_ledger.errors import CallRefused, ContextMissing
from ai_ledger.interruptions import passing
from ai_ledger.policy import MARK_PREFIX, Policy, Revision
from ai_ledger.records import CallRecord


class Gatekeeper:
    """
    Asks the policies of each call, and ends those that are refused. Threads share it.

    Args:
        ledger: Whose calls these are; policies are bound to it.
        require: Context fields that every call should have.
        refuses: Whether a call without one of them is refused, or only counted.
        keep_request: Notes what of a request may be stored, when a policy has changed it.
    """

    def __init__(
        self,
        ledger: Books,
        *,
        require: tuple[str, ...],
        refuses: bool,
        keep_request: Callable[[OpenCall], None],
    ) -> None:
        self._ledger: Final = ledger
        self._require: Final = require
        self._refuses: Final = refuses
        self._keep_request: Final = keep_request
        self._bound: dict[int, object] = {}

    def bind(self, policy: Policy) -> None:
        """Make a policy known to the ledger, once; a client's policies are not known before."""
        known, key = self._bound, id(policy)
        if key in known:
            return
        bind = getattr(policy, "bind", None)
        if bind is not None:
            bind(self._ledger)
        try:
            # It goes before another object can have this id.
            known[key] = weakref.ref(policy, lambda _: known.pop(key, None))
        except TypeError:
            known[key] = policy  # kept, so that none ever has it

    # Before a call

    def check_context(self, call: OpenCall) -> None:
        """
        See whether all context is there that is required.

        Raises:
            ContextMissing: It is not, and that matters. The refused call is on the books.
        """
        missing = [name for name in self._require if getattr(call.begun, name) is None]
        if not missing:
            return
        if not self._refuses:
            self._ledger.note(f"calls without {', '.join(missing)}")
            return
        refusal = ContextMissing(
            f"this ledger requires {', '.join(missing)}: set it with call_context(…), "
            "client.with_context(…) or TrackedClient(…)"
        )
        self._ledger.end_call(call, "blocked", refusal)
        raise refusal

    def ask(self, call: OpenCall) -> None:
        """
        Ask the policies of *call*.

        Raises:
            CallRefused: One refused. The refused call is on the books.
        """
        handled = sys.exception()
        for policy in call.policies:
            try:
                if id(policy) not in self._bound:
                    self.bind(policy)
                revision = policy.check(call.begun, call.request)
                if revision is not None:
                    self._revise(call, revision)
            except BaseException as problem:  # noqa: BLE001  # looked at there
                self._stumbled(call, policy, problem, handled)
            call.admitted += 1

    async def aask(self, call: OpenCall) -> None:
        """`ask` for coroutines: a policy that has to wait holds nobody else up."""
        handled = sys.exception()
        for policy in call.policies:
            try:
                if id(policy) not in self._bound:
                    self.bind(policy)
                acheck = getattr(policy, "acheck", None)
                if acheck is None:
                    revision = policy.check(call.begun, call.request)
                else:
                    revision = await acheck(call.begun, call.request)
                if revision is not None:
                    self._revise(call, revision)
            except BaseException as problem:  # noqa: BLE001  # looked at there
                self._stumbled(call, policy, problem, handled)
            call.admitted += 1

    def _stumbled(
        self,
        call: OpenCall,
        policy: Policy,
        problem: BaseException,
        handled: BaseException | None,
    ) -> None:
        """Raise a refusal, or what has interrupted the policy; pass over what is broken."""
        if not isinstance(problem, CallRefused) and not getattr(policy, "passes_on", False):
            raised = passing(problem, handled)
            if raised is None:
                self._broke(policy, problem)
                return
            problem = raised
        self._ledger.end_call(call, status_of(problem), problem)
        raise problem

    def _broke(self, policy: Policy, problem: BaseException) -> None:
        self._ledger.note(f"policy {type(policy).__name__} broke", problem)

    def _revise(self, call: OpenCall, revision: object) -> None:
        if not isinstance(revision, Revision):
            return
        if revision.marks:
            call.marks = {**call.marks, **self.own_marks(revision.marks)}
        if revision.request is not None:
            call.request = call.revised = revision.request
            self._keep_request(call)

    def own_marks(self, marks: Mapping[str, str]) -> dict[str, str]:
        """Those of *marks* that policies and sinks may make: no other tag is touched."""
        kept = {
            label(name): label(value)
            for name, value in marks.items()
            if name.startswith(MARK_PREFIX)
        }
        if len(kept) < len(marks):
            self._ledger.note(f"a mark must begin with {MARK_PREFIX}")
        return kept

    # After it

    def review(self, call: OpenCall, record: CallRecord, raised: list[BaseException]) -> CallRecord:
        """
        *record* with the marks that policies put on it.

        Args:
            call: That is over.
            record: Of it.
            raised: Gets what the program raises by a signal meanwhile.
        """
        handled = sys.exception()
        marks = dict(call.marks)
        answer = call.answer.content if call.answer is not None else None
        for policy in call.policies[: call.admitted]:
            review = getattr(policy, "review", None)
            if review is not None:
                try:
                    marks.update(self.own_marks(review(record, answer) or {}))
                except BaseException as problem:  # noqa: BLE001  # the boundary around bookkeeping
                    self._failed(policy, problem, handled, raised)
        return record.replace(tags={**record.tags, **marks}) if marks else record

    def settle(self, call: OpenCall, record: CallRecord, raised: list[BaseException]) -> None:
        """Tell the outcome to those who admitted the call; the arguments are those of `review`."""
        handled = sys.exception()
        for policy in call.policies[: call.admitted]:
            try:
                policy.settle(record)
            except BaseException as problem:  # noqa: BLE001  # the boundary around bookkeeping
                self._failed(policy, problem, handled, raised)

    def _failed(
        self,
        policy: Policy,
        problem: BaseException,
        handled: BaseException | None,
        raised: list[BaseException],
    ) -> None:
        found = passing(problem, handled)
        if found is None:
            self._broke(policy, problem)
        else:
            raised.append(found)
