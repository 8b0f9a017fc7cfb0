"""The budgets that are asked together: all of them admit a call, or none is charged."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ai_ledger.bounds import value_of_key
from ai_ledger.errors import AILedgerError, BudgetExceeded, BudgetUnavailable, CallRefused
from ai_ledger.interruptions import is_interruption
from ai_ledger.policies.budgets.account import Claim, Exhausted, NotInForce
from ai_ledger.policies.budgets.elapsed import elapsed
from ai_ledger.policies.budgets.worst_case import counter, size_of
from ai_ledger.policy import Revision
from ai_ledger.records import CallRecord

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ai_ledger.ledger import Ledger
    from ai_ledger.policies.budgets.account import StoredBudget
    from ai_ledger.policies.budgets.holds import Holds, Want
    from ai_ledger.policies.budgets.member import Member

MARK: Final = "ai_ledger.budget"
"""The tag of calls that a budget has something to say about."""
UNCHECKED: Final = Revision(marks={MARK: "unchecked"})
"""For a call that was let through because the store could not be asked."""
UNPRICED: Final = Revision(marks={MARK: "unpriced"})
"""For a call whose price nobody knows, so that it counts for nothing."""

_CHANGING: Final = "it was changed by another process again and again"
_AWAY: Final = "the store cannot be asked ({})"
# Of a body, a price. Anything else, such as the time limit of a task in a thread, is the
# program's own.
_UNREADABLE: Final = (
    AILedgerError,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
# A budget that is registered anew by another process meanwhile is looked up again.
_ATTEMPTS: Final = 3


class Panel:
    """
    Budgets of one ledger, or one budget of a client.

    Args:
        members: In the order in which they were given.
        holds: What this process has leased of them.
        ledger: On whose books the calls are.
    """

    def __init__(self, members: tuple[Member, ...], holds: Holds, ledger: Ledger) -> None:
        self.members = members
        self.holds = holds
        self._note = ledger.note
        self._ledger = weakref.ref(ledger)

    def is_for(self, ledger: Ledger, members: tuple[Member, ...], holds: Holds) -> bool:
        """Whether it is the one for these."""
        return (
            self._ledger() is ledger
            and self.holds is holds
            and len(members) == len(self.members)
            and all(a is b for a, b in zip(members, self.members, strict=True))
        )

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """
        Hold what *call* can take of every budget that it counts for.

        Raises:
            BudgetExceeded: One of them has not enough.
            BudgetUnavailable: That cannot be told.
        """
        try:
            wants, revision = self._wants(call, request)
            if not wants or self.holds.take(call.id, wants, self):
                return revision
        except CallRefused:
            raise
        except _UNREADABLE as problem:  # a gate that breaks must not stand open
            return self._unavailable(
                self.members, f"the call could not be read: {problem}", problem
            )
        return self._ask_elsewhere(call, request, wants, revision)

    async def acheck(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """`check` for coroutines: the store is asked in another thread."""
        if not all(member.knows_prices for member in self.members):
            # They are read from the store, which takes its time.
            return await self._elsewhere(call, self.check, call, request)
        try:
            wants, revision = self._wants(call, request)
            if not wants or self.holds.take(call.id, wants, self):
                return revision
        except CallRefused:
            raise
        except _UNREADABLE as problem:  # a gate that breaks must not stand open
            return self._unavailable(
                self.members, f"the call could not be read: {problem}", problem
            )
        return await self._elsewhere(
            call, self._ask_and_tell, call, request, wants, revision, elapsed()
        )

    def _ask_elsewhere(
        self,
        call: CallRecord,
        request: Mapping[str, Any] | None,
        wants: list[Want],
        revision: Revision | None,
    ) -> Revision | None:
        """`_ask_store` where no signal can interrupt it in the middle of anything."""
        holds = self.holds
        if (away := holds.away) is not None:
            return self._unavailable(_members(wants), _AWAY.format(away))
        came_at = elapsed()
        try:
            return holds.pool.run(
                lambda: self._ask_store(call, request, wants, revision, came_at),
                lambda: holds.abandon(call.id),
            )
        finally:
            holds.tell()

    async def _elsewhere(
        self, call: CallRecord, ask: Callable[..., Revision | None], *args: Any
    ) -> Revision | None:
        """What *ask* returns, in another thread."""
        try:
            work: Future[Revision | None] = self.holds.pool.submit(ask, *args)
        except RuntimeError:
            # The interpreter is shutting down and starts no thread any more.
            return ask(*args)
        try:
            return await _result(work)
        except Exception:
            raise  # nothing is held
        except BaseException:  # cancelled, as asyncio or trio says it
            # The thread may be about to hold something for a call that is given up.
            work.add_done_callback(lambda _: self.holds.abandon(call.id))
            raise

    def _wants(
        self, call: CallRecord, request: Mapping[str, Any] | None
    ) -> tuple[list[Want], Revision | None]:
        wants: list[Want] = []
        revision = None
        known = self.holds.held.get(call.id)
        if known is not None and self in known.panels:
            return wants, revision  # the first of these budgets has asked for all of them
        size = None
        for member in self.members:
            key = member.key(call)
            if key is None or (known is not None and self.holds.has(call.id, member)):
                continue
            if size is None:
                size = size_of(request, call.operation)
            needed = member.needed(call, request, size)
            if needed is not None:
                wants.append((member, key, needed))
            elif member.is_hard:
                raise _unpriced(member, call)
            else:
                revision = UNPRICED
        return wants, revision

    def _ask_and_tell(self, *args: Any) -> Revision | None:
        try:
            return self._ask_store(*args)
        finally:
            self.holds.tell()

    def _ask_store(
        self,
        call: CallRecord,
        request: Mapping[str, Any] | None,
        wants: list[Want],
        revision: Revision | None,
        came_at: float,
    ) -> Revision | None:
        holds = self.holds
        away = holds.enter()
        if away is not None:
            return self._unavailable(_members(wants), _AWAY.format(away))
        try:
            try:
                with holds.asking():
                    self._reserve(call, request, wants, came_at)
            finally:
                holds.slow.release()
        except Exhausted as refusal:
            raise _exceeded(refusal, wants) from None
        except NotInForce as problem:
            return self._unavailable(_members(wants), problem.reason or _CHANGING)
        except _UNREADABLE as error:
            if isinstance(error, BudgetUnavailable):
                raise
            return self._unavailable(_members(wants), _AWAY.format(error), error)
        return revision

    def _reserve(
        self,
        call: CallRecord,
        request: Mapping[str, Any] | None,
        wants: list[Want],
        came_at: float,
    ) -> None:
        """Register what is not yet, then reserve; with a closer look when there is not enough."""
        holds = self.holds
        counted = False
        for attempt in range(_ATTEMPTS):
            wants[:] = [want for want in wants if self.is_in_force(want[0])]
            # Somebody else may have been given more meanwhile.
            if not wants or holds.take(call.id, wants, self):
                return
            try:
                holds.reserve(call.id, wants, self, came_at)
            except NotInForce as problem:
                if problem.reason is not None or attempt == _ATTEMPTS - 1:
                    raise
                for member, _, _ in wants:
                    if member.id == problem.claim.budget_id:
                        member.forget()
            except Exhausted as refusal:
                if counted or not self._counted(call, request, wants):
                    claim = refusal.claim
                    holds.collect(
                        _member_of(claim, wants),
                        claim.whose,
                        refusal.period,
                        refusal.used,
                        refusal.limit,
                    )
                    raise
                counted = True
            else:
                return

    def is_in_force(self, member: Member) -> bool:
        if member.id is not None:
            return True
        accounts = self.holds.accounts
        if self.holds.registered.get(member.name) == member.terms:
            # Who has switched it off, or changed it, did so on purpose.
            stored = accounts.budget(member.name)
            if stored is not None and not stored.active:
                member.switch_off()
                return False
            if stored is not None:
                if not member.terms.counts_as(stored.terms):
                    claim = Claim(budget_id=stored.id, whose="", period="", needed=0)
                    raise NotInForce(claim, _changed(stored))
                member.id = stored.id
                return True
        member.id = accounts.register(member.terms)
        self.holds.registered[member.name] = member.terms
        return True

    def _counted(
        self, call: CallRecord, request: Mapping[str, Any] | None, wants: list[Want]
    ) -> bool:
        """Replace what is wanted by less, if tokens can be counted; whether that was so."""
        weigh = counter(call.request_model)
        if weigh is None or request is None:
            return False
        size = size_of(request, call.operation, weigh)
        smaller = False
        for number, (member, key, needed) in enumerate(wants):
            exact = member.needed(call, request, size)
            if exact is not None and exact < needed:
                wants[number] = (member, key, exact)
                smaller = True
        return smaller

    def _unavailable(
        self, members: Iterable[Member], why: str, error: Exception | None = None
    ) -> Revision | None:
        if error is not None and is_interruption(error):
            raise error
        members = tuple(members)
        for member in members:
            if member.refuses:
                raise BudgetUnavailable(
                    f'budget {member.name!r}: {why}, and on_unavailable="refuse"'
                ) from error
        names = ", ".join(repr(member.name) for member in members)
        self._note(f"calls were let through unchecked by budget {names}", error)
        return UNCHECKED


async def _result(work: Future[Revision | None]) -> Revision | None:
    """What *work* returns, in whichever loop this runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio
        try:
            from anyio.to_thread import run_sync
        except ImportError:  # without it no SDK waits in trio, only a call by hand
            return work.result()
        return await run_sync(work.result, abandon_on_cancel=True)
    return await asyncio.wrap_future(work)


