"""What is asked of the accounts of budgets, and what they answer. Needs no database."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ai_ledger.terms import Terms


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """
    A share of a budget that is asked for.

    Args:
        budget_id: As `Accounts.register` gave it.
        whose: As `Terms.whose` writes it.
        period: Which: that in which the call started, where its row will be charged.
        needed: What must be had, in the unit of the budget.
        wanted: What would be taken in advance, *needed* included: for 64 calls.
        returned: What the holder gives back first, of the lease *lease_id*.
        lease_id: The holder's lease on this account, to be added to.
    """

    budget_id: int
    whose: str
    period: str
    needed: int
    wanted: int = 0
    returned: int = 0
    lease_id: int | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was given for one claim.

    Args:
        claim: What was asked for.
        lease_id: The lease that *amount* was added to: that of the claim if it is
            still alive and of the same period, else a new one.
        period: That of the claim.
        amount: What was added, at least what was needed.
        used: Of the account, without this grant.
        reserved: Of the account, with this grant.
        limit: In force now.
    """

    claim: Claim
    lease_id: int
    period: str
    amount: int
    used: int
    reserved: int
    limit: int


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was given for all claims of a call together.

    Args:
        grants: In the order of the claims.
        now: The database's clock, aware.
    """

    grants: tuple[Grant, ...]
    now: datetime


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is used of a budget in one period, by all or by one, in the budget's unit.

    Args:
        budget_id: Of which budget.
        budget: Its name.
        whose: As `Terms.whose` writes it.
        period: When.
        used: What the ledger's rows say.
        reserved: What processes hold.
        limit: Of the budget's terms as they are now.
        calls: How many calls were counted.
        uncounted: How many of them are of unknown amount.
        updated_at: When it last changed; ``None`` for an account without any call.
    """

    budget_id: int
    budget: str
    whose: str
    period: str
    used: int
    reserved: int
    limit: int
    calls: int
    uncounted: int
    updated_at: datetime | None

    @property
    def overrun(self) -> int:
        """By how much paid calls have passed the limit."""
        return max(0, self.used - self.limit)


class StoredBudget(msgspec.Struct, frozen=True, kw_only=True):
    """
    A budget as it is registered.

    Args:
        id: Never used again for another one.
        terms: What it counts.
        active: Whether it does.
        counts_from: Calls that started earlier are not counted; ``None``: all are.
        version: Goes up with every edit.
        created_at: When it was first registered.
        updated_at: When it was last changed.
        updated_by: By whom.
    """

    id: int
    terms: Terms
    active: bool
    counts_from: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    updated_by: str | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """
    An account that does not say what it should.

    Args:
        budget: The budget's name.
        whose: As in `Account`.
        period: When.
        used: What the account says is used.
        rows: What the ledger's rows say.
        reserved: What the account says is reserved.
        leases: What the leases add up to.
    """

    budget: str
    whose: str
    period: str
    used: int
    rows: int
    reserved: int
    leases: int


class Exhausted(Exception):
    """
    A hard budget has not what was needed. Nothing was taken.

    Args:
        claim: The one that could not be met.
        period: Of its account.
        used: Of its account.
        reserved: Of its account, after what came back.
        limit: In force now.
        now: The database's clock, aware.
    """

    def __init__(
        self, claim: Claim, *, period: str, used: int, reserved: int, limit: int, now: datetime
    ) -> None:
        super().__init__(claim)
        self.claim = claim
        self.period = period
        self.used = used
        self.reserved = reserved
        self.limit = limit
        self.now = now


class NotInForce(Exception):
    """
    A budget that was claimed from is gone: deactivated, or registered with other terms.

    Nothing was taken. `Accounts.budget` tells by the name what is in force now. Also
    raised when the database's clock is not near the period of the claim.

    Args:
        claim: The one that could not be met.
        reason: What is wrong with a clock; ``None`` when the budget is gone.
    """

    def __init__(self, claim: Claim, reason: str | None = None) -> None:
        super().__init__(claim, reason)
        self.claim = claim
        self.reason = reason
