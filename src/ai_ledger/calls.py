"""A call in flight: from the moment it was noticed to its one and only end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from ai_ledger.answers import Answer, read_answer
from ai_ledger.bounds import MAX_ERROR_CHARS, label, storable
from ai_ledger.errors import CallRefused
from ai_ledger.interruptions import passes
from ai_ledger.money import rounded
from ai_ledger.records import CallRecord, Status, Usage
from ai_ledger.secrets import scrub
from ai_ledger.tokens import asked, estimate_tokens

if TYPE_CHECKING:
    from ai_ledger.policy import Policy

USAGE_PROBLEM_TAG: Final = "usage_problem"
"""Tag of records whose provider reported counts that cannot be: says which."""


class Books(Protocol):
    """What a call in flight needs of its ledger."""

    @property
    def keeps_content(self) -> bool:
        """Whether texts are kept as they are, so that they can be counted later."""
        ...

    def content_of(self, text: str, secrets: tuple[str, ...] = ()) -> str | None:
        """What of *text* may be stored."""
        ...

    def end_call(
        self,
        call: OpenCall,
        status: Status,
        error: BaseException | None = None,
        *,
        cost: tuple[Decimal, str] | None = None,
    ) -> None:
        """Put *call* on the books, the first time this is said."""
        ...

    def note(self, reason: str, error: BaseException | None = None) -> None:
        """Count something that went wrong."""
        ...


class OpenCall:
    """
    A call in flight. `finish` may be called often and by any thread; the first one counts.

    Attributes may be set until then.
    """

    __slots__ = (
        "__weakref__",
        "_ledger",
        "admitted",
        "answer",
        "begun",
        "expects_usage",
        "forgotten",
        "http_status",
        "ledgered",
        "marks",
        "policies",
        "request",
        "request_content",
        "retries",
        "revised",
        "secrets",
        "so_far",
        "started",
        "time_to_first_token_ms",
    )

    def __init__(
        self,
        ledger: Books,
        begun: CallRecord,
        request: Mapping[str, Any] | None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self._ledger = ledger
        self.begun = begun
        self.request = request
        self.request_content: str | None = None
        """What of the request may be stored. It is kept with the outcome only."""
        self.secrets = secrets
        self.started = time.perf_counter()
        self.admitted = 0
        """How many policies admitted the call and are owed its outcome."""
        self.policies: tuple[Policy, ...] = ()
        self.marks: Mapping[str, str] = {}
        """Tags that policies put on the record."""
        self.revised: Mapping[str, Any] | None = None
        """The body to send in place of the caller's, if a policy has changed it."""
        self.answer: Answer | None = None
        self.so_far: Callable[[], Answer] | None = None
        """Gives the answer while it comes in pieces. Must not hold on to the stream."""
        self.retries = 0
        self.http_status: int | None = None
        self.time_to_first_token_ms: float | None = None
        self.expects_usage = False
        """Whether tokens were spent even if nobody reported them: estimate, never zero."""
        self.forgotten = False
        """Whether its content and identity are to be left out, because someone asked meanwhile."""
        self.ledgered: CallRecord | None = None
        """The record, once finished."""

    def first_token(self) -> None:
        """Note that content has begun to arrive."""
        self.time_to_first_token_ms = self._elapsed_ms()

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 3)

    def finish(
        self,
        status: Status = "success",
        error: BaseException | None = None,
        *,
        cost: tuple[Decimal, str] | None = None,
    ) -> None:
        """
        Put the call on the books with everything known by now.

        Never raises, but what the program raises by a signal meanwhile; after that.

        Args:
            status: How it ended.
            error: What it raised, if it did.
            cost: Amount and currency, where they were stated.
        """
        raised: BaseException | None = None
        if self.so_far is not None and self.ledgered is None:
            try:
                self.answer = self.so_far()
            except BaseException as problem:  # noqa: BLE001  # the boundary around bookkeeping
                if passes(problem):
                    raised = problem
                else:
                    self._ledger.note("an answer could not be put together", problem)
        try:
            self._ledger.end_call(self, status, error, cost=cost)
        except BaseException as problem:  # noqa: BLE001  # the boundary around bookkeeping
            if passes(problem):
                raised = raised or problem
            else:
                self._ledger.note("a call could not be recorded", problem)
        if raised is not None:
            raise raised

    def outcome(
        self, status: Status, error: BaseException | None, *, content: bool = True
    ) -> CallRecord:
        """
        The finished record. For the ledger.

        Args:
            status: How it ended.
            error: What it raised, if it did.
            content: Whether with what was answered, which has to be redacted.
        """
        begun = self.begun
        answer = self.answer or _NO_ANSWER
        reported = answer.reported
        usage = reported.usage
        tags = begun.tags
        if reported.problem is not None:
            tags = {**tags, USAGE_PROBLEM_TAG: label(reported.problem)}
        if usage.input_tokens is None or usage.output_tokens is None:
            usage = self._completed(usage, answer)
        stated = None if reported.cost is None else rounded(reported.cost)
        return CallRecord(
            id=begun.id,
            started_at=begun.started_at,
            status=status,
            duration_ms=self._elapsed_ms(),
            time_to_first_token_ms=self.time_to_first_token_ms,
            error_type=type(error).__name__ if error is not None else None,
            error_message=self._message(error) if error is not None else None,
            http_status=self.http_status,
            operation=begun.operation,
            provider=begun.provider,
            server_address=begun.server_address,
            request_model=begun.request_model,
            response_model=answer.response_model,
            response_id=answer.response_id,
            service_tier=answer.service_tier,
            finish_reason=answer.finish_reason,
            streamed=begun.streamed,
            retries=self.retries,
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            audio_input_tokens=usage.audio_input_tokens,
            audio_output_tokens=usage.audio_output_tokens,
            usage_source=usage.source,
            cost=stated,
            currency="USD" if stated is not None else None,
            price_id="provider" if stated is not None else None,
            org_id=begun.org_id,
            user_id=begun.user_id,
            device_id=begun.device_id,
            session_id=begun.session_id,
            function=begun.function,
            business_type=begun.business_type,
            reference_id=begun.reference_id,
            tags=tags,
            request_content=self.request_content,
            response_content=self._ledger.content_of(answer.content, self.secrets)
            if content and answer.content is not None
            else None,
        )

    def _completed(self, usage: Usage, answer: Answer) -> Usage:
        """*usage* with what nobody reported filled in, if tokens were spent at all."""
        if not (self.expects_usage or answer.expects_usage):
            return usage
        input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
        if input_tokens is None and output_tokens is None and self._ledger.keeps_content:
            # The texts travel with the record, so the delivery thread counts them.
            return msgspec.structs.replace(usage, source="estimated")
        if input_tokens is None and self.request is not None:
            input_tokens = estimate_tokens(asked(content_part(self.request) or {}))
        if output_tokens is None:
            # Who answers has produced something, even if nobody looked at it.
            output_tokens = estimate_tokens(answer.content or "") or 1
        return msgspec.structs.replace(
            usage, input_tokens=input_tokens, output_tokens=output_tokens, source="estimated"
        )

    def _message(self, error: BaseException) -> str:
        text = scrub(storable(str(error)[: 4 * MAX_ERROR_CHARS]), self.secrets)
        return text[:MAX_ERROR_CHARS]


