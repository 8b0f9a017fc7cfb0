"""The loopback provider's ``/messages``, in Anthropic's shape."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ai_ledger.testing.answers import (
    Body,
    Event,
    calls_wanted,
    counts_of,
    new_response_id,
    pieces,
    said_by,
    with_usage,
)
from ai_ledger.testing.behaviour import Behaviour


def message(request: Body, behaviour: Behaviour) -> Body:
    """The whole answer."""
    body = _envelope(request, behaviour)
    body["content"] = _blocks(request, behaviour)
    body["stop_reason"] = _stop_reason(request, behaviour)
    return with_usage(body, message_usage(request, behaviour), behaviour)


def message_usage(request: Body, behaviour: Behaviour) -> Body:
    """
    The usage, whose ``input_tokens`` leave the cached ones out, as Anthropic's do.

    ``Behaviour.input_tokens`` is all of the input here too: 100 with 20 cached
    is reported as 80 and 20.
    """
    calls = calls_wanted(request, behaviour)
    said = "".join(a + b for a, b in calls) if calls else said_by(request, behaviour)
    counts = counts_of(request, behaviour, said)
    return {
        "input_tokens": counts.input - counts.cached - counts.cache_write,
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.output,
        "service_tier": behaviour.service_tier or "standard",
    }


def message_events(request: Body, behaviour: Behaviour) -> Iterator[Event]:
    """The stream, from ``message_start`` to ``message_stop``."""

    def event(kind: str, **data: object) -> Event:
        return kind, {"type": kind, **data}

    usage = message_usage(request, behaviour)
    start = with_usage(_envelope(request, behaviour), {**usage, "output_tokens": 1}, behaviour)
    yield event("message_start", message=start)
    for index, block in enumerate(_blocks(request, behaviour)):
        is_text = block["type"] == "text"
        empty: Body = {**block, "text": ""} if is_text else {**block, "input": {}}
        yield event("content_block_start", index=index, content_block=empty)
        for piece in pieces(block["text"] if is_text else json.dumps(block["input"])):
            delta = (
                {"type": "text_delta", "text": piece}
                if is_text
                else {"type": "input_json_delta", "partial_json": piece}
            )
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    delta = {"stop_reason": _stop_reason(request, behaviour), "stop_sequence": None}
    last: Body = {"type": "message_delta", "delta": delta}
    # The last count is cumulative: it takes the place of the first one.
    yield "message_delta", with_usage(last, usage, behaviour)
    yield event("message_stop")


def _blocks(request: Body, behaviour: Behaviour) -> list[Body]:
    calls = calls_wanted(request, behaviour)
    if calls:
        return [
            {
                "type": "tool_use",
                "id": new_response_id("toolu_"),
                "name": name,
                "input": json.loads(arguments),
            }
            for name, arguments in calls
        ]
    return [{"type": "text", "text": said_by(request, behaviour), "citations": None}]


def _stop_reason(request: Body, behaviour: Behaviour) -> str:
    called = bool(calls_wanted(request, behaviour))
    return behaviour.finish_reason or ("tool_use" if called else "end_turn")


def _envelope(request: Body, behaviour: Behaviour) -> Body:
    return {
        "id": new_response_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": behaviour.model or request.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
