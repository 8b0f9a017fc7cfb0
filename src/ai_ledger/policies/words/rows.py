"""A word as it is kept, and what can be one."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ai_ledger.bounds import label, storable
from ai_ledger.errors import InvalidValue
from ai_ledger.policies.words.folding import RUNNING, fold, letters

Match: TypeAlias = Literal["exact", "fuzzy"]
Action: TypeAlias = Literal["block", "replace", "warn"]

MATCHES: Final = ("exact", "fuzzy")
ACTIONS: Final = ("block", "replace", "warn")
MAX_WORD_CHARS: Final = 100
MAX_REPLACEMENT_CHARS: Final = 255
STARS: Final = "***"
"""What replaces a word that names no replacement. It has no letters, so no word is in it."""

MIN_FUZZY_RUNNING: Final = 2
MIN_FUZZY_LETTERS: Final = 4


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """
    One row of the list.

    Args:
        id: Never given twice.
        word: As it was typed, without space around it.
        active: Whether it is looked for.
        match: ``exact``, which includes evasive spellings, or ``fuzzy``, which also
            takes what looks or sounds the same.
        action: ``block`` refuses the call, ``replace`` changes what is sent,
            ``warn`` marks the record.
        replacement: What takes its place; ``None`` for ``***``.
        org_id: The organisation it is for; ``None`` for all.
        variants: Whether its traditional and simplified spellings are looked for as well.
        note: For people.
        created_at: Aware, UTC.
        created_by: Who; ``None`` when nobody said.
        updated_at: Of the last edit.
        updated_by: Who made that.
        version: Counts edits.
    """

    id: int
    word: str
    active: bool = True
    match: Match = "exact"
    action: Action = "block"
    replacement: str | None = None
    org_id: str | None = None
    variants: bool = False
    note: str | None = None
    created_at: datetime
    created_by: str | None = None
    updated_at: datetime
    updated_by: str | None = None
    version: int = 1


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What people say of a word; the rest is the database's."""

    word: str
    active: bool = True
    match: Match = "exact"
    action: Action = "block"
    replacement: str | None = None
    org_id: str | None = None
    variants: bool = False
    note: str | None = None


DRAFT_FIELDS: Final = Draft.__struct_fields__

# What stands for other text in a regular expression, and in no word that we know of.
_EXPRESSION: Final = re.compile(
    r"\.[*+?]|\\[dwsbDWSB]|\[[^\]]*[\w]-[\w][^\]]*\]|\[\^|\(\?|\{\d+(,\d*)?\}"
    r"|^\^|\([^)]*\|[^)]*\)|\w\|\w|\][*+?]|\)[*+?]"
)


def checked(draft: dict[str, Any], *, literal: bool = False) -> Draft:
    """
    *draft* as a row may be.

    Args:
        draft: Some of `DRAFT_FIELDS`.
        literal: Take what looks like a regular expression for the word that it is.

    Raises:
        InvalidValue: A value that cannot be; names the field.
    """
    for name in draft:
        if name not in DRAFT_FIELDS:
            raise InvalidValue(name, draft[name], f"one of the fields {', '.join(DRAFT_FIELDS)}")
    values = dict(draft)
    word = values["word"] = checked_word(values.get("word"), literal=literal)
    for name, default in (("active", True), ("variants", False)):
        values.setdefault(name, default)
        if not isinstance(values[name], bool):
            raise InvalidValue(name, values[name], "True or False")
    for name, choices, default in (("match", MATCHES, "exact"), ("action", ACTIONS, "block")):
        values.setdefault(name, default)
        if values[name] not in choices:
            raise InvalidValue(name, values[name], f"one of {', '.join(choices)}")
    for name, bound in (("replacement", MAX_REPLACEMENT_CHARS), ("note", 255)):
        values[name] = _optional(name, values.get(name), bound)
    org = _optional("org_id", values.get("org_id"), 10_000)
    values["org_id"] = label(org) if org else None
    if values["match"] == "fuzzy":
        check_fuzzy(word)
    replacement = values["replacement"]
    if replacement is not None and values["action"] != "replace":
        raise InvalidValue("replacement", replacement, "none, unless the action is replace")
    if replacement and letters(fold(word)) in letters(fold(replacement)):
        raise InvalidValue("replacement", replacement, "a text that has not the word in it")
    return Draft(**values)


def checked_word(word: object, *, literal: bool = False) -> str:
    """*word* without space around it, if it is one that can be looked for."""
    if not isinstance(word, str):
        raise InvalidValue("word", word, "a text")
    text = storable(word).strip()
    if not text or len(text) > MAX_WORD_CHARS:
        raise InvalidValue("word", word, f"1 to {MAX_WORD_CHARS} characters")
    if "\n" in text or "\r" in text:
        raise InvalidValue("word", word, "a text of one line")
    if not literal and _EXPRESSION.search(text):
        raise InvalidValue(
            "word",
            word,
            "a word and not a regular expression, which is not understood here; say literal "
            "if it is meant letter for letter",
        )
    if not 1 <= len(letters(fold(text))) <= MAX_WORD_CHARS:
        raise InvalidValue("word", word, "at least one letter or digit: punctuation is passed over")
    return text


def check_fuzzy(word: str) -> None:
    """Refuse a word that everything would look or sound like."""
    kept = letters(fold(word))
    long_enough = MIN_FUZZY_RUNNING if RUNNING.search(kept) else MIN_FUZZY_LETTERS
    if len(kept) < long_enough:
        raise InvalidValue(
            "match", "fuzzy", f"exact for a word of fewer than {long_enough} letters"
        )


def _optional(name: str, value: object, bound: int) -> str | None:
    if value is None:
        return None
    if name == "org_id" and type(value) is int:
        value = str(value)
    if not isinstance(value, str) or len(value) > bound:
        raise InvalidValue(name, value, f"a text of at most {bound} characters")
    return storable(value)
