"""Providers and models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment, long_text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The tables of the catalogue."""
    op.create_table(
        "ai_providers",
        sa.Column("name", Label(255), primary_key=True),
        sa.Column("name_key", Label(255), nullable=False, unique=True),
        sa.Column("display_name", Label(255)),
        sa.Column("description", long_text()),
        sa.Column("site", long_text()),
        sa.Column("type", Label(16), nullable=False),
        sa.Column("settings", long_text(), nullable=False),
        sa.Column("status", Label(16), nullable=False),
        sa.Column("sort_order", sa.Integer, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
    )
    op.create_table(
        "ai_models",
        sa.Column("name", Label(255), primary_key=True),
        sa.Column("name_key", Label(255), nullable=False, unique=True),
        sa.Column("display_name", Label(255)),
        sa.Column("provider", Label(255), nullable=False),
        sa.Column("api_url", long_text()),
        sa.Column("api_type", Label(16), nullable=False),
        sa.Column("parameters", long_text(), nullable=False),
        sa.Column("timeout_s", sa.Double),
        sa.Column("context_size", sa.BigInteger),
        sa.Column("prices", long_text(), nullable=False),
        sa.Column("status", Label(16), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
    )
    op.create_index("ix_ai_models_provider", "ai_models", ["provider"])
    op.create_table(
        "ai_catalog_edits",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
