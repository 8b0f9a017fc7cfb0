"""Who is calling, and why: carried by contextvars to every call made inside."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from decimal import Decimal
from enum import Enum
from types import TracebackType
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast
from uuid import UUID

import msgspec

from ai_ledger.bounds import MAX_TAGS, label
from ai_ledger.errors import InvalidValue
from ai_ledger.records import ALIASES, CONTEXT_FIELDS, CallRecord

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the caller: the context fields of a record, and tags."""

    org_id: str | None = None
    user_id: str | None = None
    device_id: str | None = None
    session_id: str | None = None
    function: str | None = None
    business_type: str | None = None
    reference_id: str | None = None
    operation: str | None = None
    """In place of the operation that the request's path tells."""
    provider: str | None = None
    """In place of the provider that the base URL tells."""
    tags: dict[str, str] = {}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Context:
        """
        A context from keywords as a person types them.

        Aliases are accepted, numbers become text, ``None`` means not set, and
        unknown keywords become tags.

        Raises:
            InvalidValue: A value that is no text, number, UUID or enum; the name
                of a record's field that is read from the call; too many tags.
        """
        fields: dict[str, str] = {}
        tags: dict[str, str] = {}
        for name, value in values.items():
            field = ALIASES.get(name, name)
            if field == "tags" and isinstance(value, Mapping):
                given = cast("Mapping[str, Any]", value)
                tags.update(
                    {_tag(str(key)): as_label(str(key), each) for key, each in given.items()}
                )
            elif value is None:
                continue
            elif field in _OWN:
                fields[field] = as_label(name, value)
            elif field in _RECORD_FIELDS:
                raise InvalidValue(name, value, "a context field or a tag; this is read from calls")
            else:
                tags[_tag(name)] = as_label(name, value)
        if len(tags) > MAX_TAGS:
            raise InvalidValue("tags", sorted(tags), f"at most {MAX_TAGS} tags")
        return cls(**fields, tags=tags)

    def merged(self, inner: Context) -> Context:
        """This context with everything that *inner* sets in its place."""
        if inner is EMPTY:
            return self
        if self is EMPTY:
            return inner
        return Context(
            tags={**self.tags, **inner.tags} if self.tags else inner.tags,
            **{
                name: mine if (mine := getattr(inner, name)) is not None else getattr(self, name)
                for name in _OWN
            },
        )


_OWN: Final = (*CONTEXT_FIELDS, "operation", "provider")
_RECORD_FIELDS: Final = frozenset(CallRecord.__struct_fields__) - {"tags"}
EMPTY: Final = Context()


class _Entered(NamedTuple):
    owner: object
    before: Context
    said: Context


class _State(NamedTuple):
    """What is true here and now, and what was entered on the way to it."""

    context: Context
    # Here and not on the instances of `call_context`, which may be shared by threads.
    entered: tuple[_Entered, ...] = ()


_NOTHING: Final = _State(EMPTY)
_state: ContextVar[_State] = ContextVar("ai_ledger_context", default=_NOTHING)


def _enter(owner: object, said: Context) -> Context:
    state = _state.get()
    merged = state.context.merged(said)
    _state.set(_State(merged, (*state.entered, _Entered(owner, state.context, said))))
    return merged


def _leave(owner: object) -> None:
    """Undo *owner*'s last `_enter`, also when others have been entered since and not left."""
    entered = _state.get().entered
    for index in range(len(entered) - 1, -1, -1):
        if entered[index].owner is owner:
            break
    else:
        # Closed in another context than it was opened in, as an async generator
        # is when the event loop finalises it: there is nothing to undo here.
        return
    context = entered[index].before
    kept = list(entered[:index])
    for each in entered[index + 1 :]:
        kept.append(_Entered(each.owner, context, each.said))
        context = context.merged(each.said)
    _state.set(_State(context, tuple(kept)))


def _tag(name: str) -> str:
    # The ledger's own tags say how to read a record, costs included.
    if name.startswith("ai_ledger."):
        raise InvalidValue(name, name, "the name of a tag, which does not begin with ai_ledger.")
    return label(name)


