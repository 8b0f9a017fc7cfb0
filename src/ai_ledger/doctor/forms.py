"""The forms of call that succeed, or that the caller gives up."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ai_ledger.doctor.form import GUESSED, MESSAGES, MODEL, Expected, Form, Kit
from ai_ledger.testing import Provider

_STREAMED: Final = Expected(streamed=True)
_GIVEN_UP: Final = Expected(streamed=True, status="cancelled", tokens="some", sources=GUESSED)
_RESPONSES: Final = Expected(operation="responses")
_RESPONSES_STREAMED: Final = Expected(operation="responses", streamed=True)
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
_FORMAT: Final = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
}
_AUDIO: Final = ("speech.wav", b"RIFF")


async def _read(kit: Kit, stream: Any) -> list[Any]:
    """What a caller sees of a stream of chat chunks."""
    seen: list[Any] = [type(stream).__name__.removeprefix("Tracked")]
    async for chunk in kit.each(stream):
        said = [(choice.index, choice.delta.content) for choice in chunk.choices]
        seen.append((said, chunk.usage and chunk.usage.total_tokens))
    return seen


def _answered(answer: Any) -> tuple[Any, ...]:
    """What a caller sees of a whole chat."""
    contents = [choice.message.content for choice in answer.choices]
    return type(answer).__name__, contents, answer.usage.total_tokens


async def _plain(kit: Kit) -> object:
    return _answered(await kit.chat())


async def _choices(kit: Kit) -> object:
    return _answered(await kit.chat(n=3))


async def _tools(kit: Kit) -> object:
    answer = await kit.chat(tools=[_TOOL])
    return [call.function.arguments for call in answer.choices[0].message.tool_calls]


async def _tools_streamed(kit: Kit) -> object:
    return await _read(kit, await kit.chat(tools=[_TOOL], stream=True))


async def _copied(kit: Kit) -> object:
    first = await kit.chat(kit.client.with_options(timeout=15.0).copy())
    return _answered(first), first.choices[0].finish_reason


async def _post(kit: Kit) -> object:
    body = {"model": MODEL, "messages": list(MESSAGES)}
    answer = await kit.settled(kit.client.post("/chat/completions", body=body, cast_to=object))
    return sorted(answer), answer["usage"]["total_tokens"]


async def _parsed(kit: Kit) -> object:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    answer = await kit.settled(
        kit.client.chat.completions.parse(
            model=MODEL, messages=list(MESSAGES), response_format=City
        )
    )
    return answer.choices[0].message.parsed.name


async def _structured(kit: Kit) -> object:
    return _answered(await kit.chat(response_format=_FORMAT))


async def _raw(kit: Kit) -> object:
    completions = kit.client.chat.completions.with_raw_response
    raw = await kit.settled(completions.create(model=MODEL, messages=list(MESSAGES)))
    answer = await kit.settled(raw.parse())
    return type(raw).__name__, raw.status_code, _answered(answer)


async def _raw_streamed(kit: Kit) -> object:
    completions = kit.client.chat.completions.with_raw_response
    raw = await kit.settled(completions.create(model=MODEL, messages=list(MESSAGES), stream=True))
    return type(raw).__name__, await _read(kit, await kit.settled(raw.parse()))


def _streaming(kit: Kit, **options: Any) -> Any:
    completions = kit.client.chat.completions.with_streaming_response
    return kit.entered(completions.create(model=MODEL, messages=list(MESSAGES), **options))


async def _streaming_parsed(kit: Kit) -> object:
    async with _streaming(kit) as response:
        return _answered(await kit.settled(response.parse()))


async def _streaming_read(kit: Kit) -> object:
    async with _streaming(kit) as response:
        return len([line async for line in kit.each(response.iter_lines())])


async def _streaming_events(kit: Kit) -> object:
    async with _streaming(kit, stream=True) as response:
        lines = [line async for line in kit.each(response.iter_lines())]
    return len(lines), lines[-2:]


async def _streaming_events_parsed(kit: Kit) -> object:
    async with _streaming(kit, stream=True) as response:
        return await _read(kit, await kit.settled(response.parse()))


async def _streaming_never_read(kit: Kit) -> object:
    async with _streaming(kit) as response:
        return response.status_code


async def _stream(kit: Kit) -> object:
    return await _read(kit, await kit.chat(stream=True))


async def _stream_asked(kit: Kit) -> object:
    asked = {"include_usage": True}
    return await _read(kit, await kit.chat(stream=True, stream_options=asked)), asked


async def _stream_declined(kit: Kit) -> object:
    asked = {"include_usage": False}
    seen = await _read(kit, await kit.chat(stream=True, stream_options=asked))
    return seen, kit.provider.requests[-1].body["stream_options"]


async def _stream_refused(kit: Kit) -> object:
    # A server of its own, since the ledger remembers who refused.
    with Provider(refuses_stream_options=True) as provider:
        client = kit.client.with_options(base_url=provider.base_url)
        return await _read(kit, await kit.chat(client, stream=True))


async def _stream_with(kit: Kit) -> object:
    async with kit.entered(await kit.chat(stream=True)) as stream:
        return await _read(kit, stream)


async def _stream_next(kit: Kit) -> object:
    stream = await kit.chat(stream=True)
    seen = [(await kit.next(stream)).choices[0].delta.content for _ in range(4)]
    return seen, await _read(kit, stream)


async def _stream_thousands(kit: Kit) -> object:
    kit.provider.next(chunks=2_000, input_tokens=3, output_tokens=8)
    return len(await _read(kit, await kit.chat(stream=True)))


async def _stream_choices(kit: Kit) -> object:
    return await _read(kit, await kit.chat(stream=True, n=2))


async def _stream_helper(kit: Kit) -> object:
    helper = kit.client.chat.completions.stream(model=MODEL, messages=list(MESSAGES))
    async with kit.entered(helper) as stream:
        events = [event.type async for event in kit.each(stream)]
        final = await kit.settled(stream.get_final_completion())
    return events, final.choices[0].message.content


async def _stream_groq(kit: Kit) -> object:
    kit.provider.next(dialect="groq")
    return await _read(kit, await kit.chat(stream=True))


async def _stream_closed(kit: Kit) -> object:
    stream = await kit.chat(stream=True)
    first = [await kit.next(stream) for _ in range(3)]
    await kit.settled(stream.close())
    return len(first)


async def _stream_broken_off(kit: Kit) -> object:
    seen = 0
    async for _ in kit.each(await kit.chat(stream=True)):
        seen += 1
        if seen == 3:
            break
    return seen


async def _stream_let_go(kit: Kit) -> object:
    await kit.chat(stream=True)
    return "never looked at"


async def _stream_consumer_fails(kit: Kit) -> object:
    async with kit.entered(await kit.chat(stream=True)) as stream:
        async for _ in kit.each(stream):
            raise ValueError("the caller's own")


async def _stream_cancelled(kit: Kit) -> object:
    kit.provider.next(stall_after=3)
    read = asyncio.Event()

    async def reader() -> None:
        async for chunk in kit.each(await kit.chat(stream=True)):
            if chunk.choices[0].delta.content:
                read.set()

    task = asyncio.create_task(reader())
    await read.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def _cancelled(kit: Kit) -> object:
    kit.provider.next(delay=20)
    task = asyncio.create_task(kit.chat())
    while not kit.provider.requests:
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def _completions(kit: Kit) -> object:
    answer = await kit.settled(kit.client.completions.create(model=MODEL, prompt="Say hello."))
    return answer.choices[0].text, answer.usage.total_tokens


async def _completions_streamed(kit: Kit) -> object:
    stream = await kit.settled(
        kit.client.completions.create(model=MODEL, prompt="Say hello.", stream=True)
    )
    return [
        ([choice.text for choice in chunk.choices], chunk.usage) async for chunk in kit.each(stream)
    ]


async def _embeddings(kit: Kit) -> object:
    answer = await kit.settled(kit.client.embeddings.create(model=MODEL, input=["Say hello."]))
    return answer.data[0].embedding, answer.usage.total_tokens


async def _responses(kit: Kit) -> object:
    answer = await kit.settled(kit.client.responses.create(model=MODEL, input="Say hello."))
    return answer.output_text, answer.usage.total_tokens


async def _responses_streamed(kit: Kit) -> object:
    stream = await kit.settled(
        kit.client.responses.create(model=MODEL, input="Say hello.", stream=True)
    )
    return [event.type async for event in kit.each(stream)]


async def _responses_helper(kit: Kit) -> object:
    async with kit.entered(kit.client.responses.stream(model=MODEL, input="Say hello.")) as stream:
        events = [event.type async for event in kit.each(stream)]
        final = await kit.settled(stream.get_final_response())
    return events, final.output_text


async def _responses_parsed(kit: Kit) -> object:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    answer = await kit.settled(
        kit.client.responses.parse(model=MODEL, input="Say hello.", text_format=City)
    )
    return answer.output_parsed.name


async def _image(kit: Kit) -> object:
    answer = await kit.settled(kit.client.images.generate(model="gpt-image-1", prompt="Say hello."))
    return len(answer.data[0].b64_json)


async def _speech(kit: Kit) -> object:
    answer = await kit.settled(
        kit.client.audio.speech.create(model=MODEL, voice="alloy", input="Say hello.")
    )
    return len(answer.content)


async def _speech_streamed(kit: Kit) -> object:
    speech = kit.client.audio.speech.with_streaming_response
    async with kit.entered(
        speech.create(model=MODEL, voice="alloy", input="Say hello.")
    ) as response:
        return sum([len(piece) async for piece in kit.each(response.iter_bytes())])


async def _transcription(kit: Kit) -> object:
    answer = await kit.settled(kit.client.audio.transcriptions.create(model=MODEL, file=_AUDIO))
    return answer.text


async def _moderation(kit: Kit) -> object:
    answer = await kit.settled(kit.client.moderations.create(model=MODEL, input="Say hello."))
    return answer.results[0].flagged


async def _azure(kit: Kit) -> object:
    client = kit.azure()
    try:
        return _answered(await kit.chat(client))
    finally:
        await kit.settled(client.close())


FORMS: Final = (
    Form(name="chat.completions.create", run=_plain),
    Form(name="chat n=3", run=_choices, expected=Expected(tokens=(3, 24))),
    Form(name="chat with tools", run=_tools, expected=Expected(tokens=(3, 6))),
    Form(name="chat with a schema", run=_structured, expected=Expected(tokens=(3, 4))),
    Form(
        name="chat.completions.parse",
        run=_parsed,
        needs="chat.completions.parse",
        expected=Expected(tokens=(3, 4)),
    ),
    Form(name="chat with_raw_response", run=_raw),
    Form(name="chat with_raw_response, stream", run=_raw_streamed, expected=_STREAMED),
    Form(name="chat with_streaming_response, parsed", run=_streaming_parsed),
    Form(name="chat with_streaming_response, lines", run=_streaming_read),
    Form(
        name="chat with_streaming_response, stream, lines",
        run=_streaming_events,
        expected=Expected(streamed=True, tokens="some", sources=GUESSED),
    ),
    Form(
        name="chat with_streaming_response, stream, parsed",
        run=_streaming_events_parsed,
        expected=Expected(streamed=True, tokens="some", sources=("reported", *GUESSED)),
    ),
    Form(
        name="chat with_streaming_response, never read",
        run=_streaming_never_read,
        expected=Expected(status="cancelled", tokens="some", sources=GUESSED),
    ),
    Form(name="client.post", run=_post),
    Form(name="with_options and copy", run=_copied),
    Form(name="Azure", run=_azure),
    Form(name="chat stream", run=_stream, expected=_STREAMED),
    Form(name="chat stream, usage asked for", run=_stream_asked, expected=_STREAMED),
    Form(
        name="chat stream, usage declined",
        run=_stream_declined,
        expected=Expected(streamed=True, tokens="some", sources=GUESSED),
    ),
    Form(name="chat stream in a with block", run=_stream_with, expected=_STREAMED),
    Form(name="chat stream by next()", run=_stream_next, expected=_STREAMED),
    Form(name="chat stream of 2,000 chunks", run=_stream_thousands, expected=_STREAMED),
    Form(
        name="chat stream n=2",
        run=_stream_choices,
        expected=Expected(streamed=True, tokens=(3, 16)),
    ),
    Form(
        name="chat stream with tools",
        run=_tools_streamed,
        expected=Expected(streamed=True, tokens=(3, 6)),
    ),
    Form(name="chat stream, Groq's usage", run=_stream_groq, expected=_STREAMED),
    Form(
        name="chat.completions.stream",
        run=_stream_helper,
        needs="chat.completions.stream",
        expected=_STREAMED,
    ),
    Form(name="chat stream closed early", run=_stream_closed, expected=_GIVEN_UP),
    Form(name="chat stream broken off", run=_stream_broken_off, expected=_GIVEN_UP),
    Form(name="chat stream let go", run=_stream_let_go, expected=_GIVEN_UP),
    Form(name="chat stream, the consumer fails", run=_stream_consumer_fails, expected=_GIVEN_UP),
    Form(
        name="chat stream, task cancelled",
        run=_stream_cancelled,
        expected=_GIVEN_UP,
        modes=("async",),
    ),
    Form(
        name="chat, task cancelled",
        run=_cancelled,
        expected=Expected(status="cancelled", tokens="any"),
        modes=("async",),
    ),
    Form(
        name="completions.create",
        run=_completions,
        expected=Expected(operation="text_completion"),
    ),
    Form(
        name="completions stream",
        run=_completions_streamed,
        expected=Expected(operation="text_completion", streamed=True),
    ),
    Form(
        name="embeddings.create",
        run=_embeddings,
        expected=Expected(operation="embeddings", tokens="any"),
    ),
    Form(name="responses.create", run=_responses, needs="responses", expected=_RESPONSES),
    Form(
        name="responses stream",
        run=_responses_streamed,
        needs="responses",
        expected=_RESPONSES_STREAMED,
    ),
    Form(
        name="responses.stream",
        run=_responses_helper,
        needs="responses.stream",
        expected=_RESPONSES_STREAMED,
    ),
    Form(
        name="responses.parse",
        run=_responses_parsed,
        needs="responses.parse",
        expected=Expected(operation="responses", tokens=(3, 4)),
    ),
    Form(
        name="images.generate",
        run=_image,
        expected=Expected(operation="image", tokens=(3, 272), model="gpt-image-1"),
    ),
    Form(
        name="audio.speech",
        run=_speech,
        expected=Expected(operation="audio", tokens="any"),
    ),
    Form(
        name="audio.speech with_streaming_response",
        run=_speech_streamed,
        expected=Expected(operation="audio", tokens="any"),
    ),
    Form(
        name="audio.transcriptions",
        run=_transcription,
        expected=Expected(operation="audio", tokens=(30, 8)),
    ),
    Form(
        name="moderations.create",
        run=_moderation,
        expected=Expected(operation="moderation", tokens="any"),
    ),
    Form(
        name="chat stream, the server refuses to say usage",
        run=_stream_refused,
        expected=Expected(streamed=True, tokens="some", sources=GUESSED),
    ),
)
"""All of them, in the order in which they are made."""
