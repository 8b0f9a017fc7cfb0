"""The trial: one small real call that says whether a model answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ai_ledger.capture.credentials import credentials_of
from ai_ledger.catalog.entries import ModelEntry
from ai_ledger.errors import CallRefused, ConfigurationError
from ai_ledger.records import CallRecord, Status
from ai_ledger.secrets import scrub

if TYPE_CHECKING:
    from ai_ledger.policy import Revision

OPERATIONS: Final = ("chat", "embeddings")
PURPOSE: Final = "connection_test"
"""The ``business_type`` of such calls."""
MAX_TIMEOUT_S: Final = 30.0
_TOKENS: Final = 16
_MAX_TEXT: Final = 300


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came back of one small call."""

    __test__ = False  # no test of pytest's

    model: str
    ok: bool
    status: Status
    http_status: int | None = None
    latency_ms: float | None = None
    response_model: str | None = None
    """The model that answered."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None
    """In units of ``currency``; ``None`` when unpriced."""
    currency: str | None = None
    price_id: str | None = None
    call_id: str | None = None
    """That of the call's record."""
    error_type: str | None = None
    error: str | None = None
    """Without secrets."""


class Listener:
    """Admits a call and keeps its record."""

    reads_only = True

    def __init__(self) -> None:
        self.record: CallRecord | None = None

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """Admit."""
        self.record = call

    def settle(self, record: CallRecord) -> None:
        """Keep."""
        self.record = record


def try_out(client: Any, model: ModelEntry, operation: str) -> BaseException | None:
    """
    Make one small call, once and within `MAX_TIMEOUT_S`; what it raised.

    Raises:
        ConfigurationError: There is no such operation.
    """
    if operation not in OPERATIONS:
        raise ConfigurationError(
            f"operation={operation!r}: expected one of {', '.join(OPERATIONS)}"
        )
    client = client.with_options(
        max_retries=0, timeout=min(model.timeout_s or MAX_TIMEOUT_S, MAX_TIMEOUT_S)
    )
    _stay(client)
    # The word that this model's parameters use; newer models refuse the older one.
    newer = "max_completion_tokens"
    limit = newer if newer in model.parameters else "max_tokens"
    try:
        if operation == "embeddings":
            client.embeddings.create(model=model.name, input="ping")
        else:
            client.chat.completions.create(
                model=model.name,
                messages=[{"role": "user", "content": "ping"}],
                **{limit: _TOKENS},
            )
    except Exception as error:  # noqa: BLE001  # what is wrong is what was asked for
        return error
    return None


def _stay(client: Any) -> None:
    """Let calls go to the address in the catalogue alone: a redirect is an error."""
    http = getattr(client, "_client", None)
    if http is not None:
        http.follow_redirects = False


def result_of(
    model: ModelEntry,
    client: Any,
    record: CallRecord | None,
    error: BaseException | None,
    begun: float,
) -> TestResult:
    """The result of a call that began at *begun*, by `time.perf_counter`."""
    if isinstance(error, CallRefused):
        # Told only to whoever had admitted it.
        status: Status = "circuit_open" if error.status == "circuit_open" else "blocked"
        record = None
    else:
        status = "failed" if error is not None else "success"
    if record is None:
        return TestResult(
            model=model.name,
            ok=error is None,
            status=status,
            latency_ms=(time.perf_counter() - begun) * 1000,
            error_type=type(error).__name__ if error else None,
            error=_told(error, client),
        )
    return TestResult(
        model=model.name,
        ok=error is None and record.status == "success",
        status=record.status if record.status != "unfinished" else status,
        http_status=record.http_status,
        latency_ms=record.duration_ms,
        response_model=record.response_model,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cost=record.cost,
        currency=record.currency,
        price_id=record.price_id,
        call_id=record.id,
        error_type=type(error).__name__ if error else record.error_type,
        error=record.error_message or _told(error, client),
    )


def _told(error: BaseException | None, client: Any) -> str | None:
    if error is None:
        return None
    key = getattr(client, "api_key", None)
    known = (key,) if isinstance(key, str) else ()
    return scrub(str(error), (*known, *credentials_of(client, None)))[:_MAX_TEXT]
