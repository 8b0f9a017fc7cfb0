"""What this process has leased of budgets, and what of that its calls in flight hold."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import uuid4

import msgspec

from ai_ledger.errors import AILedgerError, ConfigurationError, SinkUnavailable
from ai_ledger.forks import Living
from ai_ledger.interruptions import acquire, behind, is_interruption
from ai_ledger.loading import loading
from ai_ledger.policies.budgets.account import Claim, Exhausted, Granted, NotInForce
from ai_ledger.policies.budgets.elapsed import elapsed
from ai_ledger.policies.budgets.keeper import Keeper
from ai_ledger.policies.budgets.workers import Workers
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql.holds import Consumed
from ai_ledger.sinks.sql.shared import before_closing

if TYPE_CHECKING:
    from collections.abc import Generator

    from ai_ledger.ledger import Ledger
    from ai_ledger.policies.budgets.accounts import Accounts
    from ai_ledger.policies.budgets.member import BudgetWarning, Key, Member
    from ai_ledger.terms import Terms

log: Final = logging.getLogger("ai_ledger.budgets")

Want: TypeAlias = "tuple[Member, Key, int]"
"""A budget, the account, and how much of it the call can take."""

# Calls that are leased for in advance, where there is plenty.
_AHEAD: Final = 64
LONGEST_LEASE_S: Final = 86_400.0
_FORK_WAITS_S: Final = 1.5
_MAX_REFUSALS: Final = 1_000
_CLOSE_WAITS_S: Final = 1.0
_WORKERS: Final = 4
_ACCOUNTS: Final = "ai_ledger.policies.budgets.accounts"
LETS_GO_S: Final = 40.0
"""Longer than any one transaction takes."""
# Each waits for five seconds. Its lock is not a queue: with many processes in one
# file somebody may wait longer.
_BUSY_ATTEMPTS: Final = 5
_LOOKS_S: Final = 0.25
TIMEOUT_S: Final = 5.0
"""Of one transaction for a call that waits; as long again until a dead line is noticed."""
# Anything else was raised by the program, such as the time limit of a task in a thread.
_LIBRARIES: Final = frozenset(
    {"ai_ledger", "builtins", "sqlalchemy", "psycopg", "psycopg_binary", "pymysql"}
)
_OF_THE_STORE: Final = (AILedgerError, OSError, ImportError)


class Slab:
    """A lease on one account: what of it is free for the next call."""

    __slots__ = (
        "calls",
        "free",
        "key",
        "lease_id",
        "leased_until",
        "lost",
        "low",
        "member",
        "refill",
        "used_at",
        "valid_until",
        "wanted",
        "watched",
    )

    def __init__(self, key: Key, member: Member, lease_id: int) -> None:
        self.key = key
        self.member = member
        self.lease_id = lease_id
        self.free = 0
        self.calls = 0
        """That hold something of it."""
        self.valid_until = 0.0
        """By `elapsed`; the store may give it to others from then on. 0: retired."""
        self.leased_until = math.inf
        """The same, also when it is retired."""
        self.used_at = 0.0
        self.low = -1
        """With less free than this, more is leased in the background."""
        self.wanted = 0
        self.refill = False
        self.lost = False
        """The lease is gone: nothing of it can be used or returned."""
        self.watched = False
        """Rows were charged to its account since its use was last looked at."""


class Part(msgspec.Struct):
    """What one call holds of one slab."""

    slab: Slab
    amount: int
    member: Member


class Hold(msgspec.Struct):
    """What one call holds, until its row is stored."""

    parts: list[Part]
    begun: float
    panels: tuple[object, ...]
    """Who has asked for it."""
    ended: bool = False
    """The call is over, and what it holds is final."""
    ended_at: float = math.inf


class Holds:
    """
    All that one process has leased of the budgets in one database.

    A call is admitted out of what is free here, without asking the store, as long
    as there is enough. What it holds is given back, but for what it has spent, when
    it ends; the rest goes in the transaction that stores its row.

    Args:
        url: Of the database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.lease_ttl = LONGEST_LEASE_S
        self.registered: dict[str, Terms] = {}
        """By name, what this process has put into force."""
        self._bound: dict[str, tuple[Terms, weakref.ref[Ledger]]] = {}
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        # Re-entrant: a finalizer may end an abandoned stream in any line of Python,
        # also in one that holds the lock. Ending only ever adds to what is free.
        self.lock = threading.RLock()
        # One conversation with the store at a time: who waits for it usually finds
        # afterwards that enough is free.
        self.slow = threading.Lock()
        self.holder = uuid4().hex
        self.slabs: dict[Key, Slab] = {}
        self.retired: list[Slab] = []
        """Slabs of which the store may have another opinion; no call takes from them."""
        self.held: dict[str, Hold] = {}
        self._refusals: dict[Key, tuple[float, Exhausted]] = {}
        self.probing = threading.Lock()
        """Of whoever looks whether a store that was away is back, while nobody waits."""
        self.doubtful = False
        """The store may have given leases that this process knows nothing of."""
        self._warnings: deque[tuple[Member, BudgetWarning]] = deque()
        self.away: str | None = None
        """Why the store cannot be asked; the keeper looks whether that is over."""
        self._warms_up = False
        self._accounts: Accounts | None = None
        self._quick: Accounts | None = None
        self._pool: Workers | None = None
        self.keeper = Keeper(self)

    @property
    def accounts(self) -> Accounts:
        """
        The accounts in the store.

        Raises:
            AILedgerError: They cannot be had now.
        """
        if self._accounts is None:
            from ai_ledger.policies.budgets.accounts import Accounts
            from ai_ledger.sinks.sql.shared import shared_database

            self._accounts = Accounts(shared_database(self.url))
        return self._accounts

    @property
    def quick(self) -> Accounts:
        """
        The same, for what calls wait for: it gives up after `TIMEOUT_S`.

        Raises:
            AILedgerError: They cannot be had now.
        """
        if self._quick is None:
            from ai_ledger.policies.budgets.accounts import Accounts
            from ai_ledger.sinks.sql.shared import quick_database

            self._quick = Accounts(quick_database(self.url, timeout_s=TIMEOUT_S))
        return self._quick

    def bind(self, terms: Terms, ledger: Ledger, *, replaces: bool = False) -> None:
        """
        Note that *ledger* has a budget with *terms*, maybe in place of another one.

        Raises:
            ConfigurationError: A ledger that is still open has another one of this name.
        """
        known, owner = self._bound.get(terms.name, (terms, None))
        if known != terms and not replaces and owner is not None and owner() is not None:
            raise ConfigurationError(
                f"several budgets in one store are called {terms.name!r}: give them names of "
                "their own"
            )
        self._bound[terms.name] = (terms, weakref.ref(ledger))

    def enter(self) -> str | None:
        """
        Wait for `slow` and take it, unless the store is away.

        Returns:
            Why the store cannot be asked; `slow` is not taken then.
        """
        while (away := self.away) is None:
            if self.slow.acquire(timeout=_LOOKS_S):
                if (away := self.away) is None:
                    return None
                self.slow.release()
                return away
        return away

    def collect(self, member: Member, whose: str, period: str, used: int, limit: int) -> None:
        """Note what `tell` has to warn of. Within `slow`."""
        for warning in member.reached(whose, period, used, limit):
            self._warnings.append((member, warning))

    def tell(self) -> None:
        """Warn of what was collected. Not within `slow`: who is warned may make calls."""
        while self._warnings:
            try:
                member, warning = self._warnings.popleft()
            except IndexError:  # another thread was quicker
                return
            member.warn(warning)

    def tell_in_background(self) -> None:
        """The same, for a thread that has no time for it."""
        if self._warnings:
            thread = threading.Thread(target=self.tell, name="ai-ledger-warnings", daemon=True)
            with suppress(RuntimeError):  # the interpreter is shutting down
                thread.start()

    def warm_up(self) -> None:
        """Import in the background what the first question needs, and ask nothing yet."""
        if _ACCOUNTS in sys.modules or self._warms_up:
            return
        self._warms_up = True
        thread = threading.Thread(
            target=_import, args=(self.url,), name="ai-ledger-imports", daemon=True
        )
        with suppress(RuntimeError):  # the interpreter is shutting down
            thread.start()

    @property
    def pool(self) -> Workers:
        """Threads in which calls let the store be asked."""
        if self._pool is None:
            with self.lock:
                if self._pool is None:
                    self._pool = Workers(_WORKERS)
        return self._pool

    # Before a call

    def take(self, call_id: str, wants: Sequence[Want], panel: object) -> bool:
        """Hold what the call needs of all accounts, if all of it is free here; or nothing."""
        now = elapsed()
        slabs = self.slabs
        parts: list[Part] = []
        with self.lock:
            for member, key, needed in wants:
                slab = slabs.get(key)
                if slab is None or slab.free < needed or slab.valid_until < now:
                    return False
                if slab.member is not member and slab.member.terms != member.terms:
                    return False  # leased when the limit was another one
                parts.append(Part(slab, needed, member))
            held = self._hold(call_id, now, panel).parts
            for part in parts:
                slab = part.slab
                # Nothing is called in between, so that no handler of a signal runs: what
                # is taken is held, and comes back with the row of the interrupted call.
                slab.free -= part.amount
                slab.calls += 1
                held.append(part)
                slab.used_at = now
                if slab.free < slab.low and not slab.refill:
                    slab.refill = True
                    self.keeper.ring()
        return True

    def _hold(self, call_id: str, now: float, panel: object) -> Hold:
        hold = self.held.get(call_id)
        if hold is None:
            hold = self.held[call_id] = Hold([], now, (panel,))
        else:
            # A budget of the client, after those of the ledger.
            hold.panels = (*hold.panels, panel)
        return hold

    def has(self, call_id: str, member: Member) -> bool:
        """Whether the call holds something of this budget already."""
        hold = self.held.get(call_id)
        return hold is not None and any(part.member is member for part in hold.parts)

    def reserve(
        self, call_id: str, wants: Sequence[Want], panel: object, since: float = math.inf
    ) -> None:
        """
        Ask the store for what is not free here, and hold all of it. Within `slow`.

        Args:
            call_id: Of the call that needs it.
            wants: What it needs.
            panel: Who asks.
            since: When the caller came, by `elapsed`. What the store has
                refused to others after that it is not asked for again.

        Raises:
            Exhausted: One of the budgets has not enough. Nothing is held.
            NotInForce: One of them is switched off.
            AILedgerError: The store cannot be asked.
        """
        now = elapsed()
        self._refuse_again(wants, since)
        parts: list[Part] = []
        asked: list[tuple[Want, Slab | None]] = []
        claims: list[Claim] = []
        with self.lock:
            for want in wants:
                member, key, needed = want
                slab = self.slabs.get(key)
                if (
                    slab is not None
                    and slab.free >= needed
                    and slab.valid_until >= now
                    and slab.member.terms == member.terms
                ):
                    slab.free -= needed
                    slab.calls += 1
                    slab.used_at = now
                    parts.append(Part(slab, needed, member))
                    continue
                assert member.id is not None
                returned = 0 if slab is None else slab.free
                if slab is not None:
                    slab.free = 0
                asked.append((want, slab))
                claims.append(
                    Claim(
                        budget_id=member.id,
                        whose=key[1],
                        period=key[2],
                        needed=needed,
                        wanted=needed * _AHEAD,
                        returned=returned,
                        lease_id=None if slab is None else slab.lease_id,
                    )
                )
        try:
            granted = self._granted_by_store(claims)
        except BaseException as error:
            with self.lock:
                for part in parts:
                    part.slab.free += part.amount
                    part.slab.calls -= 1
                if isinstance(error, Exhausted):
                    self._note_refusal(error, asked, now)
                elif not isinstance(error, NotInForce):
                    self.doubtful = True
                if not isinstance(error, Exhausted):
                    # Who knows whether what was returned has come back.
                    for _, slab in asked:
                        self.retire(slab)
            raise
        with self.lock:
            for (want, slab), grant in zip(asked, granted.grants, strict=True):
                member, key, needed = want
                slab = self.granted(slab, key, member, grant.lease_id)
                slab.member = member
                slab.free += grant.amount - needed
                slab.calls += 1
                slab.used_at = now
                slab.valid_until = slab.leased_until = now + self.lease_ttl
                slab.wanted = needed * _AHEAD
                slab.low = slab.free // 4 if grant.amount > needed else -1
                parts.append(Part(slab, needed, member))
            self._hold(call_id, now, panel).parts.extend(parts)
        self.keeper.start()
        for (want, _), grant in zip(asked, granted.grants, strict=True):
            self.collect(want[0], want[1][1], grant.period, grant.used, grant.limit)

    def _note_refusal(
        self, error: Exhausted, asked: Sequence[tuple[Want, Slab | None]], now: float
    ) -> None:
        if len(self._refusals) >= _MAX_REFUSALS:
            self._refusals.clear()
        for (member, key, _), _ in asked:
            if member.id == error.claim.budget_id and key[1:] == (
                error.claim.whose,
                error.claim.period,
            ):
                self._refusals[key] = now, error

    def _refuse_again(self, wants: Sequence[Want], since: float) -> None:
        """Spare the store the question that it has answered while this call waited in line."""
        for member, key, needed in wants:
            asked_at, known = self._refusals.get(key, (-math.inf, None))
            if (
                known is not None
                and asked_at >= since
                and needed >= known.claim.needed
                and (member.id, member.terms.limit) == (known.claim.budget_id, known.limit)
            ):
                raise Exhausted(
                    msgspec.structs.replace(known.claim, needed=needed),
                    period=known.period,
                    used=known.used,
                    reserved=known.reserved,
                    limit=known.limit,
                    now=known.now,
                )

    def _granted_by_store(self, claims: Sequence[Claim]) -> Granted:
        """Ask again as long as an SQLite file is only busy: nothing has happened then."""
        for _ in range(_BUSY_ATTEMPTS):
            try:
                return self.lease(claims)
            except SinkUnavailable as error:
                if "database is locked" not in str(error):
                    raise
        return self.lease(claims)

    def lease(self, claims: Sequence[Claim]) -> Granted:
        """Ask the store once."""
        with self.lock:
            known = {slab.lease_id for slab in [*self.slabs.values(), *self.retired]}
        return self.quick.reserve(claims, holder=self.holder, ttl_s=self.lease_ttl, known=known)

    def granted(self, slab: Slab | None, key: Key, member: Member, lease_id: int) -> Slab:
        if slab is not None and slab.lease_id == lease_id and not slab.lost:
            return slab
        self.retire(slab)
        fresh = Slab(key, member, lease_id)
        self.slabs[key] = fresh
        return fresh

    def retire(self, slab: Slab | None) -> None:
        """Let no call take from *slab* any more; the keeper drops it when none holds any of it."""
        if slab is None:
            return
        if self.slabs.get(slab.key) is slab:
            del self.slabs[slab.key]
        slab.valid_until = 0.0
        if slab not in self.retired and not slab.lost:
            self.retired.append(slab)

    # After it

    def end(self, record: CallRecord) -> str | None:
        """
        Give back what an ended call did not spend. Done once for each call.

        Returns:
            ``overrun`` when it has spent more than was set aside for it, ``late``
            when others may have been given the same before it has ended.
        """
        hold = self.held.get(record.id)
        if hold is None or hold.ended:
            return None
        spent = [part.member.spent(record) for part in hold.parts]
        overrun = late = False
        now = elapsed()
        with self.lock:
            if hold.ended:
                return None
            hold.ended = True
            hold.ended_at = now
            left = 0
            for part, amount in zip(hold.parts, spent, strict=True):
                slab = part.slab
                if amount != 0 and (slab.lost or slab.leased_until < now):
                    late = True
                if amount is not None:
                    if amount > part.amount:
                        overrun = overrun or part.member.charged(record) > part.amount
                        # As far as possible, what comes on top is reserved as well.
                        amount = min(amount, part.amount + max(0, slab.free))
                    slab.free += part.amount - amount
                    part.amount = amount
                left += part.amount
            if not left:
                self.forget(record.id)
        return "overrun" if overrun else "late" if late else None

    def abandon(self, call_id: str) -> None:
        """Give back all that a call holds that will not be sent."""
        with self.lock:
            hold = self.held.get(call_id)
            if hold is not None and not hold.ended:
                while hold.parts:
                    part = hold.parts[-1]
                    part.slab.free += part.amount
                    part.slab.calls -= 1
                    del hold.parts[-1]
                self.forget(call_id)

    def forget(self, call_id: str) -> None:
        hold = self.held.pop(call_id, None)
        if hold is not None:
            for part in hold.parts:
                part.slab.calls -= 1

    # The writer of the calls' rows

    def consumed(self, call_ids: Sequence[str]) -> list[Consumed]:
        """What ends with the rows of these calls; see the protocol of this name."""
        found: list[Consumed] = []
        with self.lock:
            for call_id in call_ids:
                hold = self.held.get(call_id)
                if hold is not None:
                    if not hold.ended:
                        hold.ended = True
                        hold.ended_at = elapsed()
                    found += [
                        Consumed(part.slab.lease_id, part.amount)
                        for part in hold.parts
                        if part.amount
                    ]
        return found

    def charged(self, call_ids: Sequence[str]) -> None:
        """These calls are stored; what they held is off the leases."""
        with self.lock:
            for call_id in call_ids:
                hold = self.held.get(call_id)
                if hold is not None:
                    for part in hold.parts:
                        part.slab.watched = True
                    self.forget(call_id)

    def closed(self) -> None:
        """The ledger ends: what is free goes back at once."""
        self._bound.clear()
        if not self.slabs and not self.retired:
            return
        # One of its own, which has nothing else to do.
        Workers(1).run(self._give_back)

    def _give_back(self) -> None:
        if not self.slow.acquire(timeout=_CLOSE_WAITS_S):
            return
        try:
            self._give_back_within()
        finally:
            self.slow.release()

    def _give_back_within(self) -> None:
        try:
            self.keeper.give_back(idle_s=0.0)
        except Exception as error:  # noqa: BLE001  # the leases end by themselves
            log.debug("what was free of budgets could not be given back: %s", error)

    # The store

    @contextmanager
    def let_go(self) -> Generator[None]:
        """
        Ask nothing until the block ends, and through a new connection afterwards.

        What is free goes back. The keeper then leaves the store alone until a call
        needs something, unless calls in flight hold leases that it has to renew.
        """
        got: list[bool] = []
        probing: list[bool] = []
        try:
            acquire(self.slow, LETS_GO_S, got)
            try:
                acquire(self.probing, LETS_GO_S, probing)
                if True in got:
                    Workers(1).run(self._give_back_within)
                    self.away = None
                    self._accounts = self._quick = None
                yield
            finally:
                if True in probing:
                    self.probing.release()
        finally:
            if True in got:
                self.slow.release()

    @contextmanager
    def asking(self) -> Generator[None]:
        """
        Notice when the store is away.

        Raises:
            AILedgerError: It is.
        """
        handled = sys.exception()
        try:
            yield
        except (Exhausted, NotInForce):
            raise
        except BaseException as error:
            # An interruption leaves the connection in a state that its end complains of.
            if (interruption := _interruption(error, handled)) is not None:
                self.keeper.start()
                raise interruption from None
            if is_of_the_store(error):
                self.away = f"{type(error).__name__}: {error}"
            self.keeper.start()
            if isinstance(error, AILedgerError) or self.away is None:
                raise
            raise AILedgerError(self.away) from error

    def after_fork_in_child(self) -> None:
        """Start with nothing: leases and calls in flight are the parent's."""
        self._begin()


