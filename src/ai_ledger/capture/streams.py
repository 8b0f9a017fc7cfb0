"""Streams: watched as they go by, and accounted for exactly once however they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_ledger.capture.observation import Observation


class Watch:
    """
    One stream's way to its end: read out, failed, closed, dropped or cancelled.

    The caller keeps the SDK's own stream object. Inside it, the iterator is
    replaced by one that looks at each chunk, and the response's ``close`` by
    one that tells; a finalizer sees the streams that are simply let go.
    """

    __slots__ = ("observation", "reading")

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.reading = False
        """Inside the iterator. A close that happens there is the stream's own tidying up."""

    def feed(self, body: Body | None, piece: bytes | None) -> None:
        """Show *body* the *piece* that was just read, or ``None`` at the end."""
        if body is not None:
            if piece is None:
                self.observation.guard(body.finish)
            else:
                self.observation.guard(body.feed, piece)

    def closed(self) -> None:
        """The caller closed the stream, or let it go."""
        if not self.reading:
            self.observation.closed()

    def __del__(self) -> None:
        self.observation.closed()


class WatchedIterator:
    """In place of a stream's iterator: passes each chunk on after a look at it."""

    def __init__(self, iterator: Iterator[Any], watch: Watch) -> None:
        self._iterator = iterator
        self._watch = watch
        self._see = watch.observation.see

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        watch = self._watch
        watch.reading = True
        try:
            chunk = next(self._iterator)
        except StopIteration:
            watch.observation.ended()
            raise
        except BaseException as error:
            watch.observation.failed(error)
            raise
        watch.reading = False
        self._see(chunk)
        return chunk

    def close(self) -> None:
        """Close the iterator inside, as a generator is closed."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
        self._watch.closed()


class AsyncWatchedIterator:
    """The async twin of `WatchedIterator`."""

    def __init__(self, iterator: AsyncIterator[Any], watch: Watch) -> None:
        self._iterator = iterator
        self._watch = watch
        self._see = watch.observation.see

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        watch = self._watch
        watch.reading = True
        try:
            chunk = await anext(self._iterator)
        except StopAsyncIteration:
            watch.observation.ended()
            raise
        except BaseException as error:
            watch.observation.failed(error)
            raise
        watch.reading = False
        self._see(chunk)
        return chunk

    async def aclose(self) -> None:
        """Close the iterator inside, as an async generator is closed."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()
        self._watch.closed()


class HidingIterator:
    """Leaves out what only comes because the ledger asked for usage."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self._before: Any = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        chunk = next(self._iterator)
        while _is_extra(chunk, self._before):
            chunk = next(self._iterator)
        self._before = chunk
        return chunk

    def close(self) -> None:
        """Close the iterator inside."""
        self._iterator.close()


class AsyncHidingIterator:
    """The async twin of `HidingIterator`."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self._before: Any = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._iterator)
        while _is_extra(chunk, self._before):
            chunk = await anext(self._iterator)
        self._before = chunk
        return chunk

    async def aclose(self) -> None:
        """Close the iterator inside."""
        await self._iterator.aclose()


def _is_extra(chunk: Any, before: Any) -> bool:
    """
    Whether *chunk* is only there for its usage.

    The others say ``"usage": null`` when it was asked for; that is taken off them,
    for those who look at what was set.
    """
    fields = _fields(chunk)
    usage = fields.get("usage")
    if usage is not None:
        return not fields.get("choices")
    given = fields if fields is chunk else getattr(chunk, "model_fields_set", ())
    if "usage" not in given:
        return False
    if not fields.get("choices") and _has_finished(before):
        return True
    if fields is chunk:
        del chunk["usage"]
    else:
        chunk.model_fields_set.discard("usage")
    return False


def _has_finished(chunk: Any) -> bool:
    choices = _fields(chunk).get("choices") or ()
    return any(_fields(choice).get("finish_reason") for choice in choices)


def _fields(value: Any) -> dict[str, Any]:
    # Chunks are dictionaries for those who ask the SDK for plain objects.
    return value if type(value) is dict else getattr(value, "__dict__", None) or {}  # pyright: ignore[reportUnknownVariableType]


def watch_stream(stream: Any, observation: Observation) -> None:
    """Look on while *stream*, an SDK's ``Stream`` or ``AsyncStream``, is read."""
    watch = Watch(observation)
    # What is hidden from the caller is seen here all the same.
    inner = stream._iterator  # noqa: SLF001  # the seam
    holder: Any = inner if isinstance(inner, (HidingIterator, AsyncHidingIterator)) else stream
    kind = AsyncWatchedIterator if _is_async(stream) else WatchedIterator
    holder._iterator = kind(holder._iterator, watch)  # noqa: SLF001  # the seam
    _tell_close(stream.response, watch)


