"""Money: `Decimal` at the edges, whole nano-units (1e-9 of the currency) inside."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from ai_ledger.errors import InvalidValue

# 19 digits of tokens times 30 digits of rate, with room for the sum.
EXACT: Final = Context(prec=80)
"""For all arithmetic with money: nothing is rounded, whatever the precision of the thread."""

# 0.05 USD per million tokens is 50 nano-dollars a token, so nano-units keep every
# published rate exact, and an int64 still holds nine thousand million units of money.
MAX_NANO: Final = 2**63 - 1
_TOO_MANY_DIGITS: Final = 11


def to_nano(amount: Decimal) -> int:
    """
    The amount in whole nano-units, half-even.

    Raises:
        InvalidValue: *amount* is not finite, or does not fit a signed 64-bit integer.
    """
    if not amount.is_finite():
        raise InvalidValue("cost", amount, "a finite amount")
    if amount.adjusted() < _TOO_MANY_DIGITS:
        scaled = EXACT.scaleb(EXACT.plus(amount), 9) if amount.adjusted() > -70 else Decimal(0)
        nano = int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN, context=EXACT))
        if -MAX_NANO <= nano <= MAX_NANO:
            return nano
    raise InvalidValue("cost", amount, "an amount below 9.2e9 units of its currency")


def from_nano(nano: int) -> Decimal:
    """The amount that *nano* nano-units are, exactly, without trailing zeros."""
    return tidy(EXACT.scaleb(Decimal(nano), -9))


def tidy(amount: Decimal) -> Decimal:
    """*amount* without trailing zeros, and whole ones without an exponent: 20, not 2E+1."""
    amount = EXACT.normalize(amount)
    exponent = amount.as_tuple().exponent
    whole = isinstance(exponent, int) and exponent > 0
    return EXACT.quantize(amount, Decimal(1)) if whole else amount


def rounded(amount: Decimal) -> Decimal:
    """*amount* to whole nano-units, which is how every store keeps it."""
    return from_nano(to_nano(amount))
