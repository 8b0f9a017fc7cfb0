"""How many tokens the loopback provider says that a text has."""

from __future__ import annotations

from typing import Any

# What carries no text that a model reads, or is counted elsewhere.
_NOT_TEXT = frozenset({"role", "type", "id", "tool_call_id", "url", "detail", "data", "format"})


def tokens_of(text: str) -> int:
    """One token for every four characters begun: ``""`` has 0, ``"hello"`` has 2."""
    return -(-len(text) // 4)


def input_tokens_of(body: dict[str, Any]) -> int:
    """
    The input tokens of a request: those of each text in its messages.

    Counted are the texts below ``messages``, ``prompt``, ``input``,
    ``instructions`` and ``system``, each rounded up for itself.
    """
    places = ("messages", "prompt", "input", "instructions", "system")
    return sum(tokens_of(text) for place in places for text in _texts(body.get(place)))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return [
            text
            for key, item in value.items()  # pyright: ignore[reportUnknownVariableType]
            if key not in _NOT_TEXT
            for text in _texts(item)
        ]
    return []
