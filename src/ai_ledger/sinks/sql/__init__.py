"""SQL: calls and their totals in SQLite, PostgreSQL, MariaDB or MySQL."""

from __future__ import annotations

from ai_ledger.sinks.sql.sink import SQLSink

__all__ = ["SQLSink"]