def hide_usage(stream: Any) -> None:
    """Take the extra chunk out of *stream*; once, however often this is said."""
    if not isinstance(stream._iterator, (HidingIterator, AsyncHidingIterator)):  # noqa: SLF001
        kind = AsyncHidingIterator if _is_async(stream) else HidingIterator
        stream._iterator = kind(stream._iterator)  # noqa: SLF001


def is_stream(result: object) -> bool:
    """Whether *result* is an SDK's stream of parsed chunks."""
    return hasattr(result, "_iterator") and hasattr(result, "response")


def _is_async(stream: Any) -> bool:
    return hasattr(stream._iterator, "__anext__")  # noqa: SLF001  # the seam


def watch_bytes(response: Any, observation: Observation, body: Body) -> None:
    """
    Look on while the body of *response* is read, by whoever reads it and however.

    ``read``, ``iter_text`` and ``iter_lines`` of httpx all go through
    ``iter_bytes``, which gives decoded bytes, and that through ``iter_raw``,
    whose bytes tell only something when they are not compressed.
    """
    watch = Watch(observation)
    raw_body = None if response.headers.get("content-encoding") else body
    if hasattr(response, "aiter_bytes") and hasattr(response.stream, "__aiter__"):
        response.aiter_bytes = _async_bytes(response.aiter_bytes, watch, body)
        response.aiter_raw = _async_bytes(response.aiter_raw, watch, raw_body)
    else:
        response.iter_bytes = _bytes(response.iter_bytes, watch, body)
        response.iter_raw = _bytes(response.iter_raw, watch, raw_body)
    _tell_close(response, watch)


def _bytes(
    iter_bytes: Callable[..., Iterator[bytes]], watch: Watch, body: Body | None
) -> Callable[..., Iterator[bytes]]:
    def watched(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        iterator = iter_bytes(*args, **kwargs)
        if watch.reading:
            # Raw bytes on their way through the watched ones.
            yield from iterator
            return
        while True:
            watch.reading = True
            try:
                piece = next(iterator)
                watch.feed(body, piece)
            except StopIteration:
                watch.feed(body, None)
                watch.observation.ended()
                return
            except BaseException as error:
                watch.observation.failed(error)
                raise
            finally:
                watch.reading = False
            yield piece

    return watched


def _async_bytes(
    aiter_bytes: Callable[..., AsyncIterator[bytes]], watch: Watch, body: Body | None
) -> Callable[..., AsyncIterator[bytes]]:
    async def watched(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        iterator = aiter_bytes(*args, **kwargs)
        if watch.reading:
            async for piece in iterator:
                yield piece
            return
        while True:
            watch.reading = True
            try:
                piece = await anext(iterator)
                watch.feed(body, piece)
            except StopAsyncIteration:
                watch.feed(body, None)
                watch.observation.ended()
                return
            except BaseException as error:
                watch.observation.failed(error)
                raise
            finally:
                watch.reading = False
            yield piece

    return watched


def _tell_close(response: Any, watch: Watch) -> None:
    """Have *response* tell *watch* when it is closed, be it by the stream or around it."""
    close, aclose = getattr(response, "close", None), getattr(response, "aclose", None)

    if close is not None:

        def told_close() -> None:
            try:
                close()
            finally:
                watch.closed()

        response.close = told_close
    if aclose is not None:

        async def told_aclose() -> None:
            try:
                await aclose()
            finally:
                watch.closed()

        response.aclose = told_aclose


class Body:
    """The body of a response that the caller reads himself: server-sent events, or one JSON."""

    _MAX_BYTES = 8 * 1024 * 1024

    def __init__(self, observation: Observation, content_type: str) -> None:
        self._observation = observation
        self._events = "event-stream" in content_type
        self._json = "json" in content_type
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take in what was just read."""
        if not (self._events or self._json):
            return
        self._buffer += piece
        if not self._events:
            if len(self._buffer) > self._MAX_BYTES:
                self._json = False
                self._buffer.clear()
            return
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest if len(rest) <= self._MAX_BYTES else bytearray()
        for line in lines:
            self._see(line)

    def _see(self, line: bytes | bytearray) -> None:
        # Every big provider puts one JSON object on one data line.
        if line.startswith(b"data:") and not line.startswith(b"data: [DONE]"):
            chunk = _decode(bytes(line[5:]))
            self._observation.see(chunk)
            if chunk.get("error"):
                self._observation.told(chunk["error"])

    def finish(self) -> None:
        """The body is complete."""
        if self._events:
            self._see(self._buffer)
        elif self._json and self._buffer:
            self._observation.read(_decode(bytes(self._buffer)))


def _decode(text: bytes) -> dict[str, Any]:
    import msgspec

    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
