"""Messages: prompts and answers in the form that the conventions give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec


def input_messages(content: str) -> str:
    """
    What was asked, as a JSON list of messages with a role and parts.

    Args:
        content: As records keep it: a request's messages, or ``input`` or ``prompt``, as
            JSON; a text that is none, or was cut short, is one message of the user.
    """
    try:
        request = msgspec.json.decode(content)
    except msgspec.MsgspecError:
        request = content
    return _encoded(list(_asked(request)))


def output_messages(content: str, finish_reason: str | None) -> str:
    """What was answered, as a JSON list of one message."""
    message = _message("assistant", content)
    if finish_reason is not None:
        message["finish_reason"] = finish_reason
    return _encoded([message])


def _asked(request: Any) -> Iterator[dict[str, Any]]:
    if isinstance(request, Mapping):
        fields = cast("Mapping[str, Any]", request)
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
        if isinstance(each, Mapping) and "role" in each:
            fields = cast("Mapping[str, Any]", each)
            yield _message(str(fields["role"]), fields.get("content"), fields)
        else:
            yield _message("user", each)


def _message(role: str, content: Any, whole: Mapping[str, Any] | None = None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for part in cast("list[Any]", content) if isinstance(content, list) else [content]:
        text = cast("Any", part).get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str):
            parts.append({"type": "text", "content": text})
        elif part is not None:
            # Images, files, tool calls: as they were, inside one part.
            parts.append({"type": "generic", "content": part})
    for call in (whole or {}).get("tool_calls") or ():
        parts.append({"type": "tool_call", "content": call})
    return {"role": role, "parts": parts}


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()