_living: Final[Living[Holds]] = Living()
_by_url: Final[weakref.WeakValueDictionary[str, Holds]] = weakref.WeakValueDictionary()
_by_url_lock = threading.Lock()
_waited_for: Final[list[tuple[threading.Lock, list[bool]]]] = []


def _import(url: str) -> None:
    with suppress(Exception), loading:  # whoever asks is told what is wrong
        from ai_ledger.database.engine import Database

        import_module("ai_ledger.database.upgrade")
        import_module(_ACCOUNTS)
        Database(url).close()  # imports the driver


def is_of_the_store(error: BaseException) -> bool:
    """Whether *error* says that the store cannot be asked, and is not the program's own."""
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    return isinstance(error, _OF_THE_STORE) or (
        sqlalchemy is not None and isinstance(error, sqlalchemy.SQLAlchemyError)
    )


def _interruption(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """What the program has raised while the driver waited, behind *error*; see `behind`."""
    found = None
    for each in behind(error, handled):
        module = type(each).__module__.partition(".")[0]
        ours = module in _LIBRARIES or module in sys.stdlib_module_names
        if not ours or is_interruption(each):
            found = each
    return found


def holds_of(url: str) -> Holds:
    """The one `Holds` of this process for the database at *url*."""
    with _by_url_lock:
        found = _by_url.get(url)
        if found is None:
            found = _by_url[url] = Holds(url)
        return found


@contextmanager
def _let_go() -> Generator[None]:
    with ExitStack() as stack:
        for holds in sorted(_living, key=id):
            stack.enter_context(holds.let_go())
        yield


before_closing.append(_let_go)


def _before_fork() -> None:
    # A child that is born while a thread of its parent is inside SQLite finds a
    # lock that nobody will ever open.
    for holds in _living:
        for lock in (holds.slow, holds.probing):
            got: list[bool] = []
            _waited_for.append((lock, got))
            acquire(lock, _FORK_WAITS_S, got)


def _after_fork_in_parent() -> None:
    try:
        _release()
    finally:
        _release()  # what the first has not come to, if it was interrupted


def _release() -> None:
    while _waited_for:
        lock, got = _waited_for[-1]
        if True in got:
            got[:] = ()
            lock.release()
        del _waited_for[-1]


def _after_fork_in_child() -> None:
    global _by_url_lock
    _by_url_lock = threading.Lock()
    _waited_for.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
