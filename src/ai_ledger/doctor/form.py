"""One form of call: how it is made, with either client, and what its record must say."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias

from ai_ledger.records import CallRecord, Status, UsageSource
from ai_ledger.testing import Provider

Mode: TypeAlias = Literal["sync", "async"]
MODES: Final[tuple[Mode, ...]] = ("sync", "async")

MODEL: Final = "gpt-4o"
MESSAGES: Final = ({"role": "user", "content": "Say hello."},)
REPORTED: Final = (3, 8)
"""What the provider reports for `MESSAGES` and its answer."""
GUESSED: Final[tuple[UsageSource, ...]] = ("counted", "estimated")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the record of a call must say."""

    status: Status = "success"
    operation: str = "chat"
    streamed: bool = False
    tokens: tuple[int | None, int | None] | Literal["some", "any"] = REPORTED
    """Input and output; ``some``: both known, and above 0 where text was read or sent."""
    sources: tuple[UsageSource, ...] = ("reported",)
    retries: int = 0
    http_status: int | None = None
    model: str = MODEL

    def differences(self, record: CallRecord) -> list[str]:
        """What *record* says instead, in words."""
        found: list[str] = []
        for name, wanted, got in (
            ("status", self.status, record.status),
            ("operation", self.operation, record.operation),
            ("streamed", self.streamed, record.streamed),
            ("retries", self.retries, record.retries),
            ("model", self.model, record.request_model),
            ("http_status", self.http_status or record.http_status, record.http_status),
        ):
            if wanted != got:
                found.append(f"{name} is {got}, not {wanted}")
        got_tokens = (record.input_tokens, record.output_tokens)
        if self.tokens == "some":
            if not got_tokens[0] or got_tokens[1] is None:
                found.append(f"tokens are {got_tokens}, although some were used")
        elif self.tokens not in ("any", got_tokens):
            found.append(f"tokens are {got_tokens}, not {self.tokens}")
        if self.tokens != "any" and record.usage_source not in self.sources:
            found.append(f"usage is {record.usage_source}, not {' or '.join(self.sources)}")
        if self.status in ("failed", "timeout") and record.error_type is None:
            found.append("no error_type")
        if record.duration_ms is None:
            found.append("no duration")
        return found


@dataclass(frozen=True, kw_only=True)
class Form:
    """
    One form of call.

    *run* is a coroutine that works with either client, and returns what the
    caller saw, in plain values that are the same from one run to the next.
    """

    name: str
    run: Callable[[Kit], Awaitable[object]]
    expected: Expected = Expected()
    needs: str = ""
    """A dotted path of the client; the form is not in SDK versions that lack it."""
    modes: tuple[Mode, ...] = MODES


class Kit:
    """What a form works with: a client, and the same words for sync and async."""

    def __init__(self, client: Any, provider: Provider, azure: Callable[[], Any]) -> None:
        self.client = client
        self.provider = provider
        self.azure = azure
        """Makes a client of Azure's kind, tracked when *client* is."""
        self.once = client.with_options(max_retries=0)

    def chat(self, client: Any = None, **options: Any) -> Any:
        """A chat, to be awaited or not."""
        completions = (client or self.client).chat.completions
        return self.settled(completions.create(model=MODEL, messages=list(MESSAGES), **options))

    async def settled(self, value: Any) -> Any:
        """*value*, awaited if that is what it is for."""
        return await value if inspect.isawaitable(value) else value

    def each(self, items: Any) -> _Each:
        """To go through *items* with ``async for``, whatever they are."""
        return _Each(items)

    async def next(self, items: Any) -> Any:
        """The next one of *items*."""
        return await anext(items) if hasattr(items, "__anext__") else next(items)

    def entered(self, manager: Any) -> _Entered:
        """To enter *manager* with ``async with``, whatever it is."""
        return _Entered(manager)


class _Each:
    def __init__(self, items: Any) -> None:
        self._is_async = hasattr(items, "__aiter__")
        self._iterator = aiter(items) if self._is_async else iter(items)

    def __aiter__(self) -> _Each:
        return self

    async def __anext__(self) -> Any:
        if self._is_async:
            return await anext(self._iterator)
        try:
            return next(self._iterator)
        except StopIteration:
            raise StopAsyncIteration from None


class _Entered:
    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._is_async = hasattr(manager, "__aenter__")

    async def __aenter__(self) -> Any:
        if self._is_async:
            return await self._manager.__aenter__()
        return self._manager.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        if self._is_async:
            return await self._manager.__aexit__(kind, error, traceback)
        return self._manager.__exit__(kind, error, traceback)
