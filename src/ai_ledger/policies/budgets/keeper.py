"""The keeper: renews leases, leases more in time, gives back what lies idle."""

from __future__ import annotations

import logging
import math
import queue
import threading
from typing import TYPE_CHECKING, Final

from ai_ledger.money import MAX_NANO
from ai_ledger.policies.budgets.account import Claim, Exhausted, NotInForce
from ai_ledger.policies.budgets.elapsed import elapsed

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.holds import Holds, Slab
    from ai_ledger.policies.budgets.member import Member

log: Final = logging.getLogger("ai_ledger.budgets")

IDLE_S: Final = 1.0
"""What nobody has taken from for so long goes back to the store."""
LONGEST_CALL_S: Final = 6 * 3600.0
"""Calls that nobody has ended for so long were forgotten, and hold nothing any more."""

_TICK_S: Final = 0.25
_LINGERS_S: Final = 5.0
_MAX_WATCHED: Final = 100
# Rows that could not be stored while it was away come soon after.
_SETTLES_S: Final = 600.0


class Keeper:
    """
    A thread that looks after what a process has leased, as long as it has.

    Args:
        holds: What it looks after.
    """

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._thread: threading.Thread | None = None
        # Safe to put into from a finalizer, which setting an Event is not.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._renewed_at = 0.0
        self._back_at = -math.inf

    def ring(self) -> None:
        """Have it look now."""
        self._bell.put(None)

    def start(self) -> None:
        """See to it that it runs."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            return
        with self._holds.lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._renewed_at = elapsed()
            thread = threading.Thread(target=self._run, name="ai-ledger-leases", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                # The interpreter is shutting down: leases end by themselves.
                log.debug("no thread for the leases of budgets: %s", error)
                return
            self._thread = thread

    def _run(self) -> None:
        holds = self._holds
        busy_at = elapsed()
        while True:
            rang = self._rest()
            if self._is_needed() or rang:
                busy_at = elapsed()
            elif elapsed() > busy_at + _LINGERS_S:
                with holds.lock:
                    if not self._is_needed():
                        self._thread = None
                        return
            try:
                if holds.away is not None:
                    self.probe()
                with holds.slow:
                    self.tick()
            except Exception as error:  # noqa: BLE001  # nobody else could go on for it
                holds.doubtful = True
                holds.away = f"{type(error).__name__}: {error}"
                log.debug("the leases of budgets could not be looked after: %s", error)
            holds.tell_in_background()

    def _is_needed(self) -> bool:
        holds = self._holds
        return bool(
            holds.slabs or holds.retired or holds.held or holds.away is not None or holds.doubtful
        )

    def _rest(self) -> bool:
        try:
            self._bell.get(timeout=min(_TICK_S, self._holds.lease_ttl / 6))
        except queue.Empty:
            return False
        while not self._bell.empty():
            self._bell.get_nowait()
        return True

    def probe(self) -> None:
        """
        Look whether the store is back. Not within ``slow``, which callers may wait for.

        Raises:
            AILedgerError: It is not.
        """
        holds = self._holds
        with holds.probing:
            if holds.away is None:
                return
            holds.quick.renew(holds.holder, ttl_s=holds.lease_ttl)
            self._back_at = elapsed()
            holds.doubtful = True
            holds.away = None

    def tick(self) -> None:
        """One round, within ``slow``."""
        holds = self._holds
        if holds.doubtful or elapsed() > self._renewed_at + holds.lease_ttl / 3:
            self._renew()
        self._refill()
        self._release_forgotten()
        self._watch()
        self.give_back(IDLE_S)

    def _renew(self) -> None:
        holds = self._holds
        with holds.lock:
            slabs = [*holds.slabs.values(), *holds.retired]
        started = elapsed()
        if slabs or holds.doubtful:
            alive = holds.quick.renew(holds.holder, ttl_s=holds.lease_ttl)
            with holds.lock:
                for slab in slabs:
                    if slab.lease_id not in alive:
                        self._lose(slab)
                        continue
                    slab.leased_until = started + holds.lease_ttl
                    if slab.valid_until:
                        slab.valid_until = slab.leased_until
            # Granted, but the answer was lost on its way here.
            unknown = alive - {slab.lease_id for slab in slabs}
            if unknown:
                holds.quick.give_back([(lease_id, MAX_NANO) for lease_id in sorted(unknown)])
            holds.doubtful = False
        self._renewed_at = started

    def _lose(self, slab: Slab) -> None:
        """The store has given the lease to others, since this process did not renew it in time."""
        holds = self._holds
        slab.lost = True
        slab.free = 0
        slab.valid_until = 0.0
        if holds.slabs.get(slab.key) is slab:
            del holds.slabs[slab.key]
        if slab in holds.retired:
            holds.retired.remove(slab)

    def _refill(self) -> None:
        holds = self._holds
        with holds.lock:
            slabs = [slab for slab in holds.slabs.values() if slab.refill]
        for slab in slabs:
            slab.refill = False
            member = slab.member
            if member.id is None:
                continue
            claim = Claim(
                budget_id=member.id,
                whose=slab.key[1],
                period=slab.key[2],
                needed=0,
                wanted=slab.wanted,
                lease_id=slab.lease_id,
            )
            started = elapsed()
            try:
                granted = holds.lease([claim])
            except (Exhausted, NotInForce):
                slab.low = -1
                continue
            except BaseException:
                with holds.lock:
                    holds.retire(slab)
                raise
            grant = granted.grants[0]
            with holds.lock:
                target = holds.granted(slab, slab.key, member, grant.lease_id)
                target.free += grant.amount
                target.used_at = started
                target.valid_until = target.leased_until = started + holds.lease_ttl
                target.wanted = slab.wanted
                target.low = target.free // 4 if grant.amount else -1
            holds.collect(member, slab.key[1], grant.period, grant.used, grant.limit)

    def _release_forgotten(self) -> None:
        holds = self._holds
        now = elapsed()
        before = now - LONGEST_CALL_S
        stored = now > self._back_at + _SETTLES_S
        with holds.lock:
            # Of those that have ended, the row was lost on its way.
            forgotten = [
                call_id
                for call_id, hold in holds.held.items()
                if (hold.ended_at < before and stored if hold.ended else hold.begun < before)
            ]
            for call_id in forgotten:
                for part in holds.held[call_id].parts:
                    part.slab.free += part.amount
                holds.forget(call_id)
        if forgotten:
            log.warning(
                "%d calls were never ended, or never stored: their budgets are free again",
                len(forgotten),
            )

    def give_back(self, idle_s: float) -> None:
        """Return what nobody has taken from for *idle_s*, and whole leases that no call holds."""
        holds = self._holds
        before = elapsed() - idle_s
        dropped: list[Slab] = []
        amounts: list[tuple[int, int]] = []
        doubtful: list[Slab] = []
        with holds.lock:
            for slab in [*holds.slabs.values(), *holds.retired]:
                retired = not slab.valid_until
                if not retired and slab.used_at > before:
                    continue
                if not slab.calls:
                    if holds.slabs.get(slab.key) is slab:
                        del holds.slabs[slab.key]
                    if retired:
                        holds.retired.remove(slab)
                    slab.valid_until = 0.0
                    dropped.append(slab)
                elif not retired and slab.free:
                    amounts.append((slab.lease_id, slab.free))
                    slab.free = 0
                    doubtful.append(slab)
        if not (dropped or amounts):
            return
        try:
            # All of it, whatever that is, where no call holds anything.
            holds.quick.give_back([*((slab.lease_id, MAX_NANO) for slab in dropped), *amounts])
        except BaseException:
            with holds.lock:
                holds.retired += dropped
                for slab in doubtful:
                    holds.retire(slab)
            raise

    def _watch(self) -> None:
        """Look at the accounts that were charged, for whoever wants to be warned."""
        holds = self._holds
        with holds.lock:
            slabs = [
                slab
                for slab in [*holds.slabs.values(), *holds.retired]
                if slab.watched and slab.member.has_warnings
            ][:_MAX_WATCHED]
        members: dict[tuple[int, str, str], Member] = {}
        for slab in slabs:
            slab.watched = False
            _, whose, period = slab.key
            member = slab.member
            if member.id is not None and not member.is_quiet(whose, period):
                members[member.id, whose, period] = member
        if members:
            for account in holds.quick.states(members):
                key = (account.budget_id, account.whose, account.period)
                holds.collect(members[key], *key[1:], account.used, account.limit)
