"""Connection tests: small real calls in threads of their own, for a bounded time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from starlette.exceptions import HTTPException

from ai_ledger.catalog import TestResult
from ai_ledger.errors import AILedgerError, NotFound
from ai_ledger.web.house import Desk
from ai_ledger.web.models.shapes import ConnectionTest
from ai_ledger.web.models.variables import refuse_to_send

Operation: TypeAlias = Literal["chat", "embeddings"]

WAIT_S: Final = 45.0
"""How long is waited for all of a test. A call by itself is given up after 30 s of silence."""
MAX_MODELS: Final = 20
"""So many models of a provider are tried at most."""
MAX_TESTS: Final = 3
"""So many tests may go on at once in one process."""
_WORKERS: Final = 4

_free: Final = threading.BoundedSemaphore(MAX_TESTS)


def try_model(desk: Desk, name: str, operation: Operation = "chat") -> ConnectionTest:
    """
    Make one small real call to a model of the catalogue, at the address that stands there.

    Raises:
        AccessDenied: The reader is no operator of all organisations.
        NotFound: There is no such model.
        ConfigurationError: It has no URL, or a variable is not set.
    """
    desk.require("operator", everywhere=True)
    model = desk.house.catalog.model(name)
    return _tried(desk, [model.name], operation)[0]


def try_provider(desk: Desk, name: str) -> list[ConnectionTest]:
    """
    Make one small real call to each enabled model of a provider; see `try_model`.

    Raises:
        NotFound: There is no such provider, or it has no enabled models.
    """
    desk.require("operator", everywhere=True)
    catalog = desk.house.catalog
    entry = catalog.provider(name)
    names = [each.name for each in catalog.models(provider=entry.name) if each.status == "enabled"]
    if not names:
        raise NotFound(f"provider {entry.name!r} has no enabled models that could be tried")
    return _tried(desk, names[:MAX_MODELS], "chat")


def _tried(desk: Desk, names: Sequence[str], operation: Operation) -> list[ConnectionTest]:
    house = desk.house

    def one(name: str) -> ConnectionTest:
        try:
            model = house.catalog.model(name)
            provider = house.catalog.provider(model.provider)
            refuse_to_send(f"provider {provider.name!r}", provider.settings)
            refuse_to_send(f"model {name!r}", {"api_url": model.api_url}, model.parameters)
            return _told(house.catalog.test(name, operation=operation, ledger=house.ledger))
        except AILedgerError as error:
            return ConnectionTest(
                model=name,
                ok=False,
                status="failed",
                error_type=type(error).__name__,
                error=str(error),
            )

    return in_threads(names, one)


def in_threads(
    names: Sequence[str], work: Callable[[str], ConnectionTest], wait_s: float = WAIT_S
) -> list[ConnectionTest]:
    """
    The results of *work* for each of *names*, in their order; waits for *wait_s* at most.

    What has no result by then has timed out. Its thread keeps its place among the
    `MAX_TESTS` until it ends, so that servers which never finish do not pile up threads.

    Raises:
        HTTPException: 409, there are too many tests at the moment.
        RuntimeError: The machine allows no more threads.
    """
    if not _free.acquire(blocking=False):
        raise HTTPException(409, f"{MAX_TESTS} tests are going on already: try again in a minute")
    waiting = list(reversed(names))
    results: dict[str, ConnectionTest] = {}
    lock = threading.Lock()
    workers = min(_WORKERS, len(names))
    left = [workers]
    done = threading.Event()

    def run() -> None:
        try:
            while True:
                with lock:
                    if not waiting or done.is_set():
                        return
                    name = waiting.pop()
                result = work(name)
                with lock:
                    results[name] = result
        finally:
            with lock:
                left[0] -= 1
                last = not left[0]
            if last:
                done.set()
                _free.release()

    for number in range(workers):
        # Daemons, so that no server that never finishes holds the program at its end.
        thread = threading.Thread(target=run, name="ai-ledger connection test", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # as many as the machine allows: those that began do all of it
            with lock:
                left[0] -= workers - number
                last = not left[0]
            if last:
                done.set()
                _free.release()
            if not number:
                raise
            break
    done.wait(wait_s)
    done.set()
    with lock:
        found = dict(results)
    return [found.get(name) or _timed_out(name, wait_s) for name in names]


def _timed_out(name: str, wait_s: float) -> ConnectionTest:
    return ConnectionTest(
        model=name,
        ok=False,
        status="timeout",
        latency_ms=wait_s * 1000,
        error_type="Timeout",
        error=f"no whole answer within {wait_s:g} s",
    )


def _told(result: TestResult) -> ConnectionTest:
    return ConnectionTest(
        model=result.model,
        ok=result.ok,
        status=result.status,
        http_status=result.http_status,
        latency_ms=result.latency_ms,
        response_model=result.response_model,
        input_tokens=result.input_tokens,
        output_tokens=result.output_tokens,
        cost=result.cost,
        currency=result.currency,
        price_id=result.price_id,
        call_id=result.call_id,
        error_type=result.error_type,
        error=result.error,
    )
