"""The accounts of budgets in the database: exact however many processes use them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.budgets import accounts, budgets, leases
from ai_ledger.errors import AILedgerError, InvalidValue
from ai_ledger.policies.budgets import registration
from ai_ledger.policies.budgets.account import (
    Account,
    Claim,
    Difference,
    Exhausted,
    Granted,
    NotInForce,
    StoredBudget,
)
from ai_ledger.policies.budgets.reservation import Reservation
from ai_ledger.policies.budgets.rows import sums_of_rows
from ai_ledger.records import utc_now
from ai_ledger.sinks.sql.leases import (
    AccountKey,
    accounts_of,
    clock_of,
    forgotten_leases,
    lock_accounts,
    lock_leases,
    now_of,
    take_off,
    take_off_expired,
)
from ai_ledger.terms import Terms

MAX_ACCOUNTS: Final = 10_000
"""Of a page of history."""
_END_FORGOTTEN_S: Final = 60.0


class Accounts:
    """
    Budgets, what is used of them and what is set aside.

    Threads may share one instance. Everything that changes more than one row is one
    transaction, which locks accounts in the order of their keys, and leases after them.

    Args:
        database: Whose tables are known to be there.
        clock: Stands in for the database's clock, in tests.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] | None = None) -> None:
        self._database = database
        # A file has no clock but that of the machine it is on.
        self._clock = utc_now if clock is None and database.kind == "sqlite" else clock
        self._terms: dict[int, tuple[int, Terms]] = {}
        self._end_forgotten_at = 0.0

    def register(self, terms: Terms, *, by: str | None = None) -> int:
        """
        Put a budget into force; what has its name and other terms is replaced.

        The calls of the current period that are stored already are counted, those
        of earlier periods never are.

        Returns:
            Its id: the same as long as ``where``, ``each``, ``per``, ``since``,
            ``until``, ``tz`` and ``unit`` are. Other ones start its accounts anew.

        Raises:
            SinkUnavailable: The database is away.
        """
        with self._database.reading() as connection:
            known = connection.execute(_named(terms.name)).one_or_none()
        if known is not None and known.active and known.terms == terms.to_json():
            return int(known.id)
        return self._database.writing(
            lambda connection: registration.register(connection, terms, self._now(connection), by)
        )

    def reserve(
        self,
        claims: Sequence[Claim],
        *,
        holder: str,
        ttl_s: float,
        known: Collection[int] | None = None,
    ) -> Granted:
        """
        Set all *claims* aside, or none.

        Far from the limit what is wanted in advance is given, up to a hundredth of
        what is left, and while more than half is left up to a tenth of it, but then at
        most an eighth of what is wanted; from a twentieth of the limit on only what is
        needed. Leases of others that have expired come back first.

        The account is that of the claim's period, in which the call's row will be
        charged; the clocks may be 300 s apart.

        Args:
            claims: One for each account that a call counts for.
            holder: Who asks, the same for all claims of a process.
            ttl_s: Until when, unless renewed, the leases last.
            known: The leases that the holder knows of. Others of its own, whose grant
                it never heard of, come back when they have expired.

        Raises:
            Exhausted: A hard budget has not enough; what was returned came back.
            NotInForce: One of the budgets is not, or the database's clock, now or
                when a later period was reserved in, is too far from the claim's period.
            SinkUnavailable: The database is away.
        """
        if not claims:
            raise InvalidValue("claims", claims, "at least one")

        def work(connection: Connection) -> Granted | Exhausted:
            terms, now = self._in_force(connection, {claim.budget_id for claim in claims})
            for claim in claims:
                if claim.budget_id not in terms:
                    raise NotInForce(claim)
            return Reservation(
                connection, terms, now, holder=holder, ttl_s=ttl_s, known=known
            ).make(claims)

        result = self._database.writing(work)
        if isinstance(result, Granted):
            return result
        raise result

    def give_back(self, amounts: Sequence[tuple[int, int]]) -> None:
        """
        Take amounts off leases; of those that are gone everything has come back already.

        Args:
            amounts: Lease id, and how much of it.

        Raises:
            SinkUnavailable: The database is away.
        """
        off: dict[int, int] = {}
        for lease_id, amount in amounts:
            off[lease_id] = off.get(lease_id, 0) + amount
        if not any(off.values()):
            return

        def work(connection: Connection) -> bool:
            lock_accounts(connection, accounts_of(connection, off).values())
            return take_off(connection, off)

        if self._database.writing(work):
            self._database.checkpoint()
        self._end_forgotten()

    def renew(self, holder: str, *, ttl_s: float) -> frozenset[int]:
        """
        Give the leases of *holder* another *ttl_s* seconds from now.

        Returns:
            The ids of those that are still there. Leases without any amount are not.

        Raises:
            SinkUnavailable: The database is away.
        """

        def work(connection: Connection) -> frozenset[int]:
            found = connection.execute(
                sa.select(leases.c.id).where(leases.c.holder == label(holder))
            ).scalars()
            alive = [row.id for row in lock_leases(connection, found)]
            if alive:
                until = self._now(connection) + timedelta(seconds=ttl_s)
                connection.execute(
                    sa.update(leases).where(leases.c.id.in_(alive)).values(expires_at=until)
                )
            return frozenset(alive)

        alive = self._database.writing(work)
        self._end_forgotten()
        return alive

    def _end_forgotten(self) -> None:
        """
        End what processes that are gone have leased for those who were forgotten since.

        At most once a minute. When the store is away it is left for the next time: what
        the caller came for is done.
        """
        now = time.monotonic()
        if now < self._end_forgotten_at:
            return
        self._end_forgotten_at = now + _END_FORGOTTEN_S

        def work(connection: Connection) -> bool:
            lock_accounts(connection, found)
            return take_off_expired(connection, found, self._now(connection))

        with suppress(AILedgerError):
            with self._database.reading() as connection:
                found = forgotten_leases(connection, self._now(connection))
            if found and self._database.writing(work):
                self._database.checkpoint()

    def state(self, budget_id: int, whose: str, period: str) -> Account:
        """
        One account; zeros if nothing has happened on it.

        Raises:
            NotInForce: There is no such budget.
        """
        with self._database.reading() as connection:
            budget = connection.execute(_with_id(budget_id)).one_or_none()
            if budget is None:
                raise NotInForce(Claim(budget_id=budget_id, whose=whose, period=period, needed=0))
            row = connection.execute(
                sa.select(accounts).where(*_here((budget_id, whose, period)))
            ).one_or_none()
        terms = Terms.from_json(budget.terms)
        return (
            _account(terms, row) if row is not None else _untouched(budget_id, terms, whose, period)
        )

    def states(self, keys: Collection[AccountKey]) -> list[Account]:
        """Those of these accounts on which anything has happened, with one question."""
        ids = sorted({key[0] for key in keys})
        wanted = sa.or_(*(sa.and_(*_here(key)) for key in sorted(keys)))
        with self._database.reading() as connection:
            terms = {
                row.id: Terms.from_json(row.terms)
                for row in connection.execute(sa.select(budgets).where(budgets.c.id.in_(ids)))
            }
            rows = connection.execute(sa.select(accounts).where(wanted)).all()
        return [_account(terms[row.budget_id], row) for row in rows if row.budget_id in terms]

    def history(
        self, budget_id: int, whose: str | None = None, *, limit: int = 100
    ) -> list[Account]:
        """
        The accounts of a budget, newest period first, at most *limit* and `MAX_ACCOUNTS`.

        Args:
            budget_id: Which; nothing is found for one that is gone.
            whose: As `Terms.whose` writes it; ``None`` for all.
            limit: How many.
        """
        statement = (
            sa.select(accounts)
            .where(accounts.c.budget_id == budget_id)
            .order_by(accounts.c.period.desc(), accounts.c.scope)
        )
        if whose is not None:
            statement = statement.where(accounts.c.scope == whose)
        return self._accounts(budget_id, statement, limit)

    def period(self, budget_id: int, period: str, *, limit: int = MAX_ACCOUNTS) -> list[Account]:
        """The accounts of a budget in one period, those that have used most first."""
        statement = (
            sa.select(accounts)
            .where(accounts.c.budget_id == budget_id, accounts.c.period == period)
            .order_by(accounts.c.used.desc(), accounts.c.reserved.desc(), accounts.c.scope)
        )
        return self._accounts(budget_id, statement, limit)

    def budget(self, name: str) -> StoredBudget | None:
        """The budget of this name, active or not."""
        with self._database.reading() as connection:
            row = connection.execute(_named(name)).one_or_none()
        return None if row is None else _budget(row)

    def budgets(self) -> list[StoredBudget]:
        """All budgets, by name, active or not."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(budgets).order_by(budgets.c.name)).all()
        return [_budget(row) for row in rows]

    def now(self) -> datetime:
        """The database's clock, aware."""
        if self._clock is not None:
            return self._clock()
        with self._database.reading() as connection:
            return self._now(connection)

    def deactivate(self, name: str, *, by: str | None = None, version: int | None = None) -> None:
        """
        Stop counting and refusing. Its accounts stay as history, and what processes
        have leased stays with them until they return it, so that it counts if this is undone.

        Args:
            name: Of the budget.
            by: Who does so.
            version: That was seen; left out: any.

        Raises:
            NotFound: There is no budget of that name.
            EditConflict: It has changed since that version.
            SinkUnavailable: The database is away.
        """
        self._database.writing(
            lambda connection: registration.deactivate(
                connection, name, self._now(connection), by, version
            )
        )

    def reactivate(self, name: str, *, by: str | None = None, version: int | None = None) -> None:
        """
        Undo `deactivate`: the same terms count again, with all calls of the current period.

        A running program that has found it out of force asks it again when it next starts.

        Raises:
            NotFound: There is no budget of that name.
            EditConflict: It has changed since *version*.
            SinkUnavailable: The database is away.
        """
        self._database.writing(
            lambda connection: registration.reactivate(
                connection, name, self._now(connection), by, version
            )
        )

    def check(self) -> list[Difference]:
        """
        Accounts that do not say what the ledger's rows and the leases add up to.

        Everything is read as of one moment, so that calls may come meanwhile.
        """
        with self._database.reading() as connection:
            return [
                difference
                for row in connection.execute(sa.select(budgets).order_by(budgets.c.name)).all()
                for difference in _differences(connection, _budget(row))
            ]

    def _accounts(self, budget_id: int, statement: sa.Select[Any], limit: int) -> list[Account]:
        with self._database.reading() as connection:
            budget = connection.execute(_with_id(budget_id)).one_or_none()
            rows = connection.execute(statement.limit(max(0, min(limit, MAX_ACCOUNTS)))).all()
        if budget is None:
            return []
        terms = Terms.from_json(budget.terms)
        return [_account(terms, row) for row in rows]

    def _now(self, connection: Connection) -> datetime:
        if self._clock is not None:
            return self._clock()
        return now_of(connection)

    def _in_force(self, connection: Connection, ids: set[int]) -> tuple[dict[int, Terms], datetime]:
        columns: list[sa.ColumnElement[Any]] = [budgets.c.id, budgets.c.version]
        if self._clock is None:
            columns.append(clock_of(self._database.kind))
        rows = connection.execute(
            sa.select(*columns).where(budgets.c.id.in_(sorted(ids)), budgets.c.active)
        ).all()
        found: dict[int, Terms] = {}
        for row in rows:
            known = self._terms.get(row.id)
            if known is None or known[0] != row.version:
                read = connection.execute(_with_id(row.id)).one_or_none()
                if read is None or not read.active:
                    continue
                known = self._terms[row.id] = (read.version, Terms.from_json(read.terms))
            found[row.id] = known[1]
        now = rows[0].now if rows and self._clock is None else self._now(connection)
        return found, now


