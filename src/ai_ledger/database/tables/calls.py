"""The tables of calls: the rows, their texts and tags, and the totals over them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    SmallInteger,
    Table,
)

from ai_ledger.database.columns import (
    MAX_CURRENCY,
    MAX_KEY,
    MAX_LABEL,
    Label,
    Moment,
    long_text,
    metadata,
)
from ai_ledger.records import STATUSES, TOKEN_FIELDS

STATUS_COLUMNS: Final = tuple(f"{status}_calls" for status in STATUSES)
TOTAL_NUMBERS: Final = (
    "calls",
    *STATUS_COLUMNS,
    *TOKEN_FIELDS,
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
"""The sums of a cell, in the order of its columns."""
TOTAL_KEY: Final = ("org_id", "grain", "dimension", "period", "value", "currency")

records = Table(
    "ai_call_records",
    metadata,
    Column("id", Label(MAX_LABEL), primary_key=True),
    Column("started_at", Moment, nullable=False),
    Column("status", Label(16), nullable=False),
    Column("duration_ms", Double),
    Column("time_to_first_token_ms", Double),
    Column("error_type", Label(MAX_LABEL)),
    Column("error_message", long_text()),
    Column("http_status", Integer),
    Column("operation", Label(MAX_LABEL), nullable=False),
    Column("provider", Label(MAX_LABEL)),
    Column("server_address", Label(MAX_LABEL)),
    Column("request_model", Label(MAX_LABEL)),
    Column("response_model", Label(MAX_LABEL)),
    Column("response_id", Label(MAX_LABEL)),
    Column("service_tier", Label(MAX_LABEL)),
    Column("finish_reason", Label(MAX_LABEL)),
    Column("streamed", Boolean, nullable=False),
    Column("retries", BigInteger, nullable=False),
    *(Column(name, BigInteger) for name in TOKEN_FIELDS),
    Column("usage_source", Label(16), nullable=False),
    Column("cost_nano", BigInteger),
    Column("currency", Label(MAX_CURRENCY)),
    Column("price_id", Label(MAX_LABEL)),
    Column("org_id", Label(MAX_LABEL)),
    Column("user_id", Label(MAX_LABEL)),
    Column("device_id", Label(MAX_LABEL)),
    Column("session_id", Label(MAX_LABEL)),
    Column("function", Label(MAX_LABEL)),
    Column("business_type", Label(MAX_LABEL)),
    Column("reference_id", Label(MAX_LABEL)),
    Column("deleted_at", Moment),
    # Whole numbers beside the durations, so that sums over rows are exact and
    # percentiles need no arithmetic in SQL.
    Column("duration_us", BigInteger),
    Column("duration_bucket", SmallInteger),
    Column("first_token_us", BigInteger),
)
Index("ix_ai_call_records_started", records.c.started_at)
Index("ix_ai_call_records_org", records.c.org_id, records.c.started_at)
Index("ix_ai_call_records_user", records.c.user_id, records.c.started_at)
for _name in ("session_id", "reference_id", "device_id"):
    # Partial where the database can: most calls have none of these.
    Index(
        f"ix_ai_call_records_{_name.removesuffix('_id')}",
        records.c[_name],
        sqlite_where=records.c[_name].is_not(None),
        postgresql_where=records.c[_name].is_not(None),
    )

# Two kilobytes of text inside the row make every scan of the rows several times
# slower, so texts have a table of their own.
contents = Table(
    "ai_call_contents",
    metadata,
    Column("call_id", Label(MAX_LABEL), primary_key=True),
    Column("request_content", long_text()),
    Column("response_content", long_text()),
)

tags = Table(
    "ai_call_tags",
    metadata,
    Column("call_id", Label(MAX_LABEL), primary_key=True),
    Column("key", Label(MAX_LABEL), primary_key=True),
    Column("value", Label(MAX_LABEL), nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_ai_call_tags_value", tags.c.key, tags.c.value)


def whole_sums() -> CheckConstraint:
    """
    The refusal of SQLite to keep a sum that no longer fits 64 bits.

    That is 9.2e9 units of one currency in one month of one organisation. SQLite
    would go on with a float, which forgets the last digits and says nothing;
    PostgreSQL and MariaDB refuse by themselves.
    """
    whole = " AND ".join(f"typeof({name}) = 'integer'" for name in TOTAL_NUMBERS)
    return CheckConstraint(whole, name="ck_ai_call_totals_whole")


totals = Table(
    "ai_call_totals",
    metadata,
    Column("org_id", Label(MAX_KEY), primary_key=True),
    Column("grain", Label(1), primary_key=True),
    Column("dimension", Label(32), primary_key=True),
    Column("period", Label(13), primary_key=True),
    Column("value", Label(MAX_KEY), primary_key=True),
    Column("currency", Label(MAX_CURRENCY), primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in TOTAL_NUMBERS),
    Column("durations", long_text(), nullable=False),
    whole_sums().ddl_if(dialect="sqlite"),
    sqlite_with_rowid=False,
    # Room for updates in place: the same cells change with every batch.
    postgresql_with={"fillfactor": 70},
)
Index("ix_ai_call_totals_period", totals.c.grain, totals.c.dimension, totals.c.period)

corrections = Table(
    "ai_cost_corrections",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("call_id", Label(MAX_LABEL), nullable=False),
    Column("corrected_at", Moment, nullable=False),
    Column("old_cost_nano", BigInteger),
    Column("old_currency", Label(MAX_CURRENCY)),
    Column("old_price_id", Label(MAX_LABEL)),
    Column("cost_nano", BigInteger),
    Column("currency", Label(MAX_CURRENCY)),
    Column("price_id", Label(MAX_LABEL)),
)
Index("ix_ai_cost_corrections_call", corrections.c.call_id)

RECORD_COLUMNS: Final = tuple(column.name for column in records.columns)
