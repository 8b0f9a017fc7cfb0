"""The terms of a budget: how much, of what, for whom, and from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from ai_ledger.bounds import key_of, label
from ai_ledger.currencies import CURRENCIES
from ai_ledger.errors import InvalidValue
from ai_ledger.money import EXACT, MAX_NANO, to_nano
from ai_ledger.query import TAG_PREFIX, TEXT_FIELDS, field_name
from ai_ledger.records import CallRecord
from ai_ledger.zones import clock, first_instant, time_zone

TOKENS: Final = "tokens"

Per: TypeAlias = Literal["hour", "day", "week", "month", "total", "window"]
PERIODS: Final[tuple[Per, ...]] = get_args(Per)

Mode: TypeAlias = Literal["hard", "soft"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

SHAPE: Final = ("unit", "per", "since", "until", "where", "each", "tz")
"""What makes a budget's accounts what they are."""

_MAX_RATE: Final = Decimal(10**9)
_MAX_VALUES: Final = 10_000


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What a budget counts, and how much of it there is.

    A value that goes into the database as JSON, so that every process that stores
    calls counts them for every budget.

    Args:
        name: Unique within a ledger.
        unit: ``tokens``, or the code of a currency.
        limit: In tokens, or in nano-units of the currency; 0 admits nothing.
        per: How long a period is. A week begins on Monday, as in ISO 8601; ``total``
            never ends; ``window`` is the one period from *since* to before *until*.
        since: The beginning of a window, aware; only for that.
        until: Its end, exclusive.
        where: Field or ``tags.<key>`` → the values of which a call must have one, all
            of them to hold; ``None`` among the values means: not set.
        each: The field or ``tags.<key>`` that has a limit for each of its values;
            ``None`` for one limit over all.
        tz: Where the clock hangs that says when a period begins.
        mode: ``hard`` refuses what does not fit, ``soft`` only counts.
        unpriced_as: Nano-units for each input and each output token of a call
            without a price; without it such calls are not counted.
        rates: Other currency → units of *unit* that one of it is, as a decimal text.

    Raises:
        InvalidValue: One of them cannot be so; names it.
    """

    name: str
    unit: str
    limit: int
    per: Per = "month"
    since: datetime | None = None
    until: datetime | None = None
    where: dict[str, tuple[str | None, ...]] = {}
    each: str | None = None
    tz: str = "UTC"
    mode: Mode = "hard"
    unpriced_as: tuple[int, int] | None = None
    rates: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or self.name != label(self.name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue("name", self.name, "a text of 1 to 255 characters")
        if self.unit != TOKENS and self.unit not in CURRENCIES:
            raise InvalidValue("unit", self.unit, "tokens, or the code of a currency such as USD")
        if type(self.limit) is not int or not 0 <= self.limit <= MAX_NANO:
            raise InvalidValue("limit", self.limit, "an amount from 0 to 9.2e9 units, or tokens")
        if self.mode not in MODES:
            raise InvalidValue("mode", self.mode, "hard or soft")
        self._check_period()
        self._check_fields()
        self._check_prices()

    def _check_period(self) -> None:
        if self.per not in PERIODS:
            raise InvalidValue("per", self.per, f"one of {', '.join(PERIODS)}")
        time_zone(self.tz)
        if self.per != "window":
            if self.since is not None or self.until is not None:
                raise InvalidValue("per", self.per, "window, when there is a beginning or an end")
            return
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is None or moment.tzinfo is None:
                raise InvalidValue(name, moment, "a datetime with a time zone")
            msgspec.structs.force_setattr(self, name, moment.astimezone(UTC))
        since, until = self._window()
        if since >= until:
            raise InvalidValue("until", self.until, "a moment after the beginning")

    def _window(self) -> tuple[datetime, datetime]:
        assert self.since is not None
        assert self.until is not None
        return self.since, self.until

    def _check_fields(self) -> None:
        where = {
            field_name(field, TEXT_FIELDS): _values(field, values)
            for field, values in self.where.items()
        }
        if len(where) != len(self.where):
            raise InvalidValue("where", self.where, "each field once")
        msgspec.structs.force_setattr(self, "where", dict(sorted(where.items())))
        if self.each is not None:
            msgspec.structs.force_setattr(self, "each", field_name(self.each, TEXT_FIELDS))

    def _check_prices(self) -> None:
        if self.unit == TOKENS and (self.rates or self.unpriced_as is not None):
            raise InvalidValue("unit", self.unit, "a currency, when there are rates or prices")
        if self.unpriced_as is not None and not (
            len(self.unpriced_as) == 2
            and all(type(nano) is int and 0 <= nano <= MAX_NANO for nano in self.unpriced_as)
        ):
            raise InvalidValue("unpriced_as", self.unpriced_as, "two amounts that are not negative")
        for code, rate in self.rates.items():
            if code not in CURRENCIES or code == self.unit:
                raise InvalidValue("rates", code, f"codes of currencies other than {self.unit}")
            if not 0 < _rate(rate) <= _MAX_RATE:
                raise InvalidValue("rates", rate, "a positive rate")

    def matches(self, record: CallRecord) -> bool:
        """Whether *record* is one of the calls that are counted, whenever it was made."""
        return all(_value(record, field) in values for field, values in self.where.items())

    def counts_as(self, other: Terms) -> bool:
        """Whether the accounts of *other* are those of these terms, whatever the limit is."""
        return all(getattr(self, name) == getattr(other, name) for name in SHAPE)

    def whose(self, record: CallRecord) -> str:
        """Whose limit *record* counts for, as `key_of` writes it; empty for nobody's."""
        return "" if self.each is None else key_of(_value(record, self.each))

    def period_of(self, moment: datetime) -> str | None:
        """
        The period that *moment* is in: ``2026-11-21T09``, ``2026-11-21``, ``2026-W47``,
        ``2026-11``, ``total`` or ``window``. Later periods sort behind earlier ones.

        ``None`` outside a window, and before 1901 and after 9989.

        Args:
            moment: Aware.
        """
        if self.per == "total":
            return "total"
        if self.per == "window":
            since, until = self._window()
            return "window" if since <= moment < until else None
        here = (self.per, self.tz)
        known = _latest.get(here)
        if known is not None and known[0] <= moment < known[1]:
            return known[2]
        if not 1901 <= moment.year <= 9989:
            return None
        found = _latest[here] = _period_at(self.per, self.tz, moment)
        return found[2]

    def bounds_of(self, period: str) -> tuple[datetime, datetime] | None:
        """
        From when, inclusive, to when, exclusive, *period* lasts, in UTC; ``None`` for ever.

        A day that the zone has left out ends where it begins.

        Raises:
            InvalidValue: These terms have no such period.
        """
        if self.per == "window" and period == "window":
            return self._window()
        if self.per == "total" and period == "total":
            return None
        try:
            shown = _parsed(self.per, period)
        except (ValueError, KeyError):
            raise InvalidValue("period", period, f"a period of a budget per {self.per}") from None
        zone = time_zone(self.tz)
        return first_instant(shown, zone), first_instant(_next(self.per, shown), zone)

    def amount_of(self, record: CallRecord) -> int | None:
        """
        What *record* takes of the limit, in tokens or nano-units.

        0 for what was never sent, and for what failed before anything was answered.
        ``None`` when it cannot be told: no tokens are known, or there is no price, or
        one in a currency without a rate.
        """
        amount = record.total_tokens if self.unit == TOKENS else self._money(record)
        if amount is None and spends_nothing(record.status, record.usage_source):
            return 0
        return amount

    def _money(self, record: CallRecord) -> int | None:
        if record.cost is None or record.currency is None:
            if self.unpriced_as is None or record.total_tokens is None:
                return None
            input_nano, output_nano = self.unpriced_as
            nano = (record.input_tokens or 0) * input_nano
            return min(MAX_NANO, nano + (record.output_tokens or 0) * output_nano)
        nano = to_nano(record.cost)
        return nano if record.currency == self.unit else self.converted(nano, record.currency)

    def converted(self, nano: int, currency: str) -> int | None:
        """*nano* of *currency* in nano-units of this budget, half-even; ``None`` without a rate."""
        text = self.rates.get(currency)
        if text is None:
            return nano if currency == self.unit else None
        exact = EXACT.multiply(Decimal(nano), _rate(text))
        whole = int(exact.to_integral_value(rounding=ROUND_HALF_EVEN, context=EXACT))
        return max(-MAX_NANO, min(MAX_NANO, whole))

    def to_json(self) -> str:
        """As the database keeps it; equal terms have equal texts."""
        return _encoder.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Terms:
        """
        What `to_json` wrote.

        Raises:
            InvalidValue: Not the terms of a budget.
        """
        try:
            return _decoder.decode(text)
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidValue("terms", text, f"the terms of a budget as JSON ({error})") from error


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final = msgspec.json.Decoder(Terms)

