"""What processes have set aside of budgets, and taking it off again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.database.tables.budgets import accounts, leases

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


def take_off(connection: Connection, amounts: Mapping[int, int]) -> None:
    """
    Lower leases, and what is reserved of their accounts by as much.

    A lease that is gone is nothing, for whoever deleted it has given it all back,
    and none goes below zero. The accounts have to be locked.

    Args:
        connection: That of the transaction.
        amounts: Lease → what to take off it.
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


_LOWER = (
    sa.update(leases)
    .where(leases.c.id == sa.bindparam("lease"))
    .values(amount=sa.bindparam("rest"))
)
_UNRESERVE = (
    sa.update(accounts)
    .where(
        accounts.c.budget_id == sa.bindparam("budget"),
        accounts.c.scope == sa.bindparam("whose"),
        accounts.c.period == sa.bindparam("when"),
    )
    .values(reserved=accounts.c.reserved - sa.bindparam("taken", type_=sa.BigInteger))
)
