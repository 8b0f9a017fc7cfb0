"""The decorator: names the function behind a call, and records answers that nobody tracked."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast, overload

from ai_ledger.answers import Answer, looks_like_answer, read_answer
from ai_ledger.calls import OpenCall, status_of
from ai_ledger.capture import recorded
from ai_ledger.capture.boundary import note
from ai_ledger.context import (
    Context,
    as_label,
    async_stepped,
    current_context,
    stepped,
    within,
)
from ai_ledger.defaults import default_ledger, given_ledger
from ai_ledger.errors import AILedgerError
from ai_ledger.ledger import Ledger

F = TypeVar("F", bound=Callable[..., Any])


@overload
def track_ai_usage(function: F, /) -> F: ...


@overload
def track_ai_usage(
    function: str | None = None,
    model: str | None = None,
    /,
    *,
    ledger: Ledger | None = None,
    **context: Any,
) -> Callable[[F], F]: ...


def track_ai_usage(
    function: Any = None,
    model: str | None = None,
    /,
    *,
    ledger: Ledger | None = None,
    **context: Any,
) -> Any:
    """
    Name the function behind the calls made inside, and record what is not tracked.

    For functions, coroutines, generators, async generators and methods; bare,
    or with arguments::

        @track_ai_usage("real-time analysis", "qwen-plus", user_id="user_id")
        def analyse(text, user_id): ...

    Calls of tracked clients inside get the context. If the function returns a
    provider's answer that no tracked client recorded, that answer is recorded;
    if it raises without a tracked call, and *model* is given, a failed call is.
    No call is ever counted twice.

    Args:
        function: What reports call it; the function's qualified name otherwise.
        model: The model of answers that do not name theirs.
        ledger: Where untracked answers go; the default ledger otherwise.
        context: As for `call_context`. A value may also be a callable, which is
            given one object with all arguments of the function as attributes
            (``user_id=lambda call: call.user.id``), or the name of one of its
            parameters. If a callable fails, that is logged and the field left out.

    Raises:
        InvalidValue: At once, for a context value of the wrong kind.
    """
    if callable(function) or isinstance(function, classmethod):
        return _decorated(cast("Callable[..., Any]", function), None, None, ledger, {})

    def decorate(decorated: F) -> F:
        return cast("F", _decorated(decorated, function, model, ledger, context))

    return decorate


def _decorated(
    function: Callable[..., Any],
    name: str | None,
    model: str | None,
    ledger: Ledger | None,
    context: dict[str, Any],
) -> Callable[..., Any]:
    if isinstance(function, (staticmethod, classmethod)):
        method = cast("Any", function)
        return type(method)(_decorated(method.__func__, name, model, ledger, context))
    tracked = _Tracked(function, name, model, ledger, context)

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        run = tracked.run(args, kwargs)
        with run:
            result = run.returned(within(run.context, function)(*args, **kwargs))
        # Another decorator may hide that this is a coroutine function.
        return awaited(run, result) if inspect.iscoroutine(result) else result

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        run = tracked.run(args, kwargs)
        return await awaited(run, within(run.context, function)(*args, **kwargs))

    async def awaited(run: _Run, running: Coroutine[Any, Any, Any]) -> Any:
        with run:
            return run.returned(await running)

    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run = tracked.run(args, kwargs)
        inside = current_context().merged(run.context)
        return run.generator(stepped(function(*args, **kwargs), inside, run))

    @functools.wraps(function)
    def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        run = tracked.run(args, kwargs)
        inside = current_context().merged(run.context)
        return async_stepped(function(*args, **kwargs), inside, run)

    if inspect.iscoroutinefunction(function):
        return coroutine
    if inspect.isasyncgenfunction(function):
        return async_generator
    if inspect.isgeneratorfunction(function):
        return generator
    return plain


class _Tracked:
    """A decorated function, and what its decorator was told."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        model: str | None,
        ledger: Ledger | None,
        context: dict[str, Any],
    ) -> None:
        self.model = model
        self._ledger = given_ledger(ledger)
        self._signature: Final = inspect.signature(function)
        parameters = self._signature.parameters
        self._callables = {key: value for key, value in context.items() if callable(value)}
        self._parameters = {
            key: value
            for key, value in context.items()
            if isinstance(value, str) and value in parameters
        }
        fixed = {
            key: value
            for key, value in context.items()
            if key not in self._callables and key not in self._parameters
        }
        self.context: Final = Context.of({"function": name or function.__qualname__, **fixed})

    @property
    def ledger(self) -> Ledger:
        return self._ledger or default_ledger()

    def _ledger_if_any(self) -> Ledger | None:
        try:
            return self.ledger
        except AILedgerError:
            return None  # it cannot be opened, which is told when there is something to record

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Run:
        """One run of the function, with the context that its arguments feed."""
        context = self.context
        if self._callables or self._parameters:
            context = context.merged(self._fed(args, kwargs))
        return _Run(self, context)

    def _fed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context:
        values: dict[str, Any] = {}
        try:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = SimpleNamespace(**bound.arguments)
            for field, parameter in self._parameters.items():
                values[field] = bound.arguments.get(parameter)
            for field, read in self._callables.items():
                values[field] = read(arguments)
            return Context.of(values)
        except Exception as problem:  # noqa: BLE001  # the boundary around bookkeeping
            told = (
                "a decorator's context could not be read from arguments; a callable is "
                "given one object with all of them as attributes"
            )
            note(self._ledger_if_any(), told, problem)
            return Context.of({k: v for k, v in values.items() if _is_label(k, v)})


