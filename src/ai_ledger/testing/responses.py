"""The loopback provider's ``/responses``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ai_ledger.testing.answers import (
    CREATED,
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


def response(request: Body, behaviour: Behaviour) -> Body:
    """The whole answer."""
    return _finished(request, behaviour, new_response_id("resp_"), _items(request, behaviour))


def response_events(request: Body, behaviour: Behaviour) -> Iterator[Event]:
    """The stream, from ``response.created`` to ``response.completed``."""
    number = -1

    def event(kind: str, **data: Any) -> Event:
        nonlocal number
        number += 1
        return kind, {"type": kind, "sequence_number": number, **data}

    response_id = new_response_id("resp_")
    items = _items(request, behaviour)
    begun = _envelope(request, behaviour, response_id, "in_progress")
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(items):
        at: Body = {"output_index": index}
        here: Body = {**at, "item_id": item["id"]}
        empty = {**item, "status": "in_progress", **_emptied(item)}
        yield event("response.output_item.added", item=empty, **at)
        if item["type"] == "function_call":
            kind = "response.function_call_arguments"
            for piece in pieces(item["arguments"]):
                yield event(f"{kind}.delta", delta=piece, **here)
            named = {"name": item["name"], "arguments": item["arguments"]}
            yield event(f"{kind}.done", **named, **here)
        else:
            part = item["content"][0]
            here["content_index"] = 0
            yield event("response.content_part.added", part={**part, "text": ""}, **here)
            for piece in pieces(part["text"]):
                yield event("response.output_text.delta", delta=piece, logprobs=[], **here)
            yield event("response.output_text.done", text=part["text"], logprobs=[], **here)
            yield event("response.content_part.done", part=part, **here)
        yield event("response.output_item.done", item=item, **at)
    done = _finished(request, behaviour, response_id, items)
    yield event("response.completed", response=done)


def _emptied(item: Body) -> Body:
    return {"arguments": ""} if item["type"] == "function_call" else {"content": []}


def _items(request: Body, behaviour: Behaviour) -> list[Body]:
    calls = calls_wanted(request, behaviour)
    if calls:
        return [
            {
                "type": "function_call",
                "id": new_response_id("fc_"),
                "call_id": new_response_id("call_"),
                "name": name,
                "arguments": arguments,
                "status": "completed",
            }
            for name, arguments in calls
        ]
    said = said_by(request, behaviour)
    part: Body = {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
    return [
        {
            "type": "message",
            "id": new_response_id("msg_"),
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
    ]


def _finished(request: Body, behaviour: Behaviour, response_id: str, items: list[Body]) -> Body:
    body = {**_envelope(request, behaviour, response_id, "completed"), "output": items}
    said = "".join(
        item["name"] + item["arguments"]
        if item["type"] == "function_call"
        else item["content"][0]["text"]
        for item in items
    )
    counts = counts_of(request, behaviour, said)
    usage = {
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.cached},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input + counts.output,
    }
    return with_usage(body, usage, behaviour)


def _envelope(request: Body, behaviour: Behaviour, response_id: str, status: str) -> Body:
    return {
        "id": response_id,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "metadata": {},
        "model": behaviour.model or request.get("model"),
        "output": [],
        "parallel_tool_calls": True,
        "service_tier": behaviour.service_tier or "default",
        "temperature": 1.0,
        "text": request.get("text") or {"format": {"type": "text"}},
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "usage": None,
    }
