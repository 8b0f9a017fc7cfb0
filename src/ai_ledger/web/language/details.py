"""`Details`: what the library says of an error, in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Final, TypeAlias

from ai_ledger.web.language.labels import Labels
from ai_ledger.web.language.language import Language
from ai_ledger.web.language.names import VALUES
from ai_ledger.web.language.patterns import EXPECTED, SENTENCES, THINGS

_MAX_CHARS: Final = 2_000
_PLACE: Final = re.compile(r"%\((\w+)\)s")
_LISTED: Final = re.compile(", | or ")
_HAN: Final = re.compile("[\u4e00-\u9fff]")
# Places that not every text fits into; so fewer patterns fit, and they fit in fewer ways.
_NUMBER: Final = r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
_SHAPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("number", "version", "seen", "least", "most"), _NUMBER),
    **dict.fromkeys(("field", "other_field"), r"[^\s=:]+?"),
    **dict.fromkeys(("role", "other_role"), r"\w+"),
    "options": "'.+'",
    # What was typed may have the words behind it, too, which the sentence has last.
    "value": ".+",
}
# What pydantic adds to this says where it stopped to read.
_DAY: Final = "a valid date"

_Table: TypeAlias = Sequence[tuple[str, re.Pattern[str]]]


class Details:
    """
    Says the details of errors, which are English sentences: ``details(text)``.

    Exceptions speak to programs, logs and the command, too, and so stay as they are; what a
    sentence is about is found again by its pattern. One that has none is told as it is.

    Args:
        language: Of the reader.
    """

    def __init__(self, language: Language) -> None:
        self._language: Final = language
        self._labels: Final = Labels(language)
        self._: Final = language.gettext

    def __call__(self, text: str) -> str:
        """*text* in the reader's language, or as it is."""
        return self.known(text) or text

    def known(self, text: str) -> str | None:
        """The same, and ``None`` where there is no pattern for it."""
        if self._language.code == "en" or len(text) > _MAX_CHARS:
            return None
        return self._said(text, SENTENCES)

    def _said(self, text: str, patterns: Sequence[str], field: str = "") -> str | None:
        for pattern, matches in _compiled(patterns):
            found = matches.fullmatch(text)
            if found is None:
                continue
            values = found.groupdict()
            named = values.get("field", field)
            shown = {name: self._value(name, value, named) for name, value in values.items()}
            if None not in shown.values():
                return _filled(self._(pattern), shown)
        return None

    def _value(self, name: str, value: str, field: str) -> str | None:
        """What stands in a place; ``None`` if the pattern does not fit after all."""
        match name.removeprefix("other_"):
            case "thing":
                shown = self._said(value, THINGS)
            case "other" | "entry" | "feature":
                shown = self._said(value, THINGS) or value
            case "expected":
                shown = self._said(_DAY if value.startswith(_DAY) else value, EXPECTED, field)
            case "reason":
                shown = self.known(value) or value
            case "field":
                shown = self._field(value)
            case "choices" | "options":
                column = field.rpartition(".")[2]
                shown = "、".join(self._of(column, each) for each in _LISTED.split(value))
            case "role" | "state" as column:
                shown = self._of(column, value)
            case "rule":
                shown = self._rule(value)
            case "when" | "until":
                shown = self._moment(value)
            case _:
                shown = value
        return shown

    def _field(self, name: str) -> str:
        """What a field is called; of one of many the place stays in front of it."""
        place, _, last = name.rpartition(".")
        label = self._labels.typed(last) or last
        if label == last and not place:
            return self._labels.field(name)
        if label == last:
            return name
        return f"{place}.{label}" if "[" in place else label

    def _of(self, field: str, value: str) -> str:
        known = VALUES.get(field, {})
        return self._(known[value]) if value in known else value

    def _rule(self, text: str) -> str:
        name = text[1:-1]
        return f"{text[:1]}{self._labels.rule(name)}{text[-1:]}" if text[:1] in "'\"" else text

    def _moment(self, text: str) -> str:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return text
        return text if moment.tzinfo is None else self._language.moment(moment)


@cache
def _compiled(patterns: Sequence[str]) -> _Table:
    """*patterns*, those first that say the most themselves."""

    def says(pattern: str) -> int:
        return len(_PLACE.sub("", pattern))

    return [(each, _expression(each)) for each in sorted(patterns, key=says, reverse=True)]


def _filled(text: str, values: Mapping[str, str | None]) -> str:
    """*text* with its values, and a space between one that ends in Latin and Chinese behind it."""

    def value(place: re.Match[str]) -> str:
        shown = values[place[1]] or ""
        return f"{shown} " if shown[-1:].isascii() and _HAN.match(text, place.end()) else shown

    return _PLACE.sub(value, text)


def _expression(pattern: str) -> re.Pattern[str]:
    parts = _PLACE.split(pattern)
    shown = (
        f"(?P<{part}>{_SHAPES.get(part, '.+?')})" if at % 2 else re.escape(part)
        for at, part in enumerate(parts)
    )
    return re.compile("".join(shown), re.DOTALL)
