"""Every form of a call: one record each, and the caller gets what the bare SDK gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from pydantic import BaseModel

from ai_ledger.testing import Provider

from .support import (
    MESSAGES,
    OPENAI,
    TOOL,
    Books,
    close,
    each,
    entering,
    first,
    got,
    listed,
    outcome,
    tracked,
)


class City(BaseModel):
    name: str
    people: int


CHAT: dict[str, Any] = {"model": "qwen-plus", "messages": MESSAGES}
GPT: dict[str, Any] = {"model": "gpt-4o", "input": "hello there"}
TEXT: dict[str, Any] = {"model": "gpt-3.5-turbo-instruct", "prompt": "hello there"}
# Three of three tokens in, eight out: what the provider counts for the texts used here.
REPORTED = ("success", "reported", 3, 8)


async def create(client: Any) -> Any:
    return await got(client.chat.completions.create(**CHAT))


async def create_many(client: Any) -> Any:
    return await got(client.chat.completions.create(**CHAT, n=3))


async def create_with_tools(client: Any) -> Any:
    return await got(client.chat.completions.create(**CHAT, tools=[TOOL]))


async def parse(client: Any) -> Any:
    return await got(client.chat.completions.parse(**CHAT, response_format=City))


async def beta_parse(client: Any) -> Any:
    return await got(client.beta.chat.completions.parse(**CHAT, response_format=City))


async def stream(client: Any) -> Any:
    return await listed(await got(client.chat.completions.create(**CHAT, stream=True)))


async def stream_many(client: Any) -> Any:
    return await listed(await got(client.chat.completions.create(**CHAT, stream=True, n=3)))


async def stream_tools(client: Any) -> Any:
    made = client.chat.completions.create(**CHAT, stream=True, tools=[TOOL])
    return await listed(await got(made))


async def stream_with_usage(client: Any) -> Any:
    made = client.chat.completions.create(
        **CHAT, stream=True, stream_options={"include_usage": True}
    )
    return await listed(await got(made))


async def stream_without_usage(client: Any) -> Any:
    made = client.chat.completions.create(
        **CHAT, stream=True, stream_options={"include_usage": False}
    )
    return await listed(await got(made))


async def stream_other_option(client: Any) -> Any:
    made = client.chat.completions.create(
        **CHAT, stream=True, stream_options={"include_obfuscation": False}
    )
    return await listed(await got(made))


async def stream_in_with(client: Any) -> Any:
    chunks = []
    async with entering(await got(client.chat.completions.create(**CHAT, stream=True))) as made:
        async for chunk in each(made):
            chunks.append(chunk)
    return [type(made).__name__, *chunks]


async def stream_by_next(client: Any) -> Any:
    made = await got(client.chat.completions.create(**CHAT, stream=True))
    chunks = [await first(made), await first(made)]
    return chunks + await listed(made)


async def stream_closed_early(client: Any) -> Any:
    made = await got(client.chat.completions.create(**CHAT, stream=True))
    chunks = [await first(made), await first(made), await first(made)]
    await close(made)
    return chunks


async def stream_helper(client: Any) -> Any:
    events = []
    helper = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    async with entering(helper(**CHAT)) as made:
        async for event in each(made):
            events.append(event)
        return [*events, await got(made.get_final_completion())]


async def stream_helper_with_usage(client: Any) -> Any:
    helper = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    async with entering(helper(**CHAT, stream_options={"include_usage": True})) as made:
        return await got(made.get_final_completion())


async def raw(client: Any) -> Any:
    made = await got(client.chat.completions.with_raw_response.create(**CHAT))
    return [type(made), made.status_code, made.text, made.parse(), made.parse()]


async def raw_stream(client: Any) -> Any:
    made = await got(client.chat.completions.with_raw_response.create(**CHAT, stream=True))
    return [type(made), await listed(made.parse())]


async def streamed_parsed(client: Any) -> Any:
    manager = client.chat.completions.with_streaming_response.create(**CHAT)
    async with entering(manager) as made:
        return [type(made), await got(made.parse())]


async def streamed_read(client: Any) -> Any:
    manager = client.chat.completions.with_streaming_response.create(**CHAT)
    async with entering(manager) as made:
        return [await got(made.read()), await got(made.text())]


async def streamed_bytes(client: Any) -> Any:
    manager = client.chat.completions.with_streaming_response.create(**CHAT)
    async with entering(manager) as made:
        return b"".join(await listed(made.iter_bytes()))


async def streamed_unread(client: Any) -> Any:
    manager = client.chat.completions.with_streaming_response.create(**CHAT)
    async with entering(manager) as made:
        return made.status_code


async def streamed_lines(client: Any) -> Any:
    manager = client.chat.completions.with_streaming_response.create(**CHAT, stream=True)
    async with entering(manager) as made:
        return await listed(made.iter_lines())


async def streamed_text(client: Any) -> Any:
    manager = client.chat.completions.with_streaming_response.create(
        **CHAT, stream=True, stream_options={"include_usage": True}
    )
    async with entering(manager) as made:
        return "".join(await listed(made.iter_text()))


async def streamed_chunks(client: Any) -> Any:
    manager = client.chat.completions.with_streaming_response.create(**CHAT, stream=True)
    async with entering(manager) as made:
        return await listed(await got(made.parse()))


async def text_completion(client: Any) -> Any:
    return await got(client.completions.create(**TEXT))


async def text_completion_stream(client: Any) -> Any:
    return await listed(await got(client.completions.create(**TEXT, stream=True)))


async def embeddings(client: Any) -> Any:
    made = client.embeddings.create(model="text-embedding-3-small", input=["hello there"] * 2)
    return await got(made)


async def responses(client: Any) -> Any:
    return await got(client.responses.create(**GPT))


async def responses_stream(client: Any) -> Any:
    return await listed(await got(client.responses.create(**GPT, stream=True)))


async def responses_parse(client: Any) -> Any:
    return await got(client.responses.parse(**GPT, text_format=City))


async def responses_helper(client: Any) -> Any:
    async with entering(client.responses.stream(**GPT)) as made:
        events = await listed(made)
        return [*events, await got(made.get_final_response())]


async def responses_raw(client: Any) -> Any:
    return (await got(client.responses.with_raw_response.create(**GPT))).parse()


async def image(client: Any) -> Any:
    return await got(client.images.generate(model="gpt-image-1", prompt="a cat in a hat"))


async def image_without_usage(client: Any) -> Any:
    return await got(client.images.generate(model="dall-e-3", prompt="a cat in a hat"))


async def image_stream(client: Any) -> Any:
    made = client.images.generate(model="gpt-image-1", prompt="a cat in a hat", stream=True)
    return await listed(await got(made))


async def image_edit(client: Any) -> Any:
    made = client.images.edit(model="gpt-image-1", prompt="a cat", image=("a.png", b"png"))
    return await got(made)


async def speech(client: Any) -> Any:
    made = await got(client.audio.speech.create(model="tts-1", input="hello", voice="alloy"))
    return [type(made), made.content]


async def speech_streamed(client: Any) -> Any:
    manager = client.audio.speech.with_streaming_response.create(
        model="tts-1", input="hello", voice="alloy"
    )
    async with entering(manager) as made:
        return b"".join(await listed(made.iter_bytes()))


async def transcription(client: Any) -> Any:
    made = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", b"wav"))
    return await got(made)


async def transcription_text(client: Any) -> Any:
    made = client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", b"wav"), response_format="text"
    )
    return await got(made)


async def transcription_stream(client: Any) -> Any:
    made = client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.wav", b"wav"), stream=True
    )
    return await listed(await got(made))


async def moderation(client: Any) -> Any:
    return await got(client.moderations.create(input="hello there"))


async def post(client: Any) -> Any:
    made = client.post("/chat/completions", body=dict(CHAT), cast_to=object)
    return await got(made)


async def post_response(client: Any) -> Any:
    made = await got(client.post("/chat/completions", body=dict(CHAT), cast_to=httpx.Response))
    return [type(made).__name__, made.text]


async def post_stream(client: Any) -> Any:
    is_async = isinstance(client, openai.AsyncOpenAI)
    kind = openai.AsyncStream if is_async else openai.Stream
    made = client.post(
        "/chat/completions",
        body={**CHAT, "stream": True},
        cast_to=object,
        stream=True,
        stream_cls=kind[object],
    )
    return await listed(await got(made))


async def with_options(client: Any) -> Any:
    return await create(client.with_options(timeout=9, max_retries=1))


async def copied(client: Any) -> Any:
    return await create(client.copy(default_headers={"x-more": "1"}).with_options(timeout=8))


async def extra_body(client: Any) -> Any:
    made = client.chat.completions.create(
        **CHAT,
        extra_body={"enable_search": True},
        extra_headers={"x-one": "1"},
        extra_query={"v": "2"},
    )
    return await got(made)


class Form(NamedTuple):
    call: Callable[[Any], Any]
    operation: str
    streamed: bool
    expected: tuple[Any, ...]
    """Status, usage source, input and output tokens."""
    finish_reason: str | None = "stop"


def _form(call: Any, operation: str, streamed: bool, *expected: Any, **more: Any) -> Any:
    needs: tuple[int, int] = more.pop("needs", (1, 0))
    old = pytest.mark.skipif(needs > OPENAI, reason=f"needs openai {needs}")
    return pytest.param(
        Form(call, operation, streamed, expected or REPORTED, **more), id=call.__name__, marks=old
    )


FORMS = [
    _form(create, "chat", False),
    _form(create_many, "chat", False, "success", "reported", 3, 24),
    _form(
        create_with_tools, "chat", False, "success", "reported", 3, 6, finish_reason="tool_calls"
    ),
    _form(parse, "chat", False, "success", "reported", 3, 8),
    _form(beta_parse, "chat", False, "success", "reported", 3, 8),
    _form(stream, "chat", True),
    _form(stream_many, "chat", True, "success", "reported", 3, 24),
    _form(stream_tools, "chat", True, "success", "reported", 3, 6, finish_reason="tool_calls"),
    _form(stream_with_usage, "chat", True),
    _form(stream_without_usage, "chat", True, "success", "estimated", 10, 7),
    _form(stream_other_option, "chat", True),
    _form(stream_in_with, "chat", True),
    _form(stream_by_next, "chat", True),
    _form(
        stream_closed_early,
        "chat",
        True,
        "cancelled",
        "estimated",
        10,
        3,
        finish_reason=None,
    ),
    _form(stream_helper, "chat", True),
    _form(stream_helper_with_usage, "chat", True),
    _form(raw, "chat", False),
    _form(raw_stream, "chat", True),
    _form(streamed_parsed, "chat", False),
    _form(streamed_read, "chat", False),
    _form(streamed_bytes, "chat", False),
    _form(streamed_unread, "chat", False, "cancelled", "estimated", 10, 1, finish_reason=None),
    _form(streamed_lines, "chat", True, "success", "estimated", 10, 7),
    _form(streamed_text, "chat", True),
    _form(streamed_chunks, "chat", True, "success", "estimated", 10, 7),
    _form(text_completion, "text_completion", False),
    _form(text_completion_stream, "text_completion", True),
    _form(embeddings, "embeddings", False, "success", "reported", 6, None, finish_reason=None),
    _form(responses, "responses", False, finish_reason="completed"),
    _form(responses_stream, "responses", True, finish_reason="completed"),
    _form(responses_parse, "responses", False, finish_reason="completed"),
    _form(responses_helper, "responses", True, finish_reason="completed"),
    _form(responses_raw, "responses", False, finish_reason="completed"),
    _form(image, "image", False, "success", "reported", 4, 272, finish_reason=None),
    _form(
        image_without_usage, "image", False, "success", "unknown", None, None, finish_reason=None
    ),
    _form(image_stream, "image", True, "success", "reported", 4, 272, finish_reason=None),
    _form(image_edit, "image", False, "success", "reported", 2, 272, finish_reason=None),
    _form(speech, "audio", False, "success", "unknown", None, None, finish_reason=None),
    _form(speech_streamed, "audio", False, "success", "unknown", None, None, finish_reason=None),
    _form(transcription, "audio", False, "success", "reported", 30, 8, finish_reason=None),
    _form(transcription_text, "audio", False, "success", "unknown", None, None, finish_reason=None),
    _form(transcription_stream, "audio", True, "success", "reported", 30, 8, finish_reason=None),
    _form(moderation, "moderation", False, "success", "unknown", None, None, finish_reason=None),
    _form(post, "chat", False),
    _form(post_response, "chat", False),
    _form(post_stream, "chat", True),
    _form(with_options, "chat", False),
    _form(copied, "chat", False),
    _form(extra_body, "chat", False),
]


@pytest.mark.parametrize("form", FORMS)
async def test_one_record_and_the_same_result(
    form: Form, sdk: Any, provider: Provider, books: Books
) -> None:
    """
    The caller gets what the bare SDK gives, the provider is sent the same, one record is made.
    """
    client = sdk()
    before = copy.deepcopy((CHAT, GPT, TEXT, MESSAGES, TOOL))
    expected = await outcome(form.call, client)
    sent_bare = provider.requests

    provider.reset()
    result = await outcome(form.call, tracked(client, books))
    sent = provider.requests

    assert result == expected
    assert before == (CHAT, GPT, TEXT, MESSAGES, TOOL)
    assert [_comparable(each) for each in sent] == [_comparable(each) for each in sent_bare]
    assert books.facts(
        "operation",
        "streamed",
        "status",
        "usage_source",
        "input_tokens",
        "output_tokens",
        "finish_reason",
        "http_status",
        "retries",
        "error_type",
        "server_address",
    ) == (
        form.operation,
        form.streamed,
        *form.expected,
        form.finish_reason,
        200,
        0,
        None,
        "127.0.0.1",
    )
    assert books.incidents == {}


def _comparable(request: Any) -> Any:
    body = {key: value for key, value in request.body.items() if key != "stream_options"}
    own = ("content-length", "content-type", "idempotency-key", "x-stainless-read-timeout")
    headers = {key: value for key, value in request.headers.items() if key not in own}
    return request.method, request.path, request.query, headers, body
