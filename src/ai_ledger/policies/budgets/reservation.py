"""A reservation: claims on several accounts, met together or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.tables.budgets import accounts, leases
from ai_ledger.errors import InvalidValue
from ai_ledger.money import MAX_NANO
from ai_ledger.policies.budgets.account import Claim, Exhausted, Grant, Granted, NotInForce
from ai_ledger.sinks.sql.charges import add_to_accounts
from ai_ledger.sinks.sql.leases import (
    AccountKey,
    accounts_of,
    drop_blank,
    expired_on,
    lock_leases,
)
from ai_ledger.terms import Terms

SKEW: Final = timedelta(seconds=300)
"""How far the clocks of processes and of the database may be apart at a period's edge."""
AHEAD: Final = timedelta(hours=26)
"""A moment further ahead of the database's clock was told by a wrong one. A day and an hour
of a step back, or a zone mistaken for another, are less."""

# In advance at most this part of what is left, and only while this part of the limit
# is left: what one process holds and does not use is refused to all the others.
_SHARE: Final = 100
_NEAR: Final = 20
# A hundredth of a small budget is less than one call. While more than half is left, a
# few calls may be leased for all the same, up to a tenth of what is left.
_FAR: Final = 2
_FEW: Final = 8
_SMALL_SHARE: Final = 10


class Reservation:
    """
    One attempt, inside one transaction.

    Args:
        connection: That of the transaction.
        terms: Of the budgets in force that are claimed from.
        now: The database's clock.
        holder: Who claims.
        ttl_s: How long the leases last unless they are renewed.
        known: The leases that the holder knows of; ``None``: all that are its own.
    """

    def __init__(
        self,
        connection: Connection,
        terms: Mapping[int, Terms],
        now: datetime,
        *,
        holder: str,
        ttl_s: float,
        known: Collection[int] | None = None,
    ) -> None:
        self._connection = connection
        self._terms = terms
        self._now = now
        self._holder = label(holder)
        self._expires_at = now + timedelta(seconds=ttl_s)
        self._known = known
        self._accounts: dict[AccountKey, _Account] = {}
        self._leases: dict[int, _Lease] = {}

    def make(self, claims: Sequence[Claim]) -> Granted | Exhausted:
        """
        What was given, or why nothing was.

        That there is not enough is returned and not raised, so that what came back
        stays back.

        Raises:
            NotInForce: A clock is off. The transaction has to be rolled back.
        """
        for claim in claims:
            if not self._has_period(claim):
                raise NotInForce(claim)
        # A call is charged in the period in which it started, so that is where it
        # reserves, whatever the time is here.
        targets = [(claim.budget_id, claim.whose, claim.period) for claim in claims]
        own = accounts_of(
            self._connection, {claim.lease_id for claim in claims if claim.lease_id is not None}
        )
        older = {key for key in own.values() if key[:2] in {target[:2] for target in targets}}
        latest = self._lock_accounts({*targets, *older})
        for claim, target in zip(claims, targets, strict=True):
            if reason := self._is_wrong(target, latest[target]):
                raise NotInForce(claim, reason)
        self._lock_leases(targets, own)
        for claim in claims:
            self._take_back(claim)
        result = self._grant(claims, targets)
        self._write()
        return result

    def _has_period(self, claim: Claim) -> bool:
        try:
            self._terms[claim.budget_id].bounds_of(claim.period)
        except InvalidValue:
            return False
        return True

    def _is_wrong(self, target: AccountKey, latest: datetime | None) -> str | None:
        """
        Why nothing can be reserved in this account now, if that is so.

        Args:
            target: Which.
            latest: When anything was last reserved in a later period of the same one:
                a clock that was stepped back does not open this one again.
        """
        bounds = self._terms[target[0]].bounds_of(target[2])
        if bounds is None:
            return None
        begin, end = bounds[0] - SKEW, bounds[1] + SKEW
        if not begin <= self._now < end:
            return (
                f"the clock of this machine is off, or the call has waited too long: it started "
                f"in {target[2]}, and the database says it is {self._now:%Y-%m-%dT%H:%M:%SZ}"
            )
        if latest is not None and latest >= end:
            return (
                f"the clock of this machine is off: it says {target[2]}, but at "
                f"{latest:%Y-%m-%dT%H:%M:%SZ} a later period had begun"
            )
        return None

    def _lock_accounts(self, keys: set[AccountKey]) -> dict[AccountKey, datetime | None]:
        """Lock accounts, in order; when a later period of each was last reserved in."""
        latest: dict[AccountKey, datetime | None] = {}
        until = self._now + AHEAD
        for key in sorted(keys):
            row = self._locked(key, until)
            if row is None:
                add_to_accounts(self._connection, {key: [0, 0, 0, 0]})
                row = self._locked(key, until)
                assert row is not None  # accounts are only deleted where nobody reserves
            self._accounts[key] = _Account(row)
            latest[key] = row.latest
        return latest

    def _locked(self, key: AccountKey, until: datetime) -> Any:
        statement = sa.select(accounts, _latest_behind(key, until)).where(
            accounts.c.budget_id == key[0],
            accounts.c.scope == key[1],
            accounts.c.period == key[2],
        )
        return self._connection.execute(statement.with_for_update()).one_or_none()

    def _lock_leases(self, targets: Sequence[AccountKey], own: Mapping[int, AccountKey]) -> None:
        expired = [
            row.id
            for key in sorted(set(targets))
            for row in self._connection.execute(expired_on(key, self._now))
        ]
        for row in lock_leases(self._connection, [*expired, *own]):
            lease = _Lease(row)
            account = self._accounts.get(lease.account)
            if account is None:
                continue
            if row.holder == self._holder and (
                self._known is None or row.id in self._known or row.id in own
            ):
                # Whoever asks is alive, however late it is.
                if row.id in own:
                    self._leases[row.id] = lease
            elif row.expires_at <= self._now:
                account.reserved -= lease.amount
                self._leases[row.id] = lease
                lease.amount = 0

    def _take_back(self, claim: Claim) -> None:
        lease = None if claim.lease_id is None else self._leases.get(claim.lease_id)
        if lease is None or lease.account[:2] != (claim.budget_id, claim.whose):
            return
        returned = min(lease.amount, max(0, claim.returned))
        lease.amount -= returned
        self._accounts[lease.account].reserved -= returned

    def _grant(self, claims: Sequence[Claim], targets: Sequence[AccountKey]) -> Granted | Exhausted:
        amounts: list[int] = []
        given: dict[AccountKey, int] = {}
        for claim, key in zip(claims, targets, strict=True):
            terms, account = self._terms[claim.budget_id], self._accounts[key]
            reserved = account.reserved + given.get(key, 0)
            left = terms.limit - account.used - reserved
            needed = max(0, claim.needed)
            full = needed > left if terms.mode == "hard" else reserved + needed > MAX_NANO
            if full:
                return Exhausted(
                    claim,
                    period=key[2],
                    used=account.used,
                    reserved=reserved,
                    limit=terms.limit,
                    now=self._now,
                )
            amount = max(needed, min(claim.wanted, _in_advance(claim.wanted, left, terms.limit)))
            amounts.append(amount)
            given[key] = given.get(key, 0) + amount
        grants: list[Grant] = []
        for claim, key, amount in zip(claims, targets, amounts, strict=True):
            account = self._accounts[key]
            account.reserved += amount
            before = account.reserved_at
            # Only a call makes a name of an account that has none any more.
            if before is not None or claim.needed > 0:
                before = before or self._now
                # A moment that a wrong clock told is not kept.
                account.reserved_at = (
                    self._now if before > self._now + AHEAD else max(before, self._now)
                )
            grants.append(
                Grant(
                    claim=claim,
                    lease_id=self._lend(claim, key, amount),
                    period=key[2],
                    amount=amount,
                    used=account.used,
                    reserved=account.reserved,
                    limit=self._terms[claim.budget_id].limit,
                )
            )
        return Granted(grants=tuple(grants), now=self._now)

    def _lend(self, claim: Claim, key: AccountKey, amount: int) -> int:
        known = None if claim.lease_id is None else self._leases.get(claim.lease_id)
        if known is not None and known.account == key:
            known.amount += amount
            known.expires_at = self._expires_at
            return known.id
        inserted = self._connection.execute(
            sa.insert(leases).values(
                budget_id=key[0],
                scope=key[1],
                period=key[2],
                holder=self._holder,
                amount=amount,
                expires_at=self._expires_at,
            )
        )
        assert inserted.inserted_primary_key is not None
        return int(inserted.inserted_primary_key[0])

    def _write(self) -> None:
        for lease in self._leases.values():
            here = leases.c.id == lease.id
            if lease.amount == 0:
                self._connection.execute(sa.delete(leases).where(here))
            elif lease.changed:
                self._connection.execute(
                    sa.update(leases)
                    .where(here)
                    .values(amount=lease.amount, expires_at=lease.expires_at)
                )
        for (budget_id, whose, period), account in sorted(self._accounts.items()):
            if account.changed:
                self._connection.execute(
                    sa.update(accounts)
                    .where(
                        accounts.c.budget_id == budget_id,
                        accounts.c.scope == whose,
                        accounts.c.period == period,
                    )
                    .values(
                        reserved=account.reserved,
                        reserved_at=account.reserved_at,
                        updated_at=self._now,
                    )
                )
        drop_blank(
            self._connection,
            [key for key, account in self._accounts.items() if account.is_blank],
        )


