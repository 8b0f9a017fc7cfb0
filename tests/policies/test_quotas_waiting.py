"""Quotas in coroutines: waiting holds nobody up, and a cancelled wait leaves nothing behind."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
from openai import AsyncOpenAI
from tests.policies.support import call

from ai_ledger import Ledger, TrackedClient
from ai_ledger.errors import ModelNotAllowed, TooSoon
from ai_ledger.policies import Quotas
from ai_ledger.policies.quotas.quotas import Admission, Plan
from ai_ledger.testing import Provider

MESSAGES: Any = [{"role": "user", "content": "hello"}]

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def test_real_calls(sql_url: str, backend: str) -> None:
    """
    Calls made together through the real SDK go one by one when the row says so, and all succeed.
    """
    quotas = Quotas(wait=True, max_wait=100)

    async def main() -> None:
        client = TrackedClient(
            AsyncOpenAI(base_url=provider.base_url, api_key="k", timeout=60), ledger=ledger
        ).with_context(org_id="acme")
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(one, client)
        with pytest.raises(ModelNotAllowed):
            await client.chat.completions.create(model="off", messages=MESSAGES)
        await client.close()

    async def one(client: Any) -> None:
        await client.chat.completions.create(model="m", messages=MESSAGES)

    with (
        Provider(delay=0.02) as provider,
        Ledger(sql_url, journal=False, policies=[quotas]) as ledger,
    ):
        quotas.set("acme", "m", max_concurrent=1)
        quotas.switch_off("off")
        anyio.run(main, backend=backend)
        assert ledger.flush(10)
        spans = sorted((each.started_at, each.status) for each in ledger.stats.calls().calls)
        quotas.close()
        assert quotas.in_flight("m", "acme") == 0

    assert [status for _, status in spans] == ["success"] * 6 + ["blocked"]
    assert len(provider.requests) == 6


@pytest.mark.parametrize("shared", [True, False])
def test_the_loop_goes_on(tmp_path: Any, backend: str, shared: bool) -> None:
    """
    While one coroutine waits for its turn, another one goes on.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db", wait=True, max_wait=100)
    quotas.set("acme", "m", max_concurrent=1, shared=shared)
    first = call()
    quotas.check(first, None)

    async def main() -> None:
        done = anyio.Event()

        async def waiting() -> None:
            asked = call()
            await quotas.acheck(asked, None)
            quotas.settle(asked)
            done.set()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(waiting)
                for _ in range(20):
                    await anyio.sleep(0.01)
                assert not done.is_set()
                quotas.settle(first)
                await done.wait()

    anyio.run(main, backend=backend)


def test_a_cancelled_wait(sql_url: str, backend: str) -> None:
    """
    Cancelled while it waits, a call has taken neither turn, place nor rate.
    """
    quotas = Quotas(sql_url, wait=True, max_wait=100)
    quotas.set("acme", "m", max_concurrent=1, rates="2/day")
    quotas.cap("m", 5)
    first = call()
    quotas.check(first, None)

    async def main() -> None:
        for _ in range(5):
            with anyio.move_on_after(0.05) as scope:
                await quotas.acheck(call(), None)
            assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    quotas.settle(first)
    quotas.close()
    assert quotas.in_flight("m") == 0
    second = call()
    quotas.check(second, None)
    quotas.settle(second)
    with pytest.raises(TooSoon, match="2/day"):
        quotas.check(call(), None)  # not within the longest wait


class Slow(Quotas):
    """Takes its time to ask the database."""

    def _enter(self, plan: Plan) -> Admission:
        admission = super()._enter(plan)
        time.sleep(0.3)
        return admission


def test_cancelled_while_the_database_answers(sql_url: str, backend: str) -> None:
    """
    A place that is got after the coroutine has gone is given back.
    """
    quotas = Slow(sql_url)
    quotas.set("acme", "m", max_concurrent=1)
    quotas.check(before := call(), None)
    quotas.settle(before)

    async def main() -> None:
        with anyio.move_on_after(0.1):
            await quotas.acheck(asked := call(), None)
            # Where the thread is waited for, the call goes on, and ends by itself.
            quotas.settle(asked)

    anyio.run(main, backend=backend)
    end = time.monotonic() + 60
    while quotas.in_flight("m", "acme") and time.monotonic() < end:
        time.sleep(0.02)
    assert quotas.in_flight("m", "acme") == 0
    quotas.check(call(), None)


def test_a_task_cancelled_by_asyncio_itself(sql_url: str, backend: str) -> None:
    """
    Nor does a task leave a place behind whose cancellation no shield holds off.
    """
    import asyncio

    if backend != "asyncio":
        pytest.skip("asyncio only")
    quotas = Slow(sql_url)
    quotas.set("acme", "m", max_concurrent=1)

    async def main() -> None:
        task = asyncio.create_task(quotas.acheck(call(), None))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    end = time.monotonic() + 60
    while quotas.in_flight("m", "acme") and time.monotonic() < end:
        time.sleep(0.02)
    assert quotas.in_flight("m", "acme") == 0


def test_no_thread_without_need(
    tmp_path: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A call whose row has neither interval nor bound is admitted without a round trip.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    quotas.set("acme", "m", rates="1000/day")
    quotas.check(call(), None)

    def none() -> Any:
        raise AssertionError("asked")

    async def main() -> None:
        monkeypatch.setattr(quotas, "_database", none)
        monkeypatch.setattr("anyio.to_thread.run_sync", none)
        for _ in range(100):
            assert await quotas.acheck(call(), None) is None

    anyio.run(main, backend=backend)
