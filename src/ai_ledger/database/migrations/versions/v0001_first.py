"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment, long_text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Records, their contents and tags, totals, corrections."""
    _records()
    op.create_table(
        "ai_call_contents",
        sa.Column("call_id", Label(255), primary_key=True),
        sa.Column("request_content", long_text()),
        sa.Column("response_content", long_text()),
    )
    op.create_table(
        "ai_call_tags",
        sa.Column("call_id", Label(255), primary_key=True),
        sa.Column("key", Label(255), primary_key=True),
        sa.Column("value", Label(255), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_ai_call_tags_value", "ai_call_tags", ["key", "value"])
    _totals()
    op.create_table(
        "ai_cost_corrections",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("call_id", Label(255), nullable=False),
        sa.Column("corrected_at", Moment, nullable=False),
        sa.Column("old_cost_nano", sa.BigInteger),
        sa.Column("old_currency", Label(16)),
        sa.Column("old_price_id", Label(255)),
        sa.Column("cost_nano", sa.BigInteger),
        sa.Column("currency", Label(16)),
        sa.Column("price_id", Label(255)),
    )
    op.create_index("ix_ai_cost_corrections_call", "ai_cost_corrections", ["call_id"])


def _records() -> None:
    op.create_table(
        "ai_call_records",
        sa.Column("id", Label(255), primary_key=True),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("status", Label(16), nullable=False),
        sa.Column("duration_ms", sa.Double),
        sa.Column("time_to_first_token_ms", sa.Double),
        sa.Column("error_type", Label(255)),
        sa.Column("error_message", long_text()),
        sa.Column("http_status", sa.Integer),
        sa.Column("operation", Label(255), nullable=False),
        sa.Column("provider", Label(255)),
        sa.Column("server_address", Label(255)),
        sa.Column("request_model", Label(255)),
        sa.Column("response_model", Label(255)),
        sa.Column("response_id", Label(255)),
        sa.Column("service_tier", Label(255)),
        sa.Column("finish_reason", Label(255)),
        sa.Column("streamed", sa.Boolean, nullable=False),
        sa.Column("retries", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("audio_input_tokens", sa.BigInteger),
        sa.Column("audio_output_tokens", sa.BigInteger),
        sa.Column("usage_source", Label(16), nullable=False),
        sa.Column("cost_nano", sa.BigInteger),
        sa.Column("currency", Label(16)),
        sa.Column("price_id", Label(255)),
        sa.Column("org_id", Label(255)),
        sa.Column("user_id", Label(255)),
        sa.Column("device_id", Label(255)),
        sa.Column("session_id", Label(255)),
        sa.Column("function", Label(255)),
        sa.Column("business_type", Label(255)),
        sa.Column("reference_id", Label(255)),
        sa.Column("deleted_at", Moment),
        sa.Column("duration_us", sa.BigInteger),
        sa.Column("duration_bucket", sa.SmallInteger),
        sa.Column("first_token_us", sa.BigInteger),
    )
    op.create_index("ix_ai_call_records_started", "ai_call_records", ["started_at"])
    op.create_index("ix_ai_call_records_org", "ai_call_records", ["org_id", "started_at"])
    op.create_index("ix_ai_call_records_user", "ai_call_records", ["user_id", "started_at"])
    for name in ("session", "reference", "device"):
        given = sa.text(f"{name}_id IS NOT NULL")
        op.create_index(
            f"ix_ai_call_records_{name}",
            "ai_call_records",
            [f"{name}_id"],
            sqlite_where=given,
            postgresql_where=given,
        )


def _totals() -> None:
    sums = (
        "calls",
        "success_calls",
        "failed_calls",
        "timeout_calls",
        "cancelled_calls",
        "blocked_calls",
        "circuit_open_calls",
        "unfinished_calls",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "cost_nano",
        "duration_us",
        "timed_calls",
        "first_token_us",
        "first_token_calls",
        "unpriced_calls",
        "estimated_calls",
        "unknown_usage_calls",
        "unattributed_calls",
        "retries",
    )
    sqlite = op.get_context().dialect.name == "sqlite"
    whole = " AND ".join(f"typeof({name}) = 'integer'" for name in sums)
    op.create_table(
        "ai_call_totals",
        sa.Column("org_id", Label(256), primary_key=True),
        sa.Column("grain", Label(1), primary_key=True),
        sa.Column("dimension", Label(32), primary_key=True),
        sa.Column("period", Label(13), primary_key=True),
        sa.Column("value", Label(256), primary_key=True),
        sa.Column("currency", Label(16), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        sa.Column("durations", long_text(), nullable=False),
        # SQLite would turn a sum beyond 64 bits into a float and say nothing.
        *([sa.CheckConstraint(whole, name="ck_ai_call_totals_whole")] if sqlite else []),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("ix_ai_call_totals_period", "ai_call_totals", ["grain", "dimension", "period"])


def downgrade() -> None:
    """Never: a step back would throw books away."""
    raise NotImplementedError