def _is_label(name: str, value: object) -> bool:
    try:
        as_label(name, value)
    except ValueError:
        return False
    return True


_ENDS: Final = (StopIteration, StopAsyncIteration, GeneratorExit)
"""How generators end that nothing is wrong with."""


class _Run:
    """One run of a decorated function: its context, and what was recorded inside."""

    def __init__(self, tracked: _Tracked, context: Context) -> None:
        self._tracked = tracked
        self.context = context
        self._scope = recorded.Scope(recorded.scope.get())
        self._started = time.perf_counter()

    def __enter__(self) -> None:
        self._token = recorded.scope.set(self._scope)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # The event loop finalises async generators in a context of its own.
        with suppress(ValueError):
            recorded.scope.reset(self._token)
        if error is not None and not isinstance(error, _ENDS):
            self._raised(error)

    def generator(self, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """*body*, whose returned value is looked at in the end."""
        result = yield from body
        with self:
            return self.returned(result)

    def returned(self, result: Any) -> Any:
        """Look at the *result*, and give it back."""
        self._returned(result)
        return result

    def _returned(self, result: Any) -> None:
        ledger: Ledger | None = None
        try:
            if not looks_like_answer(result):
                return
            answer = read_answer(result)
            if recorded.knows(result, answer.response_id):
                return
            recorded.remember(result, answer.response_id)
            ledger = self._tracked.ledger
            call = self._open(ledger, answer)
            call.answer = answer
            call.finish()
        except Exception as problem:  # noqa: BLE001  # the boundary around bookkeeping
            note(ledger, "an answer could not be recorded", problem)

    def _raised(self, error: BaseException) -> None:
        if self._tracked.model is None or self._scope.calls:
            return
        ledger: Ledger | None = None
        try:
            self._scope.count()
            ledger = self._tracked.ledger
            self._open(ledger, Answer()).finish(status_of(error), error)
        except Exception as problem:  # noqa: BLE001  # the boundary around bookkeeping
            note(ledger, "a failure could not be recorded", problem)

    def _open(self, ledger: Ledger, answer: Answer) -> OpenCall:
        """A call that was over before it was noticed: policies are not asked any more."""
        return ledger.open_call(
            operation="chat",
            provider=None,
            server_address=None,
            request_model=self._tracked.model or answer.response_model,
            context=current_context().merged(self.context),
            started=self._started,
            ask=False,
        )
