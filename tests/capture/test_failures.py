"""Failures: the caller sees the SDK's own exception, the record says what happened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ai_ledger.capture import observation
from ai_ledger.testing import MISSING, Provider

from .support import MESSAGES, OPENAI, Books, bare, described, got, listed, outcome, tracked

CHAT: dict[str, Any] = {"model": "qwen-plus", "messages": MESSAGES}


async def create(client: Any) -> Any:
    return await got(client.chat.completions.create(**CHAT))


async def stream(client: Any) -> Any:
    return await listed(await got(client.chat.completions.create(**CHAT, stream=True)))


@pytest.mark.parametrize(
    ("status", "error", "retries"),
    [
        (400, "BadRequestError", 0),
        (401, "AuthenticationError", 0),
        (403, "PermissionDeniedError", 0),
        (404, "NotFoundError", 0),
        (409, "ConflictError", 2),
        (422, "UnprocessableEntityError", 0),
        (429, "RateLimitError", 2),
        (500, "InternalServerError", 2),
        (503, "InternalServerError", 2),
        (418, "APIStatusError", 0),
    ],
)
@pytest.mark.parametrize("call", [create, stream])
async def test_errors_of_the_provider(
    call: Any, status: int, error: str, retries: int, sdk: Any, provider: Provider, books: Books
) -> None:
    """
    Each error of the SDK passes as it is; the record has its class, status and the attempts.
    """
    provider.on("qwen-plus", status=status, message="because of the weather")
    client = sdk(max_retries=2)
    expected = await outcome(call, client)
    provider.reset()
    provider.on("qwen-plus", status=status, message="because of the weather")

    result = await outcome(call, tracked(client, books))

    assert result == expected
    assert result[0] == error
    assert len(provider.requests) == retries + 1
    assert books.facts(
        "status", "error_type", "http_status", "retries", "usage_source", "input_tokens"
    ) == ("failed", error, status, retries, "unknown", None)
    assert "because of the weather" in (books.record.error_message or "")


async def test_attempts_before_a_success(sdk: Any, provider: Provider, books: Books) -> None:
    """
    A call that succeeds at the third attempt is one call with two retries.
    """
    client = tracked(sdk(max_retries=3), books)
    provider.next(status=500)
    provider.next(hang_up=True)
    await create(client)
    provider.next(status=429, times=1)
    await stream(client)

    assert [(r.status, r.retries, r.http_status) for r in books.records] == [
        ("success", 2, 200),
        ("success", 1, 200),
    ]


async def test_no_connection(mode: str, books: Books) -> None:
    """
    Nobody listens: the attempts are counted, and no status is invented.
    """
    with Provider() as gone:
        client = bare(mode, gone, max_retries=1)
    expected = await outcome(create, client)

    result = await outcome(create, tracked(client, books))
    await got(client.close())

    assert result == expected
    assert books.facts("status", "error_type", "http_status", "retries") == (
        "failed",
        "APIConnectionError",
        None,
        1,
    )


async def test_timeout(sdk: Any, provider: Provider, books: Books) -> None:
    """
    A time-out is no mere failure, and each attempt had its own.
    """
    provider.on("qwen-plus", delay=1.0)
    client = sdk(timeout=0.05, max_retries=1)

    result = await outcome(create, tracked(client, books))

    assert result == await outcome(create, client)
    assert result[0] == "APITimeoutError"
    assert books.facts("status", "error_type", "retries") == ("timeout", "APITimeoutError", 1)
    assert 100 < (books.record.duration_ms or 0) < 60_000


@pytest.mark.parametrize("mode", ["async"], indirect=True)
async def test_cancelled_task(sdk: Any, provider: Provider, books: Books) -> None:
    """
    Cancelling passes through at once and is recorded as that; so is a task group's.
    """
    provider.on("qwen-plus", delay=2.0)
    client = tracked(sdk(), books)

    task = asyncio.create_task(create(client))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await create(client)

    assert [(r.status, r.error_type) for r in books.records] == [
        ("cancelled", "CancelledError")
    ] * 2


def test_a_coroutine_that_is_thrown_away(provider: Provider, books: Books) -> None:
    """
    A loop that ends in mid-call leaves a cancelled call, and not a word on stderr.
    """
    provider.on("qwen-plus", delay=2.0)
    client = tracked(bare("async", provider), books)

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(create(client))
        await asyncio.sleep(0.05)
        del task

    asyncio.run(main())

    assert books.facts("status") == ("cancelled",)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id": "chatcmpl-1", "choices": [', id="cut short"),
        pytest.param(b"<html>bad gateway</html>", id="no JSON at all"),
        pytest.param(b"\n\n", id="nothing"),
        pytest.param(b"[1, 2]", id="a list"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"choices": "none"}', id="other types"),
        pytest.param(b'{"choices": [null], "usage": []}', id="null among the choices"),
        pytest.param(
            b'{"choices": [{"message": {"content": {"a": 1}}}], "model": 7, "id": []}', id="objects"
        ),
    ],
)
@pytest.mark.parametrize("call", [create, stream])
async def test_malformed_answers(
    call: Any, body: bytes, sdk: Any, provider: Provider, books: Books
) -> None:
    """
    Whatever the SDK makes of it, the caller gets that; there is one record.
    """
    provider.on("qwen-plus", body=body)
    client = sdk()
    expected = await outcome(call, client)

    result = await outcome(call, tracked(client, books))

    assert result == expected
    failed = isinstance(expected, tuple) and str(expected[0]).endswith("Error")
    assert books.facts("status", "http_status") == ("failed" if failed else "success", 200)


@pytest.mark.parametrize(
    "body", [b"data: [1]\n\n", b"data: null\n\n", b'data: {"choices": [1]}\n\n']
)
async def test_malformed_chunks(body: bytes, sdk: Any, provider: Provider, books: Books) -> None:
    """
    Chunks of other types than they should be pass as the SDK passes them.
    """
    provider.on("qwen-plus", body=body)
    client = sdk()

    assert await outcome(stream, tracked(client, books)) == await outcome(stream, client)
    assert len(books.records) == 1


@pytest.mark.parametrize("usage", [MISSING, None, {}, "lots", 7, [], {"prompt_tokens": None}])
@pytest.mark.parametrize("call", [create, stream])
async def test_no_usable_usage(
    call: Any, usage: Any, sdk: Any, provider: Provider, books: Books
) -> None:
    """
    Tokens were spent, so they are estimated, never zero; the caller sees what was sent.
    """
    provider.on("qwen-plus", usage=usage)
    client = sdk()
    expected = await outcome(call, client)

    assert await outcome(call, tracked(client, books)) == expected
    assert books.facts("status", "usage_source", "input_tokens", "output_tokens") == (
        "success",
        "estimated",
        10,
        7,
    )


@pytest.mark.parametrize(
    ("usage", "source", "counts", "problem"),
    [
        pytest.param(
            {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            "reported",
            (0, 0),
            None,
            id="zero stays zero",
        ),
        pytest.param(
            {"prompt_tokens": 5, "total_tokens": 5}, "estimated", (5, 7), None, id="one half"
        ),
        pytest.param(
            {"prompt_tokens": -5, "completion_tokens": 3, "total_tokens": -2},
            "estimated",
            (10, 3),
            "prompt_tokens=-5 is no token count; total_tokens=-2 is no token count",
            id="negative",
        ),
        pytest.param(
            {"prompt_tokens": "5", "completion_tokens": 1e30},
            "estimated",
            (10, 7),
            "prompt_tokens='5' is no token count; completion_tokens=a number beyond 2**53 is no "
            "token count",
            id="nonsense",
        ),
    ],
)
@pytest.mark.parametrize("call", [create, stream])
async def test_odd_usage(
    call: Any,
    usage: Any,
    source: str,
    counts: tuple[int, int],
    problem: str | None,
    sdk: Any,
    provider: Provider,
    books: Books,
) -> None:
    """
    What can be believed is kept, the rest is estimated, and a tag says what was wrong.
    """
    provider.on("qwen-plus", usage=usage)

    await call(tracked(sdk(), books))

    record = books.record
    assert (record.usage_source, record.input_tokens, record.output_tokens) == (source, *counts)
    assert record.tags.get("usage_problem") == problem


async def test_a_server_that_refuses_stream_options(
    sdk: Any, provider: Provider, books: Books
) -> None:
    """
    The call is repeated without the option, the server is remembered, nobody notices.
    """
    provider.on("qwen-plus", refuses_stream_options=True)
    client = sdk()
    expected = await outcome(stream, client)
    provider.reset()
    provider.on("qwen-plus", refuses_stream_options=True)
    client = tracked(client, books)
    observation._refusers.clear()

    try:
        first, second = await outcome(stream, client), await outcome(stream, client)
    finally:
        observation._refusers.clear()

    assert first == second == expected
    assert ["stream_options" in request.body for request in provider.requests] == [
        True,
        False,
        False,
    ]
    assert [(r.status, r.usage_source, r.output_tokens) for r in books.records] == [
        ("success", "estimated", 7)
    ] * 2


async def test_a_refusal_that_the_caller_asked_for(
    sdk: Any, provider: Provider, books: Books
) -> None:
    """
    Who asks for usage himself gets the server's own refusal, once.
    """
    provider.on("qwen-plus", refuses_stream_options=True)
    client = tracked(sdk(), books)

    with pytest.raises(Exception, match="stream_options") as caught:
        await got(
            client.chat.completions.create(
                **CHAT, stream=True, stream_options={"include_usage": True}
            )
        )

    assert type(caught.value).__name__ == "BadRequestError"
    assert len(provider.requests) == 1
    assert books.facts("status", "http_status") == ("failed", 400)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([{"role": "user", "content": object()}], id="an object"),
        pytest.param([{"role": "user", "content": b"\xff\x00"}], id="bytes"),
        pytest.param([{"role": "user", "content": "lone \ud800 surrogate"}], id="a lone surrogate"),
        pytest.param([{"role": "user", "content": "NUL \x00"}], id="NUL"),
        pytest.param([{"role": "user", "content": "x" * 10_000_000}], id="ten megabytes"),
        pytest.param({"role": "user"}, id="no list"),
        pytest.param("text", id="a text"),
        pytest.param([], id="nothing"),
        pytest.param([{"role": "user", "content": float("nan")}], id="NaN"),
        pytest.param([{1: 2, None: 3}], id="keys that are no text"),
    ],
)
async def test_odd_requests(messages: Any, sdk: Any, provider: Provider, books: Books) -> None:
    """
    What the SDK does with it, send or refuse, it does here too; there is one record.
    """

    async def odd(client: Any) -> Any:
        return await got(client.chat.completions.create(model="qwen-plus", messages=messages))

    client = sdk()
    expected = await outcome(odd, client)

    assert await outcome(odd, tracked(client, books)) == expected
    record = books.record
    assert record.status == (
        "failed" if isinstance(expected[0], str) and "Error" in expected[0] else "success"
    )
    for text in (record.request_content, record.response_content):
        assert len((text or "").encode()) <= 1024 * 1024
        assert "\x00" not in (text or "")
    assert books.incidents == {}


HOSTILE = "'; DROP TABLE x;--\x00\ud800<script>\r\n\x1b]0;=cmd|' /C calc'!A0\u202e" + "長" * 400


async def test_hostile_texts_everywhere(sdk: Any, provider: Provider, books: Books) -> None:
    """
    Every text that a caller or a provider can choose is stored bounded, without NUL and surrogates.
    """
    provider.on(
        path="/chat/completions",
        served_model=HOSTILE,
        finish_reason=HOSTILE,
        service_tier=HOSTILE,
        text=HOSTILE.replace("\ud800", ""),
    )
    clean = HOSTILE.replace("\ud800", "").replace("\x00", "")
    client = tracked(sdk(), books, user_id=HOSTILE, function=HOSTILE, **{"a\x00tag": HOSTILE})

    await got(client.chat.completions.create(model=clean, messages=MESSAGES))

    record = books.record
    stored = [
        record.request_model,
        record.response_model,
        record.user_id,
        record.function,
        record.finish_reason,
        record.service_tier,
        *record.tags,
        *record.tags.values(),
    ]
    assert record.status == "success"
    for text in stored:
        assert text is not None
        assert len(text) <= 255
        assert "\x00" not in text
        text.encode()
    assert type(record).from_json(record.to_json()) == record


def test_described_tells_things_apart() -> None:
    """
    The comparison that these tests rest on sees types, values and what was set.
    """
    from openai.types import CompletionUsage

    one = CompletionUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3)

    assert described(one) == described(one.model_copy())
    assert described(one) != described(one.model_copy(update={"total_tokens": 4}))
    assert described(one) != described(one.model_copy(update={"prompt_tokens_details": None}))
    assert described([1]) != described((1,))
    assert described("x") != described(ValueError("x"))
    assert OPENAI >= (1, 109)