# The period that calls fall into now, by length and zone: nearly always the same one.
_latest: Final[dict[tuple[str, str], tuple[datetime, datetime, str]]] = {}


def spends_nothing(status: str, usage_source: str) -> bool:
    """Whether a call of which neither tokens nor cost are known is known to be free."""
    if status == "failed":
        return usage_source == "unknown"
    return status in ("blocked", "circuit_open")


def _values(field: str, values: Sequence[str | None]) -> tuple[str | None, ...]:
    if isinstance(values, str) or not 1 <= len(values) <= _MAX_VALUES:
        raise InvalidValue(f"where[{field}]", values, f"1 to {_MAX_VALUES:,} texts")
    for value in values:
        if value is not None and not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue(f"where[{field}]", value, "a text, or None for not set")
    texts = sorted({label(value) for value in values if value is not None})
    return (None, *texts) if None in values else tuple(texts)


def _value(record: CallRecord, field: str) -> str | None:
    """The value of *field* as stores keep it."""
    if not field.startswith(TAG_PREFIX):
        value: Any = getattr(record, field)
        return None if value is None else label(value)
    if not record.tags:
        return None
    key = field.removeprefix(TAG_PREFIX)
    found = None
    for name, value in record.tags.items():
        # Two keys may be the same once they are cleaned: the last one holds.
        if name == key or label(name) == key:
            found = value
    return None if found is None else label(found)


