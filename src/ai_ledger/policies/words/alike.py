"""What is taken for alike: traditional and simplified, what sounds the same, what looks it."""

# ruff: noqa: RUF001 - letters that look like others are what this is about

from __future__ import annotations

import unicodedata
from functools import cache
from importlib import import_module
from typing import Any, Final

from ai_ledger.errors import MissingExtra
from ai_ledger.loading import loading

# Leet digits and signs, and the letters of other alphabets that look like Latin ones:
# https://www.unicode.org/Public/security/latest/confusables.txt, as far as both are
# single letters in lower case.
_LOOKS: Final = {
    "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s",
    # An l and an i cannot be told apart where either is meant.
    "l": "i",
    "а": "a", "в": "b", "с": "c", "ԁ": "d", "е": "e", "ԍ": "g", "һ": "h", "і": "i", "ј": "j",
    "к": "k", "ӏ": "i", "м": "m", "п": "n", "о": "o", "р": "p", "ԛ": "q", "г": "r", "ѕ": "s",
    "т": "t", "υ": "u", "ц": "u", "ѵ": "v", "ԝ": "w", "х": "x", "у": "y",
    "α": "a", "β": "b", "ϲ": "c", "ε": "e", "η": "n", "ι": "i", "κ": "k", "ν": "v", "ο": "o",
    "ρ": "p", "σ": "o", "τ": "t", "χ": "x", "γ": "y", "ω": "w",
    "ɑ": "a", "ƅ": "b", "ɡ": "g", "ı": "i", "ɩ": "i", "ɪ": "i", "ʏ": "y", "ʋ": "v", "ʀ": "r",
    "օ": "o", "ո": "n", "ս": "u", "հ": "h", "ց": "g", "զ": "q",
}  # fmt: skip

_HAN: Final = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0x20000, 0x323B0))


class Swap(dict[int, int]):
    """Characters for characters; those that are not in it stay."""

    def __missing__(self, code: int) -> int:
        if code < 0x30000:
            self[code] = code
        return code


@cache
def simplified() -> Swap:
    """
    Each traditional character's simplified one, of OpenCC.

    Raises:
        MissingExtra: ``opencc`` is not installed.
    """
    characters = [chr(code) for first, end in _HAN for code in range(first, end)]
    try:
        with loading:
            opencc: Any = import_module("opencc")  # it has no types
    except ImportError as error:
        raise MissingExtra("traditional and simplified spellings", "words") from error
    # One a line, so that no rule for words of several characters applies.
    converted: str = opencc.OpenCC("t2s").convert("\n".join(characters))
    return Swap(
        (ord(one), ord(other))
        for one, other in zip(characters, converted.split("\n"), strict=True)
        if one != other and len(other) == 1
    )


@cache
def sounds() -> Swap:
    """
    One Chinese character for all that sound like it, tones aside; and `looks`.

    A character with several readings has the first, which is the usual one.

    Raises:
        MissingExtra: ``pypinyin`` is not installed.
    """
    try:
        with loading:
            from pypinyin.pinyin_dict import pinyin_dict
    except ImportError as error:
        raise MissingExtra("fuzzy matching of Chinese words", "words") from error
    swap = Swap(looks())
    first: dict[str, int] = {}
    for code in sorted(pinyin_dict):
        reading = pinyin_dict[code].partition(",")[0]
        toneless = "".join(
            each
            for each in unicodedata.normalize("NFD", reading)
            # The two dots of ü make another sound.
            if not unicodedata.combining(each) or each == "\u0308"
        )
        swap[code] = first.setdefault(toneless, code)
    for one, other in simplified().items():
        swap[one] = swap[other]
    return swap


@cache
def looks() -> Swap:
    """One Latin letter for all that look like it, digits and signs included."""
    return Swap((ord(one), ord(other)) for one, other in _LOOKS.items())
