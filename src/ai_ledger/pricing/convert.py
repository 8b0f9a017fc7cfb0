"""Reports in one currency, by exchange rates that the user gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from ai_ledger.errors import PriceError
from ai_ledger.money import EXACT, rounded
from ai_ledger.pricing.load import currency_of, entries_of, moment, rate_of, read_source, wrong

_KEYS: Final = ("date", "from", "to", "rate")


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """From *date* on, one unit of *currency* is *rate* units of *to*."""

    date: date
    currency: str
    to: str
    rate: Decimal


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """An amount in its own currency and in another, and the rate between them."""

    amount: Decimal
    currency: str
    converted: Decimal
    """In units of ``to``, rounded once to whole nano-units."""
    to: str
    rate: Decimal
    rate_date: date | None
    """``None`` when both currencies are the same."""


class Rates:
    """
    Exchange rates by day. Nothing is converted by a rate that is not in here.

    A rate holds from its date until the next one of the same pair. It works in
    one direction: USD → CNY says nothing about CNY → USD.
    """

    def __init__(self, rates: Iterable[Rate] = ()) -> None:
        self._rates: dict[tuple[str, str], dict[date, Decimal]] = {}
        for rate in rates:
            self.add(rate.date, rate.currency, rate.to, rate.rate)

    @classmethod
    def load(cls, source: Path | str | Mapping[str, Any]) -> Rates:
        """
        Rates from a TOML or ``.json`` file, or a mapping of the same form.

        ::

            [[rates]]
            date = 2025-10-01
            from = "USD"
            to = "CNY"
            rate = 7.12

        Raises:
            PriceError: Names the entry and the field.
        """
        data, label = read_source(source)
        found = cls()
        for index, entry in enumerate(entries_of(data, "rates", label)):
            where = f"{label}: rates[{index}]"
            for key in (*_KEYS, *entry):
                if key not in entry or key not in _KEYS:
                    raise PriceError(f"{where}: expected the keys {', '.join(_KEYS)}, each once")
            found._add(where, entry["date"], entry["from"], entry["to"], entry["rate"])
        return found

    def add(self, day: date | str, currency: str, to: str, rate: Any) -> Rate:
        """
        From *day* on, one unit of *currency* is *rate* units of *to*.

        Raises:
            PriceError: A value is wrong, or the pair has another rate on that day.
        """
        return self._add("rate", day, currency, to, rate)

    def find(self, currency: str, to: str, on: date) -> Rate:
        """
        The newest rate of the pair that is not younger than *on*.

        Raises:
            PriceError: There is none; names the pair and the day.
        """
        known = self._rates.get((currency, to), {})
        day = max((each for each in known if each <= on), default=None)
        if day is None:
            raise PriceError(f"no rate from {currency} to {to} on or before {on.isoformat()}")
        return Rate(date=day, currency=currency, to=to, rate=known[day])

    def convert(self, amount: Decimal, currency: str, to: str, on: date | datetime) -> Converted:
        """
        *amount* of *currency* in units of *to*, by the rate of the day *on*.

        The day of a datetime is its day in UTC.

        Raises:
            PriceError: No rate is known for the pair on that day.
        """
        if isinstance(on, datetime):
            on = on.astimezone(UTC).date()
        if currency == to:
            return Converted(
                amount=amount,
                currency=currency,
                converted=amount,
                to=to,
                rate=Decimal(1),
                rate_date=None,
            )
        found = self.find(currency, to, on)
        converted = rounded(EXACT.multiply(amount, found.rate))
        return Converted(
            amount=amount,
            currency=currency,
            converted=converted,
            to=to,
            rate=found.rate,
            rate_date=found.date,
        )

    def _add(self, label: str, day: object, currency: object, to: object, rate: object) -> Rate:
        start = moment(label, "date", day)
        if start is None:
            raise wrong(label, "date", day, "a date")
        added = Rate(
            date=start.date(),
            currency=currency_of(label, "from", currency),
            to=currency_of(label, "to", to),
            rate=rate_of(label, "rate", rate) or Decimal(0),
        )
        if not added.rate:
            raise wrong(label, "rate", rate, "a number above 0")
        if added.currency == added.to:
            raise wrong(label, "to", to, f"another currency than {added.currency}")
        known = self._rates.setdefault((added.currency, added.to), {})
        if known.get(added.date, added.rate) != added.rate:
            raise PriceError(
                f"{label}: {added.currency} to {added.to} has two rates on {added.date.isoformat()}"
            )
        known[added.date] = added.rate
        return added
