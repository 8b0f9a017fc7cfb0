"""`Language`: what is said, and how numbers and times are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Final, Literal, cast

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.messages.pofile import read_po
from babel.numbers import format_compact_decimal, format_decimal, format_percent

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "zh": "中文"}
"""Code → how the language calls itself."""

_LOCALES: Final = {"en": "en", "zh": "zh_Hans_CN"}
_ROOMS: Final = Path(__file__).parents[1]
_NARROW: Final = "\u00a0"
_NOTHING: Final = "—"
_SPANS: Final[tuple[tuple[Literal["day", "hour", "minute"], int], ...]] = (
    ("day", 86_400),
    ("hour", 3_600),
    ("minute", 60),
)
_UNITS: Final = {"en": (10**3, 10**6, 10**9, 10**12), "zh": (10**4, 10**8, 10**12)}
"""What large numbers are counted in."""
_BEFORE_HAN: Final = re.compile(r"(?<=\d)(?=[\u4e00-\u9fff])")


class Language:
    """
    One language, and a time zone in which its times are told.

    Args:
        code: Of `LANGUAGES`.
        tz: Whose days and hours.
    """

    def __init__(self, code: str, tz: tzinfo = UTC) -> None:
        self.code: Final = code
        self.tz: Final = tz
        self._locale: Final = Locale.parse(_LOCALES[code])
        self._words: Final = _words(code)

    @property
    def tag(self) -> str:
        """As HTML's ``lang`` has it."""
        return "zh-Hans" if self.code == "zh" else self.code

    # Words

    def gettext(self, text: str) -> str:
        """*text*, which is English, in this language."""
        return self._words.get(text, text)

    def ngettext(self, one: str, many: str, count: int) -> str:
        """*one* or *many*, as this language counts."""
        return self._words.get(many, many) if self.code == "zh" or count != 1 else one

    # Numbers

    def number(self, value: float | Decimal | None, digits: int = 0) -> str:
        """A number with at most *digits* after the point."""
        if value is None:
            return _NOTHING
        return format_decimal(
            value, format="#,##0" + ("." + "#" * digits if digits else ""), locale=self._locale
        )

    def compact(self, value: float | None) -> str:
        """A number for where there is little room: 1.2M, 120万."""
        if value is None:
            return _NOTHING
        if abs(value) < 10_000:  # short enough, and all of it
            return self.number(value)
        unit = max(each for each in _UNITS[self.code] if each <= abs(value))
        # Rounded before the unit is chosen, so that nearly a million is no "1000K".
        tenths = round(Decimal(str(value)) * 10 / unit)
        return format_compact_decimal(
            Decimal(tenths) * unit / 10, locale=self._locale, fraction_digits=1
        )

    def percent(self, value: float | None, digits: int = 1) -> str:
        """A share from 0 to 1; none and all are said of nothing else."""
        if value is None:
            return _NOTHING
        pattern = "0" + ("." + "0" * digits if digits else "") + "%"
        step = 10.0 ** -(digits + 2)
        bound = ""
        if 0 < value < step / 2:
            bound, value = "<", step
        elif 1 - step / 2 <= value < 1:
            bound, value = ">", 1 - step
        return bound + format_percent(value, format=pattern, locale=self._locale)

    def change(self, value: float | None) -> str:
        """A relative change, with its sign."""
        if value is None:
            return _NOTHING
        return format_percent(value, format="+0%;-0%", locale=self._locale)

    def amount(self, value: Decimal) -> str:
        """An amount of money without its currency: cents, or four digits of what is less."""
        digits = 2 if abs(value) >= 1 or value == 0 else min(9, 3 - value.adjusted())
        return format_decimal(
            value, format="#,##0.00" + "#" * max(0, digits - 2), locale=self._locale
        )

    def money(self, value: Decimal | None, currency: str | None) -> str:
        """An amount with its currency, as ISO 4217 calls it: ¥ would be yuan and yen."""
        if value is None or currency is None:
            return _NOTHING
        return f"{self.amount(value)}{_NARROW}{currency}"

    def exact(self, value: Decimal, currency: str) -> str:
        """An amount with all its digits, and its currency."""
        shown = format_decimal(value, format="#,##0.00#######", locale=self._locale)
        return f"{shown}{_NARROW}{currency}"

    def duration(self, ms: float | None) -> str:
        """Milliseconds, seconds or minutes."""
        if ms is None:
            return _NOTHING
        if ms < 10:
            return f"{self.number(ms, 1)}{_NARROW}ms"
        # Rounded before the unit is chosen.
        if round(ms) < 1_000:
            return f"{self.number(round(ms))}{_NARROW}ms"
        if round(ms / 1000, 2) < 120:
            return f"{self.number(round(ms / 1000, 2), 2)}{_NARROW}s"
        return f"{self.number(round(ms / 60_000, 1), 1)}{_NARROW}min"

    # Times

    def moment(self, value: datetime | None) -> str:
        """Day and time, to the second."""
        if value is None:
            return _NOTHING
        return format_datetime(value, "yyyy-MM-dd HH:mm:ss", tzinfo=self._zone, locale=self._locale)

    def day(self, value: date | datetime | None, *, short: bool = False) -> str:
        """A day; the month and day alone where it is *short*."""
        if value is None:
            return _NOTHING
        if isinstance(value, datetime):
            value = value.astimezone(self.tz).date()
        skeleton = ("M月d日" if self.code == "zh" else "MMM d") if short else "medium"
        return format_date(value, skeleton, locale=self._locale)

    def ago(self, value: datetime | None, now: datetime) -> str:
        """How long ago, roughly: 5 minutes ago."""
        if value is None:
            return _NOTHING
        return self._spaced(
            format_timedelta(value - now, add_direction=True, threshold=1.2, locale=self._locale)
        )

    def seconds(self, value: float | None) -> str:
        """A span of time, roughly: 5 minutes."""
        if value is None:
            return _NOTHING
        return self._spaced(format_timedelta(round(value), threshold=1.2, locale=self._locale))

    def span(self, seconds: float) -> str:
        """A span of time as it was set: 90 minutes; roughly where it is no whole number of any."""
        for unit, size in _SPANS:
            if seconds >= size and seconds % size == 0:
                number = round(seconds / size)
                shown = format_timedelta(
                    number * size, unit, threshold=float("inf"), locale=self._locale
                )
                return self._spaced(shown)
        return self.seconds(seconds)

    @property
    def locale(self) -> Locale:
        """As Babel knows it."""
        return self._locale

    @property
    def _zone(self) -> tzinfo:
        return self.tz

    def _spaced(self, text: str) -> str:
        """With a space between number and unit, as the console's own texts have it."""
        return _BEFORE_HAN.sub(" ", text) if self.code == "zh" else text


