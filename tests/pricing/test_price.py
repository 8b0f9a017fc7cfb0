"""One price: the exact sum of a call."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.pricing import Price, Tier
from ai_ledger.records import MAX_COUNT, Usage

QWEN_PLUS = Price(
    model="qwen-plus",
    currency="CNY",
    input_per_mtok=Decimal("0.4"),
    output_per_mtok=Decimal(2),
)
ALL_RATES = Price(
    model="all-rates",
    input_per_mtok=Decimal(10),
    cache_read_per_mtok=Decimal(1),
    cache_write_per_mtok=Decimal("12.5"),
    output_per_mtok=Decimal(40),
    reasoning_per_mtok=Decimal(60),
    audio_input_per_mtok=Decimal(100),
    audio_output_per_mtok=Decimal(200),
    per_call=Decimal("0.01"),
)
TIERED = Price(
    model="tiered",
    input_per_mtok=Decimal(4),
    cache_read_per_mtok=Decimal("0.4"),
    output_per_mtok=Decimal(20),
    tiers=(
        Tier(above_input_tokens=272_000, input_per_mtok=Decimal(8), output_per_mtok=Decimal(30)),
        Tier(service_tier="flex", input_per_mtok=Decimal(2), output_per_mtok=Decimal(10)),
        Tier(
            service_tier="flex",
            above_input_tokens=272_000,
            input_per_mtok=Decimal(5),
            output_per_mtok=Decimal(15),
        ),
        Tier(service_tier="batch", input_per_mtok=Decimal(1), output_per_mtok=Decimal(5)),
    ),
)


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "cny"),
    [
        pytest.param(2_000, 700, "0.0022", id="a short chat"),
        pytest.param(1, 0, "0.0000004", id="one token keeps all its digits"),
        pytest.param(0, 1, "0.000002", id="one token of output"),
        pytest.param(0, 0, "0", id="nothing used costs nothing"),
        pytest.param(1_000_000, 1_000_000, "2.4", id="a million of each"),
        pytest.param(MAX_COUNT, 0, "3602879701.8963968", id="the largest count a record holds"),
        pytest.param(None, 700, "0.0014", id="only the output is known"),
        pytest.param(2_000, None, "0.0008", id="only the input is known"),
    ],
)
def test_cost_of(input_tokens, output_tokens, cny):
    """
    Rates are per million tokens and nothing is rounded on the way.
    """
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, source="reported")

    assert QWEN_PLUS.cost_of(usage) == Decimal(cny)


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        pytest.param(
            Usage(input_tokens=1_000, cache_read_tokens=400, output_tokens=0),
            "0.0164",  # 600 * 10 + 400 * 1, and the call
            id="cached input is charged once, at its own rate",
        ),
        pytest.param(
            Usage(input_tokens=1_000, cache_write_tokens=200, output_tokens=0),
            "0.0205",  # 800 * 10 + 200 * 12.5
            id="a written cache has its own rate",
        ),
        pytest.param(
            Usage(input_tokens=0, output_tokens=100, reasoning_tokens=60),
            "0.0152",  # 40 * 40 + 60 * 60
            id="reasoning is inside the output",
        ),
        pytest.param(
            Usage(input_tokens=10, audio_input_tokens=4, output_tokens=10, audio_output_tokens=5),
            "0.01166",  # 6 * 10 + 4 * 100 + 5 * 40 + 5 * 200
            id="audio is inside both",
        ),
        pytest.param(
            Usage(input_tokens=100, cache_read_tokens=500, output_tokens=0),
            "0.0101",  # 100 * 1
            id="more cached than there was is cut to the input",
        ),
        pytest.param(
            Usage(
                input_tokens=100,
                cache_read_tokens=60,
                cache_write_tokens=60,
                audio_input_tokens=60,
                output_tokens=0,
            ),
            "0.01056",  # 60 * 1 + 40 * 12.5
            id="parts that overlap never add up to more than the input",
        ),
        pytest.param(
            Usage(input_tokens=-5, output_tokens=1), "0.01004", id="a negative count is unknown"
        ),
    ],
)
def test_parts_are_charged_once(usage, usd):
    """
    A part is charged at its own rate, and is taken out of its whole.
    """
    assert ALL_RATES.cost_of(usage) == Decimal(usd)


def test_a_part_without_a_rate_costs_what_its_whole_costs():
    """
    Cached and reasoning tokens are never free because an entry does not name them.
    """
    usage = Usage(
        input_tokens=1_000,
        cache_read_tokens=900,
        cache_write_tokens=100,
        output_tokens=1_000,
        reasoning_tokens=1_000,
    )

    assert QWEN_PLUS.cost_of(usage) == QWEN_PLUS.cost_of(
        Usage(input_tokens=1_000, output_tokens=1_000)
    )


@pytest.mark.parametrize(
    ("input_tokens", "service_tier", "usd"),
    [
        pytest.param(272_000, None, "1.08802", id="the last token of the short context"),
        pytest.param(272_001, None, "2.176038", id="one more makes all of them long"),
        pytest.param(272_000, "flex", "0.54401", id="flex"),
        pytest.param(272_001, "flex", "1.36002", id="flex, long"),
        pytest.param(272_000, "FLEX", "0.54401", id="in any case"),
        pytest.param(272_000, "batch", "0.272005", id="batch"),
        pytest.param(272_001, "batch", "0.272006", id="a service tier wins over a length"),
        pytest.param(272_000, "default", "1.08802", id="default is no tier"),
        pytest.param(272_000, "standard", "1.08802", id="standard is no tier"),
        pytest.param(272_000, "priority", "1.08802", id="a tier without rates costs the standard"),
    ],
)
def test_tiers(input_tokens, service_tier, usd):
    """
    A tier applies to the whole call, above its length and for the tier that served it.
    """
    usage = Usage(input_tokens=input_tokens, output_tokens=1)

    assert TIERED.cost_of(usage, service_tier=service_tier) == Decimal(usd)


def test_a_tier_keeps_the_rates_that_it_does_not_name():
    """
    The cached rate stays 0.4 in the long context, whose tier names only input and output.
    """
    usage = Usage(input_tokens=300_000, cache_read_tokens=300_000, output_tokens=0)

    assert TIERED.cost_of(usage) == Decimal("0.12")


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        pytest.param(QWEN_PLUS, Usage(), None, id="nothing was counted"),
        pytest.param(
            Price(model="m", per_call=Decimal("0.05")),
            Usage(),
            Decimal("0.05"),
            id="a call has its price without any count",
        ),
        pytest.param(ALL_RATES, Usage(), None, id="a price by call and token needs the tokens"),
        pytest.param(
            Price(model="m", input_per_mtok=Decimal(1)),
            Usage(input_tokens=10, output_tokens=10),
            None,
            id="tokens without a rate make the cost unknown",
        ),
        pytest.param(
            Price(model="m", input_per_mtok=Decimal(1)),
            Usage(input_tokens=10, output_tokens=0),
            Decimal("0.00001"),
            id="an embedding needs no output rate",
        ),
        pytest.param(
            Price(model="m", input_per_mtok=Decimal(0), output_per_mtok=Decimal(0)),
            Usage(input_tokens=10, output_tokens=10),
            Decimal(0),
            id="a rate of zero is a known price",
        ),
    ],
)
def test_unknown_is_none_and_never_zero(price, usage, cost):
    """
    A cost that cannot be known is None.
    """
    assert price.cost_of(usage) == cost


def test_the_precision_of_the_thread_does_not_matter():
    """
    A program that works with six digits gets exact costs all the same.
    """
    with localcontext() as context:
        context.prec = 6
        cost = QWEN_PLUS.cost_of(Usage(input_tokens=123_456_789, output_tokens=1))
        assert getcontext().prec == 6

    assert cost == Decimal("49.3827176")


def test_the_longest_rate_times_the_largest_count():
    """
    Thirty digits of rate times sixteen of tokens are kept, every one.
    """
    price = Price(model="m", input_per_mtok=Decimal("999999999999.000000000000000001"))

    cost = price.cost_of(Usage(input_tokens=MAX_COUNT))

    assert cost == Decimal("9007199254731984800745.259008009007199254740992")


@pytest.mark.parametrize(
    ("price", "price_id"),
    [
        (Price(model="m"), "own:m"),
        (Price(model="m", provider="p", checked="2025-10"), "own:p/m@2025-10"),
        (Price(model="m", valid_from=datetime(2025, 10, 1, tzinfo=UTC)), "own:m@2025-10-01"),
        (
            Price(model="m", valid_from=datetime(2025, 10, 1, 16, 30, tzinfo=UTC)),
            "own:m@2025-10-01T16:30:00+00:00",
        ),
    ],
)
def test_the_id_names_the_entry(price, price_id):
    """
    An id says which table, provider, model and version.
    """
    assert price.id == price_id


counts = st.integers(0, 10**9)
rates = st.none() | st.decimals(0, 1000, allow_nan=False, places=6)
prices = st.builds(
    Price,
    model=st.just("m"),
    input_per_mtok=st.decimals(0, 1000, allow_nan=False, places=6),
    cache_read_per_mtok=rates,
    cache_write_per_mtok=rates,
    output_per_mtok=st.decimals(0, 1000, allow_nan=False, places=6),
    reasoning_per_mtok=rates,
    audio_input_per_mtok=rates,
    audio_output_per_mtok=rates,
)


@st.composite
def usages(draw):
    """A usage whose parts are parts."""
    cache_read, cache_write, audio_in, fresh = (draw(counts) for _ in range(4))
    reasoning, audio_out, answer = (draw(counts) for _ in range(3))
    return Usage(
        input_tokens=cache_read + cache_write + audio_in + fresh,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        audio_input_tokens=audio_in,
        output_tokens=reasoning + audio_out + answer,
        reasoning_tokens=reasoning,
        audio_output_tokens=audio_out,
    )


@given(prices, usages(), usages())
def test_splitting_a_call_in_two_costs_the_same(price, one, two):
    """
    Without tiers, cost is linear to the last digit.
    """
    both = Usage(
        **{
            name: getattr(one, name) + getattr(two, name)
            for name in Usage.__struct_fields__
            if name != "source"
        }
    )

    assert price.cost_of(one) + price.cost_of(two) == price.cost_of(both)


@given(prices, usages())
def test_parts_never_add_to_the_total(price, usage):
    """
    When all parts cost what their whole costs, naming them changes nothing.
    """
    flat = Price(
        model="m", input_per_mtok=price.input_per_mtok, output_per_mtok=price.output_per_mtok
    )
    whole = Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)

    assert flat.cost_of(usage) == flat.cost_of(whole)


@given(
    prices,
    st.builds(
        Usage,
        input_tokens=counts,
        cache_read_tokens=counts,
        cache_write_tokens=counts,
        audio_input_tokens=counts,
        output_tokens=counts,
        reasoning_tokens=counts,
        audio_output_tokens=counts,
    ),
    counts,
    counts,
)
def test_more_tokens_never_cost_less(price, usage, more_input, more_output):
    """
    Cost grows with input and output, even when the parts are nonsense.
    """
    fields = {name: getattr(usage, name) for name in Usage.__struct_fields__}
    fields["input_tokens"] += more_input
    fields["output_tokens"] += more_output

    assert price.cost_of(Usage(**fields)) >= price.cost_of(usage) >= 0
