"""Validation of what a person typed into a record: every refusal names field and expectation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

from ai_ledger.currencies import CURRENCIES
from ai_ledger.errors import InvalidValue
from ai_ledger.money import rounded
from ai_ledger.records import (
    ALIASES,
    MAX_COST,
    MAX_COUNT,
    STATUSES,
    TOKEN_FIELDS,
    USAGE_SOURCES,
    Status,
    Usage,
    UsageSource,
)

# Before the first year there was no API, and what adds up days and months needs
# room on both sides of them. A time in milliseconds taken for seconds is far outside.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Calls start before this."""

MAX_LISTED: Final = 1_000
"""The most rows that a list or a history gives at once."""
MAX_ID: Final = 2**63 - 1
"""What a column of numbers that rows are found by holds; not every database says so."""


def is_id(value: object) -> bool:
    """Whether *value* can be the number of a row."""
    return type(value) is int and 0 < value <= MAX_ID


def checked_count(name: str, value: object) -> int | None:
    """*value* as a count: whole, 0 to 2**53, or ``None``."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise InvalidValue(name, value, "a whole number from 0 to 2**53")
    return value


def checked_limit(limit: object, most: int = MAX_LISTED) -> int:
    """
    *limit* as the most rows that are asked for.

    Raises:
        InvalidValue: It is no whole number from 1 to *most*.
    """
    # Databases differ in what they make of others: SQLite reads everything for -1.
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidValue("limit", limit, f"a whole number from 1 to {most:,}")
    return limit


def checked_http_status(value: object) -> int | None:
    """*value* as a status code of HTTP, or ``None``."""
    status = checked_count("http_status", value)
    # RFC 9110, 15: three digits, and clients take those beyond 599 for server errors.
    if status is not None and not 100 <= status <= 999:
        raise InvalidValue("http_status", value, "a whole number from 100 to 999")
    return status


def checked_usage(counts: Mapping[str, Any], source: UsageSource | None = None) -> Usage:
    """
    The usage that *counts* say: ``reported`` when there are any and nothing else is said.

    ``total_tokens`` gives what is not said: beside one of input and output the
    other, alone the input, as embeddings have nothing else.

    Raises:
        InvalidValue: An unknown name, a bad count, a part larger than its total,
            a total that is not the sum.
    """
    checked: dict[str, int | None] = {}
    total_tokens = checked_count("total_tokens", counts.get("total_tokens"))
    for name, value in counts.items():
        field = ALIASES.get(name, name)
        if field == "total_tokens":
            continue
        if field not in TOKEN_FIELDS:
            raise InvalidValue(name, value, f"a count named one of {', '.join(TOKEN_FIELDS)}")
        checked[field] = checked_count(name, value)
    if total_tokens is not None:
        checked.update(_sides(total_tokens, checked))
    for part, total in (
        ("cache_read_tokens", "input_tokens"),
        ("cache_write_tokens", "input_tokens"),
        ("audio_input_tokens", "input_tokens"),
        ("reasoning_tokens", "output_tokens"),
        ("audio_output_tokens", "output_tokens"),
    ):
        part_count, total_count = checked.get(part), checked.get(total)
        if part_count is not None and total_count is not None and part_count > total_count:
            raise InvalidValue(part, part_count, f"at most {total} ({total_count}), as part of it")
    if source is None:
        known = any(count is not None for count in checked.values())
        source = "reported" if known else "unknown"
    elif source not in USAGE_SOURCES:
        raise InvalidValue("usage_source", source, f"one of {', '.join(USAGE_SOURCES)}")
    return Usage(source=source, **checked)


def _sides(total: int, counts: Mapping[str, int | None]) -> dict[str, int]:
    """Input and output, which together are *total*, from what *counts* say of them."""
    known = {
        name: count
        for name in ("input_tokens", "output_tokens")
        if (count := counts.get(name)) is not None
    }
    if not known:
        return {"input_tokens": total}
    if len(known) == 2:
        if total != sum(known.values()):
            expected = f"{sum(known.values())}, the sum of input_tokens and output_tokens"
            raise InvalidValue("total_tokens", total, expected)
        return known
    ((name, count),) = known.items()
    if total < count:
        raise InvalidValue("total_tokens", total, f"at least {name} ({count}), as the sum with it")
    other = "output_tokens" if name == "input_tokens" else "input_tokens"
    return {name: count, other: total - count}


def checked_cost(amount: object, currency: object) -> tuple[Decimal, str]:
    """The amount, to whole nano-units, and its currency's code."""
    if isinstance(amount, bool) or not isinstance(amount, (Decimal, str, int, float)):
        raise InvalidValue("cost", amount, "a Decimal, or a text or number that is one")
    try:
        # A float as it is written: 0.1 and not the fraction that it is inside.
        decimal = Decimal(str(amount) if isinstance(amount, float) else amount)
    except (ArithmeticError, ValueError):
        raise InvalidValue("cost", amount, "a decimal number") from None
    if not decimal.is_finite() or decimal < 0:
        raise InvalidValue("cost", amount, "a finite amount of at least 0")
    if decimal > MAX_COST:
        raise InvalidValue("cost", amount, f"an amount of at most {MAX_COST:,}")
    if not isinstance(currency, str) or currency not in CURRENCIES:
        raise InvalidValue("currency", currency, "an ISO 4217 code such as 'USD' or 'CNY'")
    return rounded(decimal), currency


def checked_duration(name: str, value: object) -> float | None:
    """*value* as milliseconds: finite and at least 0, to the microsecond."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidValue(name, value, "a number of milliseconds")
    # False for NaN as well.
    if not 0 <= value <= 1e12:
        raise InvalidValue(name, value, "a number of milliseconds, from 0 to 1e12")
    return round(float(value), 3)


def checked_moment(name: str, value: object) -> datetime:
    """*value* as an aware datetime, in UTC: from 1970 on and before 2200."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidValue(name, value, "a datetime with a time zone")
    # Compared as it is: the first and last day of all have no place in other zones.
    if not EARLIEST <= value < LATEST:
        raise InvalidValue(name, value, "a time from 1970 on and before 2200")
    return value.astimezone(UTC)


def checked_status(status: object, success: object) -> Status:
    """The status, from either way of saying it; *status* says more and wins."""
    if success is not None and not isinstance(success, bool):
        raise InvalidValue("success", success, "True or False")
    if status is None:
        return "success" if success is not False else "failed"
    if status not in STATUSES or status == "unfinished":
        accepted = ", ".join(each for each in STATUSES if each != "unfinished")
        raise InvalidValue("status", status, f"one of {accepted}")
    return cast("Status", status)
