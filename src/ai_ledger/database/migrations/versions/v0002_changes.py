"""Who changed what, and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment, long_text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The table of changes."""
    op.create_table(
        "ai_changes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("changed_at", Moment, nullable=False),
        sa.Column("changed_by", Label(255)),
        sa.Column("kind", Label(32), nullable=False),
        sa.Column("key", Label(255), nullable=False),
        sa.Column("before", long_text()),
        sa.Column("after", long_text()),
    )
    op.create_index("ix_ai_changes_key", "ai_changes", ["kind", "key", "id"])
