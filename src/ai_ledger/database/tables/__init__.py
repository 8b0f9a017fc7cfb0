"""All tables. Importing this package makes the metadata complete."""

from __future__ import annotations

from typing import Final

from ai_ledger.database.columns import metadata
from ai_ledger.database.tables import (
    alerts,
    budgets,
    calls,
    catalog,
    changes,
    console,
    quotas,
    words,
)

__all__ = [
    "REVISIONS",
    "VERSION_TABLE",
    "alerts",
    "budgets",
    "calls",
    "catalog",
    "changes",
    "console",
    "metadata",
    "quotas",
    "words",
]

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""The migrations of this version, oldest first. A test compares them with the folder."""
VERSION_TABLE: Final = "ai_ledger_version"
