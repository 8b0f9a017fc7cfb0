"""Token limits of quotas: a budget for each row that has one."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ai_ledger.bounds import label
from ai_ledger.errors import BudgetExceeded, BudgetUnavailable, NotFound, QuotaExceeded
from ai_ledger.forks import Living
from ai_ledger.policies.quotas.admission import Later
from ai_ledger.policies.quotas.known import REFRESH_S
from ai_ledger.policies.quotas.quota import EVERY, Quota
from ai_ledger.terms import Terms
from ai_ledger.validation import EARLIEST, LATEST

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ai_ledger.database.engine import Database
    from ai_ledger.ledger import Ledger
    from ai_ledger.policies.budgets.budget import Budget
    from ai_ledger.policy import Revision
    from ai_ledger.records import CallRecord

_ONE_SCOPE: Final = ""


class TokenLimits:
    """
    Asks the budgets of the rows that have a token limit. Threads share it.

    A budget's account is charged in the transaction that stores a call, so that what
    is used is what the rows add up to, whichever process has made the calls.

    Args:
        on_unavailable: What happens when the store is away.
    """

    def __init__(self, on_unavailable: Literal["allow", "refuse"]) -> None:
        self._on_unavailable: Literal["allow", "refuse"] = on_unavailable
        self._ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
        self._budgets: dict[tuple[str, str], tuple[datetime | None, Budget]] = {}
        self._start()
        _living.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, Budget] = {}

    after_fork_in_child = _start

    def bind(self, ledger: Ledger) -> None:
        """Count the calls of *ledger*."""
        with self._lock:
            self._ledgers.add(ledger)
            self._budgets.clear()

    def check(
        self, quota: Quota, call: CallRecord, request: Mapping[str, Any] | None
    ) -> Revision | None:
        """
        Set aside the most that *call* can take.

        Raises:
            QuotaExceeded: That is more than is left.
            Later: The store is away, and calls are then refused.
        """
        budget = self._budget(quota)
        if budget is None:
            return None
        try:
            revision = budget.check(call, request)
        except (BudgetExceeded, BudgetUnavailable) as refusal:
            raise _translated(refusal, quota) from None
        self._asked[call.id] = budget
        return revision

    async def acheck(
        self, quota: Quota, call: CallRecord, request: Mapping[str, Any] | None
    ) -> Revision | None:
        """`check` for coroutines."""
        budget = self._budget(quota)
        if budget is None:
            return None
        try:
            revision = await budget.acheck(call, request)
        except (BudgetExceeded, BudgetUnavailable) as refusal:
            raise _translated(refusal, quota) from None
        self._asked[call.id] = budget
        return revision

    def review(self, record: CallRecord, answer: str | None) -> Mapping[str, str] | None:
        """Give back what was not needed; the mark of a call that took more."""
        budget = self._asked.get(record.id)
        return None if budget is None else budget.review(record, answer)

    def settle(self, record: CallRecord) -> None:
        """Give back what was not needed."""
        budget = self._asked.pop(record.id, None)
        if budget is not None:
            budget.settle(record)

    def _budget(self, quota: Quota) -> Budget | None:
        if not quota.tokens:
            return None
        key = (quota.org_id, quota.model)
        known = self._budgets.get(key)
        if known is not None and known[0] == quota.updated_at:
            return known[1]
        with self._lock:
            known = self._budgets.get(key)
            if known is None or known[0] != quota.updated_at:
                known = quota.updated_at, self._made(quota)
                self._budgets[key] = known
        return known[1]

    def _made(self, quota: Quota) -> Budget:
        from ai_ledger.policies.budgets.budget import Budget

        terms = terms_of(quota)
        budget = Budget(
            tokens=terms.limit,
            per="total"
            if terms.since is None or terms.until is None
            else (terms.since, terms.until),
            where=terms.where,
            each=terms.each,
            name=terms.name,
            warn_at=(),
            on_unavailable=self._on_unavailable,
        )
        budget.replaces = True
        for ledger in list(self._ledgers):
            budget.bind(ledger)
        return budget


def terms_of(quota: Quota) -> Terms:
    """What the budget of *quota* counts."""
    where: dict[str, tuple[str | None, ...]] = {}
    each = None
    for field, value in (("org_id", quota.org_id), ("request_model", quota.model)):
        if value == EVERY:
            each = field
        else:
            where[field] = (value,)
    bounded = quota.valid_from is not None or quota.valid_until is not None
    return Terms(
        name=budget_name(quota.org_id, quota.model),
        unit="tokens",
        limit=quota.tokens,
        per="window" if bounded else "total",
        since=(quota.valid_from or EARLIEST) if bounded else None,
        until=(quota.valid_until or LATEST) if bounded else None,
        where=where,
        each=each,
    )


def budget_name(org_id: str, model: str) -> str:
    """How the budget of a quota is called among budgets."""
    return label(f"quota {msgspec.json.encode((org_id, model)).decode()}")


def count_tokens(connection: Connection, quota: Quota, now: datetime, by: str | None) -> None:
    """Have the ledger's writers count for *quota* from this transaction on, or no longer."""
    from ai_ledger.policies.budgets import registration

    if quota.tokens:
        registration.register(connection, terms_of(quota), now, by)
    else:
        stop_counting(connection, quota, now, by)


def stop_counting(connection: Connection, quota: Quota, now: datetime, by: str | None) -> None:
    """Have the ledger's writers no longer count for *quota*, if they do."""
    from ai_ledger.policies.budgets import registration

    with suppress(NotFound):
        registration.deactivate(connection, budget_name(quota.org_id, quota.model), now, by)


def clock_of(database: Database) -> datetime:
    """The time by which budgets are put into force."""
    from ai_ledger.policies.budgets.accounts import Accounts

    return Accounts(database).now()


def tokens_used(database: Database, quota: Quota) -> int | None:
    """What is charged to *quota*, of everybody; ``None`` when nobody counts."""
    from ai_ledger.policies.budgets.accounts import Accounts

    accounts = Accounts(database)
    stored = accounts.budget(budget_name(quota.org_id, quota.model)) if quota.tokens else None
    if stored is None or not stored.active or EVERY in (quota.org_id, quota.model):
        return None
    period = "total" if quota.valid_from is None and quota.valid_until is None else "window"
    return accounts.state(stored.id, _ONE_SCOPE, period).used


def _translated(refusal: BudgetExceeded | BudgetUnavailable, quota: Quota) -> Exception:
    if isinstance(refusal, BudgetUnavailable):
        return Later(f"whether the quotas allow this cannot be told ({refusal})", REFRESH_S)
    return QuotaExceeded(
        quota.name,
        needed=int(refusal.needed),
        used=int(refusal.used),
        reserved=int(refusal.reserved),
        limit=int(refusal.limit),
        until=quota.valid_until,
    )


_living: Final[Living[TokenLimits]] = Living()