def _differences(connection: Connection, budget: StoredBudget) -> list[Difference]:
    terms = budget.terms
    rows = connection.execute(sa.select(accounts).where(accounts.c.budget_id == budget.id)).all()
    # Earlier accounts are history, counted by terms that may have been other ones.
    first = registration.first_period(terms, budget.counts_from)
    kept = {(row.scope, row.period): row for row in rows}
    sums = sums_of_rows(connection, terms, budget.counts_from) if budget.active else {}
    leased: dict[tuple[str, str], int] = {
        (row.scope, row.period): int(row.amount)
        for row in connection.execute(
            sa.select(leases.c.scope, leases.c.period, sa.func.sum(leases.c.amount).label("amount"))
            .where(leases.c.budget_id == budget.id)
            .group_by(leases.c.scope, leases.c.period)
        )
    }
    found: list[Difference] = []
    for key in sorted({*kept, *sums, *leased}):
        row = kept.get(key)
        used, reserved = (0, 0) if row is None else (row.used, row.reserved)
        said = used
        if budget.active and key[1] >= first:
            said = sums.get(key, (0,))[0] + (0 if row is None else row.forgotten)
        if (used, reserved) != (said, leased.get(key, 0)):
            found.append(
                Difference(
                    budget=terms.name,
                    whose=key[0],
                    period=key[1],
                    used=used,
                    rows=said,
                    reserved=reserved,
                    leases=leased.get(key, 0),
                )
            )
    return found


