"""The most that a request can take: whatever is in it, never less than it will be charged."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.policies.budgets.rates import Rates, dearest
from ai_ledger.policies.budgets.worst_case import LARGEST, Size, counter, size_of, whole
from ai_ledger.pricing import Price
from ai_ledger.pricing.price import Tier
from ai_ledger.records import Usage
from ai_ledger.tokens import count_tokens

MESSAGES: Any = [{"role": "user", "content": "hello"}]


def size(operation: str = "chat", **body: Any) -> Size:
    return size_of(MappingProxyType({"model": "m", "messages": MESSAGES, **body}), operation)


PLAIN = size()


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (100, 100),
        (100.2, 101),
        ("100", 100),
        ("1e3", 1000),
        (0, None),
        (-1, None),
        (-(10**30), None),
        (float("nan"), None),
        ("nan", None),
        ("many", None),
        (True, None),
        ([100], None),
        (None, None),
        (float("inf"), LARGEST),
        ("inf", LARGEST),
        (10**40, LARGEST),
    ],
)
@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_an_output_limit_is_a_positive_number_or_none(key: str, value: Any, limit: Any) -> None:
    """
    What is no positive number lowers nothing: the budget's assumption holds.
    """
    found = size(**{key: value})

    assert found.output_tokens == limit
    assert found.worst(4096, 0)[1] == (4096 if limit is None else limit)


def test_of_two_limits_the_larger_counts() -> None:
    """
    Which of them a server heeds nobody knows.
    """
    assert size(max_tokens=1, max_completion_tokens=500).output_tokens == 500


@pytest.mark.parametrize(
    ("operation", "body", "answers"),
    [
        ("chat", {"n": 3}, 3),
        ("chat", {"n": "3"}, 3),
        ("chat", {"n": -3}, 1),
        ("chat", {"n": float("nan")}, 1),
        ("text_completion", {"n": 2, "best_of": 5}, 5),
        ("text_completion", {"prompt": ["a", "b", "c"], "n": 2}, 6),
        ("text_completion", {"prompt": [1, 2, 3]}, 1),
        ("text_completion", {"prompt": [[1, 2], [3]]}, 2),
        ("embeddings", {"input": ["a", "b"]}, 0),
    ],
)
def test_how_many_answers(operation: str, body: dict[str, Any], answers: int) -> None:
    """
    Each of them may be as long as the limit allows.
    """
    found = size(operation, max_tokens=10, **body)

    assert found.answers == answers
    assert found.worst(4096, 0)[1] == (0 if operation == "embeddings" else 10 * answers)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [*MESSAGES, {"role": "user", "content": "x" * 1000}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 1000}]}]},
        {"messages": [{"role": "user", "content": "x", "name": "y" * 1000}]},
        {"system": "x" * 1000},
        {"input": "x" * 1000},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x" * 1000}]}]},
        {"tools": [{"type": "function", "function": {"description": "x" * 1000}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"x" * 1000: {}}}},
        {"input": list(range(1000))},
        {"documents": [{"anything": {"deep": ["x" * 1000]}}]},
        {"messages": [{"role": "user", "content": "好" * 334}]},
        {"messages": [{"role": "user", "content": "\ud800" * 334}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "document", "source": {"type": "text", "data": "x" * 1000}}
                    ],
                }
            ]
        },
        {"messages": [{"role": "user", "content": "data:image/png;base64," + "x" * 1000}]},
    ],
)
def test_text_counts_wherever_it_stands(body: dict[str, Any]) -> None:
    """
    A thousand bytes of text are a thousand tokens at the most, in any part of a request.
    """
    assert size(**body).input_tokens >= PLAIN.input_tokens + 1000 - len("userhello") - 32


@pytest.mark.parametrize(
    ("body", "unseen"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 1),
        ({"input": [{"type": "input_image", "image_url": "data:" + "x" * 10**6}]}, 1),
        ({"previous_response_id": "resp_1"}, 1),
        ({"previous_response_id": None}, 0),
        ({"prompt": {"id": "pmpt_1"}}, 1),
        ({"tools": [{"type": "web_search"}, {"type": "function", "function": {}}]}, 1),
        ({"file": b"x" * 1000}, 1),
        ({"file": object()}, 1),
        ({"response_format": {"type": ["object", "null"]}}, 0),
    ],
)
def test_what_the_body_does_not_show_is_assumed(body: dict[str, Any], unseen: int) -> None:
    """
    Images, files and what is kept at the provider count for what the budget assumes.
    """
    found = size(**body)

    assert found.unseen == unseen
    assert found.input_tokens < 10_000
    assert found.worst(0, 7_000)[0] == found.input_tokens + 7_000 * unseen


def test_thought_and_foretold_output_come_on_top() -> None:
    """
    Some providers charge more output than the limit says.
    """
    assert size(max_tokens=10, thinking_budget=500).worst(0, 0)[1] == 510
    foretold = {"type": "content", "content": "x" * 300}
    assert size(max_tokens=10, prediction=foretold).worst(0, 0)[1] >= 310


def test_a_call_whose_request_nobody_shows() -> None:
    """
    Both sides are assumed.
    """
    assert size_of(None, "chat").worst(60, 40) == (40, 60)


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.none()))
)
def test_any_number_is_positive_or_none(value: object) -> None:
    """
    No value makes a reservation smaller than nothing, or larger than can be added up.
    """
    found = whole(value)

    assert found is None or 0 < found <= LARGEST


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(["type", "messages", "n"]), JSON))
def test_any_body_has_a_size(body: dict[str, Any]) -> None:
    """
    Whatever a program sends, it is measured, and never for less than nothing.
    """
    input_tokens, output_tokens = size_of(body, "chat").worst(10, 10)

    assert 0 < input_tokens <= LARGEST
    assert 0 < output_tokens <= LARGEST


@given(st.text(max_size=200))
def test_bytes_are_never_fewer_than_tokens(text: str) -> None:
    """
    What is set aside for a text is at least what any known tokenizer counts.
    """
    body = {"messages": [{"role": "user", "content": text}]}
    bound = size_of(body, "chat").input_tokens

    for model in ("gpt-4o", "gpt-4"):
        tokens, how = count_tokens(body["messages"], model)
        if how == "counted":
            assert tokens <= bound


def test_where_tokens_can_be_counted_less_is_enough() -> None:
    """
    A tokenizer that is on this machine brings the bound close to the count.
    """
    weigh = counter("gpt-4o")
    if weigh is None:
        pytest.skip("no tokenizer for gpt-4o on this machine")
    messages = [{"role": "user", "content": "A sentence of quite ordinary words. " * 50}]
    counted = count_tokens(messages, "gpt-4o")[0]
    close = size_of({"messages": messages}, "chat", weigh).input_tokens

    assert counted <= close <= counted + 200
    assert close < size_of({"messages": messages}, "chat").input_tokens / 3
    assert counter("some-model-nobody-knows") is None


PRICE = Price(
    model="m",
    currency="CNY",
    input_per_mtok=Decimal("0.8"),
    cache_write_per_mtok=Decimal(1),
    output_per_mtok=Decimal(2),
    reasoning_per_mtok=Decimal(8),
    per_call=Decimal("0.001"),
    tiers=(
        Tier(above_input_tokens=1000, input_per_mtok=Decimal("2.4"), output_per_mtok=Decimal(20)),
        Tier(service_tier="priority", output_per_mtok=Decimal(9)),
    ),
)

COUNTS = st.integers(0, 5000)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from([None, "priority", "flex"]))
def test_no_use_of_a_model_costs_more_than_its_dearest_rates(
    input_tokens: int, output_tokens: int, read: int, written: int, thought: int, tier: str | None
) -> None:
    """
    Whatever part of the tokens is cached or thought, and whatever tier serves the call.
    """
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=thought,
    )
    cost = PRICE.cost_of(usage, service_tier=tier)
    bound = dearest(PRICE).amount(input_tokens, output_tokens)

    assert cost is not None
    assert bound is not None
    assert cost * 10**9 <= bound


def test_dearest_rates_in_whole_numbers() -> None:
    """
    Nothing is rounded down, tiers begin above their mark, and a missing rate is no zero.
    """
    rates = dearest(PRICE)
    assert rates.amount(1000, 1000) == 1_000_000 + 9_000_000 + 1_000_000
    assert rates.amount(1001, 0) == 2_402_400 + 1_000_000
    assert dearest(Price(model="m", input_per_mtok=Decimal("0.0000001"))).amount(1, 0) == 1
    only_input = dearest(Price(model="m", input_per_mtok=Decimal(1)))
    assert only_input.amount(10, 0) == 10_000
    assert only_input.amount(10, 1) is None
    assert dearest(Price(model="m", per_call=Decimal("0.5"))).amount(9, 9) == 500_000_000
    dollars = dearest(Price(model="m", input_per_mtok=Decimal(1)), Decimal("7.1"))
    assert dollars.amount(1_000_000, 0) == 7_100_000_000
    assert Rates(((0, None, None),)).amount(0, 0) == 0
