"""`Question`: what is asked about costs, as an address or the API puts it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from starlette.requests import Request

from ai_ledger.errors import InvalidValue
from ai_ledger.query import TAG_PREFIX, field_name
from ai_ledger.stats.rank import Ranking
from ai_ledger.web.filters import FieldFilter
from ai_ledger.web.house import Desk
from ai_ledger.web.periods import PERIOD, Period, day_of

DIMENSIONS: Final = (
    "request_model",
    "provider",
    "function",
    "business_type",
    "user_id",
    "device_id",
    "session_id",
    "org_id",
    "operation",
)
"""Fields that costs are told apart by, besides ``tags.<key>``."""

RANKINGS: Final[tuple[Ranking, ...]] = ("cost", "calls", "tokens")
LIMITS: Final = (10, 25, 50, 100)
MAX_LIMIT: Final = 100
DEFAULT_DAYS: Final = 30
PARAMETERS: Final = frozenset(
    (*FieldFilter.parameters(), *PERIOD, "by", "key", "ranked_by", "limit", "wait")
)
"""What the address of a page about costs may say."""
_ALL: Final = FieldFilter.of({})


@dataclass(frozen=True)
class Question:
    """
    What is asked.

    Args:
        period: The days.
        by: The field, or ``tags.<key>``, that calls are told apart by.
        ranked_by: What comes first.
        limit: How many of them.
        asked: Which calls.
    """

    period: Period
    by: str = "request_model"
    ranked_by: Ranking = "cost"
    limit: int = 25
    asked: FieldFilter = _ALL

    @property
    def filters(self) -> dict[str, Any]:
        """As `Stats` takes them: field → its values, one of which a call must have."""
        return self.asked.conditions()

    @property
    def conditions(self) -> dict[str, str | list[str]]:
        """The filters as parameters of an address."""
        return self.asked.query

    @property
    def query(self) -> dict[str, Any]:
        """All of it as parameters of an address."""
        return {
            **self.period.query,
            "by": self.by,
            "ranked_by": self.ranked_by,
            "limit": str(self.limit),
            **self.conditions,
        }

    def but(self, **changes: Any) -> dict[str, Any]:
        """The parameters of the same question with some of them changed."""
        return {**self.query, **changes}

    def without(self, field: str, value: Any) -> dict[str, Any]:
        """The parameters of the same question without one condition."""
        kept = [each for each in self.filters[field] if each != value]
        return replace(self, asked=FieldFilter.of({**self.filters, field: kept})).query

    def only(self, field: str) -> str | None:
        """The one value that *field* must have, if it is one."""
        values = self.filters.get(field, ())
        return values[0] if len(values) == 1 else None

    def calls_where(self, field: str, value: str | None) -> dict[str, Any]:
        """The parameters under which the page of calls shows what one row sums up."""
        asked = FieldFilter.of({**self.filters, field: [value]})
        return {**self.period.query, **asked.query}


def question_of(request: Request, desk: Desk) -> Question:
    """
    The question in the address of a page.

    Raises:
        InvalidValue: A parameter is wrong; says which.
    """
    asked = request.query_params
    return Question(
        period=period_of(request, desk),
        by=checked_by(desk, asked.get("by"), asked.get("key")),
        ranked_by=cast("Ranking", _one_of(asked.get("ranked_by") or "cost", RANKINGS, "ranked_by")),
        limit=_number(asked.get("limit"), "limit", LIMITS[1], MAX_LIMIT),
        asked=FieldFilter.read(asked),
    )


def checked_by(desk: Desk, by: str | None, key: str | None = None) -> str:
    """
    What costs are told apart by.

    Args:
        desk: Of whoever asks.
        by: A field of `DIMENSIONS`, ``tags.<key>``, or ``tags`` with a *key* beside it.
        key: Of the tag.

    Raises:
        InvalidValue: It is none of these, or whoever asks sees one organisation alone.
    """
    if by == "tags" and key:
        by = TAG_PREFIX + key
    found = field_name(by or DIMENSIONS[0], DIMENSIONS)
    if found == "org_id" and desk.scope is not None:
        raise InvalidValue("by", by, "another dimension: you see one organisation")
    return found


def period_of(request: Request, desk: Desk) -> Period:
    """
    The days in the address of a page; the last 30 when it names none.

    Raises:
        InvalidValue: They are none.
    """
    asked = request.query_params
    days = asked.get("days")
    return Period.of(
        days=_number(days, "days", DEFAULT_DAYS, 366) if days else None,
        first=day_of("first", asked.get("first")),
        last=day_of("last", asked.get("last")),
        now=desk.house.clock(),
        tz=desk.tz,
        default=DEFAULT_DAYS,
    )


def _one_of(value: str, allowed: Iterable[str], name: str) -> str:
    if value not in allowed:
        raise InvalidValue(name, value, f"one of {', '.join(allowed)}")
    return value


def _number(text: str | None, name: str, default: int, most: int) -> int:
    if not text:
        return default
    # Longer ones are refused before they are read: int() of a million digits takes its time.
    if len(text) > 4 or not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= most:
        raise InvalidValue(name, text, f"a whole number from 1 to {most}")
    return int(text)
