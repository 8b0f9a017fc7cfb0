"""What the page of one call tells: its texts as messages, and the price that it was charged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from ai_ledger.pricing import Price
from ai_ledger.records import CallRecord
from ai_ledger.web.house import Desk

SHOWN_CHARS: Final = 20_000
"""Of each of prompt and answer, unless all of it is asked for."""
_MAX_MESSAGES: Final = 500


@dataclass(frozen=True)
class Block:
    """
    A piece of a prompt or an answer.

    Args:
        role: Who says it; ``None`` for a text without roles.
        text: As it is to be read.
    """

    role: str | None
    text: str


@dataclass(frozen=True)
class Reading:
    """
    A prompt or an answer.

    Args:
        blocks: What is shown of it.
        chars: How long all of it is.
        is_cut: Whether more is there than is shown.
    """

    blocks: tuple[Block, ...]
    chars: int
    is_cut: bool


def reading_of(content: str | None, *, whole: bool) -> Reading | None:
    """
    *content* as messages, where it is a conversation in JSON; else as text.

    Args:
        content: What was stored; ``None`` when nothing was.
        whole: All of it, however long.
    """
    if content is None:
        return None
    blocks: list[Block] = []
    left = SHOWN_CHARS
    is_cut = False
    for block in _blocks(content):
        if not whole and len(block.text) > left:
            is_cut = True
            block = Block(block.role, block.text[:left])
        left -= len(block.text)
        blocks.append(block)
        if is_cut:
            break
    return Reading(tuple(blocks), len(content), is_cut)


def price_of(desk: Desk, call: CallRecord) -> Price | None:
    """The price entry that *call* was charged by, if it is still known."""
    if call.price_id is None:
        return None
    prices = desk.house.ledger.prices
    for price in prices:
        if price.id == call.price_id:
            return price
    found = prices.price_of(call)
    return found if found is not None and found.id == call.price_id else None


def _blocks(content: str) -> list[Block]:
    parsed: Any = None
    if content.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            parsed = json.loads(content)
    if parsed is None:
        return [Block(None, content)]
    if isinstance(parsed, dict) and list(cast("dict[str, Any]", parsed)) == ["input"]:
        # A response or an embedding was asked for, and this is all that was sent.
        sent: Any = cast("dict[str, Any]", parsed)["input"]
        if isinstance(sent, str):
            return [Block(None, sent)]
        parsed = sent
    messages = _messages(parsed)
    if messages is None:
        return [Block(None, _pretty(parsed))]
    return [_block(each) for each in messages]


def _messages(parsed: Any) -> Sequence[Mapping[str, Any]] | None:
    """The messages of a conversation; ``None`` when it is something else."""
    if isinstance(parsed, dict):
        whole = cast("dict[str, Any]", parsed)
        # Nothing beside them would be lost from sight.
        if set(whole) - {"messages"} or "messages" not in whole:
            return [whole] if _is_message(whole) else None
        parsed = whole["messages"]
    if not isinstance(parsed, list):
        return None
    found = cast("list[Any]", parsed)
    if not found or len(found) > _MAX_MESSAGES or not all(map(_is_message, found)):
        return None
    return found


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(cast("dict[str, Any]", value).get("role"), str)


def _block(message: Mapping[str, Any]) -> Block:
    content = message.get("content")
    parts = cast("list[Any]", content) if isinstance(content, list) else [content]
    texts = [_part(part) for part in parts if part is not None]
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    if rest:
        texts.append(_pretty(rest))
    return Block(message["role"], "\n".join(texts))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        text = cast("dict[str, Any]", part).get("text")
        if isinstance(text, str) and not set(cast("dict[str, Any]", part)) - {"type", "text"}:
            return text
    return _pretty(part)


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
