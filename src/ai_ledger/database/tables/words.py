"""The tables of words: the list itself, and how the filter is set."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, UniqueConstraint

from ai_ledger.database.columns import MAX_LABEL, Label, Moment, metadata

words = Table(
    "ai_words",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    # Empty for all organisations: NULL would not be unique.
    Column("org_id", Label(MAX_LABEL), nullable=False),
    Column("word", Label(MAX_LABEL), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("match", Label(16), nullable=False),
    Column("action", Label(16), nullable=False),
    Column("replacement", Label(MAX_LABEL)),
    Column("variants", Boolean, nullable=False),
    Column("note", Label(MAX_LABEL)),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Label(MAX_LABEL)),
    Column("updated_at", Moment, nullable=False),
    Column("updated_by", Label(MAX_LABEL)),
    Column("version", Integer, nullable=False),
    UniqueConstraint("org_id", "word", name="uq_ai_words_word"),
    # Records name words by id, so that the id of a removed one must not come back.
    sqlite_autoincrement=True,
)

settings = Table(
    "ai_word_settings",
    metadata,
    # There is one row, whose id is 1.
    Column("id", Integer, primary_key=True, autoincrement=False),
    # Counts every change of words and settings, so that others notice it by one small read.
    Column("generation", BigInteger, nullable=False),
    Column("fuzzy", Boolean, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("updated_by", Label(MAX_LABEL)),
    Column("version", Integer, nullable=False),
)
