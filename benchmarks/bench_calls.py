"""What a tracked call costs its caller, beside the bare SDK call on an in-process transport."""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import openai

from ai_ledger import Ledger, TrackedClient

CALL_TARGET = 0.02
CHUNK_TARGET = 0.02
CHUNKS = 200

_MESSAGES: Any = [
    {"role": "system", "content": "You are a careful assistant. " * 8},
    {"role": "user", "content": "What does a ledger keep, and for whom? " * 6},
]
_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 48,
    "total_tokens": 168,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "qwen-plus",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Every call, for everybody. " * 8},
            }
        ],
        "usage": _USAGE,
    }
).encode()


def _chunk(**fields: Any) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "qwen-plus",
        **fields,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


_STREAM = b"".join(
    [
        *(
            _chunk(choices=[{"index": 0, "delta": {"content": "word "}, "finish_reason": None}])
            for _ in range(CHUNKS)
        ),
        _chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        _chunk(choices=[], usage=_USAGE),
        b"data: [DONE]\n\n",
    ]
)


def _http() -> Any:
    """The HTTP library that the installed SDK speaks."""
    if int(openai.__version__.split(".")[0]) >= 3:
        import httpx2

        return httpx2
    import httpx

    return httpx


def clients() -> tuple[openai.OpenAI, openai.AsyncOpenAI]:
    """A client and its async twin, answered inside the process."""
    http = _http()

    def answer(request: Any) -> Any:
        if b'"stream":true' in request.content.replace(b" ", b""):
            return http.Response(
                200, headers={"content-type": "text/event-stream"}, content=_STREAM
            )
        return http.Response(200, headers={"content-type": "application/json"}, content=_ANSWER)

    transport = http.MockTransport(answer)
    options: dict[str, Any] = {"api_key": "none", "base_url": "http://provider.test/v1"}
    return (
        openai.OpenAI(http_client=http.Client(transport=transport), **options),
        openai.AsyncOpenAI(http_client=http.AsyncClient(transport=transport), **options),
    )


def ask(client: Any) -> Any:
    """One ordinary chat."""
    return client.chat.completions.create(model="qwen-plus", messages=_MESSAGES)


def _read(client: Any) -> None:
    # The bare client asks for usage itself, so that both read the same chunks.
    stream = client.chat.completions.create(
        model="qwen-plus",
        messages=_MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    for _ in stream:
        pass


async def _read_async(client: Any) -> None:
    stream = await client.chat.completions.create(
        model="qwen-plus",
        messages=_MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for _ in stream:
        pass


def _paired(
    bare: Callable[[], Any], tracked: Callable[[], Any], rounds: int
) -> tuple[float, float]:
    """Medians of *bare* and *tracked* in seconds, taken in turn so that drift hits both."""
    for _ in range(20):
        bare()
        tracked()
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            order = ((0, bare), (1, tracked)) if number % 2 else ((1, tracked), (0, bare))
            for side, function in order:
                started = time.perf_counter()
                function()
                times[side].append(time.perf_counter() - started)
            if number % 200 == 0:
                gc.collect()
    finally:
        gc.enable()
    return statistics.median(times[0]), statistics.median(times[1])


def _run(loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return lambda: loop.run_until_complete(make())


def run(quick: bool) -> list[dict[str, Any]]:
    """The figures: added share of the bare call, and of a bare chunk."""
    rounds = 400 if quick else 3_000
    bare, bare_async = clients()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")
        tracked = TrackedClient(bare, ledger=ledger, user_id="u-42", business_type="bench")
        tracked_async = TrackedClient(
            bare_async, ledger=ledger, user_id="u-42", business_type="bench"
        )
        loop = asyncio.new_event_loop()
        figures = {
            "call, sync": (
                _paired(lambda: ask(bare), lambda: ask(tracked), rounds),
                1,
                CALL_TARGET,
            ),
            "call, async": (
                _paired(
                    _run(loop, lambda: ask(bare_async)),
                    _run(loop, lambda: ask(tracked_async)),
                    rounds,
                ),
                1,
                CALL_TARGET,
            ),
            "chunk, sync": (
                _paired(lambda: _read(bare), lambda: _read(tracked), rounds // 20),
                CHUNKS,
                CHUNK_TARGET,
            ),
            "chunk, async": (
                _paired(
                    _run(loop, lambda: _read_async(bare_async)),
                    _run(loop, lambda: _read_async(tracked_async)),
                    rounds // 20,
                ),
                CHUNKS,
                CHUNK_TARGET,
            ),
        }
        loop.close()
        ledger.close(30)
    for name, ((plain, ours), parts, target) in figures.items():
        rows.append(
            {
                "name": f"added per {name}",
                "ours": round((ours - plain) / parts * 1e6, 2),
                "baseline": round(plain / parts * 1e6, 1),
                "ratio": round((ours - plain) / plain, 4),
                "target": f"<= {target}",
                "met": (ours - plain) / plain <= target,
                "unit": "µs",
            }
        )
    return rows


if __name__ == "__main__":
    for row in run(quick=True):
        print(row)
