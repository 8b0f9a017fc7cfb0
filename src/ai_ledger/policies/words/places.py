"""Places: where in a request's body there is text that a person may have written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

Path: TypeAlias = tuple[str | int, ...]

# What holds text, or what holds such things, in the APIs of OpenAI, Anthropic and DashScope.
_TEXT_KEYS: Final = frozenset(
    {
        "messages",
        "content",
        "text",
        "input",
        "instructions",
        "prompt",
        "negative_prompt",
        "variables",
        "system",
        "output",
        "refusal",
        "arguments",
        "tool_calls",
        "function_call",
        "function",
        "prediction",
        "suffix",
        "query",
        "documents",
        "summary",
        "parts",
        "contents",
    }
)
# Under these every text is one, whatever it is called: values that the user filled in.
_FREE_KEYS: Final = frozenset({"variables"})
_DATA_URL: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w.+=-]+)*,", re.ASCII)
MAX_DEPTH: Final = 64


class TooDeep(Exception):
    """A body nested deeper than any API understands."""


class Place(msgspec.Struct, frozen=True):
    """A text and where it stands."""

    path: Path
    text: str
    is_json: bool = False
    goes_on: bool = False
    """Whether it is the next part of the message that the place before is a part of."""


def places_of(body: Mapping[str, Any]) -> list[Place]:
    """
    All texts of *body*, in order.

    Raises:
        TooDeep: It is nested deeper than `MAX_DEPTH`.
    """
    found: list[Place] = []
    for key, value in body.items():
        if key in _TEXT_KEYS:
            _collect(value, (key,), found, free=key in _FREE_KEYS)
    return found


def _collect(value: Any, path: Path, found: list[Place], *, free: bool) -> None:
    if isinstance(value, str):
        if value and not _DATA_URL.match(value):
            key = path[-1]
            found.append(Place(path, value, is_json=key == "arguments"))
        return
    if len(path) > MAX_DEPTH:
        raise TooDeep
    if isinstance(value, (list, tuple)):
        many = cast("list[Any]", value)
        # Parts of one message; not messages, and not texts to embed.
        parts = path[-1] in ("content", "system", "output", "parts", "summary")
        before = -1
        for index, each in enumerate(many):
            begin = len(found)
            _collect(each, (*path, index), found, free=free)
            if parts and before >= 0 and len(found) > begin:
                found[begin] = msgspec.structs.replace(found[begin], goes_on=True)
            before = len(found) - 1 if len(found) > begin else before
        return
    fields = fields_of(value)
    if fields is None:
        return
    # The input of a tool, as Anthropic's API has it, is what a model or a user filled in.
    filled_in = fields.get("type") == "tool_use"
    for key, each in fields.items():
        if free or key in _TEXT_KEYS:
            inner = free or key in _FREE_KEYS or (filled_in and key == "input")
            _collect(each, (*path, key), found, free=inner)


def fields_of(value: Any) -> dict[str, Any] | None:
    """*value* as a mapping, if it is one or a model of some SDK; else ``None``."""
    if isinstance(value, Mapping):
        return cast("dict[str, Any]", value)
    dump = getattr(value, "model_dump", None)
    if dump is None:
        return None
    return dump(mode="json", exclude_unset=True)


def with_texts(body: Mapping[str, Any], texts: Mapping[Path, str]) -> dict[str, Any]:
    """A body with *texts* in their places; what is not on the way to one is shared with *body*."""
    changed: dict[str, Any] = dict(body)
    copies: dict[Path, Any] = {(): changed}
    for path, text in texts.items():
        at: Any = changed
        for depth, step in enumerate(path[:-1], 1):
            inner = copies.get(path[:depth])
            if inner is None:
                inner = at[step]
                fields = fields_of(inner)
                inner = list(inner) if fields is None else dict(fields)
                copies[path[:depth]] = at[step] = inner
            at = inner
        at[path[-1]] = text
    return changed


def in_json(text: str) -> str:
    """*text* as it stands inside of a string in JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