class _Account:
    def __init__(self, row: Any) -> None:
        self.used: int = row.used
        self.reserved: int = row.reserved
        self.reserved_at: datetime | None = row.reserved_at
        self._was = self.reserved, self.reserved_at

    @property
    def changed(self) -> bool:
        return self._was != (self.reserved, self.reserved_at)

    @property
    def is_blank(self) -> bool:
        return not self.reserved and self.reserved_at is None


class _Lease:
    def __init__(self, row: Any) -> None:
        self.id: int = row.id
        self.account: AccountKey = (row.budget_id, row.scope, row.period)
        self.amount: int = row.amount
        self.expires_at: datetime = row.expires_at
        self._was = self.amount, self.expires_at

    @property
    def changed(self) -> bool:
        return self._was != (self.amount, self.expires_at)


def _in_advance(wanted: int, left: int, limit: int) -> int:
    """How much of what is *left* may be leased at once, if as much is wanted."""
    if left * _NEAR <= limit:
        return 0
    share = left // _SHARE
    if left * _FAR > limit:
        # What is wanted is for 64 calls.
        share = max(share, min(wanted // _FEW, left // _SMALL_SHARE))
    return share


def _latest_behind(key: AccountKey, until: datetime) -> sa.Label[Any]:
    later = accounts.alias("later")
    return (
        sa.select(sa.func.max(later.c.reserved_at, type_=later.c.reserved_at.type))
        .where(
            later.c.budget_id == key[0],
            later.c.scope == key[1],
            later.c.period > key[2],
            # Else one moment far ahead would hide those that are to be believed.
            later.c.reserved_at <= until,
        )
        .scalar_subquery()
        .label("latest")
    )
