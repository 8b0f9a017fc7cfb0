"""The tracked client: the SDK's own client, whose requests go on the books."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ai_ledger.capture.observation import Tracking, done_observing, observing
from ai_ledger.context import Context
from ai_ledger.defaults import given_ledger
from ai_ledger.errors import ConfigurationError
from ai_ledger.options import policies_of

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger
    from ai_ledger.policy import Policy

C = TypeVar("C")

_TRACKING: Final = "_ai_ledger_tracking"


class _TrackedMeta(type):
    """Makes ``TrackedClient(client)`` give an object of the client's own, tracked, class."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        # The classes made from it are the SDK's, with the SDK's parameters.
        return (track if cls is TrackedClient else super().__call__)(*args, **options)

    @property
    def __signature__(cls) -> inspect.Signature:
        # Frameworks look at the parameters of a class: they are those of the SDK's.
        if cls is TrackedClient:
            return inspect.signature(track)
        own = inspect.signature(cls.__init__)
        return own.replace(parameters=[*own.parameters.values()][1:])


class TrackedClient(metaclass=_TrackedMeta):
    """
    *client*, with every call on the books.

    What comes back is an instance of the client's own class (``isinstance``
    holds) that shares its connections and settings. The client given is left
    as it was. Works for ``OpenAI``, ``AsyncOpenAI``, ``AzureOpenAI``,
    ``AsyncAzureOpenAI``, subclasses of them, and any SDK built on the same base
    client (Anthropic, Groq, Together, …).

    Args:
        client: The SDK's client.
        ledger: Where calls go; the default ledger of the moment otherwise.
        policies: Asked before each call of this client, after the ledger's own.
        context: What is true of every call of this client, as for
            `call_context`; what is said nearer to the call wins.
            ``provider="…"`` names who answers where the base URL does not tell.

    Raises:
        ConfigurationError: *client* is not built on the base client of these SDKs.
        InvalidValue: A context value of the wrong kind.
    """

    def with_context(self: C, **context: Any) -> C:
        """The same client for calls with *context*, which wins over all that is around them."""
        tracking: Tracking = getattr(self, _TRACKING)
        return _clone(self, type(self), tracking.nearer(Context.of(context)))


def track(
    client: C,
    /,
    *,
    ledger: Ledger | None = None,
    policies: Iterable[Policy] = (),
    **context: Any,
) -> C:
    """What ``TrackedClient(…)`` does."""
    ledger, policies = given_ledger(ledger), policies_of(policies)
    tracking = getattr(client, _TRACKING, None)
    if tracking is not None:
        # Tracked already: a copy with what is new, so that nothing is counted twice. An
        # instrumented client has tracking too, but not the class.
        kind = type(client)
        return _clone(
            client,
            kind if issubclass(kind, TrackedClient) else tracked_class(kind),
            Tracking(
                ledger or tracking.ledger,
                tracking.base.merged(Context.of(context)),
                tracking.nearest,
                (*tracking.policies, *policies),
            ),
        )
    kind = type(client)
    if not callable(getattr(kind, "request", None)) or not hasattr(kind, "_process_response"):
        raise ConfigurationError(
            f"TrackedClient({kind.__name__}): expected a client of openai, or of an SDK built on "
            "the same base client; for anything else there is ledger.call(…) and record_ai_usage(…)"
        )
    return _clone(
        client,
        tracked_class(kind),
        Tracking(ledger, Context.of(context), policies=policies),
    )


def _clone(client: C, kind: type[Any], tracking: Tracking) -> C:
    """An object of *kind* that shares everything with *client* but its resources and tracking."""
    clone = object.__new__(kind)
    bound = _cached_names(type(client))
    clone.__dict__.update(
        {name: value for name, value in client.__dict__.items() if name not in bound}
    )
    setattr(clone, _TRACKING, tracking)
    return cast("C", clone)


@functools.cache
def _cached_names(kind: type[Any]) -> frozenset[str]:
    """Attributes such as ``chat``: made once, and bound to the client they were read from."""
    return frozenset(
        name
        for base in kind.__mro__
        for name, value in vars(base).items()
        if isinstance(value, functools.cached_property)
    )


