"""What the capture tests share: one provider, fresh books, sync and async."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from ai_ledger.testing import Provider

from .support import Books, bare, close


@pytest.fixture(scope="session", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Looking for streams that were let go is quick when what is imported is not looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def books() -> Iterator[Books]:
    """A ledger in memory."""
    books = Books()
    yield books
    books.ledger.close()


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs on both kinds of clients."""
    return request.param


@pytest.fixture
async def sdk(mode: str, provider: Provider) -> AsyncIterator[Callable[..., Any]]:
    """Makes the SDK's own clients for the provider, sync or async, and closes them in the end."""
    made: list[Any] = []

    def make(kind: str = "OpenAI", **options: Any) -> Any:
        made.append(bare(mode, provider, kind, **options))
        return made[-1]

    yield make
    for client in made:
        await close(client)
