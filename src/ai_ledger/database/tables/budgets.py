"""The tables of budgets: their terms, the accounts of each period, and what is leased of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, event, insert
from sqlalchemy.engine import Connection

from ai_ledger.database.columns import MAX_KEY, MAX_LABEL, Label, Moment, long_text, metadata

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

budgets = Table(
    "ai_budgets",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("name", Label(MAX_LABEL), nullable=False, unique=True),
    Column("terms", long_text(), nullable=False),
    Column("active", Boolean, nullable=False),
    # Calls that started earlier are not counted; NULL is without a beginning.
    Column("counts_from", Moment),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("updated_by", Label(MAX_LABEL)),
    # An id that comes again would be charged for its predecessor's leases.
    sqlite_autoincrement=True,
)

accounts = Table(
    "ai_budget_accounts",
    metadata,
    Column("budget_id", BigInteger, primary_key=True, autoincrement=False),
    Column("scope", Label(MAX_KEY), primary_key=True),
    Column("period", Label(13), primary_key=True),
    # Tokens, or nano-units of the budget's currency.
    Column("used", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    # Part of used whose calls no longer say whose they were, since they were forgotten.
    Column("forgotten", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("uncounted", BigInteger, nullable=False),
    # When something was last reserved, by the database's clock: no earlier period of
    # the same scope is opened again.
    Column("reserved_at", Moment),
    Column("updated_at", Moment, nullable=False),
    sqlite_with_rowid=False,
    # Room for updates in place: the row of this period changes with every batch.
    postgresql_with={"fillfactor": 50},
)

leases = Table(
    "ai_budget_leases",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("budget_id", BigInteger, nullable=False),
    Column("scope", Label(MAX_KEY), nullable=False),
    Column("period", Label(13), nullable=False),
    Column("holder", Label(MAX_LABEL), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("expires_at", Moment, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_ai_budget_leases_account", leases.c.budget_id, leases.c.scope, leases.c.period)
Index("ix_ai_budget_leases_holder", leases.c.holder)

# One row. Whoever writes calls reads it and keeps it shared until the end of the
# transaction, whoever registers a budget changes it first: so that no call slips
# between counting the calls that are there and the first one that is charged.
state = Table(
    "ai_budget_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # Goes up with every change of the budgets in force; 0 as long as there were none.
    Column("number", BigInteger, nullable=False),
)


@event.listens_for(state, "after_create")
def _first_row(_: Any, connection: Connection, **__: Any) -> None:
    connection.execute(insert(state).values(id=1, number=0))
