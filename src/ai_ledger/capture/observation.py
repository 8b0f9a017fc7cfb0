"""One request of an SDK under observation: begun, answered or failed, accounted for once."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final, cast

from ai_ledger.answers import read_answer
from ai_ledger.calls import CallFailed, OpenCall, status_of
from ai_ledger.capture import recorded
from ai_ledger.capture.boundary import note
from ai_ledger.capture.chunks import Assembly, assembly_for
from ai_ledger.capture.credentials import credentials_of
from ai_ledger.capture.endpoints import (
    TEXT_OPERATIONS,
    USAGE_ON_REQUEST,
    operation_of,
    path_of,
    provider_of,
)
from ai_ledger.capture.streams import Body, hide_usage, is_stream, watch_bytes, watch_stream
from ai_ledger.context import EMPTY, Context, current_context
from ai_ledger.defaults import default_ledger
from ai_ledger.errors import CallRefused
from ai_ledger.interruptions import passes
from ai_ledger.ledger import Ledger
from ai_ledger.policy import Policy
from ai_ledger.usage import as_mapping

RAW_HEADER: Final = "X-Stainless-Raw-Response"
_MAX_REFUSERS: Final = 1_000
# Servers that refused `stream_options`, by base URL, for the life of the process.
_refusers: set[str] = set()

observing: ContextVar[Observation | None] = ContextVar("ai_ledger_observing", default=None)
"""The request that the SDK is busy with here and now."""


def done_observing(token: Token[Observation | None]) -> None:
    """Undo ``observing.set``."""
    # A coroutine that is thrown away unfinished is closed in another context.
    with suppress(ValueError):
        observing.reset(token)


class Tracking:
    """
    What a tracked client knows beside what its SDK knows. Never changed, only replaced.

    Args:
        ledger: Where calls go; ``None`` asks for the default at the first call.
        base: The client's own context. The ambient one wins over it.
        nearest: What ``with_context`` said last. It wins over the ambient one.
        policies: Asked after the ledger's.
    """

    __slots__ = ("_merged", "_server", "base", "ledger", "nearest", "policies")

    def __init__(
        self,
        ledger: Ledger | None = None,
        base: Context = EMPTY,
        nearest: Context = EMPTY,
        policies: tuple[Policy, ...] = (),
    ) -> None:
        self.ledger = ledger
        self.base = base
        self.nearest = nearest
        self.policies = policies
        self._server: tuple[object, str, str | None] = (None, "", None)
        self._merged: tuple[Context, Context] | None = None

    def nearer(self, context: Context) -> Tracking:
        """The same, with *context* said nearest to the call."""
        return Tracking(self.ledger, self.base, self.nearest.merged(context), self.policies)

    def context(self) -> Context:
        """Everything known about the caller here and now."""
        ambient = current_context()
        merged = self._merged
        if merged is None or merged[0] is not ambient:
            merged = (ambient, self.base.merged(ambient).merged(self.nearest))
            self._merged = merged
        return merged[1]

    def server(self, client: Any) -> tuple[str, str | None]:
        """Host and provider of *client*; read again only when its base URL is another."""
        # The attribute behind the property, because the property makes a new URL each time.
        url = client.__dict__.get("_base_url") or client.base_url
        known, host, provider = self._server
        if known is not url:
            host = str(url.host or "")
            provider = provider_of(host)
            if provider is None and "Azure" in type(client).__name__:
                provider = "azure"
            self._server = (url, host, provider)
        return host, provider

    def observe(self, client: Any, options: Any, *, stream: bool) -> Observation | None:
        """
        Begin to watch a request, to be admitted next; ``None`` when it is none of ours.

        Raises:
            ContextMissing: What the ledger requires was not set. Nothing else is ever raised,
                but what the program itself raises by a signal.
        """
        outer = observing.get()
        if outer is not None and outer.client is client:
            return None  # one request, hooked at two levels of the same client
        ledger = self.ledger
        try:
            operation = operation_of(options.method, options.url)
            if operation is None:
                return None
            if ledger is None:
                # Asked for each time: `use_ledger` may have made it another.
                ledger = default_ledger()
            recorded.begun()
            return self._begin(ledger, client, options, operation, stream=stream)
        except CallRefused:
            raise
        except Exception as problem:
            if passes(problem):
                raise
            note(ledger, "a call could not be observed", problem)
            return None

    def _begin(
        self, ledger: Ledger, client: Any, options: Any, operation: str, *, stream: bool
    ) -> Observation:
        body = cast("Mapping[str, Any]", options.json_data or {})
        if not isinstance(body, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            body = {}
        if options.extra_json:
            body = {**body, **options.extra_json}
        if any(
            not getattr(policy, "reads_only", False)
            for policy in (*ledger.policies, *self.policies)
        ):
            # Policies see what will be sent, and cannot change it.
            body = cast("Mapping[str, Any]", _copied(body))
        host, provider = self.server(client)
        model = body.get("model")
        key = getattr(client, "api_key", None)
        call = ledger.open_call(
            operation=operation,
            provider=provider,
            server_address=host,
            request_model=None if model is None else str(model),
            streamed=stream,
            request=MappingProxyType(body),
            context=self.context(),
            secrets=(key,) if isinstance(key, str) else (),
            policies=self.policies,
        )
        return Observation(ledger, client, call, path_of(options.url))


# What the classes that an SDK answers with are, so that each is looked at once.
_kinds: weakref.WeakKeyDictionary[type[Any], str] = weakref.WeakKeyDictionary()


def _kind_of(result: Any) -> str:
    if is_stream(result):
        return "stream"
    if hasattr(result, "parse") and hasattr(result, "http_response"):
        return "raw"
    return "answer"


def _copied(value: Any) -> Any:
    """*value* with dictionaries and lists of its own."""
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_copied(each) for each in cast("list[Any]", value)]
    return value


class Observation:
    """Watches one request from the moment before it is sent to its end."""

    def __init__(self, ledger: Ledger, client: Any, call: OpenCall, path: str) -> None:
        self._ledger = ledger
        self.client = client
        self.call = call
        self.sent: Any = None
        """What to send in place of the caller's options, which are never changed."""
        self.options: Any = None
        """The same, with the request for usage that the caller did not make."""
        self._path = path
        self._response: Any = None
        self._assembly: Assembly | None = None
        self._failure: str | None = None
        self._first = True

    # Before

    def admit(self, options: Any, *, stream: bool) -> None:
        """
        Ask the policies, then make ready what is to be sent: `options`, if not the caller's.

        Raises:
            CallRefused: A policy refused the call. Nothing else is ever raised, but
                what the program itself has raised into a policy.
        """
        try:
            self._ledger.admit(self.call)
        except Exception as problem:  # noqa: BLE001  # looked at there
            self._look_at(problem)
        self.guard(self._make_ready, options, stream)

    async def aadmit(self, options: Any, *, stream: bool) -> None:
        """`admit` for coroutines."""
        try:
            await self._ledger.aadmit(self.call)
        except Exception as problem:  # noqa: BLE001  # the boundary around bookkeeping
            self._look_at(problem)
        self.guard(self._make_ready, options, stream)

    def _look_at(self, problem: Exception) -> None:
        # On the books already: a policy has ended the call with it.
        if isinstance(problem, CallRefused) or self.call.ledgered is not None:
            raise problem
        self._ledger.note("a call could not be read in full", problem)

    def _make_ready(self, options: Any, stream: bool) -> None:
        revised = self.call.revised
        if revised is not None:
            options = copy.copy(options)
            options.json_data = dict(revised)
            options.extra_json = None
            self.sent = options
        self._ask_for_usage(options, stream)

    def _ask_for_usage(self, options: Any, stream: bool) -> None:
        """Ask for usage in a stream, unless the caller said yes or no himself."""
        if not stream or self._path not in USAGE_ON_REQUEST:
            return
        given = (self.call.request or {}).get("stream_options")
        if isinstance(given, Mapping) and "include_usage" in given:
            return
        if str(self.client.base_url) in _refusers or self._is_streamed_by_hand(options):
            return
        changed = copy.copy(options)
        wanted = {**(cast("Mapping[str, Any]", given) or {}), "include_usage": True}
        changed.json_data = {**options.json_data, "stream_options": wanted}
        self.options = changed

    @staticmethod
    def _is_streamed_by_hand(options: Any) -> bool:
        # Who reads the lines of a stream himself would see the extra chunk.
        # The headers are a mapping, or the SDK's NotGiven.
        headers = as_mapping(options.headers)
        return headers.get(RAW_HEADER) == "stream"

    def should_repeat(self, error: BaseException) -> bool:
        """Whether the request failed only because the ledger asked for usage."""
        if self.options is None or getattr(error, "status_code", None) not in (400, 422):
            return False
        if "stream_options" not in str(error) and "include_usage" not in str(error):
            return False
        if len(_refusers) < _MAX_REFUSERS:
            _refusers.add(str(self.client.base_url))
        self.options = None
        return True

    # After

    def responded(self, response: Any, retries: int) -> None:
        """The SDK has the response's head, and is about to make its result of it."""
        self._response = response
        self.call.retries = retries
        self.call.http_status = response.status_code

    def answered(self, result: Any, *, stream: bool) -> None:
        """The SDK has its *result*, and the caller is about to get it."""
        # First of all, and on its own: the caller must not see what the ledger asked for.
        if self.options is not None:
            self.guard(self._hide_usage, result)
        try:
            self._answered(result, stream)
        except BaseException as problem:
            # Nobody will tell how it ends.
            self.guard(self.call.finish)
            if passes(problem):
                raise
            self._ledger.note("an answer could not be read", problem)

    def _hide_usage(self, result: Any) -> None:
        if is_stream(result):
            hide_usage(result)
        elif hasattr(result, "parse"):
            self._hide_usage_in(result)

    def _answered(self, result: Any, stream: bool) -> None:
        call = self.call
        of = cast("type[Any]", type(result))
        kind = _kinds.get(of)
        if kind is None:
            kind = _kinds.setdefault(of, _kind_of(result))
        if kind == "stream":
            self._expect_stream()
            watch_stream(result, self)
            return
        if kind == "raw" or result is self._response:
            self._answered_raw(result, stream)
            return
        call.answer = read_answer(result)
        self._expect_text()
        recorded.remember(result, call.answer.response_id)
        call.finish()

    def _answered_raw(self, result: Any, stream: bool) -> None:
        """The caller gets the response itself, read already or still to be read."""
        response = self._response
        content_type = response.headers.get("content-type", "")
        body = Body(self, content_type)
        if response.is_closed and not stream:
            body.feed(response.content)
            body.finish()
            self._expect_text()
            self.call.finish()
            return
        if stream:
            self._expect_stream()
        else:
            self._expect_text()
        watch_bytes(response, self, body)

    def _hide_usage_in(self, result: Any) -> None:
        parse = result.parse

        def parsed(*args: Any, **kwargs: Any) -> Any:
            stream = parse(*args, **kwargs)
            if is_stream(stream):
                self.guard(hide_usage, stream)
            return stream

        result.parse = parsed

    def _expect_stream(self) -> None:
        self._expect_text()
        self._assembly = assembly_for(self.call.begun.operation, self._path)
        self.call.so_far = self._assembly.answer

    def _expect_text(self) -> None:
        if self.call.begun.operation in TEXT_OPERATIONS:
            self.call.expects_usage = True

    def read(self, body: object) -> None:
        """The caller has read this JSON, to its end."""
        self.call.answer = read_answer(body)
        recorded.remember(None, self.call.answer.response_id)

    def see(self, chunk: Any) -> None:
        """A chunk goes by."""
        try:
            if self._assembly is not None and self._assembly.see(chunk) and self._first:
                self._first = False
                self.call.first_token()
        except Exception as problem:  # noqa: BLE001  # the boundary around bookkeeping
            self._ledger.note("a chunk could not be read", problem)

    def told(self, error: object) -> None:
        """The provider says within the stream that something went wrong."""
        self._failure = str(as_mapping(error).get("message") or error)

    # The end, of which the first counts

    def ended(self) -> None:
        """Everything has been read."""
        self.guard(self._ended)

    def _ended(self) -> None:
        failure = self._failure
        if failure is None and self._assembly is not None:
            failure = self._assembly.failure
        if failure is not None:
            self._finish("failed", CallFailed(failure))
        else:
            self._finish("success")

    def closed(self) -> None:
        """The caller has closed the stream or let it go, perhaps before its end."""
        if self._assembly is not None and self._assembly.complete:
            self.ended()
        else:
            self.guard(self._finish, "cancelled")

    def failed(self, error: BaseException) -> None:
        """The SDK raises *error*, or whoever reads the stream was interrupted by it."""
        self.guard(self._read_error, error)
        self.guard(self._failed, error)

    def _failed(self, error: BaseException) -> None:
        self._finish(status_of(error), error)

    def _read_error(self, error: BaseException) -> None:
        response = getattr(error, "response", None)
        status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
        if isinstance(status, int):
            self.call.http_status = status
        # The SDK counts its attempts in a header of each request it sends.
        request = getattr(error, "request", None) or getattr(response, "request", None)
        headers = getattr(request, "headers", None)
        if headers is not None:
            self.call.retries = int(headers.get("x-stainless-retry-count") or self.call.retries)

    def _know_credentials(self, error: BaseException) -> None:
        # What was sent with the request may come back in what is said of it.
        request = getattr(error, "request", None) or getattr(self._response, "request", None)
        self.call.secrets = (*self.call.secrets, *credentials_of(self.client, request))

    def _finish(self, status: Any, error: BaseException | None = None) -> None:
        call = self.call
        if call.ledgered is None:
            if error is not None:
                self.guard(self._know_credentials, error)
            call.finish(status, error)
            if self._assembly is not None and call.answer is not None:
                recorded.remember(None, call.answer.response_id)

    def guard(self, step: Callable[..., Any], *args: Any) -> None:
        """Take a *step* of bookkeeping that must not disturb the call if it fails."""
        try:
            step(*args)
        except CallRefused:
            raise
        except Exception as problem:
            if passes(problem):
                raise
            self._ledger.note("a call could not be read in full", problem)
