"""Folding: texts as they read, however they are spelled, with the way back to where they were."""

# ruff: noqa: RUF001 - letters that look like others are what this is about

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Final

SPACE: Final = " "
STOP: Final = "\x1d"
"""Ends a sentence or a part of one: full stop, comma, question mark, end of line."""
JOIN: Final = "\x1e"
"""Punctuation that may stand inside of a word: ``. - _ * '`` and whatever else is no stop."""
APART: Final = "\x1f"
"""Punctuation that keeps words apart: brackets, quotation marks, slashes."""
WALL: Final = "\ufdd0"
"""Stands between texts that have nothing to do with each other. No text can hold it."""
BEFORE: Final = "\ufdd1"
"""Stands for a letter in front of what is looked at. No text can hold it."""

# The last two are separators that can also stand for a letter.
SEPARATORS: Final = SPACE + STOP + JOIN + APART + "@$"
JOINERS: Final = JOIN + "@$"

# Scripts that put no spaces between words; of Korean, that hangs particles on them.
_RUNNING: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3105-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
RUNNING: Final = re.compile(f"[{_RUNNING}]")
RUNNING_RUN: Final = re.compile(f"[{_RUNNING}]+")

_STOPS: Final = frozenset(",;:!?\n\r\v\f\x85\u2028\u2029。！？；，、：｡､…‥︰︱—―")
_APART_CATEGORIES: Final = frozenset({"Ps", "Pe", "Pi", "Pf"})
_APARTS: Final = frozenset('"/|\\')
# Accents, and the vowel points that Arabic and Hebrew are usually written without. Not
# the marks of Indic scripts and Thai, nor those of kana, which make another letter.
_MARKS: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U000e0100-\U000e01ef]"
)
# Default_Ignorable_Code_Point, as far as it is not of the category Cf:
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
_IGNORED: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u3164\uffa0"
)


class _Table(dict[int, str]):
    """What each character becomes, found out when it first comes up."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = _folded(character)
        # Whoever sends every code point that there is fills no memory with it.
        if unicodedata.category(character) not in ("Cn", "Co", "Cs"):
            self[code] = folded
        return folded


def _folded(character: str) -> str:
    if character in _IGNORED or character in (WALL, BEFORE):
        return ""
    if character in _STOPS:
        return STOP
    if character in "@$＠＄﹫﹩":
        return unicodedata.normalize("NFKC", character)
    category = unicodedata.category(character)
    if category == "Cf" or (category == "Cc" and character != "\t"):
        return ""
    if category in ("Zs", "Cc"):
        return SPACE
    if category == "Cs":  # no encoding has it
        return APART
    if category in _APART_CATEGORIES or character in _APARTS:
        return APART
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    kept = "".join(each for each in letters if _is_letter(each))
    if kept:
        return kept
    return "" if all(_MARKS.match(each) for each in letters) else JOIN


def _is_letter(character: str) -> bool:
    if _MARKS.match(character) or character in _IGNORED:
        return False
    return (
        unicodedata.category(character)[0] in "LNM"
        or unicodedata.category(character)[0] not in "PSZC"
    )


_table: Final = _Table()

BLOCK: Final = 1_024


class Folded:
    """
    Texts folded into one: NFKC, no case, no accents, nothing invisible.

    Each character is folded by itself, so that every letter of `text` comes from one
    place. Where that is, is only found out when somebody asks.

    Args:
        texts: Those to fold.
        joined: Which of them go on where the one before ended, by their indexes; a
            `WALL` stands in front of the others.
        before: Put in front of all.
    """

    def __init__(
        self, texts: Sequence[str], *, joined: frozenset[int] = frozenset(), before: str = ""
    ) -> None:
        self.texts: Final = texts
        pieces: list[str] = []
        # The text's index and the offset in it, for each piece; None for what we put there.
        self._sources: Final[list[tuple[int, int] | None]] = []
        if before:
            pieces.append(before)
            self._sources.append(None)
        for index, text in enumerate(texts):
            if index:
                pieces.append(STOP if index in joined else STOP + WALL + STOP)
                self._sources.append(None)
            for start in range(0, len(text), BLOCK):
                pieces.append(fold(text[start : start + BLOCK]))
                self._sources.append((index, start))
        self.text: Final = "".join(pieces)
        self._starts: Final[list[int]] = []
        at = 0
        for piece in pieces:
            self._starts.append(at)
            at += len(piece)
        self._maps: Final[dict[int, list[int]]] = {}

    def origin(self, at: int) -> tuple[int, int]:
        """The text, and the offset in it, of the character that became the one at *at*."""
        block = bisect_right(self._starts, at) - 1
        source = self._sources[block]
        assert source is not None, "no word has what we put between texts"
        index, start = source
        known = self._maps.get(block)
        if known is None:
            slice_ = self.texts[index][start : start + BLOCK]
            lengths = map(len, map(_table.__getitem__, map(ord, slice_)))
            known = list(chain.from_iterable(map(repeat, range(len(slice_)), lengths)))
            self._maps[block] = known
        return index, start + known[at - self._starts[block]]

    def spans(self, begin: int, end: int) -> list[tuple[int, int, int]]:
        """
        Where the letters from *begin* to *end* came from: text, first offset, offset after.

        More than one where a word goes on in the next text.
        """
        first, start = self.origin(begin)
        last, stop = self.origin(end - 1)
        stop += 1
        text = self.texts[last]
        # An accent belongs to the letter before it.
        while stop < len(text) and _MARKS.match(text, stop):
            stop += 1
        if first == last:
            return [(first, start, stop)]
        return [
            (index, start if index == first else 0, stop if index == last else len(text))
            for index, text in enumerate(self.texts[first : last + 1], first)
        ]


# What stays as it is, in the usual Chinese text nearly all: looking it up takes longest.
_OTHERS: Final = re.compile(f"[^\u4e00-\u9fff a-z0-9{STOP}{JOIN}{APART}]+")
# The usual punctuation of such a text, which takes less time all at once.
_USUAL: Final = tuple((each, _folded(each)) for each in "，。、！？：；\n*“”《》（）.,-")
_OWN: Final = (STOP, JOIN, APART)


def fold(text: str) -> str:
    """*text* folded, separators and all."""
    if text.isascii():
        return text.translate(_table)
    # Controls that the text itself has are not those that we put there.
    if not any(each in text for each in _OWN):
        for each, instead in _USUAL:
            text = text.replace(each, instead)
        return _OTHERS.sub(lambda found: found[0].translate(_table), text)
    return text.translate(_table)


def letters(folded: str) -> str:
    """*folded* without separators."""
    for separator in SEPARATORS:
        if separator in folded:
            folded = folded.replace(separator, "")
    return folded
