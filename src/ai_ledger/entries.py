"""Entries: calls that are already over, put on the books by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from ai_ledger.answers import to_text
from ai_ledger.bounds import MAX_ERROR_CHARS, label, storable
from ai_ledger.context import Context, current_context
from ai_ledger.errors import InvalidValue
from ai_ledger.records import (
    ALIASES,
    CONTEXT_FIELDS,
    TOKEN_FIELDS,
    CallRecord,
    Status,
    new_id,
    utc_now,
)
from ai_ledger.secrets import scrub
from ai_ledger.validation import (
    checked_cost,
    checked_count,
    checked_duration,
    checked_http_status,
    checked_moment,
    checked_status,
    checked_usage,
)

_CONTEXT: Final = frozenset((*CONTEXT_FIELDS, "operation", "provider", "tags"))
_FIELDS: Final = frozenset((*CallRecord.__struct_fields__, "success", "total_tokens")) - _CONTEXT
# Made or decided by the ledger and its stores, whoever says otherwise.
_NOT_GIVEN: Final = ("id", "price_id", "deleted_at")


def entry(given: Mapping[str, Any], content_of: Callable[[str], str | None]) -> CallRecord:
    """
    The record that *given* describes, within the present context.

    Args:
        given: Fields of a record or their aliases; unknown names become tags.
        content_of: Gives back what of a prompt or an answer may be stored.

    Raises:
        InvalidValue: A value that no record can hold, or two words for one thing
            that say different things; names the field.
    """
    values, context = _said(given)
    merged = current_context().merged(Context.of(context))
    usage = checked_usage(
        {name: values.get(name) for name in (*TOKEN_FIELDS, "total_tokens")},
        values.get("usage_source"),
    )
    cost, currency = _cost(values, given)
    started = values.get("started_at")
    return CallRecord(
        id=new_id(),
        started_at=utc_now() if started is None else checked_moment("started_at", started),
        status=_status(values.get("status"), values.get("success")),
        **{name: checked_duration(name, values.get(name)) for name in _DURATIONS},
        **{name: checked_text(name, values.get(name)) for name in _TEXTS},
        request_model=checked_text("model", values.get("request_model")),
        error_message=_error_message(values.get("error_message")),
        http_status=checked_http_status(values.get("http_status")),
        retries=checked_count("retries", values.get("retries")) or 0,
        streamed=bool(values.get("streamed")),
        operation=merged.operation or "chat",
        provider=merged.provider,
        usage_source=usage.source,
        **{name: getattr(usage, name) for name in TOKEN_FIELDS},
        cost=cost,
        currency=currency,
        price_id=None if cost is None else "provider",
        **{name: getattr(merged, name) for name in CONTEXT_FIELDS},
        tags=merged.tags,
        request_content=_content(values.get("request_content"), content_of),
        response_content=_content(values.get("response_content"), content_of),
    )


def _said(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of *given* a record holds by our names, and what its context does."""
    values: dict[str, Any] = {}
    context: dict[str, Any] = {}
    first: dict[str, str] = {}
    for name, value in given.items():
        field = ALIASES.get(name, name)
        if field in _NOT_GIVEN:
            raise InvalidValue(name, value, "nothing: the ledger decides this itself")
        if value is None:
            continue
        said = first.setdefault(field, name)
        # 7 and "7" are one id, 0.1 and "0.1" one amount.
        if said != name and value != given[said] and str(value) != str(given[said]):
            raise InvalidValue(name, value, f"the same as {said}={given[said]!r:.80}")
        if field in _FIELDS:
            values[field] = value
        else:
            context[name] = value
    return values, context


_DURATIONS: Final = ("duration_ms", "time_to_first_token_ms")
_TEXTS: Final = (
    "error_type",
    "server_address",
    "response_model",
    "response_id",
    "service_tier",
    "finish_reason",
)


def checked_text(name: str, value: object) -> str | None:
    """*value* as a name of at most 255 characters, or ``None``."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidValue(name, value, "a text")
    return label(value)


def _status(status: object, success: object) -> Status:
    checked = checked_status(status, success)
    if success is not None and success != (checked == "success"):
        raise InvalidValue("success", success, f"{not success} beside status={status!r}")
    return checked


def _cost(values: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Decimal | None, str | None]:
    if values.get("cost") is None:
        return None, None
    # This alias says its currency in its name.
    if given.get("cost_usd") is None:
        return checked_cost(values["cost"], values.get("currency"))
    if values.get("currency", "USD") != "USD":
        raise InvalidValue("currency", values["currency"], "USD, as the cost is called cost_usd")
    return checked_cost(values["cost"], "USD")


def _error_message(message: object) -> str | None:
    if message is None:
        return None
    return scrub(storable(str(message)[: 4 * MAX_ERROR_CHARS]))[:MAX_ERROR_CHARS]


def _content(content: object, content_of: Callable[[str], str | None]) -> str | None:
    if content is None:
        return None
    return content_of(content if isinstance(content, str) else to_text(content))
