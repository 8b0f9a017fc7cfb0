"""Alembic's folder; `ai_ledger.sinks.sql.upgrade` runs it."""