@lru_cache(maxsize=256)
def _rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except (InvalidOperation, TypeError, ValueError):
        rate = Decimal("NaN")
    if not rate.is_finite():
        raise InvalidValue("rates", text, "a decimal number as a text")
    return rate


def _period_at(per: str, tz: str, moment: datetime) -> tuple[datetime, datetime, str]:
    zone = time_zone(tz)
    shown = _floor(per, clock(moment, zone))
    # A clock that was put back shows for a while what belongs to the period before
    # the one that has begun: a period begins once, when the clock first shows it.
    while (end := first_instant(_next(per, shown), zone)) <= moment:
        shown = _next(per, shown)
    return first_instant(shown, zone), end, _named(per, shown)


def _floor(per: str, shown: datetime) -> datetime:
    hour = shown.replace(minute=0, second=0, microsecond=0)
    if per == "hour":
        return hour
    day = hour.replace(hour=0)
    if per == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if per == "month" else day


def _next(per: str, shown: datetime) -> datetime:
    if per == "month":
        return (shown.replace(day=28) + timedelta(days=4)).replace(day=1)
    return shown + _LENGTHS[per]


_LENGTHS: Final = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}
_FORMS: Final = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}


def _named(per: str, shown: datetime) -> str:
    if per == "week":
        year, week, _ = shown.isocalendar()
        return f"{year:04}-W{week:02}"
    return shown.isoformat()[: {"hour": 13, "day": 10, "month": 7}[per]]


def _parsed(per: str, period: str) -> datetime:
    if per == "week":
        year, _, week = period.partition("-W")
        shown = datetime.fromisocalendar(int(year), int(week), 1)
    else:
        shown = datetime.strptime(period, _FORMS[per])
    if not 1901 <= shown.year <= 9989 or _named(per, shown) != period:
        raise ValueError(period)
    return shown
