"""What the loopback provider does with a request: `Behaviour`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


AS_COUNTED: Final = _Sentinel("AS_COUNTED")
"""Usage in the dialect's shape, with the counts of the request and the answer."""

MISSING: Final = _Sentinel("MISSING")
"""``usage=MISSING``: the answer has no usage at all (``usage=None``: it is ``null``)."""

Dialect: TypeAlias = Literal["openai", "deepseek", "dashscope", "groq", "openrouter"]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """
    How one request is answered. The defaults are a provider on a good day.

    Times are seconds. "Chunks" are the events of a stream, the first one
    included; for an answer that is not streamed, *drop_after* and *stall_after*
    cut or stop in the middle of the body, whatever their number.
    """

    # What the model says.
    text: str = "Hello! How can I help you today?"
    chunks: int | None = None
    """The text is repeated or cut so that a stream brings it in this many pieces."""
    reasoning: str = ""
    """Sent as ``reasoning_content``, before the text, as DeepSeek does."""
    tool_calls: Sequence[tuple[str, str]] | None = None
    """(name, arguments as JSON). ``None``: a request that offers functions gets a call of the
    first one, until a message with the role ``tool`` answers it; ``()``: never."""
    finish_reason: str | None = None
    model: str | None = None
    """The model that answers; the one that was asked for, when ``None``."""
    service_tier: str | None = None

    # What it says that this took.
    usage: Any = AS_COUNTED
    """Sent as it stands: a dict, ``None`` for ``null``, nonsense; or `MISSING`."""
    dialect: Dialect = "openai"
    input_tokens: int | None = None
    output_tokens: int | None = None
    """All of the output, reasoning included, of all choices."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    """Anthropic's messages only."""
    reasoning_tokens: int | None = None
    cost: float | None = None
    """OpenRouter's ``usage.cost``, in USD."""
    stream_usage: Literal["asked", "never", "always"] = "asked"
    refuses_stream_options: bool = False
    """400 for a request with ``stream_options``, as older servers answer."""

    # What goes wrong.
    status: int = 200
    """From 400 on: an error in the provider's shape, and ``retry-after-ms: 1``."""
    message: str | None = None
    """The message of the error."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sent besides, or in place of, the usual ones."""
    body: bytes | None = None
    """Sent as the whole body, under the content type of the request's usual answer."""
    delay: float = 0.0
    """Before anything is sent."""
    pace: float = 0.0
    """Between two chunks."""
    hang_up: bool = False
    """Close the connection and answer nothing."""
    drop_after: int | None = None
    """Close the connection after this many chunks."""
    stall_after: int | None = None
    """Send nothing more after this many chunks, for *stall* seconds, then go on."""
    stall: float = 30.0
    error_after: int | None = None
    """Send an error event after this many chunks and end the stream."""
    garbage_after: int | None = None
    """Send an event that is not JSON after this many chunks."""
    no_done: bool = False
    """End a chat stream without ``[DONE]``."""
    gzip: bool = False
    """Compress an answer that is not streamed."""
