"""The loopback provider's ``/chat/completions``, in the dialects of several providers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ai_ledger.testing.answers import (
    CREATED,
    Body,
    Counts,
    Event,
    calls_wanted,
    counts_of,
    new_response_id,
    pieces,
    said_by,
    wants_stream_usage,
    with_usage,
)
from ai_ledger.testing.behaviour import Behaviour


def chat_completion(request: Body, behaviour: Behaviour) -> Body:
    """The whole answer."""
    calls = calls_wanted(request, behaviour)
    said = "" if calls else said_by(request, behaviour)
    message: Body = {"role": "assistant", "content": said or None, "refusal": None}
    if behaviour.reasoning:
        message["reasoning_content"] = behaviour.reasoning
    if calls:
        message["tool_calls"] = [_tool_call(name, given) for name, given in calls]
    choices = int(request.get("n") or 1)
    body = _envelope(request, behaviour, "chat.completion", new_response_id("chatcmpl-"))
    body["choices"] = [
        {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(behaviour, bool(calls)),
        }
        for index in range(choices)
    ]
    counts = counts_of(request, behaviour, said + _call_text(calls), choices)
    return with_usage(body, chat_usage(counts, behaviour), behaviour)


def chat_events(request: Body, behaviour: Behaviour) -> Iterator[Event]:
    """
    The stream: role, reasoning, text or tool calls, the finish reason, the usage.

    The usage has a chunk of its own without choices when it was asked for; Groq
    puts it into ``x_groq`` of the last chunk instead.
    """
    envelope = _envelope(request, behaviour, "chat.completion.chunk", new_response_id("chatcmpl-"))
    usage_follows = wants_stream_usage(request, behaviour) and behaviour.dialect != "groq"
    if usage_follows:
        envelope["usage"] = None
    choices = range(int(request.get("n") or 1))

    def chunk(delta: Body, finish: str | None = None) -> Iterator[Event]:
        for index in choices:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            yield None, {**envelope, "choices": [choice]}

    calls = calls_wanted(request, behaviour)
    said = "" if calls else said_by(request, behaviour)
    counts = counts_of(request, behaviour, said + _call_text(calls), len(choices))
    usage = chat_usage(counts, behaviour)

    yield from chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in pieces(behaviour.reasoning):
        yield from chunk({"reasoning_content": piece})
    for position, (name, given) in enumerate(calls):
        opened = {**_tool_call(name, ""), "index": position}
        yield from chunk({"tool_calls": [opened]})
        for piece in pieces(given):
            yield from chunk(
                {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}
            )
    for piece in pieces(said):
        yield from chunk({"content": piece})

    last = list(chunk({}, _finish(behaviour, bool(calls))))
    if behaviour.dialect == "groq":
        # Groq says it whether or not it was asked for.
        honest = with_usage({}, usage, behaviour)
        last[-1][1]["x_groq"] = {"id": new_response_id("req_"), **honest}
    yield from last
    if usage_follows:
        yield None, with_usage({**envelope, "choices": []}, usage, behaviour)


def chat_usage(counts: Counts, behaviour: Behaviour) -> Body:
    """The usage object, in the words of the behaviour's dialect."""
    usage: Body = {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
    }
    if behaviour.dialect == "openai":
        usage["prompt_tokens_details"] = {"cached_tokens": counts.cached, "audio_tokens": 0}
        usage["completion_tokens_details"] = {
            "reasoning_tokens": counts.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
    elif behaviour.dialect == "deepseek":
        usage["prompt_cache_hit_tokens"] = counts.cached
        usage["prompt_cache_miss_tokens"] = counts.input - counts.cached
        if counts.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning}
    elif behaviour.dialect == "dashscope":
        usage["prompt_tokens_details"] = {"cached_tokens": counts.cached}
    elif behaviour.dialect == "groq":
        usage |= {"queue_time": 0.001, "prompt_time": 0.001, "completion_time": 0.02}
        usage["total_time"] = 0.021
    else:
        usage["cost"] = 0.00014 if behaviour.cost is None else behaviour.cost
        usage["is_byok"] = False
        usage["prompt_tokens_details"] = {"cached_tokens": counts.cached}
        usage["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning}
    return usage


def _envelope(request: Body, behaviour: Behaviour, kind: str, response_id: str) -> Body:
    body: Body = {
        "id": response_id,
        "object": kind,
        "created": CREATED,
        "model": behaviour.model or request.get("model"),
        "system_fingerprint": "fp_loopback",
    }
    if behaviour.service_tier:
        body["service_tier"] = behaviour.service_tier
    return body


def _tool_call(name: str, arguments: str) -> Body:
    function: Any = {"name": name, "arguments": arguments}
    return {"id": new_response_id("call_"), "type": "function", "function": function}


def _call_text(calls: list[tuple[str, str]]) -> str:
    return "".join(name + arguments for name, arguments in calls)


def _finish(behaviour: Behaviour, called: bool) -> str:
    return behaviour.finish_reason or ("tool_calls" if called else "stop")
