"""The filter of a rule as lines that people type: ``model = gpt-4o``, ``cost >= 1``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

from ai_ledger.errors import InvalidValue
from ai_ledger.query import BOOLEAN_FIELDS, NUMBER_FIELDS, field_name

_SIGN: Final = re.compile(">=|<|=|~")
_MAX_LINES: Final = 50
_MAX_LINE_CHARS: Final = 2_000
# Those of a 64-bit integer; int() writes out all that an exponent stands for.
_MAX_DIGITS: Final = 19


def lines_of(where: Mapping[str, Any]) -> str:
    """*where* of a rule, one condition a line."""
    lines: list[str] = []
    for field, value in where.items():
        if isinstance(value, Mapping):
            told = cast("Mapping[str, Any]", value)
            signs = {"contains": "~", "at_least": ">=", "below": "<"}
            lines += [f"{field} {signs[name]} {_text(each)}" for name, each in told.items()]
        else:
            several = isinstance(value, (list, tuple))
            values = cast("list[Any]", value) if several else [value]
            lines += [f"{field} = {_text(each)}" for each in values]
    return "\n".join(lines)


def where_of(text: str) -> dict[str, Any]:
    """
    What lines say; several with ``=`` for one field: one of these; nothing behind it: not set.

    Raises:
        InvalidValue: A line that says nothing, names no field, or has no number where one is.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > _MAX_LINES:
        raise InvalidValue("where", len(lines), f"at most {_MAX_LINES} lines")
    where: dict[str, Any] = {}
    for line in lines:
        if len(line) > _MAX_LINE_CHARS:
            expected = f"a line of at most {_MAX_LINE_CHARS:,} characters"
            raise InvalidValue("where", line[:80], expected)
        match = _SIGN.search(line)
        if match is None or not match.start():
            raise InvalidValue("where", line, "a line such as model = gpt-4o, or cost >= 1")
        sign, value = match[0], line[match.end() :].strip()
        field = field_name(line[: match.start()].strip())
        known = where.get(field)
        if sign == "=":
            if known is not None and not isinstance(known, list):
                raise InvalidValue("where", line, f"one kind of condition for {field}")
            where[field] = [*(cast("list[Any]", known) or []), _value(field, value)]
            continue
        name = {"~": "contains", ">=": "at_least", "<": "below"}[sign]
        if not isinstance(known, (dict, type(None))) or name in (known or {}):
            raise InvalidValue("where", line, f"one kind of condition for {field}")
        if sign != "~" and field not in NUMBER_FIELDS:
            raise InvalidValue("where", line, f"a number field, which {field} is not")
        where[field] = {
            **cast("dict[str, Any]", known or {}),
            name: value if sign == "~" else _value(field, value),
        }
    return where


def _value(field: str, text: str) -> Any:
    if not text:
        return None
    if field in BOOLEAN_FIELDS:
        if text.lower() not in ("true", "false"):
            raise InvalidValue(field, text, "true or false")
        return text.lower() == "true"
    if field not in NUMBER_FIELDS:
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise InvalidValue(field, text, "a number")
    if field == "cost":
        return number
    if number.adjusted() >= _MAX_DIGITS:
        raise InvalidValue(field, text, "a smaller number")
    return int(number) if number == number.to_integral_value() else float(number)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
