"""The tables of alerts: rules, alerts, who was told of them, and marks on failed calls."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    Table,
    UniqueConstraint,
)

from ai_ledger.database.columns import MAX_KEY, MAX_LABEL, Label, Moment, long_text, metadata

rules = Table(
    "ai_alert_rules",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    # A key as in the totals: what is unique with it cannot be NULL.
    Column("org_key", Label(MAX_KEY), nullable=False),
    Column("name", Label(MAX_LABEL), nullable=False),
    Column("kind", Label(32), nullable=False),
    Column("enabled", Boolean, nullable=False),
    # A JSON object: what the rule looks at, and from where on it is too much.
    Column("terms", long_text(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("updated_by", Label(MAX_LABEL)),
    UniqueConstraint("org_key", "name", name="uq_ai_alert_rules_name"),
    # An id that comes again would have the alerts and the history of its predecessor.
    sqlite_autoincrement=True,
)

alerts = Table(
    "ai_alerts",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("rule_id", BigInteger, nullable=False),
    # For whom, as a key; what about it: a currency, a budget, a reason; when.
    Column("scope_key", Label(MAX_KEY), nullable=False),
    Column("subject", Label(MAX_LABEL), nullable=False),
    Column("period", Label(64), nullable=False),
    Column("rule", Label(MAX_LABEL), nullable=False),
    Column("kind", Label(32), nullable=False),
    Column("severity", Label(16), nullable=False),
    Column("org_id", Label(MAX_LABEL)),
    Column("field", Label(MAX_LABEL)),
    Column("state", Label(16), nullable=False),
    # What it was when it ended by itself, and is again if it comes back.
    Column("resumes_as", Label(16)),
    Column("value", Double, nullable=False),
    Column("last_value", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("text", long_text(), nullable=False),
    # A JSON object: ids of some of the calls it is based on, and the filter for all.
    Column("calls", long_text(), nullable=False),
    Column("occurrences", Integer, nullable=False),
    Column("raised_at", Moment, nullable=False),
    Column("last_seen_at", Moment, nullable=False),
    Column("send_after", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("changed_by", Label(MAX_LABEL)),
    Column("note", long_text()),
    Column("version", Integer, nullable=False),
    UniqueConstraint("rule_id", "scope_key", "subject", "period", name="uq_ai_alerts_once"),
)
Index("ix_ai_alerts_raised", alerts.c.raised_at)
Index("ix_ai_alerts_state", alerts.c.rule_id, alerts.c.state)

deliveries = Table(
    "ai_alert_deliveries",
    metadata,
    Column("alert_id", BigInteger, primary_key=True, autoincrement=False),
    Column("channel", Label(MAX_LABEL), primary_key=True),
    # waiting, sent, or failed: given up.
    Column("state", Label(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    # When it may be tried (again). Whoever tries moves it on first, so that nobody
    # else does, and somebody does when he dies over it.
    Column("next_at", Moment, nullable=False),
    Column("sent_at", Moment),
    Column("last_error", long_text()),
)

marks = Table(
    "ai_call_marks",
    metadata,
    Column("call_id", Label(MAX_LABEL), primary_key=True),
    Column("state", Label(16), nullable=False),
    Column("marked_at", Moment, nullable=False),
    Column("marked_by", Label(MAX_LABEL)),
    Column("note", long_text()),
)
