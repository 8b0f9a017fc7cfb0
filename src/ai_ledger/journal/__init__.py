"""The journal: each process's own file of calls, where they wait until every sink has them."""

from __future__ import annotations

from ai_ledger.journal.journal import Batch, Journal
from ai_ledger.journal.limits import Limits

__all__ = ["Batch", "Journal", "Limits"]
