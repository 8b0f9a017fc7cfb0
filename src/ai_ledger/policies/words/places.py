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
        "reasoning_content",
        "source",
    }
)
# Definitions of tools and of answers' shapes. In them only what is written for the model
# to read: other texts are names that the answer has to repeat, addresses, or keys.
_DEFINITION_KEYS: Final = frozenset({"tools", "functions", "response_format", "format"})
_WRITTEN_KEYS: Final = frozenset(
    {"description", "server_description", "title", "$comment", "examples", "default"}
)
# Under these every text is one, whatever it is called: values that the user filled in.
_FREE_KEYS: Final = frozenset({"variables"})
_DOCUMENT_KEYS: Final = {"text": ("data",), "document": ("title", "context")}
_DATA_URL: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w.+=-]+)*,", re.ASCII)
MAX_DEPTH: Final = 64
JSON: Final = "\x00json"
"""A step of a path into what a text says as JSON. No key of an API is called so."""


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
        elif key in _DEFINITION_KEYS:
            _define(value, (key,), found)
    return found


def _define(value: Any, path: Path, found: list[Place]) -> None:
    """Collect what is written in a definition."""
    if isinstance(value, str):
        return
    if len(path) > MAX_DEPTH:
        raise TooDeep
    if isinstance(value, (list, tuple)):
        for index, each in enumerate(cast("list[Any]", value)):
            _define(each, (*path, index), found)
        return
    for key, each in (fields_of(value) or {}).items():
        # Properties may be called so, too; then a definition follows and no text.
        if key in _WRITTEN_KEYS and isinstance(each, (str, list, tuple)):
            _collect(each, (*path, key), found, free=True)
        else:
            _define(each, (*path, key), found)


def _collect(value: Any, path: Path, found: list[Place], *, free: bool) -> None:
    if isinstance(value, str):
        if value and not _DATA_URL.match(value):
            is_json = path[-1] == "arguments"
            inner = _from_json(value) if is_json or _has_escapes(value) else None
            if inner is None:
                found.append(Place(path, value, is_json=is_json))
            else:
                _collect(inner, (*path, JSON), found, free=True)
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
    kind = fields.get("type")
    filled_in = kind == "tool_use"
    # Its documents: the text of one is its data.
    more = _DOCUMENT_KEYS.get(str(kind), ())
    for key, each in fields.items():
        if free or key in _TEXT_KEYS or key in more:
            inner = free or key in _FREE_KEYS or (filled_in and key == "input")
            _collect(each, (*path, key), found, free=inner)
        elif key in _DEFINITION_KEYS:
            _define(each, (*path, key), found)


def _has_escapes(text: str) -> bool:
    """Whether *text* may be JSON in which letters are written as ``\\u654f``."""
    return "\\u" in text and text.lstrip()[:1] in ("{", "[", '"')


def _from_json(text: str) -> Any:
    """What *text* means, or ``None`` where another one may read another meaning from it."""

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is there twice")
        return found

    try:
        found = json.loads(text, object_pairs_hook=fields)
    except ValueError:
        return None
    return cast("Any", found) if isinstance(found, (dict, list)) else None


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
    inside: dict[Path, dict[Path, str]] = {}
    outside: dict[Path, str] = {}
    for path, text in texts.items():
        if JSON in path:
            at = path.index(JSON)
            inside.setdefault(path[:at], {})[path[at + 1 :]] = text
        else:
            outside[path] = text
    for path, changes in inside.items():
        outside[path] = _json_with(_at(body, path), changes)
    copies: dict[Path, Any] = {(): changed}
    for path, text in outside.items():
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


def _at(body: Any, path: Path) -> Any:
    for step in path:
        fields = fields_of(body)
        body = body[step] if fields is None else fields[cast("str", step)]
    return body


def _json_with(text: str, changes: Mapping[Path, str]) -> str:
    """JSON with other texts in it; spaces between its values are not kept."""
    changed = with_texts(
        {"": _from_json(text)}, {("", *path): new for path, new in changes.items()}
    )
    return json.dumps(changed[""], ensure_ascii=False)


def in_json(text: str) -> str:
    """*text* as it stands inside of a string in JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
