"""Never in the way: whatever breaks inside the ledger, the caller's call goes as it would."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ai_ledger.calls
import ai_ledger.capture.chunks
import ai_ledger.capture.observation
import ai_ledger.capture.streams
import ai_ledger.ledger
from ai_ledger import call_context, track_ai_usage
from ai_ledger.capture.observation import Observation, Tracking
from ai_ledger.redaction import FAILED
from ai_ledger.testing import Provider

from .support import MESSAGES, Books, bare, got, listed, outcome, tracked

CHAT: dict[str, Any] = {"model": "qwen-plus", "messages": MESSAGES}


async def create(client: Any) -> Any:
    return await got(client.chat.completions.create(**CHAT))


async def stream(client: Any) -> Any:
    return await listed(await got(client.chat.completions.create(**CHAT, stream=True)))


async def raw(client: Any) -> Any:
    return (await got(client.chat.completions.with_raw_response.create(**CHAT))).parse()


async def raw_stream(client: Any) -> Any:
    made = await got(client.chat.completions.with_raw_response.create(**CHAT, stream=True))
    return await listed(made.parse())


async def error(client: Any) -> Any:
    return await got(client.chat.completions.create(**{**CHAT, "model": "broken"}))


class Bug(Exception):
    """A fault of the ledger."""


def broken(*args: Any, **kwargs: Any) -> Any:
    raise Bug("a fault of the ledger, with sk-abcdef0123456789 in it")


STEPS = [
    (Tracking, "_begin"),
    (Tracking, "server"),
    (Tracking, "context"),
    (Observation, "_make_ready"),
    (Observation, "_answered"),
    (Observation, "_answered_raw"),
    (Observation, "_read_error"),
    (Observation, "_know_credentials"),
    (ai_ledger.capture.observation, "operation_of"),
    (ai_ledger.capture.observation, "read_answer"),
    (ai_ledger.capture.observation, "watch_stream"),
    (ai_ledger.capture.observation, "hide_usage"),
    (ai_ledger.capture.observation, "watch_bytes"),
    (ai_ledger.capture.observation, "assembly_for"),
    (ai_ledger.capture.observation, "status_of"),
    (ai_ledger.capture.recorded, "begun"),
    (ai_ledger.capture.recorded, "remember"),
    (ai_ledger.capture.chunks.ChatAssembly, "see"),
    (ai_ledger.capture.chunks.ChatAssembly, "answer"),
    (ai_ledger.capture.streams.Body, "feed"),
    (ai_ledger.capture.streams.Body, "finish"),
    (ai_ledger.calls.OpenCall, "outcome"),
    (ai_ledger.calls.OpenCall, "first_token"),
    (ai_ledger.calls.OpenCall, "finish"),
    (ai_ledger.ledger.Ledger, "open_call"),
    (ai_ledger.ledger.Ledger, "admit"),
    (ai_ledger.ledger.Ledger, "aadmit"),
    (ai_ledger.ledger.Ledger, "content_of"),
    (ai_ledger.ledger, "new_id"),
    (ai_ledger.ledger, "utc_now"),
    (ai_ledger.ledger, "CallRecord"),
    (ai_ledger.calls, "CallRecord"),
    (ai_ledger.ledger, "to_text"),
    (ai_ledger.records.CallRecord, "to_json"),
]


@pytest.mark.parametrize(
    ("place", "name"), STEPS, ids=[f"{getattr(p, '__name__', p)}.{n}" for p, n in STEPS]
)
async def test_a_step_that_breaks(
    place: Any,
    name: str,
    sdk: Any,
    provider: Provider,
    books: Books,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Every step of the bookkeeping may raise: result, exception and chunks stay the SDK's.
    """
    provider.on("broken", status=400)
    client = sdk()
    made = tracked(client, books)
    calls = (create, stream, raw, raw_stream, error)
    expected = [await outcome(call, client) for call in calls]

    with monkeypatch.context() as patch:
        patch.setattr(place, name, broken)
        results = [await outcome(call, made) for call in calls]

    if name == "hide_usage":
        # The chunks are what the provider sent: nothing can take the extra ones out then.
        for streamed in (1, 3):
            assert len(results[streamed]) == len(expected[streamed]) + 1
            results[streamed] = expected[streamed]
    assert results == expected
    # And the next calls are on the books again.
    for call in calls:
        await outcome(call, made.with_context(user_id="next"))
    assert [record.user_id for record in books.records].count("next") == len(calls)


