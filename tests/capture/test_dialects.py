"""Dialects: what providers say over real HTTP, whole and in pieces, and what is made of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ai_ledger.testing import Provider

from .support import MESSAGES, Books, got, listed, outcome, tracked

CHAT: dict[str, Any] = {"model": "m", "messages": MESSAGES}


async def create(client: Any) -> Any:
    return await got(client.chat.completions.create(**CHAT))


async def stream(client: Any) -> Any:
    return await listed(await got(client.chat.completions.create(**CHAT, stream=True)))


@pytest.mark.parametrize("call", [create, stream])
@pytest.mark.parametrize(
    ("dialect", "parts", "cost"),
    [
        ("openai", (100, 64, 50, 30), None),
        ("deepseek", (100, 64, 50, 30), None),
        ("dashscope", (100, 64, 50, None), None),
        ("groq", (100, None, 50, None), None),
        ("openrouter", (100, 64, 50, 30), Decimal("0.00014")),
    ],
)
async def test_the_big_dialects(
    call: Any,
    dialect: str,
    parts: tuple[Any, ...],
    cost: Decimal | None,
    sdk: Any,
    provider: Provider,
    books: Books,
) -> None:
    """
    Totals and parts are read right from each, streamed or not; a stated cost wins.
    """
    provider.on(
        "m",
        dialect=dialect,
        input_tokens=100,
        cached_tokens=64,
        output_tokens=50,
        reasoning_tokens=30,
        reasoning="Let me think",
    )
    client = sdk()
    expected = await outcome(call, client)

    result = await outcome(call, tracked(client, books))

    assert result == expected
    record = books.record
    assert (
        record.input_tokens,
        record.cache_read_tokens,
        record.output_tokens,
        record.reasoning_tokens,
    ) == parts
    assert (record.usage_source, record.cost, record.price_id) == (
        "reported",
        cost,
        None if cost is None else "provider",
    )
    assert json.loads(record.response_content or "") == {
        "content": "Hello! How can I help you today?",
        "reasoning_content": "Let me think",
    }


def _events(*chunks: dict[str, Any]) -> bytes:
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    lines = [f"data: {json.dumps({**whole, **chunk})}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def _delta(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        pytest.param(
            _events(
                {"id": "", "model": "", "choices": [], "prompt_filter_results": []},
                _delta(role="assistant", content=""),
                _delta(content="Hi"),
                _delta("stop"),
                {"choices": [], "usage": USAGE},
            ),
            ("chatcmpl-1", "m", "stop", "reported", 2, "Hi"),
            id="Azure's first chunk is about filters",
        ),
        pytest.param(
            _events(
                _delta(function_call={"name": "f", "arguments": ""}),
                _delta(function_call={"arguments": '{"a": 1}'}),
                _delta("function_call"),
            ),
            (
                "chatcmpl-1",
                "m",
                "function_call",
                "estimated",
                None,
                '{"content":null,"function_call":{"name":"f","arguments":"{\\"a\\": 1}"}}',
            ),
            id="functions of old",
        ),
        pytest.param(
            _events(
                _delta(content="Hi"),
                {**_delta("stop"), "usage": USAGE},
            ),
            ("chatcmpl-1", "m", "stop", "reported", 2, "Hi"),
            id="usage beside the last choice",
        ),
        pytest.param(
            _events(
                {**_delta(content="Hi"), "usage": {**USAGE, "completion_tokens": 1}},
                {**_delta("stop"), "usage": USAGE},
            ),
            ("chatcmpl-1", "m", "stop", "reported", 2, "Hi"),
            id="usage that grows",
        ),
        pytest.param(
            _events(_delta(refusal="No."), _delta("stop"), {"choices": [], "usage": USAGE}),
            ("chatcmpl-1", "m", "stop", "reported", 2, "No."),
            id="a refusal",
        ),
    ],
)
async def test_odd_chunks(
    body: bytes, facts: tuple[Any, ...], sdk: Any, provider: Provider, books: Books
) -> None:
    """
    Chunks in the forms that providers really send add up to one answer.
    """
    provider.on("m", body=body)

    chunks = await listed(
        await got(tracked(sdk(), books).chat.completions.create(**CHAT, stream=True))
    )

    assert chunks[-1].choices
    record = books.record
    assert (
        record.response_id,
        record.response_model,
        record.finish_reason,
        record.usage_source,
        record.output_tokens if facts[4] is not None else None,
        record.response_content,
    ) == facts
    assert record.output_tokens
    assert books.incidents == {}


PROGRAM = """
import os, signal, sys
from openai import OpenAI
from ai_ledger import Ledger, TrackedClient, call_context
ledger = Ledger(sys.argv[1])
client = TrackedClient(OpenAI(base_url=sys.argv[2], api_key="sk-canary-0123456789"), ledger=ledger)
with call_context(user_id="u-42"):
    stream = client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": "hello there"}], stream=True
    )
    next(stream)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_process_killed_in_mid_call(tmp_path: Path, provider: Provider) -> None:
    """
    It leaves an unfinished call that says who asked for what, and holds no prompt and no key.
    """
    from ai_ledger import Ledger

    url = f"jsonl:///{tmp_path}/calls"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, provider.base_url], timeout=60, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hello there" not in left
    assert b"sk-canary" not in left

    with Ledger(url) as ledger:
        assert ledger.flush(20)
        (call,) = ledger.stats.calls().calls

    assert (call.status, call.user_id, call.request_model, call.usage_source) == (
        "unfinished",
        "u-42",
        "qwen-plus",
        "unknown",
    )
