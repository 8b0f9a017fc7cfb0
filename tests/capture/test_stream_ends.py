"""The ways for a stream to end badly: one record with the right status, the caller as ever."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from ai_ledger.testing import Provider

from .support import MESSAGES, Books, close, described, each, entering, first, got, listed, tracked

CHAT: dict[str, Any] = {"model": "qwen-plus", "messages": MESSAGES, "stream": True}


class Spoiled(Exception):
    """What the consumer raises."""


async def start(client: Any, **more: Any) -> Any:
    return await got(client.chat.completions.create(**{**CHAT, **more}))


async def texts(stream: Any, count: int | None = None) -> list[Any]:
    """What was read, and what ended the reading; *count* chunks at most."""
    read: list[Any] = []
    try:
        async for chunk in each(stream):
            read.append(chunk.choices[0].delta.content if chunk.choices else None)
            if count is not None and len(read) >= count:
                break
    except BaseException as error:
        read.append(described(error))
    return read


# The caller's doing


async def dropped_after_break(client: Any) -> Any:
    return await texts(await start(client), 3)


async def dropped_after_one(client: Any) -> Any:
    return (await first(await start(client))).choices[0].delta.role


async def dropped_unread(client: Any) -> Any:
    return type(await start(client)).__name__


async def closed_unread(client: Any) -> Any:
    stream = await start(client)
    await close(stream)
    # A stream that has been closed cannot be read; the SDK says how.
    return await texts(stream)


async def closed_after_break(client: Any) -> Any:
    stream = await start(client)
    read = await texts(stream, 3)
    await close(stream)
    return read


async def closed_twice(client: Any) -> Any:
    stream = await start(client)
    read = await texts(stream, 2)
    await close(stream)
    await close(stream)
    return read


async def response_closed(client: Any) -> Any:
    stream = await start(client)
    read = await texts(stream, 3)
    await got(getattr(stream.response, "aclose" if hasattr(stream, "__aiter__") else "close")())
    return read


async def left_with_block(client: Any) -> Any:
    async with entering(await start(client)) as stream:
        return await texts(stream, 3)


async def left_with_block_by_exception(client: Any) -> Any:
    try:
        async with entering(await start(client)) as stream:
            raise Spoiled(str(await texts(stream, 3)))
    except Spoiled as error:
        return str(error)


async def exception_in_loop(client: Any) -> Any:
    try:
        async for chunk in each(await start(client)):
            raise Spoiled(str(chunk.choices[0].delta.role))
    except Spoiled as error:
        return str(error)


async def interrupted_in_loop(client: Any) -> Any:
    try:
        async with entering(await start(client)) as stream:
            async for _ in each(stream):
                raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        return described(error)


async def inside_a_generator_that_is_closed(client: Any) -> Any:
    if hasattr(client, "__aenter__"):

        async def words() -> Any:
            async with await start(client) as stream:
                async for chunk in stream:
                    yield chunk.choices[0].delta.content

        generator = words()
        read = [await anext(generator), await anext(generator)]
        await generator.aclose()
    else:

        def plain() -> Any:
            with client.chat.completions.create(**CHAT) as stream:
                for chunk in stream:
                    yield chunk.choices[0].delta.content

        generator = plain()
        read = [next(generator), next(generator)]
        generator.close()
    return read


async def closed_between_finish_and_usage(client: Any) -> Any:
    stream = await start(client)
    read = await texts(stream, 9)
    await close(stream)
    return read


async def helper_left_early(client: Any) -> Any:
    chat = client.chat.completions if hasattr(client.chat.completions, "stream") else None
    chat = chat or client.beta.chat.completions
    async with entering(chat.stream(model="qwen-plus", messages=MESSAGES)) as stream:
        async for event in each(stream):
            return event.type
    return None


async def raw_dropped_unread(client: Any) -> Any:
    made = await got(client.chat.completions.with_raw_response.create(**CHAT))
    return made.status_code


async def raw_left_early(client: Any) -> Any:
    made = await got(client.chat.completions.with_raw_response.create(**CHAT))
    async with entering(made.parse()) as stream:
        return await texts(stream, 3)


async def streamed_left_early(client: Any) -> Any:
    async with entering(client.chat.completions.with_streaming_response.create(**CHAT)) as made:
        async for line in each(made.iter_lines()):
            return described(line)
    return None


async def streamed_left_by_exception(client: Any) -> Any:
    try:
        async with entering(client.chat.completions.with_streaming_response.create(**CHAT)) as made:
            async for _ in each(made.iter_bytes()):
                raise Spoiled
    except Spoiled as error:
        return described(error)


async def client_closed(client: Any) -> Any:
    # Its own, because the tests close the client they made, and the connection is shared.
    stream = await start(client, model="paced")
    read = await texts(stream, 2)
    await close(stream)
    return read


async def read_in_another_thread(client: Any) -> Any:
    stream = client.chat.completions.create(**CHAT)
    read: list[Any] = []

    def work() -> None:
        read.append(next(stream).choices[0].delta.role)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return read


async def cancelled_while_waiting(client: Any) -> Any:
    stream = await start(client, model="stalls")
    task = asyncio.ensure_future(listed(stream))
    await asyncio.sleep(0.1)
    task.cancel()
    return await asyncio.gather(task, return_exceptions=True)


async def cancelled_between_chunks(client: Any) -> Any:
    reading = asyncio.Event()

    async def slow() -> None:
        async for _ in await start(client):
            reading.set()
            await asyncio.sleep(60)

    task = asyncio.ensure_future(slow())
    await reading.wait()
    task.cancel()
    return await asyncio.gather(task, return_exceptions=True)


async def timed_out_by_asyncio(client: Any) -> Any:
    # The head has come: how long that takes is not what this is about.
    stream = await start(client, model="stalls")

    async def read() -> None:
        async with stream:
            await listed(stream)

    try:
        await asyncio.wait_for(read(), 0.1)
    except TimeoutError as error:
        return described(error)


async def cancelled_before_the_head(client: Any) -> Any:
    task = asyncio.ensure_future(start(client, model="late"))
    await asyncio.sleep(0.1)
    task.cancel()
    return await asyncio.gather(task, return_exceptions=True)


# The provider's doing


async def read_out(client: Any) -> Any:
    try:
        return await texts(await start(client))
    except Exception as error:
        return described(error)


async def read_out_in_with(client: Any) -> Any:
    async with entering(await start(client)) as stream:
        return await texts(stream)


async def read_lines(client: Any) -> Any:
    lines: list[Any] = []
    try:
        async with entering(client.chat.completions.with_streaming_response.create(**CHAT)) as made:
            async for line in each(made.iter_lines()):
                lines.append(described(line))
    except Exception as error:
        lines.append(described(error))
    return lines


class Way(NamedTuple):
    do: Callable[[Any], Any]
    status: str
    source: str = "estimated"
    http_status: int | None = 200
    behaviour: Mapping[str, Any] = MappingProxyType({})
    options: Mapping[str, Any] = MappingProxyType({})


def _way(name: str, *args: Any, only: str | None = None, **options: Any) -> Any:
    return pytest.param(Way(*args, **options), only, id=name)


def _mine(do: Callable[[Any], Any], status: str = "cancelled", **more: Any) -> Any:
    return _way(do.__name__, do, status, **more)


def _theirs(name: str, status: str, **behaviour: Any) -> Any:
    options = behaviour.pop("options", {})
    do = behaviour.pop("do", read_out)
    http_status = behaviour.pop("http_status", 200)
    source = behaviour.pop("source", "estimated")
    return _way(name, do, status, source, http_status, behaviour, options)


WAYS = [
    _mine(dropped_after_break),
    _mine(dropped_after_one),
    _mine(dropped_unread),
    _mine(closed_unread),
    _mine(closed_after_break),
    _mine(closed_twice),
    _mine(response_closed),
    _mine(left_with_block),
    _mine(left_with_block_by_exception),
    _mine(exception_in_loop),
    _mine(interrupted_in_loop),
    _mine(inside_a_generator_that_is_closed),
    _mine(closed_between_finish_and_usage, "success"),
    _mine(helper_left_early),
    _mine(raw_dropped_unread),
    _mine(raw_left_early),
    _mine(streamed_left_early),
    _mine(streamed_left_by_exception),
    _mine(client_closed),
    _mine(read_in_another_thread, only="sync"),
    _mine(cancelled_while_waiting, only="async"),
    _mine(cancelled_between_chunks, only="async"),
    _mine(timed_out_by_asyncio, only="async"),
    _mine(cancelled_before_the_head, source="unknown", http_status=None, only="async"),
    _theirs("dies_before_the_head", "failed", hang_up=True, http_status=None, source="unknown"),
    _theirs("dies_before_the_first_chunk", "failed", drop_after=0),
    _theirs("dies_in_the_middle", "failed", drop_after=4),
    _theirs("dies_in_the_middle_in_with", "failed", drop_after=4, do=read_out_in_with),
    _theirs("dies_after_the_finish_reason", "failed", drop_after=9),
    _theirs("dies_while_lines_are_read", "failed", drop_after=4, do=read_lines),
    _theirs("stalls", "timeout", stall_after=3, stall=60.0, options={"timeout": 1.0}),
    _theirs("error_event_at_once", "failed", error_after=0, message="overloaded"),
    _theirs("error_event_in_the_middle", "failed", error_after=4, message="overloaded"),
    _theirs("error_event_while_lines_are_read", "failed", error_after=4, do=read_lines),
    _theirs("garbage_in_the_middle", "failed", garbage_after=4),
    _theirs("garbage_at_once", "failed", garbage_after=0),
    _theirs("ends_without_done", "success", no_done=True, source="reported"),
    _theirs("ends_in_mid_sentence", "success", body=b'data: {"id": "x", "choices": []}\n\n'),
    _theirs("has_no_event_at_all", "success", body=b": nothing\n\n"),
    _theirs("is_no_stream_but_json", "success", body=b'{"id": "x", "choices": []}'),
    _theirs("usage_is_null", "success", usage=None),
    _theirs("usage_is_nonsense", "success", usage={"prompt_tokens": "many"}),
    _theirs("usage_never_comes", "success", stream_usage="never"),
    _theirs("usage_is_zero", "success", input_tokens=0, output_tokens=0, source="reported"),
]


@pytest.mark.parametrize(("way", "only"), WAYS)
async def test_a_stream_that_ends_badly(
    way: Way, only: str | None, mode: str, sdk: Any, provider: Provider, books: Books
) -> None:
    """
    However it ends, the caller sees what the bare SDK shows, and one record says how it was.
    """
    if only not in (None, mode):
        pytest.skip(f"{only} only")
    client = sdk(**way.options)
    _set_up(provider, way)
    expected = described(await way.do(client))
    await _let_go()

    result = described(await way.do(tracked(client, books)))
    await _let_go()

    assert result == expected
    assert books.facts("status", "streamed", "usage_source", "http_status") == (
        way.status,
        True,
        way.source,
        way.http_status,
    )
    record = books.record
    assert (record.error_type is None) == (record.status in ("success", "cancelled")) or (
        record.error_type in ("CancelledError", "KeyboardInterrupt")
    )
    if record.usage_source == "estimated":
        assert (record.input_tokens, record.output_tokens is not None) == (10, True)
    assert books.incidents == {}


async def _let_go() -> None:
    """Streams that were just let go are seen by the event loop and by the garbage collector."""
    await asyncio.sleep(0.01)
    gc.collect()


def _set_up(provider: Provider, way: Way) -> None:
    provider.on("qwen-plus", **way.behaviour)
    provider.on("paced", pace=0.01)
    provider.on("stalls", stall_after=3, stall=60.0)
    provider.on("late", delay=60.0)


def test_there_are_at_least_the_26_ways_that_were_counted() -> None:
    """
    The list does not shrink, and no way is there twice.
    """
    names = [way.id for way in WAYS]

    assert len(set(names)) == len(names) >= 26


async def test_a_stream_still_open_when_the_ledger_closes_is_accounted_for(
    sdk: Any, provider: Provider, books: Books
) -> None:
    """
    Somebody still holds it; what was seen until then is on the books, and nothing twice.
    """
    stream = await start(tracked(sdk(), books))
    await first(stream)
    await first(stream)

    books.ledger.close()
    await close(stream)

    (record,) = books.sink.records
    assert (record.status, record.output_tokens) == ("cancelled", 2)


@pytest.mark.parametrize("chunks", [5_000])
async def test_thousands_of_chunks(chunks: int, sdk: Any, provider: Provider, books: Books) -> None:
    """
    A long stream arrives whole; its text is kept, its chunks are not.
    """
    provider.on("qwen-plus", chunks=chunks)

    read = await listed(await start(tracked(sdk(), books)))

    text = "".join(chunk.choices[0].delta.content or "" for chunk in read)
    record = books.record
    assert len(read) == chunks + 2
    assert (record.status, record.usage_source) == ("success", "reported")
    assert record.response_content == text
    assert inspect.isclass(type(read[0]))


async def test_time_to_first_token_is_before_the_end(
    sdk: Any, provider: Provider, books: Books
) -> None:
    """
    The first token is the first content, not the head of the response nor the end.
    """
    provider.on("qwen-plus", pace=0.02)

    await listed(await start(tracked(sdk(), books)))

    record = books.record
    assert record.duration_ms is not None
    assert record.time_to_first_token_ms is not None
    assert 15 < record.time_to_first_token_ms < record.duration_ms - 80