_NO_ANSWER: Final = Answer()

# What of a request is worth reading again. Everything else in a body is left out,
# so that a key in an extra field is never stored by accident.
_CONTENT_KEYS: Final = (
    "messages",
    "input",
    "prompt",
    "system",
    "instructions",
    "tools",
    "functions",
    "suffix",
)


def content_part(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of a request's body that says what was asked."""
    found = {key: body[key] for key in _CONTENT_KEYS if body.get(key) is not None}
    return found or None


class ManualCall:
    """
    A call that is accounted for by hand: ``with ledger.call(model=…) as call``.

    Without anything said it is a success with unknown usage. An exception
    leaving the block marks it failed (``timeout`` for a `TimeoutError`,
    ``cancelled`` for what is no `Exception`), and passes on.
    """

    def __init__(self, call: OpenCall) -> None:
        self._call = call
        self._usage: Usage | None = None
        self._cost: tuple[Decimal, str] | None = None

    @property
    def id(self) -> str:
        """The id of the record."""
        return self._call.begun.id

    @property
    def record(self) -> CallRecord | None:
        """The record, once the block has ended; not priced yet."""
        return self._call.ledgered

    def set_response(self, response: object) -> None:
        """Read model, usage, finish reason and text from a provider's answer."""
        self._call.answer = read_answer(response, content=True)

    def set_usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        **parts: int | None,
    ) -> None:
        """
        Say how many tokens were used; counts as ``reported``.

        Args:
            input_tokens: All input, cached included.
            output_tokens: All output, reasoning included.
            parts: ``cache_read_tokens`` and the other parts of `TOKEN_FIELDS`.

        Raises:
            InvalidValue: No such count, or one that is negative, too large or not whole.
        """
        from ai_ledger.validation import checked_usage

        self._usage = checked_usage(
            {"input_tokens": input_tokens, "output_tokens": output_tokens, **parts}
        )

    def set_cost(self, amount: Decimal | str | int, currency: str) -> None:
        """
        Say what the call cost, as the provider stated it.

        Raises:
            InvalidValue: Not a finite amount of at least 0, or no currency code.
        """
        from ai_ledger.validation import checked_cost

        self._cost = checked_cost(amount, currency)

    def set_retries(self, retries: int) -> None:
        """
        Say how often the request was repeated.

        Raises:
            InvalidValue: No whole number of at least 0.
        """
        from ai_ledger.validation import checked_count

        self._call.retries = checked_count("retries", retries) or 0

    def fail(self, error: BaseException | str) -> None:
        """End the call as failed without raising."""
        if isinstance(error, str):
            error = CallFailed(error)
        self._finish("failed", error)

    def __enter__(self) -> ManualCall:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish(status_of(error), error)

    async def __aenter__(self) -> ManualCall:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish(status_of(error), error)

    def _finish(self, status: Status, error: BaseException | None) -> None:
        call = self._call
        answer = call.answer or Answer()
        if self._usage is not None:
            answer.reported = answer.reported._replace(usage=self._usage)
        call.answer = answer
        call.finish(status, error, cost=self._cost)


class CallFailed(Exception):
    """Stands in a record for a failure that was told in words."""


def status_of(error: BaseException | None) -> Status:
    """The status of a call that raised *error*, or did not."""
    if error is None:
        return "success"
    if isinstance(error, CallRefused):
        return "circuit_open" if error.status == "circuit_open" else "blocked"
    if not isinstance(error, Exception) or type(error).__name__ == "CancelledError":
        return "cancelled"
    names = {base.__name__ for base in type(error).__mro__}
    # By name, because neither the SDKs nor their HTTP libraries are imported here.
    if isinstance(error, TimeoutError) or names & {"APITimeoutError", "TimeoutException"}:
        return "timeout"
    return "failed"
