"""What processes have set aside of budgets, and taking it off again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.database.columns import Moment
from ai_ledger.database.tables.budgets import accounts, leases
from ai_ledger.money import MAX_NANO
from ai_ledger.records import utc_now

AccountKey = tuple[int, str, str]
"""Budget, scope and period. Accounts are locked in this order, and leases after them, by id."""


def accounts_of(connection: Connection, lease_ids: Iterable[int]) -> dict[int, AccountKey]:
    """Which account each lease is on, which never changes; leases that are gone are left out."""
    statement = sa.select(leases.c.id, leases.c.budget_id, leases.c.scope, leases.c.period)
    found = connection.execute(statement.where(leases.c.id.in_(sorted(lease_ids))))
    return {row.id: (row.budget_id, row.scope, row.period) for row in found}


def lock_leases(connection: Connection, lease_ids: Iterable[int]) -> list[sa.Row[tuple[object]]]:
    """The leases that are still there, locked in the order of their ids."""
    wanted = sorted(set(lease_ids))
    if not wanted:
        return []
    statement = sa.select(leases).where(leases.c.id.in_(wanted)).order_by(leases.c.id)
    return list(connection.execute(statement.with_for_update()).all())


def take_off(connection: Connection, amounts: Mapping[int, int]) -> bool:
    """
    Lower leases, and what is reserved of their accounts by as much.

    A lease that is gone is nothing, for whoever deleted it has given it all back,
    and none goes below zero. The accounts have to be locked.

    Args:
        connection: That of the transaction.
        amounts: Lease → what to take off it.

    Returns:
        Whether the name of somebody who was forgotten went with one.
    """
    lowered: list[dict[str, int]] = []
    emptied: list[int] = []
    changes: dict[AccountKey, int] = {}
    for lease in lock_leases(connection, amounts):
        taken = min(lease.amount, max(0, amounts[lease.id]))
        key = (lease.budget_id, lease.scope, lease.period)
        changes[key] = changes.get(key, 0) + taken
        if taken == lease.amount:
            emptied.append(lease.id)
        elif taken:
            lowered.append({"lease": lease.id, "rest": lease.amount - taken})
    if emptied:
        connection.execute(sa.delete(leases).where(leases.c.id.in_(emptied)))
    if lowered:
        connection.execute(_LOWER, lowered)
    if rows := [
        {"budget": key[0], "whose": key[1], "when": key[2], "taken": taken}
        for key, taken in sorted(changes.items())
        if taken
    ]:
        connection.execute(_UNRESERVE, rows)
    return bool(emptied) and drop_blank(connection, changes)


def take_off_expired(connection: Connection, keys: Iterable[AccountKey], now: datetime) -> bool:
    """`take_off` all that has ended by *now* of these accounts, which have to be locked."""
    expired = [row.id for key in keys for row in connection.execute(expired_on(key, now))]
    return take_off(connection, dict.fromkeys(expired, MAX_NANO))


def expired_on(key: AccountKey, now: datetime) -> sa.Select[tuple[int]]:
    """The ids of leases on an account that have ended by *now*."""
    return sa.select(leases.c.id).where(
        leases.c.budget_id == key[0],
        leases.c.scope == key[1],
        leases.c.period == key[2],
        leases.c.expires_at <= now,
    )


def drop_blank(connection: Connection, keys: Iterable[AccountKey]) -> bool:
    """
    Delete those of these accounts, which have to be locked, that are but a name.

    That is what is left of somebody who was forgotten while a process held a lease.

    Returns:
        Whether there was one.
    """
    rows = [{"budget": key[0], "whose": key[1], "when": key[2]} for key in sorted(keys) if key[1]]
    return bool(rows) and connection.execute(_DROP_BLANK, rows).rowcount > 0


def drop_all_blank(connection: Connection, budget_id: int) -> None:
    """`drop_blank` for all accounts of a budget."""
    connection.execute(
        sa.delete(accounts).where(
            accounts.c.budget_id == budget_id, *_IS_A_NAME, accounts.c.reserved == 0
        )
    )


def forgotten_leases(connection: Connection, now: datetime) -> Sequence[AccountKey]:
    """Accounts of nobody any more, with leases on them that have ended by *now*."""
    here = (
        accounts.c.budget_id == leases.c.budget_id,
        accounts.c.scope == leases.c.scope,
        accounts.c.period == leases.c.period,
    )
    found = connection.execute(
        sa.select(leases.c.budget_id, leases.c.scope, leases.c.period)
        .join(accounts, sa.and_(*here))
        .where(leases.c.expires_at <= now, *_IS_A_NAME)
        .distinct()
    )
    return sorted((row.budget_id, row.scope, row.period) for row in found)


def lock_accounts(connection: Connection, keys: Iterable[AccountKey]) -> None:
    """Lock these accounts, in order."""
    for key in sorted(set(keys)):
        connection.execute(
            sa.select(accounts.c.reserved)
            .where(
                accounts.c.budget_id == key[0],
                accounts.c.scope == key[1],
                accounts.c.period == key[2],
            )
            .with_for_update()
        ).all()


def now_of(connection: Connection) -> datetime:
    """The clock that leases end by, aware: the database's, for a file that of the machine."""
    kind = connection.dialect.name
    if kind == "sqlite":
        return utc_now()
    return connection.execute(sa.select(clock_of(kind))).scalar_one()


def clock_of(kind: str) -> sa.ColumnElement[datetime]:
    """The clock of a server, as the column ``now``."""
    # Not when the transaction began: it may have waited for a lock since.
    if kind == "postgresql":
        return sa.func.clock_timestamp(type_=Moment()).label("now")
    return sa.func.utc_timestamp(6, type_=Moment()).label("now")


# A call that is reserved for leaves its moment; whoever is forgotten loses it.
_IS_A_NAME: tuple[sa.ColumnElement[bool], ...] = (
    accounts.c.scope != "",
    *(accounts.c[name] == 0 for name in ("used", "forgotten", "calls", "uncounted")),
    accounts.c.reserved_at.is_(None),
)
_THIS: tuple[Any, ...] = (
    accounts.c.budget_id == sa.bindparam("budget"),
    accounts.c.scope == sa.bindparam("whose"),
    accounts.c.period == sa.bindparam("when"),
)
_DROP_BLANK = sa.delete(accounts).where(*_THIS, *_IS_A_NAME, accounts.c.reserved == 0)
_LOWER = (
    sa.update(leases)
    .where(leases.c.id == sa.bindparam("lease"))
    .values(amount=sa.bindparam("rest"))
)
_UNRESERVE = (
    sa.update(accounts)
    .where(*_THIS)
    .values(reserved=accounts.c.reserved - sa.bindparam("taken", type_=sa.BigInteger))
)
