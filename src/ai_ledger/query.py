"""What is asked of a store: `Query`, whose scope cannot be left out or escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

import msgspec

from ai_ledger.bounds import label, storable
from ai_ledger.errors import InvalidValue
from ai_ledger.records import ALIASES, CONTEXT_FIELDS, TOKEN_FIELDS

TEXT_FIELDS: Final = (
    *CONTEXT_FIELDS,
    "id",
    "status",
    "error_type",
    "operation",
    "provider",
    "server_address",
    "request_model",
    "response_model",
    "response_id",
    "service_tier",
    "finish_reason",
    "usage_source",
    "currency",
    "price_id",
)
NUMBER_FIELDS: Final = (
    *TOKEN_FIELDS,
    "duration_ms",
    "time_to_first_token_ms",
    "http_status",
    "retries",
    "cost",
)
BOOLEAN_FIELDS: Final = ("streamed",)
FILTER_FIELDS: Final = (*TEXT_FIELDS, *NUMBER_FIELDS, *BOOLEAN_FIELDS)

TAG_PREFIX: Final = "tags."

ANY_ID: Final = "any_id"
"""Stands for all of `ID_FIELDS`: ``{"any_id": Contains("42")}``."""
ID_FIELDS: Final = (
    "id",
    "user_id",
    "device_id",
    "session_id",
    "reference_id",
    "response_id",
)
UNPRICED: Final = "unpriced"
"""Whether a call should have a cost and has none, as `totals.is_unpriced` says: ``True``."""

GROUP_FIELDS: Final = (
    "request_model",
    "response_model",
    "provider",
    "server_address",
    "function",
    "business_type",
    "operation",
    "status",
    "error_type",
    "usage_source",
    "user_id",
    "device_id",
    "session_id",
    "reference_id",
    "org_id",
)
"""What calls can be grouped by, besides ``tags.<key>``."""


class Between(msgspec.Struct, frozen=True):
    """A range of numbers: from *at_least*, inclusive, to *below*, exclusive."""

    at_least: Any = None
    below: Any = None


class Contains(msgspec.Struct, frozen=True):
    """Texts that contain *text*, letter for letter."""

    text: str


class AnyOf(msgspec.Struct, frozen=True):
    """One of *values*; ``None`` among them means: or not set."""

    values: tuple[Any, ...]


Condition: TypeAlias = Between | Contains | AnyOf


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which calls are meant. Built by `Query.build`; a store answers nothing else.

    ``scope`` is the organisation that the answer is confined to, ``None`` for
    all of them. It has no default, and no filter can widen it.
    """

    scope: str | None
    since: datetime | None = None
    """Inclusive, aware."""
    until: datetime | None = None
    """Exclusive, aware."""
    where: tuple[tuple[str, Condition], ...] = ()
    """(field or ``tags.<key>``, condition); all must hold. Field names are checked."""
    deleted: bool = False
    """True: only what was deleted; False: only what was not."""
    deleted_at: datetime | None = None
    """Only what was deleted at this very moment, which is what one deletion took."""

    @classmethod
    def build(
        cls,
        *,
        scope: str | None,
        since: datetime | None = None,
        until: datetime | None = None,
        where: Mapping[str, Any] | None = None,
        deleted: bool = False,
        deleted_at: datetime | None = None,
    ) -> Query:
        """
        A query from what a person typed.

        Texts are cut and cleaned as those of records are, so that whoever asks by
        a name too long for a record still finds the calls that carry its label.

        Args:
            scope: The organisation, or ``None`` for all.
            since: Aware; calls that started then or later. Kept in UTC, as the others are.
            until: Aware; calls that started before.
            where: Field → value, a collection of values, ``None`` (not set),
                `Between` or `Contains`. Aliases and ``tags.<key>`` are accepted; so are
                ``any_id`` with `Contains`, for a text in any id, and ``unpriced``
                with ``True``.
            deleted: Ask for deleted calls instead.
            deleted_at: Aware; only calls that were deleted at this very moment.

        Raises:
            InvalidValue: An unknown field, a naive datetime, a value of the wrong kind.
        """
        moments = (("since", since), ("until", until), ("deleted_at", deleted_at))
        for name, moment in moments:
            if moment is not None and moment.tzinfo is None:
                raise InvalidValue(name, moment, "a datetime with a time zone")
        return cls(
            scope=None if scope is None else label(scope),
            since=None if since is None else in_utc(since),
            until=None if until is None else in_utc(until),
            where=tuple(_condition(name, value) for name, value in (where or {}).items()),
            deleted=deleted or deleted_at is not None,
            deleted_at=None if deleted_at is None else in_utc(deleted_at),
        )


def in_utc(moment: datetime) -> datetime:
    """
    The same moment, so that equal ones are one moment.

    In a zone of their own both instants of an hour that its clocks strike twice are equal.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # in the first or last hours of all time
        return moment


def field_name(name: str, allowed: tuple[str, ...] = FILTER_FIELDS) -> str:
    """
    The field that *name* means, aliases and ``tags.<key>`` included.

    Raises:
        InvalidValue: There is no such field among *allowed*.
    """
    if name.startswith(TAG_PREFIX) and len(name) > len(TAG_PREFIX):
        return TAG_PREFIX + label(name.removeprefix(TAG_PREFIX))
    real = ALIASES.get(name, name)
    if real not in allowed:
        raise InvalidValue("field", name, f"one of {', '.join(sorted(allowed))}, or tags.<key>")
    return real


def _condition(name: str, value: Any) -> tuple[str, Condition]:
    if name == ANY_ID:
        if not isinstance(value, Contains):
            raise InvalidValue(name, value, "Contains(…)")
        return name, Contains(storable(value.text))
    if name == UNPRICED:
        if value is not True:
            raise InvalidValue(name, value, "True; for the others: cost=Between()")
        return name, AnyOf((True,))
    field = field_name(name)
    if isinstance(value, Contains):
        if field in (*NUMBER_FIELDS, *BOOLEAN_FIELDS):
            raise InvalidValue(field, value, "a number or Between(…)")
        return field, Contains(storable(value.text))
    if isinstance(value, Between):
        if field not in NUMBER_FIELDS:
            raise InvalidValue(field, value, "a text, a collection of texts or Contains(…)")
        return field, Between(_plain(field, value.at_least), _plain(field, value.below))
    if isinstance(value, AnyOf):
        value = value.values
    values: tuple[Any, ...] = (value,)
    if isinstance(value, (list, tuple, set, frozenset)):
        values = tuple(cast("Iterable[Any]", value))
    return field, AnyOf(tuple(_plain(field, each) for each in values))


def _plain(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field in NUMBER_FIELDS:
        return _number(field, value)
    if field in BOOLEAN_FIELDS:
        if not isinstance(value, int):
            raise InvalidValue(field, value, "True or False")
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidValue(field, value, "a text")
    return label(str(value))


def _number(field: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise InvalidValue(field, value, "a number")
    if isinstance(value, Decimal) and value.is_snan():
        raise InvalidValue(field, value, "a number")
    return value
