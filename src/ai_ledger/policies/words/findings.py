"""Findings: which words were found where, and the text without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from ai_ledger.policies.words.folding import Folded
from ai_ledger.policies.words.matcher import MAX_HITS, Hit, Matcher
from ai_ledger.policies.words.rows import STARS, Action, Word

MAX_ROUNDS: Final = 8
_MAX_MARK_CHARS: Final = 255


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """
    A word at a place of a text. The word itself is not repeated.

    Args:
        rule: The row's id.
        action: What the row says.
        start: Offset of its first character in the text as it was given.
        end: Offset after its last character.
        replacement: What takes its place, if the action is ``replace``.
        org_id: Whose word it is; ``None`` for everybody's.
    """

    rule: int
    action: Action
    start: int
    end: int
    replacement: str | None = None
    org_id: str | None = None


class Findings(tuple[Finding, ...]):
    """
    All words found in a text, in order; where several begin, the longest first.

    There are at most 10,000 and a few; beyond, only words that block are looked for.
    """

    __slots__ = ()

    def rules(self, action: Action | None = None) -> tuple[int, ...]:
        """The ids of the rows, each once, ascending; those with one action, or all."""
        return rules_of(each.rule for each in self if action in (None, each.action))

    @property
    def blocked(self) -> bool:
        """Whether one of them blocks."""
        return any(each.action == "block" for each in self)


def rules_of(ids: Iterable[int]) -> tuple[int, ...]:
    """*ids*, each once, ascending."""
    return tuple(sorted(set(ids)))


def mark_of(rules: Sequence[int]) -> str:
    """*rules* as the value of a tag: as many as have room, and a mark if some have not."""
    text = ",".join(map(str, rules))
    if len(text) <= _MAX_MARK_CHARS:
        return text
    return f"{text[: _MAX_MARK_CHARS - 4].rpartition(',')[0]},..."


def hits_in(
    matchers: Iterable[Matcher], folded: Folded, *, until_blocked: bool = False
) -> list[Hit]:
    """The hits of several matchers, in order."""
    found: list[Hit] = []
    for matcher in matchers:
        found += matcher.find(folded, until_blocked=until_blocked)
    return sorted(
        found, key=lambda hit: (hit.begin, -hit.end, hit.word.org_id is None, hit.word.id)
    )


def finding(word: Word, start: int, end: int, shift: int = 0) -> Finding:
    """What is told of *word* at a place."""
    return Finding(
        rule=word.id,
        action=word.action,
        start=start + shift,
        end=end + shift,
        replacement=_replacement(word) if word.action == "replace" else None,
        org_id=word.org_id,
    )


def findings_in(matchers: Sequence[Matcher], text: str) -> Findings:
    """All words in *text*."""
    folded = Folded([text])
    return Findings(
        finding(hit.word, *folded.spans(hit.begin, hit.end)[0][1:])
        for hit in hits_in(matchers, folded)
    )


def _replacement(word: Word) -> str:
    return STARS if word.replacement is None else word.replacement


class TooMany(Exception):
    """More places to replace than is worth the time. *rules* are some of the words."""

    def __init__(self, rules: tuple[int, ...]) -> None:
        self.rules = rules
        super().__init__(f"more than {MAX_HITS:,} places")


def replaced_texts(
    matchers: Sequence[Matcher],
    texts: Sequence[str],
    *,
    joined: frozenset[int] = frozenset(),
    written: Callable[[int, str], str] = lambda _, text: text,
    known: tuple[Folded, list[Hit]] | None = None,
) -> tuple[list[str], list[Hit]]:
    """
    *texts* without words that are to be replaced, and the hits that there are afterwards.

    What takes a word's place may make a new one out of what stood around it, so this
    is done again until there is none. After `MAX_ROUNDS` somebody makes fun of us, and
    the texts that still have one become ``***``.

    Args:
        matchers: Those that apply.
        texts: Those to change.
        joined: As for `Folded`.
        written: How a replacement is written in the text of this index.
        known: *texts* folded, and all hits in them, if that has been done.

    Raises:
        TooMany: There are more than `MAX_HITS` places.
    """
    changed = list(texts)
    for _ in range(MAX_ROUNDS):
        folded, hits = known or _found(matchers, changed, joined)
        known = None
        kept = chosen(hits)
        if not kept:
            return changed, hits
        if len(hits) >= MAX_HITS:
            raise TooMany(rules_of(hit.word.id for hit in kept))
        _replace(changed, folded, kept, written)
    folded, hits = _found(matchers, changed, joined)
    for hit in hits:
        if hit.word.action == "replace":
            for index, _, _ in folded.spans(hit.begin, hit.end):
                changed[index] = STARS
    return changed, _found(matchers, changed, joined)[1]


def _found(
    matchers: Sequence[Matcher], texts: Sequence[str], joined: frozenset[int]
) -> tuple[Folded, list[Hit]]:
    folded = Folded(texts, joined=joined)
    return folded, hits_in(matchers, folded)


def chosen(hits: Iterable[Hit]) -> list[Hit]:
    """Those of *hits* that are replaced: from the left, the longest, none that overlaps another."""
    kept: list[Hit] = []
    end = 0
    for hit in hits:
        if hit.word.action == "replace" and hit.begin >= end:
            kept.append(hit)
            end = hit.end
    return kept


def _replace(
    texts: list[str], folded: Folded, hits: list[Hit], written: Callable[[int, str], str]
) -> None:
    edits: dict[int, list[tuple[int, int, str]]] = {}
    for hit in hits:
        replacement = _replacement(hit.word)
        for index, start, end in folded.spans(hit.begin, hit.end):
            edits.setdefault(index, []).append((start, end, written(index, replacement)))
            replacement = ""  # it stands where the word begins
    for index, changes in edits.items():
        texts[index] = edited(texts[index], changes)


def edited(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """*text* with *changes* made: from, before, instead; in order."""
    parts: list[str] = []
    at = 0
    for start, end, instead in changes:
        # Two letters that come from one character would be changed twice.
        if start < at:
            continue
        parts += (text[at:start], instead)
        at = end
    parts.append(text[at:])
    return "".join(parts)
