"""The tables of the console: access tokens, browser sessions, reports, re-pricing."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, UniqueConstraint

from ai_ledger.database.columns import MAX_LABEL, Label, Moment, long_text, metadata

# Of tokens and sessions only hashes are kept: whoever reads the database signs in with none.
access_tokens = Table(
    "ai_access_tokens",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("name", Label(MAX_LABEL), nullable=False),
    Column("hash", Label(64), nullable=False),
    # The last characters, so that people can tell tokens apart.
    Column("hint", Label(8), nullable=False),
    Column("role", Label(16), nullable=False),
    Column("org_id", Label(MAX_LABEL)),
    Column("prompts", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", Label(MAX_LABEL)),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
    Column("revoked_at", Moment),
    UniqueConstraint("hash", name="uq_ai_access_tokens_hash"),
    sqlite_autoincrement=True,
)

console_sessions = Table(
    "ai_console_sessions",
    metadata,
    Column("hash", Label(64), primary_key=True),
    Column("token_id", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
)
Index("ix_ai_console_sessions_token", console_sessions.c.token_id)

# A report as it was made, found by its id: no file, and so no path, takes part.
reports = Table(
    "ai_reports",
    metadata,
    Column("id", Label(36), primary_key=True),
    Column("org_id", Label(MAX_LABEL)),
    Column("made_at", Moment, nullable=False),
    Column("made_by", Label(MAX_LABEL)),
    Column("since", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Column("tz", Label(64), nullable=False),
    Column("body", long_text(), nullable=False),
)
Index("ix_ai_reports_made", reports.c.made_at)

# The run of re-pricing that goes on, in whichever console, or the one that ended last.
repricing_runs = Table(
    "ai_repricing_runs",
    metadata,
    Column("id", Label(36), primary_key=True),
    # 1 while it goes on and NULL afterwards: the constraint below lets one go on at a time.
    Column("going_on", Integer),
    Column("seen_at", Moment, nullable=False),
    Column("stop", Boolean, nullable=False),
    Column("body", long_text(), nullable=False),
    UniqueConstraint("going_on", name="uq_ai_repricing_runs_going_on"),
)
