"""The tables of quotas: the rows that people edit, and what calls in flight hold of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, SmallInteger, Table

from ai_ledger.database.columns import MAX_KEY, MAX_LABEL, Label, Moment, metadata

quotas = Table(
    "ai_quotas",
    metadata,
    # "*" in either stands for all that have no row of their own.
    Column("org_id", Label(MAX_LABEL), primary_key=True),
    Column("model", Label(MAX_LABEL), primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("min_interval_us", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("valid_from", Moment),
    Column("valid_until", Moment),
    Column("rates", Label(MAX_LABEL), nullable=False),
    Column("max_concurrent", Integer, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("updated_by", Label(MAX_LABEL)),
)

switches = Table(
    "ai_model_switches",
    metadata,
    Column("model", Label(MAX_LABEL), primary_key=True),
    Column("off", Boolean, nullable=False),
    # Of all organisations together; 0 for no bound.
    Column("max_concurrent", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("updated_by", Label(MAX_LABEL)),
)

# One row, whose stamp is another one after each edit: processes read it to see
# whether what they remember still holds, and edits wait for each other at it.
edits = Table(
    "ai_quota_edits",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("stamp", BigInteger, nullable=False),
)

# Who asks for a turn or a place locks the gate first, so that no two count at once.
gates = Table(
    "ai_quota_gates",
    metadata,
    Column("org_id", Label(MAX_KEY), primary_key=True),
    Column("model", Label(MAX_KEY), primary_key=True),
    # Microseconds since 1970 by the clock of the database, which all processes share.
    Column("next_at_us", BigInteger, nullable=False),
)

places = Table(
    "ai_quota_places",
    metadata,
    Column("id", Label(36), primary_key=True),
    Column("org_id", Label(MAX_KEY), nullable=False),
    Column("model", Label(MAX_KEY), nullable=False),
    Column("holder", Label(36), nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
)
Index("ix_ai_quota_places_gate", places.c.org_id, places.c.model)
Index("ix_ai_quota_places_holder", places.c.holder)
