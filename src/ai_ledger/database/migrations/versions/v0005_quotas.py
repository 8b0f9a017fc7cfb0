"""The tables of quotas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows, switches, the stamp of edits, gates and places."""
    op.create_table(
        "ai_quotas",
        sa.Column("org_id", Label(255), primary_key=True),
        sa.Column("model", Label(255), primary_key=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("min_interval_us", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("valid_from", Moment),
        sa.Column("valid_until", Moment),
        sa.Column("rates", Label(255), nullable=False),
        sa.Column("max_concurrent", sa.Integer, nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
    )
    op.create_table(
        "ai_model_switches",
        sa.Column("model", Label(255), primary_key=True),
        sa.Column("off", sa.Boolean, nullable=False),
        sa.Column("max_concurrent", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
    )
    op.create_table(
        "ai_quota_edits",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("stamp", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ai_quota_gates",
        sa.Column("org_id", Label(256), primary_key=True),
        sa.Column("model", Label(256), primary_key=True),
        sa.Column("next_at_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ai_quota_places",
        sa.Column("id", Label(36), primary_key=True),
        sa.Column("org_id", Label(256), nullable=False),
        sa.Column("model", Label(256), nullable=False),
        sa.Column("holder", Label(36), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_ai_quota_places_gate", "ai_quota_places", ["org_id", "model"])
    op.create_index("ix_ai_quota_places_holder", "ai_quota_places", ["holder"])
