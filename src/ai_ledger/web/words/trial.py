"""Trying a text: what becomes of a prompt that has it, by the filter that calls go through."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Final

from ai_ledger.bounds import label
from ai_ledger.errors import (
    AccessDenied,
    ContentBlocked,
    SinkUnavailable,
    WordsUnavailable,
)
from ai_ledger.policies.words import Words
from ai_ledger.policies.words.rows import Action
from ai_ledger.records import CallRecord
from ai_ledger.web.house import Desk
from ai_ledger.web.words.shapes import MAX_FINDINGS, Found, Hit, Verdict

_NEEDED: Final = ("ahocorasick_rs", "opencc", "pypinyin")
_STRENGTH: Final[dict[Action, int]] = {"block": 3, "replace": 2, "warn": 1}
MAX_PIECES: Final = 4_000


@dataclass(frozen=True)
class Piece:
    """A part of the text: what words it is in, and the strongest thing that they do."""

    text: str
    action: Action | None
    words: tuple[int, ...] = ()


def missing() -> bool:
    """Whether something of the extra ``words`` is not installed."""
    for name in _NEEDED:
        try:
            import_module(name)
        except ImportError:
            return True
    return False


def tried(desk: Desk, text: str, org: str | None) -> Found:
    """
    What would become of a prompt with *text*; it is neither stored nor sent.

    Args:
        desk: The reader's.
        text: What to look through.
        org: Whose words apply besides those for all; a confined reader's own.

    Raises:
        AccessDenied: The reader is confined to another organisation.
        MissingExtra: The filter's libraries are not installed.
        SinkUnavailable: The list cannot be read.
    """
    if desk.scope is not None:
        if org is not None and label(org) != desk.scope:
            raise AccessDenied(f"{desk.by} is confined to {desk.scope!r}, and tries its words")
        org = desk.scope
    owner = label(org) if org else None
    filter = _fresh(desk.house.words)
    try:
        found = filter.find(text, owner)
        verdict, replaced = _verdict(desk, filter, text, owner)
    except WordsUnavailable as problem:
        raise SinkUnavailable(str(problem)) from problem
    return Found(
        verdict=verdict,
        hits=[
            Hit(
                word_id=each.rule,
                action=each.action,
                start=each.start,
                end=each.end,
                replacement=each.replacement,
                org_id=each.org_id,
            )
            for each in found[:MAX_FINDINGS]
        ],
        total=len(found),
        replaced=replaced,
    )


def pieces(text: str, found: Found) -> list[Piece]:
    """*text* in pieces, at most `MAX_PIECES`, each in the same words from its start to its end."""
    edges = sorted({0, len(text), *(e for hit in found.hits for e in (hit.start, hit.end))})
    cut: list[Piece] = []
    open_hits: list[Hit] = []
    coming = list(reversed(found.hits))
    for start, end in pairwise(edges):
        if len(cut) == MAX_PIECES - 1:
            cut.append(Piece(text[start:], None))
            break
        while coming and coming[-1].start <= start:
            open_hits.append(coming.pop())
        open_hits = [hit for hit in open_hits if hit.end > start]
        strongest = max(open_hits, key=lambda hit: _STRENGTH[hit.action], default=None)
        action = None if strongest is None else strongest.action
        words = tuple(sorted({hit.word_id for hit in open_hits}))
        cut.append(Piece(text[start:end], action, words))
    return cut


def _fresh(filter: Words) -> Words:
    # In use nowhere else, so that nobody asks in the background whether it has changed.
    if filter.generation is None or filter.generation != filter.rows.generation():
        filter.reload()
    return filter


def _verdict(desk: Desk, filter: Words, text: str, org: str | None) -> tuple[Verdict, str | None]:
    """As a call is judged: by the policy itself, which no call takes part in."""
    call = CallRecord(id="trial", started_at=desk.house.clock(), status="unfinished", org_id=org)
    request = {"messages": [{"role": "user", "content": text}]}
    try:
        revision = filter.check(call, request)
    except ContentBlocked:
        return "blocked", None
    if revision is None:
        return "clean", text
    if revision.request is None:
        return "marked", text
    return "replaced", str(revision.request["messages"][0]["content"])
