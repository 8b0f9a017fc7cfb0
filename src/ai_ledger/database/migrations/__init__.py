"""Alembic's folder; `ai_ledger.database.upgrade` runs it."""
