"""The tables of alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ai_ledger.database.columns import Label, Moment, long_text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rules, alerts, deliveries, and marks on calls."""
    op.create_table(
        "ai_alert_rules",
        _id(),
        sa.Column("org_key", Label(256), nullable=False),
        sa.Column("name", Label(255), nullable=False),
        sa.Column("kind", Label(32), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("terms", long_text(), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("updated_by", Label(255)),
        sa.UniqueConstraint("org_key", "name", name="uq_ai_alert_rules_name"),
        sqlite_autoincrement=True,
    )
    _alerts()
    op.create_table(
        "ai_alert_deliveries",
        sa.Column("alert_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("channel", Label(255), primary_key=True),
        sa.Column("state", Label(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", Moment, nullable=False),
        sa.Column("sent_at", Moment),
        sa.Column("last_error", long_text()),
    )
    op.create_table(
        "ai_call_marks",
        sa.Column("call_id", Label(255), primary_key=True),
        sa.Column("state", Label(16), nullable=False),
        sa.Column("marked_at", Moment, nullable=False),
        sa.Column("marked_by", Label(255)),
        sa.Column("note", long_text()),
    )


def _alerts() -> None:
    op.create_table(
        "ai_alerts",
        _id(),
        sa.Column("rule_id", sa.BigInteger, nullable=False),
        sa.Column("scope_key", Label(256), nullable=False),
        sa.Column("subject", Label(255), nullable=False),
        sa.Column("period", Label(64), nullable=False),
        sa.Column("rule", Label(255), nullable=False),
        sa.Column("kind", Label(32), nullable=False),
        sa.Column("severity", Label(16), nullable=False),
        sa.Column("org_id", Label(255)),
        sa.Column("field", Label(255)),
        sa.Column("state", Label(16), nullable=False),
        sa.Column("resumes_as", Label(16)),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("last_value", sa.Double, nullable=False),
        sa.Column("threshold", sa.Double, nullable=False),
        sa.Column("text", long_text(), nullable=False),
        sa.Column("calls", long_text(), nullable=False),
        sa.Column("occurrences", sa.Integer, nullable=False),
        sa.Column("raised_at", Moment, nullable=False),
        sa.Column("last_seen_at", Moment, nullable=False),
        sa.Column("send_after", Moment, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
        sa.Column("changed_by", Label(255)),
        sa.Column("note", long_text()),
        sa.Column("version", sa.Integer, nullable=False),
        sa.UniqueConstraint("rule_id", "scope_key", "subject", "period", name="uq_ai_alerts_once"),
    )
    op.create_index("ix_ai_alerts_raised", "ai_alerts", ["raised_at"])
    op.create_index("ix_ai_alerts_state", "ai_alerts", ["rule_id", "state"])


def _id() -> sa.Column[int]:
    return sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    )
