"""Usage: the dialects of the big providers, and what cannot be."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ai_ledger.records import MAX_COUNT, Usage
from ai_ledger.usage import NOTHING, _usual, as_mapping, read_usage


def _usage(input_tokens: int | None, output_tokens: int | None, **parts: Any) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, source="reported", **parts)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10},
                "completion_tokens_details": {
                    "reasoning_tokens": 30,
                    "audio_tokens": 5,
                    "accepted_prediction_tokens": 0,
                },
            },
            _usage(
                100,
                50,
                cache_read_tokens=60,
                audio_input_tokens=10,
                reasoning_tokens=30,
                audio_output_tokens=5,
            ),
            id="OpenAI chat",
        ),
        pytest.param(
            {"prompt_tokens": 7, "completion_tokens": 0, "prompt_tokens_details": None},
            _usage(7, 0),
            id="details that are null",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 20},
                "output_tokens": 30,
                "output_tokens_details": {"reasoning_tokens": 10},
                "total_tokens": 130,
            },
            _usage(100, 30, cache_read_tokens=20, reasoning_tokens=10),
            id="OpenAI responses",
        ),
        pytest.param(
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 10, "audio_tokens": 4},
                "output_tokens": 101,
                "total_tokens": 115,
            },
            _usage(14, 101, audio_input_tokens=4),
            id="OpenAI transcription",
        ),
        pytest.param(
            {"type": "duration", "seconds": 3},
            Usage(),
            id="whisper, by the second",
        ),
        pytest.param(
            {"prompt_tokens": 8, "total_tokens": 8},
            _usage(8, None),
            id="embeddings",
        ),
        pytest.param({"total_tokens": 8}, _usage(8, None), id="a total and nothing else"),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 110,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            _usage(100, 10, cache_read_tokens=64, reasoning_tokens=4),
            id="DeepSeek",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 110,
                "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_tokens": 40},
            },
            _usage(100, 10, cache_read_tokens=0, cache_write_tokens=40),
            id="DashScope with an explicit cache",
        ),
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "cached_tokens": 4},
            _usage(9, 2, cache_read_tokens=4),
            id="Moonshot",
        ),
        pytest.param(
            {
                "queue_time": 0.03,
                "prompt_tokens": 18,
                "prompt_time": 0.001,
                "completion_tokens": 556,
                "completion_time": 0.46,
                "total_tokens": 574,
                "total_time": 0.46,
            },
            _usage(18, 556),
            id="Groq",
        ),
        pytest.param(
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 1_000,
                "output_tokens": 7,
            },
            _usage(1_110, 7, cache_read_tokens=100, cache_write_tokens=1_000),
            id="Anthropic counts the cached tokens beside the input",
        ),
        pytest.param(
            {
                "input_tokens": 10,
                "cache_read_input_tokens": None,
                "cache_creation_input_tokens": None,
                "output_tokens": 7,
            },
            _usage(10, 7),
            id="Anthropic without a cache",
        ),
        pytest.param(
            {
                "prompt_tokens": 1_110,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 1_000,
                "completion_tokens": 7,
            },
            _usage(1_110, 7, cache_read_tokens=100, cache_write_tokens=1_000),
            id="Anthropic behind an OpenAI-compatible proxy counts them inside",
        ),
        pytest.param(
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            _usage(32, 103, reasoning_tokens=94),
            id="xAI counts the reasoning beside the completion",
        ),
        pytest.param(
            {"prompt_tokens": 5.0, "completion_tokens": 2.0}, _usage(5, 2), id="whole floats"
        ),
        pytest.param({"prompt_tokens": 0, "completion_tokens": 0}, _usage(0, 0), id="zero"),
        pytest.param({"prompt_tokens": 3}, _usage(3, None), id="a part of it"),
    ],
)
def test_dialects(reported: dict[str, Any], usage: Usage) -> None:
    """
    Each provider's own words become the same counts, parts inside their totals.
    """
    assert read_usage(reported)[::2] == (usage, None)


def test_a_model_reads_like_its_mapping() -> None:
    """
    An SDK's object and the JSON it was made from say the same, unknown fields included.
    """
    from openai.types import CompletionUsage

    reported = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "cost": 0.5}

    assert read_usage(CompletionUsage.model_validate(reported)) == read_usage(reported)
    assert read_usage(reported).cost == Decimal("0.5")


@pytest.mark.parametrize(
    ("cost", "stated"),
    [
        pytest.param(0.00014, Decimal("0.00014"), id="OpenRouter"),
        pytest.param({"total_cost": 0.006}, Decimal("0.006"), id="Perplexity"),
        pytest.param("0.25", Decimal("0.25"), id="as a text"),
        pytest.param(0, Decimal(0), id="free is a cost too"),
        pytest.param(-0.1, None, id="negative"),
        pytest.param(float("nan"), None, id="NaN"),
        pytest.param(float("inf"), None, id="infinite"),
        pytest.param(True, None, id="no number"),
        pytest.param("much", None, id="no number either"),
        pytest.param(10**5000, None, id="more digits than Python writes"),
        pytest.param([1], None, id="a list"),
    ],
)
def test_stated_cost(cost: object, stated: Decimal | None) -> None:
    """
    A cost that the provider states is taken to all its digits, if it can be one.
    """
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "cost": cost}

    assert read_usage(usage) == (_usage(9, 2), stated, None)


@pytest.mark.parametrize(
    ("reported", "usage", "problem"),
    [
        pytest.param(
            {"prompt_tokens": -3, "completion_tokens": 2},
            _usage(None, 2),
            "prompt_tokens=-3 is no token count",
            id="negative",
        ),
        pytest.param(
            {"prompt_tokens": "many", "completion_tokens": 2},
            _usage(None, 2),
            "prompt_tokens='many' is no token count",
            id="text",
        ),
        pytest.param(
            {"prompt_tokens": True, "completion_tokens": 2},
            _usage(None, 2),
            "prompt_tokens=True is no token count",
            id="truth",
        ),
        pytest.param(
            {"prompt_tokens": 1.5, "completion_tokens": float("nan")},
            Usage(),
            "prompt_tokens=1.5 is no token count; completion_tokens=nan is no token count",
            id="fractions",
        ),
        pytest.param(
            {"prompt_tokens": 2**63, "completion_tokens": 2},
            _usage(None, 2),
            "prompt_tokens=a number beyond 2**53 is no token count",
            id="too large for any database",
        ),
        pytest.param(
            {"prompt_tokens": 10**5000, "completion_tokens": 2},
            _usage(None, 2),
            "prompt_tokens=a number beyond 2**53 is no token count",
            id="too large to be written",
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 11},
            },
            _usage(10, 2),
            "cache_read_tokens=11 is more than its total 10",
            id="a part larger than its total",
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 6},
            },
            _usage(10, 2, cache_read_tokens=6),
            "cache_write_tokens=6 is more than its total 4",
            id="two parts larger than their total",
        ),
        pytest.param(
            {"input_tokens": MAX_COUNT, "cache_read_input_tokens": 1, "output_tokens": 2},
            _usage(None, 2),
            "input_tokens=a number beyond 2**53 is no token count",
            id="a sum too large for any database",
        ),
        pytest.param(
            {"completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 6}},
            _usage(None, 2),
            None,
            id="a part of nothing known",
        ),
    ],
)
def test_counts_that_cannot_be(reported: dict[str, Any], usage: Usage, problem: str | None) -> None:
    """
    They are left out and named; the others stay.
    """
    assert read_usage(reported) == (usage, None, problem)


@pytest.mark.parametrize("reported", [None, "lots", 7, [], {}, b"", object(), [1, 2], int])
def test_nothing_usable(reported: object) -> None:
    """
    Whatever it is that stands where the usage should be, it is no usage, and no error.
    """
    assert read_usage(reported) == NOTHING


_COUNTS = st.one_of(
    st.none(),
    st.integers(-5, 50),
    st.integers(2**62, 2**64),
    st.floats(),
    st.text(max_size=3),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
)
_DETAILS = st.one_of(
    st.none(),
    st.integers(),
    st.dictionaries(
        st.sampled_from(
            (
                "cached_tokens",
                "audio_tokens",
                "reasoning_tokens",
                "cache_creation_tokens",
                "cache_write_tokens",
            )
        ),
        _COUNTS,
    ),
)
_TOTALS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cost",
)
_REPORTED = st.builds(
    lambda totals, details: {**totals, **details},
    st.dictionaries(st.sampled_from(_TOTALS), _COUNTS),
    st.dictionaries(
        st.sampled_from(
            (
                "prompt_tokens_details",
                "completion_tokens_details",
                "input_tokens_details",
                "output_tokens_details",
                "input_token_details",
            )
        ),
        _DETAILS,
    ),
)


@given(_REPORTED)
@example({"input_tokens": MAX_COUNT, "cache_read_input_tokens": MAX_COUNT})
def test_parts_stay_inside_their_totals(reported: dict[str, Any]) -> None:
    """
    Whatever a provider says: nothing raises, counts fit a database, no part is more than its total.
    """
    usage = read_usage(reported).usage

    counts = [getattr(usage, name) for name in usage.__struct_fields__ if name != "source"]
    assert all(count is None or 0 <= count <= MAX_COUNT for count in counts)
    for parts, total in (
        ((usage.cache_read_tokens, usage.cache_write_tokens), usage.input_tokens),
        ((usage.audio_input_tokens,), usage.input_tokens),
        ((usage.reasoning_tokens,), usage.output_tokens),
        ((usage.audio_output_tokens,), usage.output_tokens),
    ):
        assert sum(part or 0 for part in parts) <= (total or 0)
    known = usage.input_tokens is not None or usage.output_tokens is not None
    assert usage.source == ("reported" if known else "unknown")


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_short_way_and_the_long_way_agree(
    given_tokens: int, output: int, cached: float, reasoned: float
) -> None:
    """
    The frequent form is read by a shortcut that gives what the careful reading gives.
    """
    reported = {
        "prompt_tokens": given_tokens,
        "completion_tokens": output,
        "total_tokens": given_tokens + output,
        "prompt_tokens_details": {"cached_tokens": int(given_tokens * cached)},
        "completion_tokens_details": {"reasoning_tokens": int(output * reasoned)},
    }

    assert _usual(reported) == read_usage({**reported, "anything_else": 1})


def test_as_mapping_of_objects() -> None:
    """
    Mappings are taken as they are, objects by their fields, everything else is empty.
    """
    assert as_mapping({"a": 1}) == {"a": 1}
    assert as_mapping(SimpleNamespace(a=1)) == {"a": 1}
    assert as_mapping(3) == {}
