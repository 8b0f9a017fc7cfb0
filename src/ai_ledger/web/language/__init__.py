"""Chinese and English: words, numbers, money and times as each writes them."""

from __future__ import annotations

from ai_ledger.web.language.details import Details
from ai_ledger.web.language.labels import Labels
from ai_ledger.web.language.language import LANGUAGES, Language, language_of

__all__ = ["LANGUAGES", "Details", "Labels", "Language", "language_of"]