def language_of(chosen: str | None, accepted: str | None, tz: tzinfo = UTC) -> Language:
    """
    The language of a reader.

    Args:
        chosen: The code that they chose, if it is one.
        accepted: Their browser's ``Accept-Language``.
        tz: Whose days and hours.
    """
    if chosen in LANGUAGES:
        return Language(chosen, tz)
    ranked: list[tuple[float, str]] = []
    for part in (accepted or "").split(",")[:20]:
        tag, _, weight = part.strip().partition(";q=")
        code = tag.partition("-")[0].lower()
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        if code in LANGUAGES and quality > 0:
            ranked.append((quality, code))
    # Of equals the first counts.
    return Language(max(ranked, key=lambda each: each[0])[1] if ranked else "en", tz)


@cache
def _words(code: str) -> Mapping[str, str]:
    """English → this language, from the ``<code>.po`` of every room of the console."""
    found: dict[str, str] = {}
    if code == "en":
        return found
    for path in sorted(_ROOMS.glob(f"*/{code}.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=code):
                # Of a plural, the many stand for all: Chinese counts with one form.
                key = message.id[1] if isinstance(message.id, tuple) else message.id
                text = message.string[0] if isinstance(message.string, tuple) else message.string
                if key and text and not message.fuzzy:
                    found[cast("str", key)] = str(text)
    return found
