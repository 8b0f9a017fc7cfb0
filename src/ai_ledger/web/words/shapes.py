"""What the API and the pages of words say: words, findings, imports, settings."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ai_ledger.policies.words.rows import (
    MAX_REPLACEMENT_CHARS,
    MAX_WORD_CHARS,
    Action,
    Match,
)
from ai_ledger.web.parameters import MAX_VERSION

MAX_NOTE_CHARS = 255
MAX_ORG_CHARS = 255
MAX_TEXT_CHARS = 100_000
MAX_FINDINGS = 1_000

Verdict = Literal["blocked", "replaced", "marked", "clean"]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WordView(_Shape):
    """
    A word of the list.

    Whoever is confined to an organisation is told of words for all organisations what
    they do, and not who added them.
    """

    id: int
    word: str
    active: bool
    match: Match
    action: Action
    replacement: str | None
    org_id: str | None = Field(description="Whose; null for all organisations.")
    variants: bool
    note: str | None
    created_at: datetime
    created_by: str | None
    updated_at: datetime
    updated_by: str | None
    version: int
    editable: bool = Field(description="Whether the reader may change it.")


class WordPage(_Shape):
    """A page of words, the newest first."""

    words: list[WordView]
    total: int
    next: int | None = Field(description="Give it as `after` for the next page; null at the end.")


class NewWord(_Shape):
    """A word to be added."""

    word: str = Field(min_length=1, max_length=MAX_WORD_CHARS)
    active: bool = True
    match: Match = "exact"
    action: Action = "block"
    replacement: str | None = Field(None, max_length=MAX_REPLACEMENT_CHARS)
    org_id: str | None = Field(
        None,
        max_length=MAX_ORG_CHARS,
        description="Whose; for all organisations if left out, or the reader's own.",
    )
    variants: bool = False
    note: str | None = Field(None, max_length=MAX_NOTE_CHARS)
    literal: bool = Field(
        False, description="Take what looks like a regular expression letter for letter."
    )


class WordEdit(_Shape):
    """What becomes different; what is left out stays."""

    version: int = Field(ge=1, le=MAX_VERSION, description="That of the word that was seen.")
    word: str | None = Field(None, min_length=1, max_length=MAX_WORD_CHARS)
    active: bool | None = None
    match: Match | None = None
    action: Action | None = None
    replacement: str | None = Field(None, max_length=MAX_REPLACEMENT_CHARS)
    variants: bool | None = None
    note: str | None = Field(None, max_length=MAX_NOTE_CHARS)
    literal: bool = False


class Trial(_Shape):
    """A text to be tried. It is stored nowhere."""

    text: str = Field(max_length=MAX_TEXT_CHARS)
    org_id: str | None = Field(
        None,
        max_length=MAX_ORG_CHARS,
        description="Whose words apply besides those for all.",
    )


class Hit(_Shape):
    """A word at a place of the text; offsets count characters of it as it was given."""

    word_id: int
    action: Action
    start: int
    end: int
    replacement: str | None
    org_id: str | None


class Found(_Shape):
    """What becomes of a prompt with this text."""

    verdict: Verdict
    hits: list[Hit] = Field(description="The first 1,000 of them, in order.")
    total: int
    replaced: str | None = Field(description="What would be sent; null when it would be refused.")


class ImportLine(_Shape):
    """What became of a line; the header is line 1."""

    number: int
    word: str
    outcome: Literal["added", "updated", "unchanged", "refused"]
    reason: str | None


class WordImport(_Shape):
    """What an import changed, or would change."""

    dry_run: bool
    written: bool
    added: int
    updated: int
    unchanged: int
    refused: int
    ignored: list[str] = Field(description="Columns that nothing was taken from.")
    lines: list[ImportLine] = Field(description="Up to 200, those that were refused first.")


class Settings(_Shape):
    """How the filter is set, for all organisations and programs."""

    fuzzy: bool = Field(description="Whether fuzzy words match more than exact ones do.")
    version: int
    updated_at: datetime | None
    updated_by: str | None


class SettingsEdit(_Shape):
    """How the filter is to be."""

    fuzzy: bool
    version: int = Field(ge=0, le=MAX_VERSION, description="That of the settings that were seen.")