@functools.cache
def tracked_class(kind: type[Any]) -> type[Any]:
    """The tracked class of the SDK's *kind*: ``class TrackedOpenAI(TrackedClient, OpenAI)``."""

    def __init__(self: Any, *args: Any, ledger: Ledger | None = None, **options: Any) -> None:
        setattr(self, _TRACKING, Tracking(ledger))
        kind.__init__(self, *args, **options)

    # What help() and frameworks that look for parameters should see.
    functools.update_wrapper(__init__, kind.__init__)
    on_request, on_response = hooks(kind)
    body = {
        "__init__": __init__,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "__qualname__": f"Tracked{kind.__name__}",
        "copy": _copying(kind.copy),
        "with_options": _copying(kind.with_options),
        "request": on_request(kind.request),
        "_process_response": on_response(kind._process_response),  # noqa: SLF001  # the seam
    }
    meta = type(kind)
    if not issubclass(_TrackedMeta, meta):
        # The user's class has a metaclass of its own, such as ABCMeta.
        meta = type("_TrackedMeta", (_TrackedMeta, meta), {})
    else:
        meta = _TrackedMeta
    # The name stays, because the SDK sends it as its User-Agent.
    return meta(kind.__name__, (TrackedClient, kind), body)


def _copying(copy: Any) -> Any:
    @functools.wraps(copy)
    def tracked(self: Any, *args: Any, **options: Any) -> Any:
        copied = copy(self, *args, **options)
        setattr(copied, _TRACKING, getattr(self, _TRACKING))
        return copied

    return tracked


def tracking_of(client: Any) -> Tracking:
    """How *client* is tracked; clients of an instrumented SDK with the default ledger."""
    tracking = getattr(client, _TRACKING, None)
    if tracking is None:
        tracking = Tracking()
        setattr(client, _TRACKING, tracking)
    return tracking


def hooks(kind: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What wraps ``request`` and ``_process_response`` of the SDK's client class *kind*."""
    # In any base, because a subclass may hand on the coroutine from a plain function.
    is_async = any(inspect.iscoroutinefunction(vars(base).get("request")) for base in kind.__mro__)
    return (_async_request, _async_process) if is_async else (_request, _process)


# The four functions below are the whole hook. Every method of every resource of the SDK
# passes through `request`; `_process_response` is where it learns of the HTTP response.


def _request(request: Any) -> Any:
    @functools.wraps(request)
    def tracked(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        stream = bool(kwargs.get("stream"))
        observation = tracking_of(self).observe(self, options, stream=stream)
        if observation is None:
            return request(self, cast_to, options, *args, **kwargs)
        observation.admit(options, stream=stream)
        options = observation.sent or options
        token = observing.set(observation)
        try:
            try:
                result = request(self, cast_to, observation.options or options, *args, **kwargs)
            except Exception as error:
                if not observation.should_repeat(error):
                    raise
                result = request(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            observation.failed(error)
            raise
        finally:
            done_observing(token)
        observation.answered(result, stream=stream)
        return result

    return tracked


def _async_request(request: Any) -> Any:
    @functools.wraps(request)
    async def tracked(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        stream = bool(kwargs.get("stream"))
        observation = tracking_of(self).observe(self, options, stream=stream)
        if observation is None:
            return await request(self, cast_to, options, *args, **kwargs)
        await observation.aadmit(options, stream=stream)
        options = observation.sent or options
        token = observing.set(observation)
        try:
            try:
                result = await request(
                    self, cast_to, observation.options or options, *args, **kwargs
                )
            except Exception as error:
                if not observation.should_repeat(error):
                    raise
                result = await request(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            observation.failed(error)
            raise
        finally:
            done_observing(token)
        observation.answered(result, stream=stream)
        return result

    return tracked


def _process(process: Any) -> Any:
    @functools.wraps(process)
    def tracked(self: Any, **kwargs: Any) -> Any:
        observation = observing.get()
        if observation is not None and observation.client is self:
            observation.responded(kwargs.get("response"), kwargs.get("retries_taken", 0))
        return process(self, **kwargs)

    return tracked


def _async_process(process: Any) -> Any:
    @functools.wraps(process)
    async def tracked(self: Any, **kwargs: Any) -> Any:
        observation = observing.get()
        if observation is not None and observation.client is self:
            observation.responded(kwargs.get("response"), kwargs.get("retries_taken", 0))
        return await process(self, **kwargs)

    return tracked
