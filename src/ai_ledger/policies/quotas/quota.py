"""`Quota`: what one organisation may do with one model, as people edit it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from ai_ledger.bounds import MAX_LABEL_CHARS, storable
from ai_ledger.errors import InvalidValue
from ai_ledger.policies.quotas.rates import rates_of
from ai_ledger.validation import checked_count, checked_moment

EVERY: Final = "*"
"""In a row: every organisation, or every model, that has no row of its own."""
NOT_SENT: Final = ("blocked", "circuit_open")
"""The statuses of calls that were refused before they left."""
MAX_INTERVAL_S: Final = 366 * 86_400
MAX_CONCURRENT: Final = 1_000_000

ACTIVE: Final = timedelta(days=30)
"""Users of a row without a start are counted over so many days."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an organisation may do with a model. The most specific row counts, alone.

    Args:
        org_id: The organisation; ``*`` for each that has no row of its own.
        model: The model asked for, however its capitals are written; ``*`` for each
            without a row. Where tokens are counted, letter for letter: another
            spelling is refused.
        enabled: Whether calls are allowed at all.
        min_interval_s: Seconds from one call to the next at least; 0 for none.
        tokens: How many may be used from *valid_from* to *valid_until*; 0 for no limit.
            In a row for every organisation, that is how many each of them may use.
        valid_from: The first moment, aware; ``None`` for always.
        valid_until: The first moment after, aware; ``None`` for ever. Calls outside
            of both are not allowed.
        rates: As `limits <https://limits.readthedocs.io>`_ reads them:
            ``60/minute; 1000 per day``. Empty for none.
        max_concurrent: Calls in flight at the same time; 0 for no bound.
        shared: Whether interval and calls in flight are those of all processes
            together, which costs a round trip, or of each for itself.
        version: Grows with each edit.
        updated_at: Aware, UTC.
        updated_by: Who.
    """

    org_id: str
    model: str
    enabled: bool = True
    min_interval_s: float = 0.0
    tokens: int = 0
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    rates: str = ""
    max_concurrent: int = 0
    shared: bool = True
    version: int = 0
    updated_at: datetime | None = None
    updated_by: str | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return name_of(self.org_id, self.model)


def name_of(org_id: str, model: str) -> str:
    """How messages call the quota of *org_id* and *model*."""
    return f"{org_id} / {model}"


def folded(model: str) -> str:
    """*model* as names are compared: capitals are small letters, as in the catalogue."""
    return model.lower()


class ModelSwitch(msgspec.Struct, frozen=True, kw_only=True):
    """
    What holds for a model whoever asks for it, beside the quotas.

    Args:
        model: The model asked for, however its capitals are written.
        off: Whether it is switched off for everybody.
        max_concurrent: Calls in flight at the same time, of all organisations and
            processes together; 0 for no bound.
        version: Grows with each edit.
        updated_at: Aware, UTC.
        updated_by: Who.
    """

    model: str
    off: bool = False
    max_concurrent: int = 0
    version: int = 0
    updated_at: datetime | None = None
    updated_by: str | None = None


class QuotaUse(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the ledger's rows say of a quota.

    Args:
        tokens_used: Input and output of all its calls from its start to its end;
            those that are not delivered yet are not among them.
        active_users: How many users made these calls, refused ones apart; without a
            start, those of the last 30 days.
    """

    tokens_used: int
    active_users: int


def checked_quota(quota: Quota) -> Quota:
    """
    *quota* as it is stored.

    Raises:
        InvalidValue: Something that no quota can have; names it.
        MissingExtra: It has rates, and ``limits`` is not installed.
    """
    start = _moment("valid_from", quota.valid_from)
    end = _moment("valid_until", quota.valid_until)
    if start is not None and end is not None and end <= start:
        raise InvalidValue("valid_until", end.isoformat(), f"a time after {start.isoformat()}")
    tokens = _count("tokens", quota.tokens)
    org_id, model = checked_name("org_id", quota.org_id), checked_name("model", quota.model)
    if tokens and org_id == model == EVERY:
        raise InvalidValue("tokens", tokens, "an organisation or a model beside it, not * for both")
    return msgspec.structs.replace(
        quota,
        org_id=org_id,
        model=model,
        enabled=_flag("enabled", quota.enabled),
        min_interval_s=_interval(quota.min_interval_s),
        tokens=tokens,
        valid_from=start,
        valid_until=end,
        rates=_rates(quota.rates),
        max_concurrent=checked_concurrent(quota.max_concurrent),
        shared=_flag("shared", quota.shared),
    )


def checked_name(field: str, value: object) -> str:
    """*value* as the id of an organisation or the name of a model."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value or len(value) > MAX_LABEL_CHARS:
        raise InvalidValue(field, value, f"a text of 1 to {MAX_LABEL_CHARS} characters")
    return storable(value)


def checked_concurrent(value: object) -> int:
    """*value* as a number of calls in flight."""
    number = _count("max_concurrent", value)
    if number > MAX_CONCURRENT:
        raise InvalidValue("max_concurrent", value, f"at most {MAX_CONCURRENT:,}")
    return number


def _count(field: str, value: object) -> int:
    number = checked_count(field, value)
    if number is None:
        raise InvalidValue(field, value, "a whole number; 0 for none")
    return number


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue(field, value, "True or False")
    return value


def _interval(value: Any) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not 0 <= value <= MAX_INTERVAL_S:
        raise InvalidValue("min_interval_s", value, f"seconds, from 0 to {MAX_INTERVAL_S:,}")
    return round(float(value), 6)


def _moment(field: str, value: object) -> datetime | None:
    return None if value is None else checked_moment(field, value)


def _rates(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_LABEL_CHARS:
        raise InvalidValue("rates", value, "windows such as '60/minute; 1000 per day'")
    if value.strip():
        rates_of(value)
    return value.strip()
