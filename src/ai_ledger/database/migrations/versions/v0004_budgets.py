"""The tables of budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment, long_text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Budgets, their accounts and leases, and the row that writers and budgets share."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "ai_budgets",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("name", Label(255), nullable=False, unique=True),
        sa.Column("terms", long_text(), nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("counts_from", Moment),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ai_budget_accounts",
        sa.Column("budget_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("scope", Label(256), primary_key=True),
        sa.Column("period", Label(13), primary_key=True),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("used", "reserved", "forgotten", "calls", "uncounted")
        ),
        sa.Column("reserved_at", Moment),
        sa.Column("updated_at", Moment, nullable=False),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "ai_budget_leases",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("budget_id", sa.BigInteger, nullable=False),
        sa.Column("scope", Label(256), nullable=False),
        sa.Column("period", Label(13), nullable=False),
        sa.Column("holder", Label(255), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_ai_budget_leases_account", "ai_budget_leases", ["budget_id", "scope", "period"]
    )
    op.create_index("ix_ai_budget_leases_holder", "ai_budget_leases", ["holder"])
    state = op.create_table(
        "ai_budget_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "number": 0}])