def as_label(name: str, value: object) -> str:
    """
    An id or a name as a person gave it, as text.

    Raises:
        InvalidValue: It is neither text nor a number, UUID or enum of those.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return label(value)
    if isinstance(value, (int, float, Decimal, UUID)):
        return label(str(value))
    raise InvalidValue(name, value, "a text, a number or a UUID")


def current_context() -> Context:
    """The context that a call made here and now would get."""
    return _state.get().context


class call_context:  # in lower case because it reads as a statement, like contextlib's
    """
    Say who is calling and why, for every call made inside.

    A context manager and a decorator, for functions, coroutines, generators and
    async generators. Contexts nest; what the inner one sets wins. May be used
    again, also by several threads at once. Around a ``yield``, what a ``with``
    block says is seen by whoever takes the item, as with all context variables;
    decorate the generator to keep it inside.

    Args:
        context: ``org_id``, ``user_id``, ``device_id``, ``session_id``,
            ``function``, ``business_type``, ``reference_id``, their aliases, and
            any other keyword as a tag. Numbers become text, ``None`` is not set.

    Raises:
        InvalidValue: At once, for a value that is no text, number, UUID or enum.
    """

    def __init__(self, **context: Any) -> None:
        self._context = Context.of(context)

    def __enter__(self) -> Context:
        return _enter(self, self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _leave(self)

    def __call__(self, function: F) -> F:
        return within(self._context, function)


def within(context: Context, function: F) -> F:
    """*function*, running with *context* merged into its caller's; generators do not leak it."""
    if isinstance(function, (staticmethod, classmethod)):
        method = cast("Any", function)
        return cast("F", type(method)(within(context, method.__func__)))

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        owner = object()
        _enter(owner, context)
        try:
            result = function(*args, **kwargs)
        finally:
            _leave(owner)
        # Another decorator may hide that this is a coroutine function.
        return coroutine_of(result) if inspect.iscoroutine(result) else result

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await coroutine_of(function(*args, **kwargs))

    async def coroutine_of(running: Coroutine[Any, Any, Any]) -> Any:
        owner = object()
        _enter(owner, context)
        try:
            return await running
        finally:
            _leave(owner)

    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return stepped(function(*args, **kwargs), current_context().merged(context))

    @functools.wraps(function)
    def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        return async_stepped(function(*args, **kwargs), current_context().merged(context))

    if inspect.iscoroutinefunction(function):
        return cast("F", coroutine)
    if inspect.isasyncgenfunction(function):
        return cast("F", async_generator)
    if inspect.isgeneratorfunction(function):
        return cast("F", generator)
    return cast("F", plain)


class _Step:
    """What a generator's body sees while it runs, and nobody while it waits."""

    def __init__(self, inside: Context, around: AbstractContextManager[object]) -> None:
        self._state = _State(inside)
        self._around = around

    def __enter__(self) -> None:
        self._around.__enter__()
        self._token = _state.set(self._state)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._state = _state.get()
        # The event loop finalises async generators in a context of its own.
        with suppress(ValueError):
            _state.reset(self._token)
        self._around.__exit__(kind, error, traceback)


_AROUND: Final = nullcontext()


def stepped(
    generator: Generator[Any, Any, Any],
    inside: Context,
    around: AbstractContextManager[object] = _AROUND,
) -> Generator[Any, Any, Any]:
    """
    *generator*, with *inside* as its context while it runs and never while it waits.

    Args:
        generator: Not started yet.
        inside: The whole context.
        around: Entered again for each step of the generator.
    """
    step = _Step(inside, around)
    try:
        with step:
            item = next(generator)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  # belongs to the generator's body
                with step:
                    item = generator.throw(error)
            else:
                with step:
                    item = generator.send(sent)
    except StopIteration as stop:
        return stop.value
    finally:
        with step:
            generator.close()


async def async_stepped(
    generator: AsyncGenerator[Any, Any],
    inside: Context,
    around: AbstractContextManager[object] = _AROUND,
) -> AsyncGenerator[Any, Any]:
    """The async twin of `stepped`."""
    step = _Step(inside, around)
    try:
        with step:
            item = await anext(generator)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  # belongs to the generator's body
                with step:
                    item = await generator.athrow(error)
            else:
                with step:
                    item = await generator.asend(sent)
    except StopAsyncIteration:
        return
    finally:
        with step:
            await generator.aclose()


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """*function* with the context of now, wherever and however often it runs: for threads."""
    context = copy_context()

    @functools.wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        # A context can be entered once at a time; a copy costs nothing.
        return context.copy().run(function, *args, **kwargs)

    return bound


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` whose tasks run in the context that they were submitted from."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Schedule ``fn(*args, **kwargs)`` in the present context."""
        return super().submit(bind(fn), *args, **kwargs)
