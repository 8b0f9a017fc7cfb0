"""The tables of the catalogue: providers and models."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, SmallInteger, Table

from ai_ledger.database.columns import MAX_LABEL, Label, Moment, long_text, metadata

MAX_WORD: Final = 16
"""Of a status, a type: one of a few words of ours."""


def _edited() -> tuple[Column[Any], ...]:
    """What rows have that people edit."""
    return (
        Column("version", BigInteger, nullable=False),
        Column("updated_at", Moment, nullable=False),
        Column("updated_by", Label(MAX_LABEL)),
    )


def _name_key() -> Column[Any]:
    # The name in small letters, as calls are compared: no two differ in capitals alone.
    return Column("name_key", Label(MAX_LABEL), nullable=False, unique=True)


providers = Table(
    "ai_providers",
    metadata,
    Column("name", Label(MAX_LABEL), primary_key=True),
    _name_key(),
    Column("display_name", Label(MAX_LABEL)),
    Column("description", long_text()),
    Column("site", long_text()),
    Column("type", Label(MAX_WORD), nullable=False),
    # A JSON object.
    Column("settings", long_text(), nullable=False),
    Column("status", Label(MAX_WORD), nullable=False),
    Column("sort_order", Integer, nullable=False),
    Column("is_default", Boolean, nullable=False),
    *_edited(),
)

models = Table(
    "ai_models",
    metadata,
    Column("name", Label(MAX_LABEL), primary_key=True),
    _name_key(),
    Column("display_name", Label(MAX_LABEL)),
    # Not a foreign key: rows are never removed, only marked.
    Column("provider", Label(MAX_LABEL), nullable=False),
    Column("api_url", long_text()),
    Column("api_type", Label(MAX_WORD), nullable=False),
    # A JSON object.
    Column("parameters", long_text(), nullable=False),
    Column("timeout_s", Double),
    Column("context_size", BigInteger),
    # A JSON array of entries, each with the keys of a price file.
    Column("prices", long_text(), nullable=False),
    Column("status", Label(MAX_WORD), nullable=False),
    *_edited(),
)
Index("ix_ai_models_provider", models.c.provider)

# One row, at which edits wait for each other.
edits = Table(
    "ai_catalog_edits",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)
