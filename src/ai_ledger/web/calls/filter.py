"""`CallFilter`: which calls a page or a question of the API is about, as its address says it."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from ai_ledger.errors import InvalidValue
from ai_ledger.money import rounded
from ai_ledger.query import ANY_ID, UNPRICED, Between, Contains
from ai_ledger.records import MAX_COST
from ai_ledger.stats import Stats
from ai_ledger.web.filters import FieldFilter
from ai_ledger.web.house import Desk
from ai_ledger.web.periods import MAX_DAYS, Period

Order: TypeAlias = Literal[
    "started_at",
    "cost",
    "duration_ms",
    "time_to_first_token_ms",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "retries",
    "http_status",
]
MAX_RETRIES: Final = 1_000_000
_MAX_MS: Final = 2.0**53
_NANO: Final = Decimal("1e-9")
# Those with an index of their own, so that looking one up takes no time.
_LOOKED_UP: Final = ("id", "user_id", "session_id", "reference_id", "device_id")


def _in_nano(amount: Decimal) -> Decimal:
    # Written out, 1e-999999999 is a gigabyte of zeros; and no call costs that.
    exact = rounded(amount)
    if exact != amount:
        raise PydanticCustomError("amount", "an amount with at most 9 decimals")
    return exact


_Amount: TypeAlias = Annotated[
    Decimal, Field(ge=0, le=MAX_COST, allow_inf_nan=False), AfterValidator(_in_nano)
]


class CallFilter(FieldFilter):
    """Which calls. All conditions must hold; what is left out is no condition."""

    days: int | None = Field(
        None, ge=1, le=MAX_DAYS, description="The last so many days, today included."
    )
    first: date | None = Field(None, description="Instead of days: from this one on.")
    last: date | None = Field(None, description="To this one; today, if left out.")
    search: str | None = Field(
        None,
        max_length=255,
        description="A whole id of a call, user, device, session or object; or a part of any id.",
    )
    price: Literal["priced", "unpriced"] | None = Field(
        None, description="unpriced: calls that should have a cost and have none."
    )
    min_retries: int | None = Field(None, ge=0, le=MAX_RETRIES)
    max_retries: int | None = Field(None, ge=0, le=MAX_RETRIES)
    min_cost: _Amount | None = Field(None, description="In units of the call's currency.")
    max_cost: _Amount | None = None
    min_duration_ms: float | None = Field(None, ge=0, le=_MAX_MS, allow_inf_nan=False)
    max_duration_ms: float | None = Field(None, ge=0, le=_MAX_MS, allow_inf_nan=False)
    deleted: bool = Field(False, description="Deleted calls instead.")

    @property
    def query(self) -> dict[str, str | list[str]]:
        """As the parameters of an address, without what was left out."""
        found = self._said(FILTERS)
        if self.first or self.last:
            found.pop("days", None)
        return found

    @property
    def is_empty(self) -> bool:
        """Whether all calls are meant."""
        return not self.query

    def times(self, desk: Desk) -> tuple[datetime | None, datetime | None]:
        """
        From when on, and until when.

        Raises:
            InvalidValue: They end before they begin, or lie too far apart.
        """
        if self.days is None and self.first is None and self.last is None:
            return None, None
        now = desk.house.clock()
        period = Period.of(days=self.days, first=self.first, last=self.last, now=now, tz=desk.tz)
        try:
            return period.since, period.until
        except (OverflowError, ValueError) as error:
            raise InvalidValue("first", str(self.first), "a day that the calendar has") from error

    def where(self, stats: Stats) -> dict[str, Any]:
        """As `Stats` takes it."""
        found = self.conditions()
        if self.price == "unpriced":
            found[UNPRICED] = True
        if self.price == "priced" or self.min_cost is not None or self.max_cost is not None:
            # The largest amount itself is still meant.
            below = None if self.max_cost is None else self.max_cost + _NANO
            found["cost"] = Between(self.min_cost, below)
        if self.min_duration_ms is not None or self.max_duration_ms is not None:
            most = self.max_duration_ms
            below_ms = None if most is None else math.nextafter(most, math.inf)
            found["duration_ms"] = Between(self.min_duration_ms, below_ms)
        if self.min_retries is not None or self.max_retries is not None:
            fewer = None if self.max_retries is None else self.max_retries + 1
            found["retries"] = Between(self.min_retries, fewer)
        if self.search:
            self._add_search(found, stats, self.search)
        return found

    def _add_search(self, found: dict[str, Any], stats: Stats, text: str) -> None:
        """
        The calls of a whole id where there is one, which takes no time; else a part of any id.

        Whoever types a whole user id does not mean all those that begin with it.
        """
        hits = [
            field
            for field in _LOOKED_UP
            if stats.browse({field: text}, limit=1, deleted=self.deleted).calls
        ]
        if len(hits) == 1 and hits[0] not in found:
            found[hits[0]] = text
        else:
            found[ANY_ID] = Contains(text)


FILTERS: Final = tuple(CallFilter.model_fields)


class SentFilter(CallFilter):
    """Which calls, as a body says it: what is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Listing(CallFilter):
    """Which calls, in which order, and where in it."""

    order: Order = "started_at"
    descending: bool = True
    limit: int = Field(50, ge=1, le=100)
    cursor: str | None = Field(None, max_length=2_000)
    end: bool = False
    """The last page."""

    @property
    def shape(self) -> dict[str, str | list[str]]:
        """Filters, order and size of pages as parameters of an address; not the place."""
        found = self.query
        if self.order != "started_at":
            found["order"] = self.order
        if not self.descending:
            found["descending"] = "false"
        if self.limit != 50:
            found["limit"] = str(self.limit)
        return found
