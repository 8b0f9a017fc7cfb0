"""The table of who changed what, and when: providers, models, quotas, words, rules."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table

from ai_ledger.database.columns import MAX_LABEL, Label, Moment, long_text, metadata

changes = Table(
    "ai_changes",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("changed_at", Moment, nullable=False),
    Column("changed_by", Label(MAX_LABEL)),
    Column("kind", Label(32), nullable=False),
    Column("key", Label(MAX_LABEL), nullable=False),
    # JSON objects; NULL before it was made, and after it is gone.
    Column("before", long_text()),
    Column("after", long_text()),
)
Index("ix_ai_changes_key", changes.c.kind, changes.c.key, changes.c.id)
