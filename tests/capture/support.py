"""Helpers of the capture tests: one way to drive sync and async clients, results as values."""

from __future__ import annotations

import inspect
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import openai
from pydantic import BaseModel

from ai_ledger import CallRecord, Ledger, TrackedClient
from ai_ledger.sinks.memory import MemorySink

OPENAI: Final = tuple(int(part) for part in openai.__version__.split(".")[:2])
KEY: Final = "sk-canary-0123456789abcdef"
MESSAGES: Final = [{"role": "user", "content": "hello there"}]
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


# Read once: every client of the SDK would read all certificates of the machine.
_certificates: Final = ssl.create_default_context()


class Books:
    """A ledger in memory, and what is written in it."""

    def __init__(self, **options: Any) -> None:
        self.sink = MemorySink()
        self.ledger = Ledger(sinks=[self.sink], journal=False, **options)

    @property
    def records(self) -> list[CallRecord]:
        """Everything recorded so far, oldest first."""
        assert self.ledger.flush(60)
        return sorted(self.sink.records, key=lambda record: record.id)

    @property
    def record(self) -> CallRecord:
        """The one and only record."""
        (record,) = self.records
        return record

    @property
    def incidents(self) -> dict[str, int]:
        """What went wrong inside the ledger."""
        return self.ledger.health().incidents

    def facts(self, *names: str) -> tuple[Any, ...]:
        """The fields *names* of the only record."""
        record = self.record
        return tuple(getattr(record, name) for name in names)


def bare(mode: str, provider: Any, kind: str = "OpenAI", **options: Any) -> Any:
    """The SDK's own client of *kind*, sync or async, for *provider*."""
    cls = getattr(openai, kind if mode == "sync" else f"Async{kind}")
    http = openai.DefaultHttpxClient if mode == "sync" else openai.DefaultAsyncHttpxClient
    options = {
        "api_key": KEY,
        "max_retries": 0,
        "timeout": 10,
        "http_client": http(verify=_certificates),
        **options,
    }
    if "azure_endpoint" not in options:
        options.setdefault("base_url", provider.base_url)
    return cls(**options)


def tracked(client: Any, books: Books, **context: Any) -> Any:
    """*client*, on *books*."""
    return TrackedClient(client, ledger=books.ledger, **context)


async def got(value: Any) -> Any:
    """What *value* is, once awaited if it must be."""
    return await value if inspect.isawaitable(value) else value


async def each(stream: Any) -> AsyncIterator[Any]:
    """The items of *stream*, be it sync or async."""
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


async def first(stream: Any) -> Any:
    """The next item of *stream*."""
    if hasattr(stream, "__anext__"):
        return await stream.__anext__()
    return next(stream)


async def listed(stream: Any) -> list[Any]:
    """All items of *stream*."""
    return [item async for item in each(stream)]


@asynccontextmanager
async def entering(manager: Any) -> AsyncIterator[Any]:
    """``with`` or ``async with``, whichever *manager* is made for."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def close(thing: Any) -> None:
    """Close *thing*."""
    await got(thing.close())


async def outcome(call: Callable[[Any], Any], client: Any) -> Any:
    """What ``call(client)`` gives or raises, as a value that can be compared."""
    try:
        return described(await call(client))
    except Exception as error:
        return described(error)


_IDS = re.compile(r"\b((?:chatcmpl|cmpl|resp|msg|call|fc|req|modr|toolu)[-_])\d{12}\b")


def described(value: Any) -> Any:
    """*value* with its types and contents, in plain data; ids that the provider counts up cut."""
    if isinstance(value, str):
        return _IDS.sub(r"\1N", value)
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return _IDS.sub(r"\1N", bytes(value).decode("latin-1"))
    if isinstance(value, BaseModel):
        # With what was set, because to_dict() and to_json() show only that.
        return (
            type(value).__qualname__,
            sorted(value.model_fields_set),
            {
                **{name: described(getattr(value, name)) for name in type(value).model_fields},
                **{name: described(each) for name, each in (value.model_extra or {}).items()},
            },
        )
    if isinstance(value, dict):
        return {key: described(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__qualname__, *map(described, value)]
    if isinstance(value, BaseException):
        return (
            type(value).__qualname__,
            described(str(value)),
            getattr(value, "status_code", None),
            described(getattr(value, "body", None)),
        )
    return type(value).__qualname__
