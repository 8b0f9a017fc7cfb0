"""Attributes: what a record says, in the words of the conventions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, TypeAlias

from ai_ledger.records import CallRecord
from ai_ledger.sinks import semconv
from ai_ledger.sinks.labels import Values
from ai_ledger.sinks.opentelemetry.messages import input_messages, output_messages

Attributes: TypeAlias = dict[str, "str | bool | int | float | list[str]"]

IDENTITY: Final = {
    "org_id": semconv.ORG_ID,
    "user_id": semconv.USER_ID,
    "device_id": semconv.DEVICE_ID,
    "session_id": semconv.CONVERSATION_ID,
    "reference_id": semconv.REFERENCE_ID,
}
"""Field → attribute of spans, if it is asked for."""
ERRORS: Final = frozenset({"failed", "timeout", "blocked", "circuit_open", "unfinished"})
"""Statuses that are errors. Who cancels a call, or leaves a stream, has had enough of it."""

_COUNTS: Final = {
    "input_tokens": semconv.USAGE_INPUT_TOKENS,
    "output_tokens": semconv.USAGE_OUTPUT_TOKENS,
    "cache_read_tokens": semconv.USAGE_CACHE_READ_INPUT_TOKENS,
    "cache_write_tokens": semconv.USAGE_CACHE_CREATION_INPUT_TOKENS,
    "reasoning_tokens": semconv.USAGE_REASONING_OUTPUT_TOKENS,
}
_TEXTS: Final = {
    "response_id": semconv.RESPONSE_ID,
    "function": semconv.FUNCTION,
    "business_type": semconv.BUSINESS_TYPE,
    "price_id": semconv.PRICE_ID,
}


class Common:
    """
    The attributes that spans and metrics share.

    Args:
        most: How many values of each of them metrics tell apart.
    """

    def __init__(self, most: int) -> None:
        names = ("operation", "provider", "request_model", "response_model", "server_address")
        self._values = {name: Values(most) for name in (*names, "error_type")}

    def of_metric(self, record: CallRecord) -> Attributes:
        """Those of *record*, with few values."""
        few = {
            name: values.of(text)
            for name, values in self._values.items()
            if name != "error_type" and (text := getattr(record, name)) is not None
        }
        return _common(record.replace(**few))

    def error(self, record: CallRecord) -> Attributes:
        """What kind of error *record* ended with, if it did, as one of few."""
        if record.status not in ERRORS:
            return {}
        return {semconv.ERROR_TYPE: self._values["error_type"].of(error_of(record))}


def of_span(record: CallRecord, *, identity: Collection[str], content: bool) -> Attributes:
    """
    The attributes of the span of *record*.

    Args:
        record: Any.
        identity: Which of `IDENTITY` are told.
        content: Whether prompt and answer are.
    """
    found = {**_common(record), **_answered(record)}
    for field, name in (*_COUNTS.items(), *_TEXTS.items()):
        value = getattr(record, field)
        if value is not None:
            found[name] = value
    if record.retries:
        found[semconv.CALL_RETRIES] = record.retries
    if record.cost is not None and record.currency is not None:
        # There are no decimals among attributes; the exact amount is in the ledger.
        found[semconv.COST_AMOUNT] = float(record.cost)
        found[semconv.COST_CURRENCY] = record.currency
    found[semconv.CALL_ID] = record.id
    found[semconv.CALL_STATUS] = record.status
    found[semconv.USAGE_SOURCE] = record.usage_source
    for field, name in IDENTITY.items():
        if field in identity and (value := getattr(record, field)) is not None:
            found[name] = value
    return {**found, **_texts(record)} if content else found


def _answered(record: CallRecord) -> Attributes:
    """How the call was answered, or was not."""
    found: Attributes = {}
    if record.status in ERRORS:
        found[semconv.ERROR_TYPE] = error_of(record)
    if record.http_status is not None:
        found[semconv.HTTP_RESPONSE_STATUS_CODE] = record.http_status
    if record.streamed:
        found[semconv.REQUEST_STREAM] = True
    if record.finish_reason is not None:
        found[semconv.RESPONSE_FINISH_REASONS] = [record.finish_reason]
    if record.time_to_first_token_ms is not None:
        found[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = record.time_to_first_token_ms / 1000
    if record.service_tier is not None and _provider(record) in semconv.OPENAI_PROVIDERS:
        found[semconv.OPENAI_RESPONSE_SERVICE_TIER] = record.service_tier
    return found


def _texts(record: CallRecord) -> Attributes:
    found: Attributes = {}
    if record.request_content is not None:
        found[semconv.INPUT_MESSAGES] = input_messages(record.request_content)
    if record.response_content is not None:
        failed = record.status in ERRORS
        answer = output_messages(record.response_content, record.finish_reason, failed=failed)
        found[semconv.OUTPUT_MESSAGES] = answer
    return found


def error_of(record: CallRecord) -> str:
    """The kind of error that *record* ended with: what was raised, else its status."""
    return record.error_type or record.status


def _common(record: CallRecord) -> Attributes:
    found: Attributes = {
        semconv.OPERATION_NAME: operation_of(record),
        semconv.PROVIDER_NAME: _provider(record),
    }
    for name, value in (
        (semconv.REQUEST_MODEL, record.request_model),
        (semconv.RESPONSE_MODEL, record.response_model),
        (semconv.SERVER_ADDRESS, record.server_address),
    ):
        if value:
            found[name] = value
    return found


def operation_of(record: CallRecord) -> str:
    """The operation as the conventions call it."""
    return semconv.OPERATIONS.get(record.operation, record.operation)


def _provider(record: CallRecord) -> str:
    provider = record.provider or semconv.UNKNOWN_PROVIDER
    return semconv.PROVIDERS.get(provider, provider)
