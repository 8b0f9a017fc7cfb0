"""
Messages: prompts and answers in the form that the conventions give them.

Their schemas are ``gen-ai-input-messages.json`` and ``gen-ai-output-messages.json`` of
https://github.com/open-telemetry/semantic-conventions/tree/v1.41.1/docs/gen-ai.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

Part: TypeAlias = dict[str, Any]

UNKNOWN: Final = "unknown"
"""Why an answer ended, where nobody says; there has to be something."""
ERROR: Final = "error"

_FINISHED: Final[Mapping[str, str]] = {
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "tool_use": "tool_call",
}
# Of parts, and of items that stand in the place of a message.
_CALLS: Final = ("tool_use", "function_call", "custom_tool_call")
_RESPONSES: Final = ("tool_result", "function_call_output", "custom_tool_call_output")
_REASONING: Final = ("reasoning_content", "reasoning")
_BESIDE_TEXT: Final = frozenset(("tool_calls", "function_call", *_REASONING))


def input_messages(content: str) -> str:
    """
    What was asked, as a JSON list of messages with a role and parts.

    Args:
        content: As records keep it: a request's messages, or ``input`` or ``prompt``, as
            JSON; a text that is none, was cut short or is nested too deep to be read is one
            message of the user.
    """
    try:
        return _encoded(list(_asked(msgspec.json.decode(content))))
    except (msgspec.MsgspecError, RecursionError):
        return _encoded([_message("user", content)])


def output_messages(content: str, finish_reason: str | None, *, failed: bool = False) -> str:
    """
    What was answered, as a JSON list of one message.

    Args:
        content: As records keep it: a text, or JSON where there is more to it than a text.
        finish_reason: Why it ended, in the provider's words.
        failed: Whether it ended with an error, which is why if nothing else is said.
    """
    said = finish_reason or (ERROR if failed else UNKNOWN)
    ended = {"finish_reason": _FINISHED.get(said, said)}
    try:
        return _encoded([_answered(content) | ended])
    except (msgspec.MsgspecError, RecursionError):
        return _encoded([_message("assistant", content) | ended])


def _asked(request: Any) -> Iterator[dict[str, Any]]:
    if isinstance(request, Mapping):
        fields = _fields(cast("Any", request))
        for name in ("system", "instructions"):
            if fields.get(name) is not None:
                yield _message("system", fields[name])
        for name in ("messages", "input", "prompt"):
            if fields.get(name) is not None:
                yield from _listed(fields[name])
    else:
        yield from _listed(request)


def _listed(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, list):
        yield _message("user", value)
        return
    for each in cast("list[Any]", value):
        fields = _fields(each)
        if "role" in fields:
            yield _message(str(fields["role"]), fields.get("content"), fields)
        elif fields.get("type") in _CALLS:
            yield _message("assistant", each)
        elif fields.get("type") in _RESPONSES:
            yield _message("tool", each)
        else:
            yield _message("user", each)


def _answered(content: str) -> dict[str, Any]:
    if content[:1] not in ("{", "["):
        return _message("assistant", content)
    answer = msgspec.json.decode(content)
    if _is_message(answer):
        return _message("assistant", answer["content"], answer)
    if isinstance(answer, list):
        several = cast("list[Any]", answer)
        if any(map(_is_part, several)) and all(isinstance(x, str) or _is_part(x) for x in several):
            return _message("assistant", several)
    # Else it is what the model has written.
    return _message("assistant", answer if _is_part(answer) else content)


def _is_message(answer: Any) -> bool:
    """Whether it is what `answers` makes of a message that is more than a text."""
    names = _fields(answer).keys()
    more = names - {"content"}
    return "content" in names and bool(more) and more <= _BESIDE_TEXT


def _is_part(answer: Any) -> bool:
    return _fields(answer).get("type") in (*_CALLS, *_RESPONSES)


def _fields(value: Any) -> Mapping[str, Any]:
    """What *value* says by name, which is nothing if it is no object."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _message(role: str, content: Any, whole: Mapping[str, Any] | None = None) -> dict[str, Any]:
    fields: Mapping[str, Any] = whole or {}
    if fields and role in ("tool", "function"):
        return {"role": "tool", "parts": [_response(fields.get("tool_call_id"), content)]}
    parts: list[Part] = [
        {"type": "reasoning", "content": thought}
        for name in _REASONING
        if isinstance(thought := fields.get(name), str) and thought
    ]
    for part in cast("list[Any]", content) if isinstance(content, list) else [content]:
        if part is not None:
            parts.append(_part(part))
    calls = fields.get("tool_calls")
    for call in cast("list[Any]", calls) if isinstance(calls, list) else ():
        parts.append(_call(call))
    if isinstance(fields.get("function_call"), Mapping):
        parts.append(_call({"function": fields["function_call"]}))
    return {"role": role, "parts": parts}


def _part(part: Any) -> Part:
    if isinstance(part, str):
        return {"type": "text", "content": part}
    fields = _fields(part)
    kind, text = fields.get("type"), fields.get("text")
    if isinstance(text, str):
        return {"type": "text", "content": text}
    if kind in _CALLS:
        return _call(part)
    if kind in _RESPONSES:
        whose = fields.get("call_id", fields.get("tool_use_id"))
        return _response(whose, fields.get("output", fields.get("content")))
    if kind == "thinking" and isinstance(fields.get("thinking"), str):
        return {"type": "reasoning", "content": fields["thinking"]}
    # Images, files: as they were, inside one part.
    return {"type": "generic", "content": part}


def _call(call: Any) -> Part:
    """A tool that the model wants to be called, in any API's words."""
    fields = _fields(call)
    for name in ("function", "custom"):
        fields = {**fields, **_fields(fields.get(name))}
    if not isinstance(fields.get("name"), str):
        return {"type": "generic", "content": call}
    given = fields.get("arguments", fields.get("input"))
    found = {"type": "tool_call", "name": fields["name"], "arguments": _arguments(given)}
    return _with_id(found, fields.get("call_id", fields.get("id")))


def _response(whose: Any, content: Any) -> Part:
    return _with_id({"type": "tool_call_response", "response": content}, whose)


def _with_id(part: Part, identity: Any) -> Part:
    return {**part, "id": identity} if isinstance(identity, str) else part


def _arguments(given: Any) -> Any:
    """As the object that it is the text of, as far as it is complete."""
    if isinstance(given, str):
        try:
            return msgspec.json.decode(given)
        except (msgspec.MsgspecError, RecursionError):
            return given
    return given


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()