@pytest.mark.parametrize("name", ["begin", "end"])
async def test_a_delivery_that_breaks(
    name: str, sdk: Any, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Even what is promised never to raise may raise.
    """
    client = sdk()
    expected = await outcome(create, client)
    monkeypatch.setattr(books.ledger._delivery, name, broken)

    assert await outcome(create, tracked(client, books)) == expected
    assert await outcome(stream, tracked(client, books)) == await outcome(stream, client)


def test_calls_by_hand_and_decorated_functions(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The block and the function run, whatever the ledger does.
    """
    answer = {"model": "m", "id": "x", "choices": [], "usage": {"prompt_tokens": 1}}
    for place, name, opens in (
        (ai_ledger.calls.OpenCall, "outcome", True),
        (books.ledger._delivery, "end", True),
        (books.ledger._delivery, "begin", False),
        (ai_ledger.ledger, "new_id", False),
        (ai_ledger.ledger, "CallRecord", False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, broken)
            if opens:
                with books.ledger.call(model="m") as call:
                    call.set_usage(input_tokens=1)
                    call.set_response(answer)
            assert track_ai_usage("f", "m", ledger=books.ledger)(lambda: answer)() is answer


# Redaction


def test_redaction(provider: Provider) -> None:
    """
    The user's function sees each text before anything else does; its faults replace the text.
    """
    seen: list[str] = []

    def redact(text: str) -> Any:
        seen.append(text)
        if "raise" in text:
            raise ValueError(text)
        if "nothing" in text:
            return None
        return text.replace("secret", "[gone]")

    books = Books(redact=redact)
    with bare("sync", provider) as own:
        client = tracked(own, books)
        for words in ("a secret", "raise", "nothing"):
            provider.next(text=f"{words} too")
            client.chat.completions.create(
                model="qwen-plus", messages=[{"role": "user", "content": words}]
            )

    contents = [(r.request_content, r.response_content) for r in books.records]
    assert contents == [
        ('{"messages":[{"role":"user","content":"a [gone]"}]}', "a [gone] too"),
        (FAILED, FAILED),
        (FAILED, FAILED),
    ]
    assert len(seen) == 6
    assert sum(books.incidents.values()) == 4
    assert [record.input_tokens for record in books.records] == [2, 2, 2]


def test_redaction_that_hangs(provider: Provider) -> None:
    """
    Nobody waits longer than the time given, once; when it goes on, texts are kept again.
    """
    release = threading.Event()

    def redact(text: str) -> str:
        if "hang" in text:
            release.wait(60)
        return text

    books = Books(redact=redact, redact_timeout=1.5)
    with bare("sync", provider) as own:
        client = tracked(own, books)
        began = time.perf_counter()
        for words in ("hang", *["fine"] * 5):
            client.chat.completions.create(
                model="qwen-plus", messages=[{"role": "user", "content": words}]
            )
        took = time.perf_counter() - began
        release.set()
        deadline = time.monotonic() + 30
        while books.ledger.content_of("probe") == FAILED:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.chat.completions.create(model="qwen-plus", messages=MESSAGES)

    contents = [r.request_content for r in books.records]
    assert contents[:6] == [FAILED] * 6
    assert contents[6] is not None
    assert "hello there" in contents[6]
    # Waiting for each of the six would take nine seconds.
    assert took < 7.5
    assert [record.status for record in books.records] == ["success"] * 7


def test_redaction_that_is_slow_for_many(provider: Provider) -> None:
    """
    Twenty threads at once wait no longer than one would.
    """

    def redact(text: str) -> str:
        time.sleep(0.5)
        return text

    books = Books(redact=redact, redact_timeout=1.0)
    waits: list[float] = []

    def work() -> None:
        began = time.perf_counter()
        books.ledger.content_of("text")
        waits.append(time.perf_counter() - began)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(waits) == 20
    # One after the other they would take ten seconds.
    assert max(waits) < 6


def test_redaction_that_makes_a_call_end_inside_it() -> None:
    """
    A stream that the garbage collector finishes during a redaction is redacted as well.
    """
    again: list[Callable[[], Any]] = []

    def redact(text: str) -> str:
        if again:
            assert again.pop()() == "inner"
        return text

    books = Books(redact=redact, redact_timeout=20)
    again.append(lambda: books.ledger.content_of("inner"))
    began = time.perf_counter()

    assert books.ledger.content_of("outer") == "outer"
    assert time.perf_counter() - began < 15


@pytest.mark.parametrize("content", ["full", "none"])
async def test_content(content: Any, sdk: Any, provider: Provider) -> None:
    """
    Prompts and answers are kept or not; tokens are known either way.
    """
    provider.on("qwen-plus", stream_usage="never")
    books = Books(content=content)
    client = tracked(sdk(), books)

    await create(client)
    await stream(client)

    kept = content == "full"
    assert [
        (r.request_content is not None, r.response_content is not None, r.usage_source)
        for r in books.records
    ] == [(kept, kept, "reported"), (kept, kept, "estimated")]
    assert [(r.input_tokens, r.output_tokens) for r in books.records] == [(3, 8), (10, 7)]


def test_content_is_bounded(provider: Provider) -> None:
    """
    A prompt over the limit is cut with a mark, and its tokens estimated from its whole length.
    """
    provider.on("qwen-plus", stream_usage="never")
    books = Books(max_text_bytes=2_000)
    with bare("sync", provider) as own:
        list(
            tracked(own, books).chat.completions.create(
                model="qwen-plus",
                messages=[{"role": "user", "content": "word " * 100_000}],
                stream=True,
            )
        )

    record = books.record
    assert record.request_content is not None
    assert len(record.request_content.encode()) <= 2_000
    assert "[cut: 500" in record.request_content
    assert 80_000 < (record.input_tokens or 0) < 125_000


async def test_a_caller_that_is_slow_to_notice(provider: Provider, books: Books) -> None:
    """
    The event loop is not held up: a hundred calls at once take about as long as without.
    """
    async with bare("async", provider) as own:
        client = tracked(own, books)
        with call_context(user_id="u"):
            await asyncio.gather(*(create(client) for _ in range(100)))

    assert len(books.records) == 100
