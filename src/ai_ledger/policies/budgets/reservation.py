"""A reservation: claims on several accounts, met together or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.tables.budgets import accounts, leases
from ai_ledger.money import MAX_NANO
from ai_ledger.policies.budgets.account import Claim, Exhausted, Grant, Granted, NotInForce
from ai_ledger.sinks.sql.charges import add_to_accounts
from ai_ledger.sinks.sql.leases import AccountKey, accounts_of, lock_leases
from ai_ledger.terms import Terms

# In advance at most this part of what is left, and only while this part of the limit
# is left: what one process holds and does not use is refused to all the others.
_SHARE: Final = 100
_NEAR: Final = 20


class Reservation:
    """
    One attempt, inside one transaction.

    Args:
        connection: That of the transaction.
        terms: Of the budgets in force that are claimed from.
        now: The database's clock.
        holder: Who claims.
        ttl_s: How long the leases last unless they are renewed.
    """

    def __init__(
        self,
        connection: Connection,
        terms: Mapping[int, Terms],
        now: datetime,
        *,
        holder: str,
        ttl_s: float,
    ) -> None:
        self._connection = connection
        self._terms = terms
        self._now = now
        self._holder = label(holder)
        self._expires_at = now + timedelta(seconds=ttl_s)
        self._accounts: dict[AccountKey, _Account] = {}
        self._leases: dict[int, _Lease] = {}

    def make(self, claims: Sequence[Claim]) -> Granted | Exhausted | NotInForce:
        """
        What was given, or why nothing was.

        The refusal is returned and not raised, so that what came back stays back.
        """
        targets: list[AccountKey] = []
        claimed = sorted(
            {(claim.budget_id, claim.scope) for claim in claims if claim.budget_id in self._terms}
        )
        natural = {
            budget_id: self._terms[budget_id].period_of(self._now) for budget_id, _ in claimed
        }
        for claim in claims:
            if natural.get(claim.budget_id) is None:
                return NotInForce(claim)
        own = accounts_of(
            self._connection, {claim.lease_id for claim in claims if claim.lease_id is not None}
        )
        current: dict[tuple[int, str], AccountKey] = {}
        for budget_id, scope in claimed:
            period = natural[budget_id]
            assert period is not None
            older = {key for key in own.values() if key[:2] == (budget_id, scope)}
            current[budget_id, scope] = self._lock(budget_id, scope, period, older)
        targets = [current[claim.budget_id, claim.scope] for claim in claims]
        self._lock_leases(targets, own)
        for claim in claims:
            self._take_back(claim)
        result = self._grant(claims, targets)
        self._write()
        return result

    def _lock(self, budget_id: int, scope: str, period: str, older: set[AccountKey]) -> AccountKey:
        """
        The account of now, and those of the holder's leases that are of earlier periods.

        A clock that was stepped back does not open the period before again: what
        counts as now is the latest period that anything was reserved in.
        """
        here = sa.and_(accounts.c.budget_id == budget_id, accounts.c.scope == scope)
        before = sorted(key[2] for key in older if key[2] < period)
        since = accounts.c.period >= (before[0] if before else period)
        statement = sa.select(accounts).where(here, since).order_by(accounts.c.period)
        rows = self._connection.execute(statement.with_for_update()).all()
        latest = max((row.period for row in rows if row.reserved_at is not None), default=period)
        now = max(period, latest)
        if all(row.period != now for row in rows):
            add_to_accounts(self._connection, {(budget_id, scope, now): [0, 0, 0, 0]})
            rows = self._connection.execute(
                statement.where(accounts.c.period == now).with_for_update()
            ).all() + list(rows)
        for row in rows:
            self._accounts[budget_id, scope, row.period] = _Account(row)
        return budget_id, scope, now

    def _lock_leases(self, targets: Sequence[AccountKey], own: Mapping[int, AccountKey]) -> None:
        expired = [
            row.id
            for key in sorted(set(targets))
            for row in self._connection.execute(_expired(key, self._now))
        ]
        for row in lock_leases(self._connection, [*expired, *own]):
            lease = _Lease(row)
            account = self._accounts.get(lease.account)
            if account is None:
                continue
            if row.holder == self._holder:
                # Whoever asks is alive, however late it is.
                if row.id in own:
                    self._leases[row.id] = lease
            elif row.expires_at <= self._now:
                account.reserved -= lease.amount
                self._leases[row.id] = lease
                lease.amount = 0

    def _take_back(self, claim: Claim) -> None:
        lease = None if claim.lease_id is None else self._leases.get(claim.lease_id)
        if lease is None or lease.account[:2] != (claim.budget_id, claim.scope):
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
            if left * _NEAR > terms.limit:
                needed = max(needed, min(claim.wanted, left // _SHARE))
            amounts.append(needed)
            given[key] = given.get(key, 0) + needed
        grants: list[Grant] = []
        for claim, key, amount in zip(claims, targets, amounts, strict=True):
            account = self._accounts[key]
            account.reserved += amount
            account.reserved_at = max(account.reserved_at or self._now, self._now)
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
        for (budget_id, scope, period), account in sorted(self._accounts.items()):
            if account.changed:
                self._connection.execute(
                    sa.update(accounts)
                    .where(
                        accounts.c.budget_id == budget_id,
                        accounts.c.scope == scope,
                        accounts.c.period == period,
                    )
                    .values(
                        reserved=account.reserved,
                        reserved_at=account.reserved_at,
                        updated_at=self._now,
                    )
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


def _expired(key: AccountKey, now: datetime) -> sa.Select[Any]:
    return sa.select(leases.c.id).where(
        leases.c.budget_id == key[0],
        leases.c.scope == key[1],
        leases.c.period == key[2],
        leases.c.expires_at <= now,
    )
