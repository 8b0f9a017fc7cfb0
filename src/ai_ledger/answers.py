"""Answers: what a provider's response says about the call, whatever API it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from ai_ledger.bounds import label
from ai_ledger.usage import NOTHING, Reported, as_mapping, read_usage


class Answer(msgspec.Struct, kw_only=True):
    """The facts that a response states. ``None`` where it does not say."""

    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    finish_reason: str | None = None
    content: str | None = None
    """The text of the answer; JSON where it is more than one text."""
    reported: Reported = NOTHING
    expects_usage: bool = False
    """Whether an answer of this kind normally reports usage, so that its lack is worth a count."""


def read_answer(response: object, *, content: bool = True) -> Answer:
    """
    What *response* says, be it an SDK's model, a mapping or something else. Never raises.

    Args:
        response: The answer of a chat, completion, embeddings, responses,
            messages, image, audio or moderation endpoint, in any SDK's clothes.
        content: Whether its text is wanted.
    """
    fields = as_mapping(response)
    if not fields:
        text = response if isinstance(response, str) and content else None
        return Answer(content=text)
    answer = Answer(
        response_model=_text(fields.get("model")),
        response_id=_text(fields.get("id")) or _text(fields.get("request_id")),
        service_tier=_text(fields.get("service_tier")),
        reported=read_usage(fields.get("usage")),
    )
    choices = fields.get("choices")
    output = fields.get("output")
    if choices is None and isinstance(output, Mapping):
        # DashScope's own API wraps the same choices in an output.
        inner = cast("Mapping[str, Any]", output)
        choices, output = inner.get("choices"), inner.get("text")
    if isinstance(choices, list) and choices:
        _read_choices(answer, cast("list[object]", choices), content)
    elif isinstance(output, list):
        _read_output(answer, fields, cast("list[object]", output), content)
    elif isinstance(fields.get("content"), list):
        _read_blocks(answer, fields, content)
    else:
        text = output if isinstance(output, str) else fields.get("text")
        if content and isinstance(text, str):
            answer.content = text
    return answer


def labelled(answer: Answer) -> Answer:
    """*answer*, put together from chunks, with its names storable and bounded."""
    answer.response_model = _text(answer.response_model)
    answer.response_id = _text(answer.response_id)
    answer.service_tier = _text(answer.service_tier)
    answer.finish_reason = _text(answer.finish_reason)
    return answer


def looks_like_answer(value: object) -> bool:
    """Whether *value* is a provider's answer: it says so, or has usage beside what was asked."""
    if value is None or isinstance(value, (str, bytes, int, float)):
        return False
    fields = as_mapping(value)
    if not fields:
        return False
    if fields.get("object") in _KINDS:
        return True
    return "usage" in fields and any(
        name in fields for name in ("model", "choices", "output", "request_id")
    )


_KINDS = ("chat.completion", "text_completion", "response", "embedding")


def _text(value: object) -> str | None:
    return label(value) if isinstance(value, str) and value else None


def _read_choices(answer: Answer, choices: list[object], content: bool) -> None:
    answer.expects_usage = True
    views = [as_mapping(choice) for choice in choices]
    answer.finish_reason = _text(views[0].get("finish_reason"))
    if not content:
        return
    if len(views) == 1:
        message = as_mapping(views[0].get("message"))
        if message and not any(map(message.get, _BESIDE_TEXT)):
            # Nothing but a text, as almost always.
            text = message.get("content") or message.get("refusal")
            if text is None or isinstance(text, str):
                answer.content = text
                return
    texts: list[Any] = []
    for view in views:
        message = as_mapping(view.get("message"))
        if message:
            texts.append(_message(message))
        elif isinstance(view.get("text"), str):
            texts.append(view["text"])
    answer.content = joined(texts)


_BESIDE_TEXT = ("tool_calls", "function_call", "reasoning_content", "reasoning")


def _message(message: Mapping[str, Any]) -> Any:
    """A message as its text, or as a mapping when there is more to it than text."""
    text = message.get("content") or message.get("refusal")
    more = {name: plain(message.get(name)) for name in _BESIDE_TEXT if message.get(name)}
    return {"content": text, **more} if more else (text or "")


def _read_output(
    answer: Answer, fields: Mapping[str, Any], output: list[object], content: bool
) -> None:
    answer.expects_usage = True
    details = as_mapping(fields.get("incomplete_details"))
    answer.finish_reason = _text(details.get("reason")) or _text(fields.get("status"))
    if not content:
        return
    texts: list[Any] = []
    for item in output:
        view = as_mapping(item)
        if view.get("type") == "message":
            content_parts = view.get("content")
            parts = cast("list[object]", content_parts if isinstance(content_parts, list) else [])
            texts.extend(
                text
                for part in map(as_mapping, parts)
                if (text := part.get("text") or part.get("refusal"))
            )
        elif view.get("type") != "reasoning":
            texts.append(plain(item))
    answer.content = joined(texts)


def _read_blocks(answer: Answer, fields: Mapping[str, Any], content: bool) -> None:
    answer.expects_usage = True
    answer.finish_reason = _text(fields.get("stop_reason"))
    if content:
        blocks = [as_mapping(block) for block in fields["content"]]
        answer.content = joined(
            [
                block["text"] if isinstance(block.get("text"), str) else plain(block)
                for block in blocks
                if block.get("type") != "thinking"
            ]
        )


def joined(texts: list[Any]) -> str | None:
    """One text as it is, several things as JSON, nothing as ``None``."""
    if not texts:
        return None
    if len(texts) == 1 and isinstance(texts[0], str):
        return texts[0]
    return to_text(texts if len(texts) > 1 else texts[0])


def to_text(value: Any) -> str:
    """*value* as JSON, whatever it holds."""
    try:
        return _encoder.encode(value).decode()
    except (TypeError, ValueError, UnicodeError, RecursionError, msgspec.MsgspecError):
        return _encoder.encode(plain(value)).decode()


MAX_DEPTH = 12
MAX_NODES = 2_000


def plain(value: Any) -> Any:
    """
    *value* in the types that JSON has: models as mappings, bytes and strange objects by name.

    At most 12 levels deep and 2,000 nodes wide, so that no input takes long.
    """
    return _Plainer().plain(value, 0)


class _Plainer:
    def __init__(self) -> None:
        self.nodes = 0

    def plain(self, value: Any, depth: int) -> Any:
        self.nodes += 1
        if value is None or isinstance(value, (bool, int)):
            return value if value is None or -(2**63) <= value < 2**64 else str(value)
        if isinstance(value, float):
            return value if value - value == 0 else str(value)
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            return "[...]"
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"[{len(cast('bytes', value))} bytes]"
        if isinstance(value, (list, tuple, set, frozenset)):
            items = cast("Iterable[Any]", value)
            return [self.plain(item, depth + 1) for item in items]
        fields = as_mapping(value)
        if fields or isinstance(value, Mapping):
            return {
                str(name).encode("utf-8", "replace").decode(): self.plain(each, depth + 1)
                for name, each in fields.items()
                if each is not None
            }
        return f"[{type(value).__name__}]"


_encoder = msgspec.json.Encoder(enc_hook=plain)
