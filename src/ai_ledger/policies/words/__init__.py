"""Words: what must not be sent, what is sent in other words, and what is to be noticed."""

from __future__ import annotations

from ai_ledger.errors import WordsUnavailable
from ai_ledger.policies.words.findings import Finding, Findings
from ai_ledger.policies.words.policy import Words
from ai_ledger.policies.words.rows import Word
from ai_ledger.policies.words.store import WordList, WordSettings
from ai_ledger.policies.words.stream import WordStream

__all__ = [
    "Finding",
    "Findings",
    "Word",
    "WordList",
    "WordSettings",
    "WordStream",
    "Words",
    "WordsUnavailable",
]
