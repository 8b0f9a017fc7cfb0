"""Money is exact, whatever the precision of the thread that asks."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue
from ai_ledger.money import MAX_NANO, from_nano, rounded, tidy, to_nano


@given(nano=st.integers(-MAX_NANO, MAX_NANO), precision=st.integers(1, 60))
def test_there_and_back(nano: int, precision: int) -> None:
    """
    Every number of nano-units survives, in a thread of any precision.
    """
    with localcontext(prec=precision):
        assert to_nano(from_nano(nano)) == nano


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        pytest.param("12.3456789", 12_345_678_900, id="all digits"),
        pytest.param("0.0000000005", 0, id="half goes to the even neighbour below"),
        pytest.param("0.0000000015", 2, id="half goes to the even neighbour above"),
        pytest.param("-0.00", 0, id="no negative zero"),
        pytest.param("1e-999999", 0, id="next to nothing"),
        pytest.param("9223372036.854775807", MAX_NANO, id="the most there can be"),
    ],
)
def test_to_nano(amount: str, nano: int) -> None:
    """
    Amounts become whole nano-units, half-even, in a thread that rounds to six digits too.
    """
    with localcontext(prec=6):
        assert to_nano(Decimal(amount)) == nano


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "9223372036.8547758075", "1e999999", "1e11"])
def test_amounts_that_cannot_be(amount: str) -> None:
    """
    What no store can hold is refused by name, never by an arithmetic error.
    """
    with pytest.raises(InvalidValue, match=r"^cost="):
        to_nano(Decimal(amount))


@pytest.mark.parametrize(("amount", "text"), [("20.00", "20"), ("2E+1", "20"), ("0.10", "0.1")])
def test_tidy(amount: str, text: str) -> None:
    """
    No trailing zeros, and no exponent where there is a whole number.
    """
    assert str(tidy(Decimal(amount))) == text
    assert rounded(Decimal(amount)) == Decimal(amount)
