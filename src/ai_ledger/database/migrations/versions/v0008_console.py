"""The tables of the console: access tokens, browser sessions, reports, re-pricing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment, long_text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tokens and sessions by their hashes, reports as they were made, the last re-pricing."""
    op.create_table(
        "ai_access_tokens",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("name", Label(255), nullable=False),
        sa.Column("hash", Label(64), nullable=False),
        sa.Column("hint", Label(8), nullable=False),
        sa.Column("role", Label(16), nullable=False),
        sa.Column("org_id", Label(255)),
        sa.Column("prompts", sa.Boolean, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", Label(255)),
        sa.Column("expires_at", Moment),
        sa.Column("last_used_at", Moment),
        sa.Column("revoked_at", Moment),
        sa.UniqueConstraint("hash", name="uq_ai_access_tokens_hash"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ai_console_sessions",
        sa.Column("hash", Label(64), primary_key=True),
        sa.Column("token_id", sa.BigInteger, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
    )
    op.create_index("ix_ai_console_sessions_token", "ai_console_sessions", ["token_id"])
    op.create_table(
        "ai_reports",
        sa.Column("id", Label(36), primary_key=True),
        sa.Column("org_id", Label(255)),
        sa.Column("made_at", Moment, nullable=False),
        sa.Column("made_by", Label(255)),
        sa.Column("since", Moment, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.Column("tz", Label(64), nullable=False),
        sa.Column("body", long_text(), nullable=False),
    )
    op.create_index("ix_ai_reports_made", "ai_reports", ["made_at"])
    op.create_table(
        "ai_repricing_runs",
        sa.Column("id", Label(36), primary_key=True),
        sa.Column("going_on", sa.Integer),
        sa.Column("seen_at", Moment, nullable=False),
        sa.Column("stop", sa.Boolean, nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.UniqueConstraint("going_on", name="uq_ai_repricing_runs_going_on"),
    )
