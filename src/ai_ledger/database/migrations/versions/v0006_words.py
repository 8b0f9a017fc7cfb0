"""The tables of words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The list of words, and the settings of the filter."""
    op.create_table(
        "ai_words",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("org_id", Label(255), nullable=False),
        sa.Column("word", Label(255), nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("match", Label(16), nullable=False),
        sa.Column("action", Label(16), nullable=False),
        sa.Column("replacement", Label(255)),
        sa.Column("variants", sa.Boolean, nullable=False),
        sa.Column("note", Label(255)),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", Label(255)),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.UniqueConstraint("org_id", "word", name="uq_ai_words_word"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ai_word_settings",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("fuzzy", sa.Boolean, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
        sa.Column("version", sa.Integer, nullable=False),
    )