def _named(name: str) -> sa.Select[Any]:
    return sa.select(budgets).where(budgets.c.name == label(name))


def _with_id(budget_id: int) -> sa.Select[Any]:
    return sa.select(budgets).where(budgets.c.id == budget_id)


def _here(key: AccountKey) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        accounts.c.budget_id == key[0],
        accounts.c.scope == key[1],
        accounts.c.period == key[2],
    )


def _account(terms: Terms, row: Any) -> Account:
    return Account(
        budget_id=row.budget_id,
        budget=terms.name,
        whose=row.scope,
        period=row.period,
        used=row.used,
        reserved=row.reserved,
        limit=terms.limit,
        calls=row.calls,
        uncounted=row.uncounted,
        updated_at=row.updated_at,
    )


def _untouched(budget_id: int, terms: Terms, whose: str, period: str) -> Account:
    return Account(
        budget_id=budget_id,
        budget=terms.name,
        whose=whose,
        period=period,
        used=0,
        reserved=0,
        limit=terms.limit,
        calls=0,
        uncounted=0,
        updated_at=None,
    )


def _budget(row: Any) -> StoredBudget:
    return StoredBudget(
        id=row.id,
        terms=Terms.from_json(row.terms),
        active=row.active,
        counts_from=row.counts_from,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )
