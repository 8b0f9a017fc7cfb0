"""`Labels`: what people call fields, kinds of things, states and periods."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, cast

from babel.dates import format_date

from ai_ledger.money import from_nano
from ai_ledger.query import TAG_PREFIX
from ai_ledger.terms import TOKENS
from ai_ledger.web.language.language import Language
from ai_ledger.web.language.names import (
    ALERT_KINDS,
    CHOICES,
    FIELDS,
    KINDS,
    OF_KIND,
    PROPERTIES,
    RULES,
    VALUES,
)
from ai_ledger.web.language.patterns import TYPED

_NOTHING: Final = "—"
_UNSET: Final[tuple[Any, ...]] = (None, "", {}, [])
_QUOTA: Final = "quota "
_FIELDS_AS_VALUES: Final = ("each",)


class Labels:
    """
    The names of things in one language; what has none is told as it is.

    Args:
        language: Of the reader.
    """

    def __init__(self, language: Language) -> None:
        self._language: Final = language
        self._: Final = language.gettext

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a call → what they are called."""
        return {name: self._(text) for name, text in FIELDS.items()}

    def field(self, name: str, *, within: bool = False) -> str:
        """
        A field of a call, or ``tags.<key>``.

        Args:
            name: As the library has it.
            within: Whether it stands within a sentence.
        """
        if name.startswith(TAG_PREFIX):
            text = self._("Tag %(key)s")
            shown = text[:1].lower() + text[1:] if within else text
            return shown % {"key": name.removeprefix(TAG_PREFIX)}
        text = self._(FIELDS[name]) if name in FIELDS else name
        return text.lower() if within and self._language.code == "en" else text

    def kind(self, name: str) -> str:
        """A kind of thing that people edit."""
        return self._(KINDS[name]) if name in KINDS else name

    def alert_kind(self, name: str) -> str:
        """A kind of rule, and of the alerts that it raises."""
        return self._(ALERT_KINDS[name]) if name in ALERT_KINDS else name

    def rule(self, name: str) -> str:
        """A rule of alerts; one of the usual ones that somebody has renamed is told as it is."""
        return self._(name) if name in RULES else name

    def thing(self, kind: str, key: str, row: Mapping[str, Any] | None = None) -> str:
        """
        Which one of *kind*, as the history has it.

        Args:
            kind: Of things that people edit.
            key: Which.
            row: What is known of it: a number is told with its name.
        """
        name = (row or {}).get("name") or (row or {}).get("word")
        if key.isdecimal() and isinstance(name, str):
            name = self.rule(name) if kind == "alert_rule" else name
            return f"{name} ({key})"
        if kind == "budget":
            return self.budget(key)
        if kind == "quota":
            return _pair(key) or key
        if kind == "word_settings":
            return self._(PROPERTIES["fuzzy"])
        if kind == "calls":
            return self._calls(key)
        return key

    def _calls(self, key: str) -> str:
        """Calls, as the history counts them: ``12 calls``, ``before 2026-05-20T…``."""
        if match := re.fullmatch(r"(\d+) calls", key):
            count = int(match[1])
            shown = {"count": self._language.number(count)}
            return self._language.ngettext("%(count)s call", "%(count)s calls", count) % shown
        if key.startswith("before "):
            return self._("before %(when)s") % {"when": self._text("", key[len("before ") :])}
        return key

    def budget(self, name: str) -> str:
        """A budget; one that counts for a quota is called by that."""
        pair = _pair(name.removeprefix(_QUOTA)) if name.startswith(_QUOTA) else None
        return name if pair is None else self._("quota: %(name)s") % {"name": pair}

    def period(self, text: str) -> str:
        """A period as budgets and rules count: ``2026-11``, ``2026-W47``, ``2026-11 of 20 CNY``."""
        period, _, limit = text.partition(" of ")
        shown = self._period(period)
        if not limit:
            return shown
        amount, _, unit = limit.partition(" ")
        values = {"period": shown, "limit": self.amount(amount, unit)}
        return self._("%(period)s, limit %(limit)s") % values

    def amount(self, number: str, unit: str) -> str:
        """An amount in the unit of a budget, from how messages write it: ``1,000 tokens``."""
        try:
            value = Decimal(number.replace(",", ""))
        except ArithmeticError:
            return f"{number} {unit}".strip()
        if unit == TOKENS:
            return f"{self._language.number(value)}\u00a0{self._('tokens')}"
        return self._language.money(value, unit)

    def rates(self, text: str | None) -> str:
        """Rates of a quota: ``60/minute; 1000 per day``."""
        if not text:
            return _NOTHING
        return "; ".join(self._rate(each.strip()) for each in re.split(r"[;,]", text))

    def condition(self, values: Any) -> str:
        """The values that a condition names."""
        if isinstance(values, Mapping):
            told = cast("Mapping[str, Any]", values)
            signs = {"at_least": "≥", "below": "<", "contains": "~"}
            return ", ".join(f"{signs.get(name, name)} {value}" for name, value in told.items())
        several = isinstance(values, (list, tuple))
        listed = cast("list[Any]", values) if several else [values]
        return ", ".join(self._("not set") if each is None else str(each) for each in listed)

    def property(self, name: str, kind: str = "") -> str:
        """What a field of something edited is called."""
        own = OF_KIND.get((kind, name)) or PROPERTIES.get(name) or FIELDS.get(name)
        return self._(own) if own else name

    def typed(self, name: str) -> str | None:
        """What a field of a form or an address is called; ``None`` if it has no name."""
        own = PROPERTIES.get(name) or FIELDS.get(name) or TYPED.get(name)
        return self._(own) if own else None

    def choice(self, name: str, value: str) -> str:
        """One of the values that a filter offers, or what was typed into it."""
        known = CHOICES.get(name, {})
        return self._(known[value]) if value in known else value

    def deed(
        self, kind: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> tuple[str, str] | None:
        """What an edit did, in a word, and its tone; ``None`` where only fields were changed."""
        if kind in ("call", "calls"):
            told = after or {}
            for name, tone in (("deleted", "warn"), ("restored", "good"), ("forgotten", "warn")):
                if told.get(name):
                    return self._(VALUES["state"][name]), tone
            return (self._("restored"), "good") if told.get("deleted") is False else None
        if kind == "repricing":  # its state says it
            return None
        if kind == "report" and (after or {}).get("state") == "restored":
            return self._("restored"), "good"
        if after is None:
            return self._("removed"), "warn"
        return (self._("made"), "good") if before is None else None

    def changes(
        self, kind: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> list[tuple[str, str, str]]:
        """
        What differs: the name of a field, what it was, what it is.

        Of a list only what went and what came; nothing of a version, which counts edits.
        """
        old, new = before or {}, after or {}
        found: list[tuple[str, str, str]] = []
        for name in {**old, **new}:
            was, now = old.get(name), new.get(name)
            if name == "version" or was == now or (was in _UNSET and now in _UNSET):
                continue
            if kind == "report" and name == "state":  # `deed` says it
                continue
            if isinstance(was, list) and isinstance(now, list):
                lists = cast("tuple[list[Any], list[Any]]", (was, now))
                was, now = _without(*lists), _without(*reversed(lists))
            property = self.property(name, kind)
            found.append((property, self.value(name, was, old), self.value(name, now, new)))
        return found

    def value(self, name: str, value: Any, row: Mapping[str, Any]) -> str:
        """The value of a field of something edited; *row* has its other fields."""
        if value in _UNSET:
            return _NOTHING
        if isinstance(value, bool):
            return self._("yes") if value else self._("no")
        if name == "limit" and isinstance(value, int) and "unit" in row:
            unit = str(row["unit"])
            return self.amount(str(value if unit == TOKENS else from_nano(value)), unit)
        if name == "threshold" and "kind" in row and isinstance(value, (int, float)):
            return self._threshold(str(row["kind"]), value)
        if name == "rates" and isinstance(value, str):
            return self.rates(value)
        if name == "where" and isinstance(value, Mapping):
            told = cast("Mapping[str, Any]", value)
            return "; ".join(f"{self.field(each)}: {self.condition(told[each])}" for each in told)
        if isinstance(value, str):
            return self._text(name, value)
        if isinstance(value, (int, float)):
            return self._language.number(value, 6)
        if isinstance(value, list):
            return "; ".join(self._entry(each) for each in cast("list[Any]", value))
        if name == "filter" and isinstance(value, Mapping):
            asked = cast("Mapping[str, Any]", value)
            return "; ".join(
                f"{self.typed(each) or each}: {self.condition(asked[each])}" for each in asked
            )
        return json.dumps(value, ensure_ascii=False)

    def _entry(self, value: Any) -> str:
        """One entry of a list, such as a price: its fields with their values."""
        if isinstance(value, Mapping):
            pairs = cast("Mapping[str, Any]", value).items()
            return ", ".join(
                f"{self.typed(name) or name} {self._entry(each)}" for name, each in pairs
            )
        if isinstance(value, list):
            return ", ".join(self._entry(each) for each in cast("list[Any]", value))
        return self._text("", value) if isinstance(value, str) else json.dumps(value)

    def _text(self, name: str, value: str) -> str:
        if name in _FIELDS_AS_VALUES:
            return self.field(value)
        if value in VALUES.get(name, ()):
            return self._(VALUES[name][value])
        if len(value) >= 19 and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:", value):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                return value
            return value if moment.tzinfo is None else self._language.moment(moment)
        return value

    def _threshold(self, kind: str, value: float) -> str:
        if kind in ("latency", "cost_spike"):
            return f"{self._language.number(value, 2)}\u00a0\u00d7"
        if kind in ("budget_threshold", "failure_rate", "silence"):
            return self._language.percent(value)
        return self._language.number(value, 2)

    def _period(self, text: str) -> str:
        if text in ("total", "window"):
            return self._("in total") if text == "total" else self._("the window")
        if week := re.fullmatch(r"(\d{4})-W(\d\d)", text):
            return self._("week %(week)s of %(year)s") % {"week": int(week[2]), "year": week[1]}
        try:
            if re.fullmatch(r"\d{4}-\d\d", text):
                skeleton = "y年M月" if self._language.code == "zh" else "MMMM y"
                first = date.fromisoformat(f"{text}-01")
                return format_date(first, skeleton, locale=self._language.locale)
            if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
                return self._language.day(date.fromisoformat(text))
        except ValueError:
            return text
        if hour := re.match(r"(\d{4}-\d\d-\d\d)T(\d\d)", text):
            return f"{hour[1]} {hour[2]}:00"
        return text

    def _rate(self, text: str) -> str:
        match = re.fullmatch(
            r"(\d+)\s*(?:/|per)\s*(\d*)\s*(second|minute|hour|day|month|year)s?", text
        )
        if match is None:
            return text
        number, many, unit = int(match[1]), int(match[2] or 1), match[3]
        size = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}.get(unit)
        if size is None:
            return text
        values = {"number": self._language.number(number), "span": self._language.span(many * size)}
        return self._("%(number)s calls in %(span)s") % values


def _without(entries: list[Any], others: list[Any]) -> list[Any]:
    return [each for each in entries if each not in others]


def _pair(text: str) -> str | None:
    """``["globex","gpt-4o"]`` as people read it."""
    try:
        names: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(names, list):
        return None
    listed = [str(each) for each in cast("list[Any]", names)]
    return " \u00d7 ".join(listed) if len(listed) == 2 else None