def _members(wants: list[Want]) -> list[Member]:
    return [member for member, _, _ in wants]


def _member_of(claim: Claim, wants: list[Want]) -> Member:
    return next(member for member, _, _ in wants if member.id == claim.budget_id)


def _changed(stored: StoredBudget) -> str:
    who = "" if stored.updated_by is None else f" ({stored.updated_by})"
    return (
        f"another program{who} has given its name to a budget of another shape at "
        f"{stored.updated_at:%Y-%m-%dT%H:%M:%SZ}: start this one anew, or give them names of "
        "their own"
    )


def _unpriced(member: Member, call: CallRecord) -> BudgetUnavailable:
    unit = member.terms.unit
    return BudgetUnavailable(
        f"budget {member.name!r}: no price in {unit} is known for {call.request_model!r}: add one "
        f"to the ledger's prices, or say what to assume with unpriced_as=… (or rates=… for a "
        "price in another currency)"
    )


def _exceeded(refusal: Exhausted, wants: list[Want]) -> BudgetExceeded:
    claim = refusal.claim
    member = _member_of(claim, wants)
    return BudgetExceeded(
        member.name,
        whose=value_of_key(claim.whose),
        unit=member.terms.unit,
        limit=member.shown(refusal.limit),
        used=member.shown(refusal.used),
        reserved=member.shown(refusal.reserved),
        needed=member.shown(claim.needed),
        resets_at=member.resets_at(refusal.period),
    )
