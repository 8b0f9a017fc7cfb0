"""The account of one call: `CallRecord`, its `Usage`, and their words."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec

from ai_ledger.errors import InvalidValue

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7

Status: TypeAlias = Literal[
    "success", "failed", "timeout", "cancelled", "blocked", "circuit_open", "unfinished"
]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

UsageSource: TypeAlias = Literal["reported", "counted", "estimated", "unknown"]
USAGE_SOURCES: Final[tuple[UsageSource, ...]] = get_args(UsageSource)

# Databases add up in 64 bits: a thousand of the largest counts, or nine of the
# largest costs in nano-units, still fit, so that one absurd call spoils no total.
MAX_COUNT: Final = 2**53
"""Of tokens, retries or microseconds in one call. JSON numbers are exact up to here as well."""
MAX_COST: Final = 10**9
"""Of one call, in units of its currency."""

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
_Aware: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]

TOKEN_FIELDS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)
"""The counts of a call. Only input and output add up to a total; the rest are parts of them."""

CONTEXT_FIELDS: Final = (
    "org_id",
    "user_id",
    "device_id",
    "session_id",
    "function",
    "business_type",
    "reference_id",
)
"""Who is calling and why: what a context sets, besides tags."""

ALIASES: Final = {
    "create_time": "started_at",
    "timestamp": "started_at",
    "response_time": "duration_ms",
    "latency_ms": "duration_ms",
    "error_msg": "error_message",
    "service_type": "operation",
    "api_provider": "provider",
    "model": "request_model",
    "model_name": "request_model",
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cost_amount": "cost",
    "cost_usd": "cost",
    "site_id": "org_id",
    "sn_code": "device_id",
    "conversation_id": "session_id",
    "app_type": "business_type",
    "is_delete": "deleted_at",
}
"""Words of existing systems → ours. Accepted where a person types a name, and in imports."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """
    The token counts of a call, and where they come from.

    ``input_tokens`` contains the cached and audio ones, ``output_tokens`` the
    reasoning and audio ones: parts are never added to totals. ``None`` means
    that nobody said; 0 means that somebody said 0.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    source: UsageSource = "unknown"


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One call to a model and its outcome. Names follow the OpenTelemetry GenAI conventions.

    A record is a value: it never changes, and survives JSON unchanged. While a
    call is in flight its record exists with the status ``unfinished``; the
    finished one has the same ``id`` and takes its place.
    """

    id: str
    """UUIDv7, made when the call starts. The idempotency key everywhere."""
    started_at: _Aware
    """Aware; UTC in everything that this package makes."""
    status: Status = "success"
    duration_ms: float | None = None
    """Until the answer was complete, or the stream closed. Monotonic clock."""
    time_to_first_token_ms: float | None = None
    """Streams only: until the first chunk with content."""

    error_type: str | None = None
    error_message: str | None = None
    """Without secrets; at most 2,000 characters."""
    http_status: int | None = None

    operation: str = "chat"
    provider: str | None = None
    server_address: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    """The tier that served the call, when the answer says so."""
    finish_reason: str | None = None
    streamed: bool = False
    retries: int = 0

    input_tokens: _Count | None = None
    cache_read_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    output_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    audio_input_tokens: _Count | None = None
    audio_output_tokens: _Count | None = None
    usage_source: UsageSource = "unknown"

    cost: Decimal | None = None
    """In units of ``currency``; ``None`` when unpriced, never zero for that."""
    currency: str | None = None
    price_id: str | None = None
    """The price entry used, or ``provider`` when the provider stated the cost itself."""

    org_id: str | None = None
    user_id: str | None = None
    device_id: str | None = None
    session_id: str | None = None
    function: str | None = None
    business_type: str | None = None
    reference_id: str | None = None
    tags: dict[str, str] = {}

    request_content: str | None = None
    response_content: str | None = None
    deleted_at: _Aware | None = None
    """Set by a store alone."""

    @property
    def total_tokens(self) -> int | None:
        """Input + output; ``None`` when neither is known."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)

    @property
    def usage(self) -> Usage:
        """The counts of this call as one value."""
        return Usage(
            source=self.usage_source, **{name: getattr(self, name) for name in TOKEN_FIELDS}
        )

    def to_json(self) -> bytes:
        """One line of JSON without its newline: UTF-8, costs as decimal strings."""
        return _encoder.encode(self)

    @classmethod
    def from_json(cls, line: bytes | str) -> CallRecord:
        """
        The record that `to_json` wrote. Unknown keys are ignored.

        Raises:
            InvalidValue: Not JSON, or a field is missing or of the wrong kind; names it.
        """
        try:
            return _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
            raise InvalidValue("record", line, f"a call record as JSON ({error})") from error

    def replace(self, **changes: Any) -> CallRecord:
        """A copy with *changes*."""
        return msgspec.structs.replace(self, **changes)


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(CallRecord)


def new_id() -> str:
    """A fresh id: UUIDv7, ordered by time, made anywhere without asking anyone."""
    return str(uuid7())


def utc_now() -> datetime:
    """Now, aware, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)
