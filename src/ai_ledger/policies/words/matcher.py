"""The matcher: all words of one organisation, or the global ones, found in one pass each way."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from ai_ledger.errors import MissingExtra
from ai_ledger.loading import loading
from ai_ledger.policies.words import alike
from ai_ledger.policies.words.folding import (
    JOINERS,
    RUNNING,
    RUNNING_RUN,
    SEPARATORS,
    STOP,
    Folded,
    fold,
    letters,
)
from ai_ledger.policies.words.rows import MAX_WORD_CHARS, Action, Word

if TYPE_CHECKING:
    from ahocorasick_rs import AhoCorasick

WINDOW: Final = 8_192
_PIECE: Final = 128
MAX_HITS: Final = 10_000
"""Beyond so many in one request, only words that block are still looked for."""
MAX_REFUSED: Final = 20_000
"""After so many places in one request that are nearly a word, what is nearly one is one."""
MAX_NESTED: Final = 8
"""Of words with one action that end in one another, only the shortest so many are looked for."""

_LETTER: Final = f"[^{re.escape(SEPARATORS)}]"
_JOINER: Final = f"[{re.escape(JOINERS)}]"
_TOKEN: Final = re.compile(f"{_LETTER}++")
# Possessive, and only from the beginning of a token: one look at each character.
_BROKEN: Final = re.compile(f"(?<!{_LETTER}){_LETTER}++(?:{_JOINER}++{_LETTER}++)++")
_JOINERS: Final = re.compile(_JOINER)
_JOINED: Final = re.compile(f"(?:{_LETTER}|{_JOINER})*+")
_REPEATED: Final = re.compile(r"([^\W\d_])\1{2,}")


class Hit(msgspec.Struct, frozen=True):
    """A word that was found, by its place in the folded text: from *begin*, before *end*."""

    word: Word
    begin: int
    end: int


class _Entry(msgspec.Struct, frozen=True):
    word: Word
    short: bool = False
    """Two letters: not looked for beyond the end of a sentence."""
    edge_before: bool = False
    edge_after: bool = False
    """Whether it begins, or ends, with a letter of a script that has spaces between words."""
    parts: tuple[int, ...] = ()
    """Of a phrase: how many letters each of its words has."""


_SwapSource: TypeAlias = Callable[[], alike.Swap] | None


class _Lane:
    """One way to look at a text, and the words that are looked for in it."""

    def __init__(
        self,
        patterns: dict[str, list[_Entry]],
        view: Callable[[Folded, alike.Swap | None], _View],
        swap: _SwapSource,
    ) -> None:
        self._view: Final = view
        self._swap: Final = None if swap is None else swap()
        kept = _not_too_nested(patterns)
        self.entries: Final = [patterns[pattern] for pattern in kept]
        self.lengths: Final = [len(pattern) for pattern in kept]
        self.longest: Final = max(self.lengths)
        self.blocking: Final = frozenset(
            number
            for number, entries in enumerate(self.entries)
            if any(entry.word.action == "block" for entry in entries)
        )
        self.automaton: Final[AhoCorasick] = _automaton(kept)

    def view(self, folded: Folded) -> _View:
        """*folded* as this lane looks at it."""
        return self._view(folded, self._swap)

    def raw(self, view: _View) -> Iterator[list[tuple[int, int, int]]]:
        """Matches in the view: pattern, begin, end; window by window."""
        text = view.text
        for start in range(0, max(1, len(text)), WINDOW):
            window = text[start : start + WINDOW + self.longest - 1]
            found = self.automaton.find_matches_as_indexes(window, overlapping=True)
            if found:
                last = start + WINDOW >= len(text)
                yield [
                    (number, start + begin, start + end)
                    for number, begin, end in found
                    # What begins later is found again in the next window.
                    if last or begin < WINDOW
                ]


class _View(Protocol):
    """A text to search, and where its characters stand in the folded text."""

    text: str

    def place(self, begin: int, end: int) -> tuple[int, int]:
        """Where in the folded text a match stands."""
        ...

    def accepts(self, entry: _Entry, first: int, after: int) -> bool:
        """Whether what stands there is the word."""
        ...


def _automaton(patterns: list[str]) -> AhoCorasick:
    try:
        with loading:
            from ahocorasick_rs import AhoCorasick, MatchKind
    except ImportError as error:
        raise MissingExtra("the word filter", "words") from error
    return AhoCorasick(patterns, matchkind=MatchKind.Standard, store_patterns=False)


def _not_too_nested(patterns: dict[str, list[_Entry]]) -> list[str]:
    """
    *patterns* without those that say nothing new.

    Each place of a text is the end of as many words as end in one another. Where
    many do, the shorter ones have been found anyhow, so that the text's length
    alone says how long the search takes.
    """
    depths: dict[str, dict[Action, int]] = {}
    kept: list[str] = []
    for pattern in sorted(patterns, key=len):
        counts: dict[Action, int] = {}
        for start in range(1, len(pattern)):
            shorter = depths.get(pattern[start:])
            if shorter is not None:
                # The longest that it ends in has counted the others.
                counts = dict(shorter)
                break
        entries = [
            each for each in patterns[pattern] if counts.get(each.word.action, 0) < MAX_NESTED
        ]
        if not entries:
            continue
        patterns[pattern] = entries[: MAX_NESTED * 3]
        for entry in patterns[pattern]:
            if not (entry.short or entry.edge_before or entry.edge_after or entry.parts):
                counts[entry.word.action] = counts.get(entry.word.action, 0) + 1
        depths[pattern] = counts
        kept.append(pattern)
    return kept


# Words with Chinese, Japanese, Korean or Thai letters: anywhere, whatever stands between.


class _RunningView:
    """Nothing but letters."""

    def __init__(
        self,
        folded: Folded,
        swap: alike.Swap | None,
        prepared: Callable[[str], str] = lambda text: text,
    ) -> None:
        text = folded.text if swap is None else folded.text.translate(swap)
        self._source: Final = prepared(text)
        self.text: str = letters(self._source)
        self._counts: list[int] = []
        self._places: dict[int, list[int]] = {}

    def place(self, begin: int, end: int) -> tuple[int, int]:
        """Where in the folded text a match stands."""
        return self._place(begin), self._place(end - 1) + 1

    def _place(self, at: int) -> int:
        counts = self._counts
        if not counts:
            # How many letters there are before each piece of the source.
            source = self._source
            separators = [each for each in SEPARATORS if each in source]
            counts.append(0)
            for start in range(0, len(source), _PIECE):
                end = min(start + _PIECE, len(source))
                kept = end - start
                for each in separators:
                    kept -= source.count(each, start, end)
                counts.append(counts[-1] + kept)
        piece = bisect_right(counts, at) - 1
        known = self._places.get(piece)
        if known is None:
            start = piece * _PIECE
            known = self._places[piece] = [
                number
                for number, each in enumerate(self._source[start : start + _PIECE], start)
                if each not in SEPARATORS
            ]
        return known[at - counts[piece]]

    def accepts(self, entry: _Entry, first: int, after: int) -> bool:
        """Not across sentences if it is short, and whole words at an end that has such."""
        source = self._source
        if entry.short and source.find(STOP, first, after) >= 0:
            return False
        if entry.edge_before and first and _is_spaced(source[first - 1]):
            return False
        return not (entry.edge_after and after < len(source) and _is_spaced(source[after]))


def _runs(source: str) -> tuple[list[int], list[int]]:
    """Where runs of letters begin when one space stands before each, and in *source*."""
    begins: list[int] = []
    sources: list[int] = []
    at = 1
    for run in _TOKEN.finditer(source):
        begins.append(at)
        sources.append(run.start())
        at += run.end() - run.start() + 1
    return begins, sources


def _is_spaced(character: str) -> bool:
    return character not in SEPARATORS and not RUNNING_RUN.match(character)


def _running_entry(word: Word, pattern: str) -> _Entry:
    return _Entry(
        word,
        short=len(pattern) <= 2,
        edge_before=_is_spaced(pattern[0]),
        edge_after=_is_spaced(pattern[-1]),
    )


# Words of letters with spaces between words: whole words only.

_MIN_SPELLED: Final = 3
_MIN_BROKEN: Final = 4


def _spaced(folded: str) -> str:
    """*folded* without letters of running scripts, as long as it was."""
    return RUNNING_RUN.sub(lambda found: STOP * len(found[0]), folded)


def _tokens(text: str) -> list[str]:
    for joiner in "@$":
        text = text.replace(joiner, " ")
    return text.split()  # what separates is white space to str.split


class _WordView:
    """Words with one space around each; then those that punctuation has broken, in one again."""

    def __init__(self, folded: Folded, looks: alike.Swap | None) -> None:
        text = folded.text if looks is None else folded.text.translate(looks)
        self._whole: Final = _spaced(text)
        self._source, self._shifts = (self._whole, []) if looks is None else _once(self._whole)
        self._broken: Final = [
            (found.start(), found.end(), joined)
            for found in _BROKEN.finditer(self._source)
            if _MIN_BROKEN <= len(joined := _JOINERS.sub("", found[0])) <= MAX_WORD_CHARS
        ]
        parts = [" ", " ".join(_tokens(self._source)), " "]
        self._ordinary: Final = len(parts[1]) + 2
        for _, _, joined in self._broken:
            parts += (" ", joined, " ")
        self.text: str = "".join(parts)
        self._runs: tuple[list[int], list[int]] | None = None
        self._pieces: dict[int, tuple[int, int]] = {}

    def _prepare(self) -> tuple[list[int], list[int]]:
        at = self._ordinary
        for start, end, joined in self._broken:
            self._pieces[at] = (start, end)
            at += len(joined) + 2
        self._runs = _runs(self._source)
        return self._runs

    def place(self, begin: int, end: int) -> tuple[int, int]:
        """Where in the folded text a match stands, without the spaces around it."""
        begins, sources = self._runs or self._prepare()
        if begin in self._pieces:
            first, after = self._pieces[begin]
        else:
            run = bisect_right(begins, begin + 1) - 1
            last = bisect_right(begins, end - 2) - 1
            first = sources[run] + begin + 1 - begins[run]
            after = sources[last] + end - 1 - begins[last]
        if not self._shifts:
            return first, after
        whole = self._whole
        first, after = self._unshifted(first), self._unshifted(after - 1) + 1
        # The rest of a letter that is there many times belongs to it.
        while after < len(whole) and whole[after] == whole[after - 1]:
            after += 1
        return first, after

    def _unshifted(self, at: int) -> int:
        known = bisect_right(self._shifts, at, key=itemgetter(0)) - 1
        return at if known < 0 else at + self._shifts[known][1]

    def accepts(self, entry: _Entry, first: int, after: int) -> bool:
        """All that there is to know is in the view."""
        del entry, first, after
        return True


# Phrases: several words, each of which may be broken.

_MIN_PHRASE: Final = 6
_MIN_GLUED: Final = 12
_MAX_SPREAD: Final = 8


class _PhraseView(_RunningView):
    """Nothing but letters of scripts with spaces between words."""

    def __init__(self, folded: Folded, swap: alike.Swap | None) -> None:
        super().__init__(folded, swap, _spaced)

    def accepts(self, entry: _Entry, first: int, after: int) -> bool:
        """Whole words that stand apart, in each nothing but joiners, or spelled in letters."""
        source = self._source
        if first and source[first - 1] not in SEPARATORS:
            return False
        if after < len(source) and source[after] not in SEPARATORS:
            return False
        # So that a text of nothing but such places takes no more than so many looks at each.
        if after - first > _MAX_SPREAD * sum(entry.parts):
            return False
        at = first
        for number, length in enumerate(entry.parts):
            begin = at
            if number:
                while source[at] in SEPARATORS:
                    at += 1
                if at == begin:
                    return False
                begin = at
            left = length
            while left:
                left -= source[at] not in SEPARATORS
                at += 1
            word = source[begin:at]
            if word.isalnum():
                continue
            pieces = _TOKEN.findall(word)
            if len(pieces) < length and not _JOINED.fullmatch(word):
                return False
        return True


def _phrase(folded: str) -> tuple[int, ...]:
    """The letters of each word, if this is a phrase that is looked for broken."""
    parts = tuple(map(len, _tokens(folded)))
    return parts if len(parts) > 1 and sum(parts) >= _MIN_PHRASE else ()


def _once(text: str) -> tuple[str, list[tuple[int, int]]]:
    """*text* with each letter that comes three times or more once; and the shifts: from, by."""
    parts: list[str] = []
    shifts: list[tuple[int, int]] = []
    at = length = shift = 0
    for found in _REPEATED.finditer(text):
        kept = text[at : found.start() + 1]
        parts.append(kept)
        length += len(kept)
        shift += found.end() - found.start() - 1
        shifts.append((length, shift))
        at = found.end()
    parts.append(text[at:])
    return "".join(parts), shifts


def _word_patterns(folded: str, *, looks: alike.Swap | None) -> set[str]:
    """What a word looks like in the view: as it is written, in one, and letter by letter."""
    if looks is not None:
        folded = _once(folded.translate(looks))[0]
    tokens = _tokens(folded)
    found = {f" {' '.join(tokens)} "}
    joined = _tokens(_JOINERS.sub("", folded))
    found.add(f" {' '.join(joined)} ")
    alone = "".join(tokens)
    if len(alone) >= _MIN_SPELLED:
        found.add(f" {' '.join(alone)} ")
    if len(alone) >= _MIN_GLUED:
        found.add(f" {alone} ")
    return found


_VIEWS: Final[dict[str, tuple[Callable[[Folded, alike.Swap | None], _View], _SwapSource]]] = {
    "running": (_RunningView, None),
    "variants": (_RunningView, alike.simplified),
    "sounds": (_RunningView, alike.sounds),
    "words": (_WordView, None),
    "phrases": (_PhraseView, None),
    "looks": (_WordView, alike.looks),
}


class Matcher:
    """
    Finds the words of a list. Threads may share it; nothing changes in it.

    Args:
        words: The rows, in which inactive ones are passed over.
        fuzzy: Whether fuzzy rows match more than exact ones do.

    Raises:
        MissingExtra: ``ahocorasick-rs`` is not installed, or what a row needs.
    """

    def __init__(self, words: Iterable[Word], *, fuzzy: bool = True) -> None:
        lanes: dict[str, dict[str, list[_Entry]]] = {}

        def put(lane: str, pattern: str, entry: _Entry) -> None:
            lanes.setdefault(lane, {}).setdefault(pattern, []).append(entry)

        self.size = 0
        self.longest = 0
        """Letters of the longest word."""
        self.acts: Final = {"block": False, "replace": False, "warn": False}
        for word in words:
            if not word.active:
                continue
            self.size += 1
            self.acts[word.action] = True
            folded = fold(word.word)
            pattern = letters(folded)
            if not pattern:
                continue
            self.longest = max(self.longest, len(pattern))
            is_fuzzy = fuzzy and word.match == "fuzzy"
            if RUNNING.search(pattern):
                if word.variants:
                    # The text in simplified spelling has the word in any, its own included.
                    other = pattern.translate(alike.simplified())
                    put("variants", other, _running_entry(word, other))
                else:
                    put("running", pattern, _running_entry(word, pattern))
                if is_fuzzy:
                    # A sign that stands for a letter is one here.
                    other = letters(folded.translate(alike.sounds()))
                    put("sounds", other, _running_entry(word, other))
                continue
            for each in _word_patterns(folded, looks=None):
                put("words", each, _Entry(word))
            parts = _phrase(folded)
            if parts:
                put("phrases", pattern, _Entry(word, parts=parts))
            if is_fuzzy:
                for each in _word_patterns(folded, looks=alike.looks()):
                    put("looks", each, _Entry(word))
        self.repeats: Final = "looks" in lanes
        """Whether a letter that comes many times is matched as one."""
        self._lanes: Final = [_Lane(patterns, *_VIEWS[name]) for name, patterns in lanes.items()]

    def find(self, folded: Folded, *, until_blocked: bool = False) -> list[Hit]:
        """
        All words in *folded*, each at each place once, in order.

        Args:
            folded: The text.
            until_blocked: Stop looking once a word that blocks was found.
        """
        hits: dict[tuple[int, int, int], Hit] = {}
        blocked = False
        refused = [0]
        for lane in self._lanes:
            view = lane.view(folded)
            for found in lane.raw(view):
                blocked = self._take(lane, view, found, hits, refused) or blocked
                if blocked and (until_blocked or len(hits) >= MAX_HITS):
                    return _sorted(hits.values())
                if len(hits) >= MAX_HITS and not self.acts["block"]:
                    return _sorted(hits.values())
        return _sorted(hits.values())

    def _take(
        self,
        lane: _Lane,
        view: _View,
        found: list[tuple[int, int, int]],
        hits: dict[tuple[int, int, int], Hit],
        refused: list[int],
    ) -> bool:
        """Add what was *found* to *hits*, count what was *refused*; whether one of them blocks."""
        blocked = False
        for number, begin, end in found:
            full = len(hits) >= MAX_HITS
            if full and (blocked or number not in lane.blocking):
                continue
            first, after = view.place(begin, end)
            for entry in lane.entries[number]:
                blocks = entry.word.action == "block"
                if full and not blocks:
                    continue
                if refused[0] < MAX_REFUSED and not view.accepts(entry, first, after):
                    refused[0] += 1
                    continue
                blocked = blocked or blocks
                key = (entry.word.id, first, after)
                if key not in hits:
                    hits[key] = Hit(entry.word, first, after)
        return blocked


def _sorted(hits: Iterable[Hit]) -> list[Hit]:
    # Longer ones first, and those of an organisation before the global ones.
    return sorted(hits, key=_order)


def _order(hit: Hit) -> tuple[Any, ...]:
    return (hit.begin, -hit.end, hit.word.org_id is None, hit.word.id)
