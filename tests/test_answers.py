"""Answers: what a response says, whichever endpoint and SDK it comes from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.answers import Answer, looks_like_answer, plain, read_answer, to_text
from ai_ledger.records import Usage
from ai_ledger.usage import Reported

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
READ = Reported(Usage(input_tokens=9, output_tokens=2, source="reported"))
CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    ],
    "usage": USAGE,
}


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        pytest.param(
            CHAT,
            Answer(
                response_model="gpt-4o-2024-08-06",
                response_id="chatcmpl-1",
                service_tier="default",
                finish_reason="stop",
                content="Hi",
                reported=READ,
                expects_usage=True,
            ),
            id="chat",
        ),
        pytest.param(
            {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]},
            Answer(content='["a","b"]', expects_usage=True),
            id="several choices",
        ),
        pytest.param(
            {
                "choices": [
                    {
                        "finish_reason": "tool_calls",
                        "message": {
                            "content": None,
                            "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                        },
                    }
                ]
            },
            Answer(
                finish_reason="tool_calls",
                content='{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}',
                expects_usage=True,
            ),
            id="a tool call",
        ),
        pytest.param(
            {"choices": [{"message": {"content": None, "refusal": "No."}}]},
            Answer(content="No.", expects_usage=True),
            id="a refusal",
        ),
        pytest.param(
            {"choices": [{"text": "Hi", "finish_reason": "length"}]},
            Answer(finish_reason="length", content="Hi", expects_usage=True),
            id="text completion",
        ),
        pytest.param(
            {
                "id": "resp_1",
                "object": "response",
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [
                    {"type": "reasoning", "summary": []},
                    {
                        "type": "message",
                        "content": [
                            {"type": "output_text", "text": "Hi"},
                            {"type": "refusal", "refusal": "No"},
                        ],
                    },
                ],
            },
            Answer(
                response_id="resp_1",
                finish_reason="max_output_tokens",
                content='["Hi","No"]',
                expects_usage=True,
            ),
            id="responses",
        ),
        pytest.param(
            {
                "type": "message",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "Hi"},
                    {"type": "tool_use", "name": "f", "input": {}},
                ],
                "stop_reason": "tool_use",
            },
            Answer(
                finish_reason="tool_use",
                content='["Hi",{"type":"tool_use","name":"f","input":{}}]',
                expects_usage=True,
            ),
            id="Anthropic's message",
        ),
        pytest.param(
            {"request_id": "r", "output": {"text": "Hi", "finish_reason": "stop"}},
            Answer(response_id="r", content="Hi"),
            id="DashScope's own, as text",
        ),
        pytest.param({"text": "Hi"}, Answer(content="Hi"), id="transcription"),
        pytest.param("Hi", Answer(content="Hi"), id="transcription as text"),
        pytest.param({"data": [{"b64_json": "x"}]}, Answer(), id="image"),
        pytest.param({}, Answer(), id="nothing"),
        pytest.param(None, Answer(), id="no answer"),
        pytest.param(
            {"model": 7, "id": [], "choices": [None], "usage": "x"},
            Answer(expects_usage=True),
            id="other types",
        ),
        pytest.param({"choices": "none", "content": "x", "output": 7}, Answer(), id="odd types"),
    ],
)
def test_read_answer(response: Any, answer: Answer) -> None:
    """
    Model, id, tier, finish reason, text and usage, where they are said.
    """
    assert read_answer(response) == answer


def test_objects_read_like_their_mappings() -> None:
    """
    The SDK's models and other objects say the same as the JSON they came from.
    """
    from openai.types.chat import ChatCompletion

    assert read_answer(ChatCompletion.model_validate({**CHAT, "created": 1})) == read_answer(CHAT)
    assert read_answer(SimpleNamespace(**CHAT)) == read_answer(CHAT)


def test_the_text_may_be_left_out() -> None:
    """
    Who stores no content has none read.
    """
    assert read_answer(CHAT, content=False).content is None
    assert read_answer("Hi", content=False) == Answer()


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (CHAT, True),
        ({"object": "response"}, True),
        ({"model": "m", "usage": {}}, True),
        ({"usage": {}}, False),
        ({"model": "m"}, False),
        ("text", False),
        (7, False),
        (None, False),
        (object(), False),
    ],
)
def test_looks_like_answer(value: object, is_one: bool) -> None:
    """
    It says so, or has usage beside what was asked.
    """
    assert looks_like_answer(value) is is_one


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=4)
    | st.sampled_from(["\ud800", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
_KEYS = st.sampled_from(
    [
        "choices",
        "output",
        "content",
        "usage",
        "model",
        "id",
        "text",
        "message",
        "stop_reason",
        "type",
    ]
)


@given(st.dictionaries(_KEYS, _JSON | st.lists(st.dictionaries(_KEYS, _JSON), max_size=2)))
def test_nothing_raises(response: dict[str, Any]) -> None:
    """
    Whatever a provider sends, reading it gives texts that can be encoded, or nothing.
    """
    answer = read_answer(response)
    looks_like_answer(response)

    for text in (answer.response_model, answer.response_id, answer.finish_reason):
        assert text is None or (isinstance(text, str) and len(text) <= 255)
        (text or "").encode()
    assert answer.content is None or isinstance(answer.content, str)


@given(_JSON)
def test_everything_becomes_text(value: Any) -> None:
    """
    JSON of whatever there is, without lone surrogates.
    """
    to_text(value).encode()


def test_plain_is_bounded() -> None:
    """
    Neither depth nor width nor circles take long; bytes and strange objects are named.
    """
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = "end"
    for _ in range(1_000):
        deep = {"a": deep}

    assert len(to_text(circle)) < 100
    assert len(to_text(plain(deep))) < 200
    assert len(to_text(plain([object()] * 100_000))) < 1_000_000
    assert plain({"a": b"xyz", 1: object(), "n": None, "f": float("inf")}) == {
        "a": "[3 bytes]",
        "1": "[object]",
        "f": "inf",
    }
