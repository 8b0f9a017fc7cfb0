"""Reports in one currency: by the user's rates, or not at all."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from ai_ledger.errors import PriceError
from ai_ledger.pricing import Converted, Rate, Rates

OCTOBER = date(2025, 10, 1)


@pytest.fixture
def rates() -> Rates:
    """Two rates of one pair."""
    return Rates.load(
        {
            "rates": [
                {"date": date(2025, 11, 1), "from": "USD", "to": "CNY", "rate": "7.1"},
                {"date": "2025-10-01", "from": "USD", "to": "CNY", "rate": 7.12},
            ]
        }
    )


@pytest.mark.parametrize(
    ("on", "rate", "rate_date"),
    [
        (OCTOBER, "7.12", OCTOBER),
        (date(2025, 10, 31), "7.12", OCTOBER),
        (date(2025, 11, 1), "7.1", date(2025, 11, 1)),
        (datetime(2025, 10, 31, 23, 59, tzinfo=UTC), "7.12", OCTOBER),
        (datetime.fromisoformat("2025-11-01T07:59:00+08:00"), "7.12", OCTOBER),
        (date(2030, 1, 1), "7.1", date(2025, 11, 1)),
    ],
)
def test_the_newest_rate_of_the_day(rates, on, rate, rate_date):
    """
    Both amounts are shown, with the rate between them and its day.
    """
    amount = Decimal("1.000000001")

    assert rates.convert(amount, "USD", "CNY", on) == Converted(
        amount=amount,
        currency="USD",
        converted={"7.12": Decimal("7.120000007"), "7.1": Decimal("7.100000007")}[rate],
        to="CNY",
        rate=Decimal(rate),
        rate_date=rate_date,
    )


def test_the_same_currency_needs_no_rate():
    """
    CNY is CNY.
    """
    assert Rates().convert(Decimal("0.5"), "CNY", "CNY", OCTOBER) == Converted(
        amount=Decimal("0.5"),
        currency="CNY",
        converted=Decimal("0.5"),
        to="CNY",
        rate=Decimal(1),
        rate_date=None,
    )


@pytest.mark.parametrize(
    ("currency", "to", "on"),
    [
        pytest.param("USD", "CNY", date(2025, 9, 30), id="a day too early"),
        pytest.param("CNY", "USD", OCTOBER, id="the other direction is not inferred"),
        pytest.param("EUR", "CNY", OCTOBER, id="an unknown pair"),
    ],
)
def test_no_rate_is_an_error_that_names_the_pair(rates, currency, to, on):
    """
    Nothing is converted by a rate that the user did not give.
    """
    with pytest.raises(PriceError, match=f"no rate from {currency} to {to} on or before {on}"):
        rates.convert(Decimal(1), currency, to, on)


def test_a_file(tmp_path):
    """
    Rates are read exactly.
    """
    path = tmp_path / "rates.toml"
    path.write_text('[[rates]]\ndate = 2025-10-01\nfrom = "USD"\nto = "CNY"\nrate = 7.12\n')

    assert Rates.load(path).find("USD", "CNY", OCTOBER) == Rate(
        date=OCTOBER, currency="USD", to="CNY", rate=Decimal("7.12")
    )


GOOD = {"date": "2025-10-01", "from": "USD", "to": "CNY", "rate": 7}


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([{**GOOD, "rate": 0}], r"rates\[0\]: rate=0: expected a number above 0"),
        ([{**GOOD, "rate": float("nan")}], r"rates\[0\]: rate=nan"),
        ([{**GOOD, "from": "RMB"}], r"rates\[0\]: from='RMB'"),
        ([{**GOOD, "to": "USD"}], r"rates\[0\]: to='USD': expected another currency"),
        ([{**GOOD, "date": None}], r"rates\[0\]: date=None: expected a date"),
        ([{**GOOD, "note": "x"}], r"rates\[0\]: expected the keys date, from, to, rate"),
        ([{"rate": 1}], r"rates\[0\]: expected the keys date"),
        ([GOOD, {**GOOD, "rate": 8}], r"rates\[1\]: USD to CNY has two rates on 2025-10-01"),
    ],
)
def test_a_wrong_rate_is_refused_by_name(entries, complaint):
    """
    The error says which entry and which field.
    """
    with pytest.raises(PriceError, match=complaint):
        Rates.load({"rates": entries})
