"""The answers of the loopback provider: whole, and as the events of a stream."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeAlias, cast

from ai_ledger.testing.behaviour import AS_COUNTED, MISSING, Behaviour
from ai_ledger.testing.tokens import input_tokens_of, tokens_of

Body: TypeAlias = dict[str, Any]
Event: TypeAlias = tuple[str | None, Body]
"""The name of a server-sent event, when it has one, and its data."""

# A time that never changes makes answers equal from run to run.
CREATED: Final = 1_767_600_000
_numbers = count(1)


def new_response_id(prefix: str) -> str:
    """An id that no other answer of this process has."""
    return f"{prefix}{next(_numbers):012d}"


@dataclass(frozen=True)
class Counts:
    """The token counts of one answer, before a dialect words them."""

    input: int
    output: int
    cached: int
    cache_write: int
    reasoning: int


def counts_of(request: Body, behaviour: Behaviour, said: str, choices: int = 1) -> Counts:
    """What answering *request* with *said*, in each of *choices*, took."""
    thought = tokens_of(behaviour.reasoning) * choices
    reasoning = thought if behaviour.reasoning_tokens is None else behaviour.reasoning_tokens
    output = tokens_of(said) * choices + reasoning
    return Counts(
        input=input_tokens_of(request)
        if behaviour.input_tokens is None
        else behaviour.input_tokens,
        output=output if behaviour.output_tokens is None else behaviour.output_tokens,
        cached=behaviour.cached_tokens,
        cache_write=behaviour.cache_write_tokens,
        reasoning=reasoning,
    )


def with_usage(body: Body, usage: Any, behaviour: Behaviour) -> Body:
    """*body* with the usage that *behaviour* wants said; *usage* is the honest one."""
    said = usage if behaviour.usage is AS_COUNTED else behaviour.usage
    if said is not MISSING:
        body["usage"] = said
    return body


def pieces(text: str, chunks: int | None = None) -> list[str]:
    """*text* by words, whose spaces lead them; repeated or cut to *chunks* of them, if given."""
    words = text.split(" ") if text else []
    if chunks is not None and words:
        words = [words[number % len(words)] for number in range(chunks)]
    return [f" {word}" if number else word for number, word in enumerate(words)]


def example_of(schema: Body, known: Body | None = None) -> Any:
    """The plainest value that fits a JSON *schema*, for structured outputs and tools."""
    definitions: Body = known or schema.get("$defs") or {}
    if "$ref" in schema:
        return example_of(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return example_of(schema[key][0], definitions)
    kind = schema.get("type", "object")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: example_of(inner, definitions) for name, inner in fields.items()}
    if kind == "array":
        return [example_of(schema["items"], definitions)] if schema.get("minItems") else []
    plain: Body = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "null": None}
    return plain.get(kind if isinstance(kind, str) else kind[0])


def calls_wanted(request: Body, behaviour: Behaviour) -> list[tuple[str, str]]:
    """The tool calls that answer *request*: (name, arguments as JSON)."""
    if behaviour.tool_calls is not None:
        return list(behaviour.tool_calls)
    turns: Any = request.get("messages") or request.get("input") or []
    answered = isinstance(turns, list) and any(map(_answers_a_tool, cast("list[Any]", turns)))
    if answered or request.get("tool_choice") == "none":
        return []
    tools: list[Body] = request.get("tools") or []
    for tool in tools:
        function: Body = tool.get("function", tool)
        if tool.get("type", "function") == "function" and "name" in function:
            schema: Body = function.get("parameters") or function.get("input_schema") or {}
            return [(function["name"], json.dumps(example_of(schema)))]
    return []


def _answers_a_tool(turn: Any) -> bool:
    if not isinstance(turn, dict):
        return False
    fields = cast("Body", turn)
    return fields.get("role") == "tool" or fields.get("type") == "function_call_output"


def said_by(request: Body, behaviour: Behaviour) -> str:
    """The text of the answer; JSON that fits, when the request has a schema for it."""
    text: Any = request.get("text")
    wanted: Any = request.get("response_format")
    if isinstance(text, dict):
        wanted = cast("Body", text).get("format")
    if isinstance(wanted, dict):
        format_ = cast("Body", wanted)
        if format_.get("type") == "json_schema":
            return json.dumps(example_of(format_.get("json_schema", format_)["schema"]))
    return "".join(pieces(behaviour.text, behaviour.chunks))


def text_completion(request: Body, behaviour: Behaviour) -> Body:
    """The answer of ``/completions``."""
    said = said_by(request, behaviour)
    counts = counts_of(request, behaviour, said, _choices(request))
    return with_usage(
        _text_chunk(request, behaviour, said, behaviour.finish_reason or "stop"),
        _plain_usage(counts),
        behaviour,
    )


def text_completion_events(request: Body, behaviour: Behaviour) -> Iterator[Event]:
    """The stream of ``/completions``."""
    response_id = new_response_id("cmpl-")
    said = said_by(request, behaviour)
    for piece in pieces(said):
        yield None, {**_text_chunk(request, behaviour, piece, None), "id": response_id}
    last = _text_chunk(request, behaviour, "", behaviour.finish_reason or "stop")
    yield None, {**last, "id": response_id}
    if wants_stream_usage(request, behaviour):
        usage = _plain_usage(counts_of(request, behaviour, said, _choices(request)))
        yield None, with_usage({**last, "id": response_id, "choices": []}, usage, behaviour)


def _choices(request: Body) -> int:
    return int(request.get("n") or 1)


def _plain_usage(counts: Counts) -> Body:
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
    }


def wants_stream_usage(request: Body, behaviour: Behaviour) -> bool:
    """Whether the stream ends with its usage."""
    asked: Any = request.get("stream_options") or {}
    return behaviour.usage is not MISSING and (
        behaviour.stream_usage == "always"
        or (behaviour.stream_usage == "asked" and bool(asked.get("include_usage")))
    )


def _text_chunk(request: Body, behaviour: Behaviour, text: str, finish: str | None) -> Body:
    return {
        "id": new_response_id("cmpl-"),
        "object": "text_completion",
        "created": CREATED,
        "model": behaviour.model or request.get("model"),
        "choices": [
            {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
            for index in range(_choices(request))
        ],
    }


def embeddings(request: Body, behaviour: Behaviour) -> Body:
    """The answer of ``/embeddings``: three numbers for each text."""
    given = request.get("input")
    texts: list[Any] = given if isinstance(given, list) else [given]  # pyright: ignore[reportUnknownVariableType]
    vector: Any = [0.25, -0.5, 0.75]
    if request.get("encoding_format") == "base64":
        import struct

        vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
    counts = counts_of(request, behaviour, "")
    body: Body = {
        "object": "list",
        "model": behaviour.model or request.get("model"),
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index in range(len(texts))
        ],
    }
    usage = {"prompt_tokens": counts.input, "total_tokens": counts.input}
    return with_usage(body, usage, behaviour)


def moderation(request: Body, behaviour: Behaviour) -> Body:
    """The answer of ``/moderations``: nothing is flagged, and there is no usage."""
    categories = ("harassment", "hate", "self-harm", "sexual", "violence")
    return {
        "id": new_response_id("modr-"),
        "model": behaviour.model or request.get("model") or "omni-moderation-latest",
        "results": [
            {
                "flagged": False,
                "categories": dict.fromkeys(categories, False),
                "category_scores": dict.fromkeys(categories, 0.01),
                "category_applied_input_types": {name: ["text"] for name in categories},
            }
        ],
    }


# The smallest PNG there is: one transparent pixel.
_PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA"
    "60e6kgAAAABJRU5ErkJggg=="
)


def _image_usage(request: Body, behaviour: Behaviour) -> Body:
    counts = counts_of(request, behaviour, "x" * 4 * 272)
    return {
        "input_tokens": counts.input,
        "output_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "input_tokens_details": {"text_tokens": counts.input, "image_tokens": 0},
    }


def image(request: Body, behaviour: Behaviour) -> Body:
    """The answer of ``/images/…``; only ``gpt-image`` models report usage, 272 tokens."""
    count_ = _choices(request)
    if not str(request.get("model") or "").startswith("gpt-image"):
        return {"created": CREATED, "data": [{"b64_json": _PIXEL}] * count_}
    body: Body = {"created": CREATED, "data": [{"b64_json": _PIXEL}] * count_}
    return with_usage(body, _image_usage(request, behaviour), behaviour)


def image_events(request: Body, behaviour: Behaviour) -> Iterator[Event]:
    """The stream of ``/images/generations``: one partial image and the whole one."""
    common: Body = {
        "b64_json": _PIXEL,
        "created_at": CREATED,
        "size": "1024x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "png",
    }
    partial = "image_generation.partial_image"
    yield partial, {"type": partial, "partial_image_index": 0, **common}
    done = "image_generation.completed"
    body: Body = {"type": done, **common}
    yield done, with_usage(body, _image_usage(request, behaviour), behaviour)


def transcription(request: Body, behaviour: Behaviour) -> Body:
    """The answer of ``/audio/transcriptions``: 30 audio tokens in, or seconds for whisper."""
    body: Body = {"text": behaviour.text}
    if request.get("response_format") == "verbose_json":
        body |= {"task": "transcribe", "language": "english", "duration": 3.0, "segments": []}
    if str(request.get("model")).startswith("whisper"):
        return with_usage(body, {"type": "duration", "seconds": 3}, behaviour)
    return with_usage(body, _transcription_usage(behaviour), behaviour)


def _transcription_usage(behaviour: Behaviour) -> Body:
    given = 30 if behaviour.input_tokens is None else behaviour.input_tokens
    output = tokens_of(behaviour.text)
    output = output if behaviour.output_tokens is None else behaviour.output_tokens
    return {
        "type": "tokens",
        "input_tokens": given,
        "input_token_details": {"text_tokens": 0, "audio_tokens": given},
        "output_tokens": output,
        "total_tokens": given + output,
    }


def transcription_events(request: Body, behaviour: Behaviour) -> Iterator[Event]:
    """The stream of ``/audio/transcriptions``."""
    delta = "transcript.text.delta"
    for piece in pieces(behaviour.text, behaviour.chunks):
        yield delta, {"type": delta, "delta": piece}
    done: Body = {"type": "transcript.text.done", "text": behaviour.text}
    yield done["type"], with_usage(done, _transcription_usage(behaviour), behaviour)


def models(known: tuple[str, ...]) -> Body:
    """The answer of ``/models``."""
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": CREATED, "owned_by": "loopback"}
            for name in known
        ],
    }
