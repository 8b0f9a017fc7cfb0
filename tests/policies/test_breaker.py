"""The circuit breaker: with the real SDK over real HTTP, and as a thing that many share."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIConnectionError, APITimeoutError, AsyncOpenAI, InternalServerError, OpenAI

from ai_ledger import Ledger, TrackedClient
from ai_ledger.errors import CallRefused, CircuitOpen, ConfigurationError
from ai_ledger.policies import Breaker
from ai_ledger.policies.breaker import BreakerChange, BreakerState, living_breakers
from ai_ledger.policies.breaker.verdict import verdict_of
from ai_ledger.records import CallRecord, new_id
from ai_ledger.testing import FakeClock, Provider, memory_ledger

CHAT: dict[str, Any] = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hello"}]}
ANY_DAY = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


_clients: list[OpenAI] = []


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """Connections end with the test that made them."""
    yield
    while _clients:
        _clients.pop().close()


def _breaker(clock: FakeClock, **options: Any) -> Breaker:
    return Breaker(**{"min_calls": 3, "open_s": 30.0, "clock": clock.monotonic, **options})


def _client(provider: Provider, ledger: Ledger, **options: Any) -> Any:
    own = OpenAI(base_url=provider.base_url, api_key="sk-test", **{"max_retries": 0, **options})
    _clients.append(own)
    return TrackedClient(own, ledger=ledger, provider="deepseek")


def _record(status: Any = "success", **fields: Any) -> CallRecord:
    return CallRecord(
        **{"id": new_id(), "started_at": ANY_DAY, "provider": "p", "status": status, **fields}
    )


def _trip(breaker: Breaker, calls: int = 3, **fields: Any) -> None:
    for _ in range(calls):
        breaker.settle(_record("timeout", **fields))


def _statuses(ledger: Ledger) -> list[str]:
    assert ledger.flush(10)
    return [call.status for call in reversed(ledger.stats.calls().calls)]


# Over HTTP


@pytest.mark.parametrize(
    ("behaviour", "options", "error", "status"),
    [
        pytest.param({"status": 500}, {}, InternalServerError, "failed", id="500"),
        pytest.param({"status": 529}, {}, InternalServerError, "failed", id="overloaded"),
        pytest.param({"delay": 60.0}, {"timeout": 1.5}, APITimeoutError, "timeout", id="time-out"),
        pytest.param({"hang_up": True}, {}, APIConnectionError, "failed", id="hung up"),
        pytest.param({"drop_after": 1}, {}, APIConnectionError, "failed", id="broken off"),
    ],
)
def test_a_failing_provider_is_left_alone_until_it_is_well(
    provider: Provider,
    clock: FakeClock,
    behaviour: dict[str, Any],
    options: dict[str, Any],
    error: type[Exception],
    status: str,
) -> None:
    """
    Three failures, then nothing is sent for 30 seconds; one probe, and everything goes on.
    """
    breaker = _breaker(clock)
    with memory_ledger(policies=[breaker]) as ledger:
        client = _client(provider, ledger, **options)
        provider.next(times=3, **behaviour)
        for _ in range(3):
            with pytest.raises(error):
                client.chat.completions.create(**CHAT)
        with pytest.raises(CircuitOpen, match="provider 'deepseek': 3 of 3 calls failed") as caught:
            client.chat.completions.create(**CHAT)
        sent_while_open = len(provider.requests)
        clock.advance(30)
        client = client.with_options(timeout=60)
        client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)

        assert caught.value.retry_after_s == pytest.approx(30)
        assert sent_while_open == 3
        assert len(provider.requests) == 5
        assert _statuses(ledger) == [*[status] * 3, "circuit_open", "success", "success"]
        (state,) = breaker.states()
        assert (state.state, state.failures, state.calls) == ("closed", 0, 2)


async def test_the_same_for_coroutines(provider: Provider, clock: FakeClock) -> None:
    """
    Sync and async calls share one circuit.
    """
    breaker = _breaker(clock)
    provider.next(status=503, times=3)
    with memory_ledger(policies=[breaker]) as ledger:
        sync = _client(provider, ledger)
        async with AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as own:
            client = TrackedClient(own, ledger=ledger, provider="deepseek")
            for _ in range(2):
                with pytest.raises(InternalServerError):
                    await client.chat.completions.create(**CHAT)
            with pytest.raises(InternalServerError):
                sync.chat.completions.create(**CHAT)
            with pytest.raises(CircuitOpen):
                await client.chat.completions.create(**CHAT)
            clock.advance(30)
            await client.chat.completions.create(**CHAT)
        assert _statuses(ledger) == [*["failed"] * 3, "circuit_open", "success"]
    assert len(provider.requests) == 4


@pytest.mark.parametrize("how", ["drop_after", "error_after", "garbage_after"])
def test_streams_that_die_in_mid_stream(provider: Provider, clock: FakeClock, how: str) -> None:
    """
    200 was said and chunks came, and still the provider has failed.
    """
    breaker = _breaker(clock)
    provider.on(chunks=8, **{how: 2})
    with memory_ledger(policies=[breaker]) as ledger:
        client = _client(provider, ledger)
        for _ in range(3):
            with pytest.raises(Exception), client.chat.completions.create(  # noqa: B017
                **CHAT, stream=True
            ) as stream:  # fmt: skip
                for _ in stream:
                    pass
        with pytest.raises(CircuitOpen):
            client.chat.completions.create(**CHAT, stream=True)
    assert len(provider.requests) == 3


async def test_async_streams_that_die(provider: Provider, clock: FakeClock) -> None:
    """
    The same for the async client.
    """
    breaker = _breaker(clock)
    provider.on(chunks=8, drop_after=2)
    with memory_ledger(policies=[breaker]) as ledger:
        async with AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as own:
            client = TrackedClient(own, ledger=ledger, provider="deepseek")
            for _ in range(3):
                with pytest.raises(Exception):  # noqa: B017
                    async for _ in await client.chat.completions.create(**CHAT, stream=True):
                        pass
            with pytest.raises(CircuitOpen):
                await client.chat.completions.create(**CHAT, stream=True)


def test_an_address_where_nobody_listens(clock: FakeClock) -> None:
    """
    Connections that are refused count; the server's address stands for the unknown provider.
    """
    with Provider() as gone:
        base_url = gone.base_url
    breaker = _breaker(clock)
    with memory_ledger(policies=[breaker]) as ledger:
        own = OpenAI(base_url=base_url, api_key="k", max_retries=0)
        _clients.append(own)
        client = TrackedClient(own, ledger=ledger)
        for _ in range(3):
            with pytest.raises(APIConnectionError):
                client.chat.completions.create(**CHAT)
        with pytest.raises(CircuitOpen, match=r"provider '127\.0\.0\.1'"):
            client.chat.completions.create(**CHAT)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429])
def test_what_the_caller_has_done(provider: Provider, clock: FakeClock, status: int) -> None:
    """
    However often a provider refuses bad requests, it is well.
    """
    breaker = _breaker(clock)
    provider.on(status=status)
    with memory_ledger(policies=[breaker]) as ledger:
        client = _client(provider, ledger)
        for _ in range(6):
            with pytest.raises(Exception, match=str(status)):
                client.chat.completions.create(**CHAT)
    assert len(provider.requests) == 6
    assert breaker.states() == []


def test_too_many_requests_as_a_failure(provider: Provider, clock: FakeClock) -> None:
    """
    429 opens the circuit for those who say so.
    """
    provider.on(status=429)
    with memory_ledger(policies=[_breaker(clock, rate_limits=True)]) as ledger:
        client = _client(provider, ledger)
        for _ in range(3):
            with pytest.raises(Exception, match="429"):
                client.chat.completions.create(**CHAT)
        with pytest.raises(CircuitOpen):
            client.chat.completions.create(**CHAT)


def test_readers_who_leave_give_the_probe_back(provider: Provider, clock: FakeClock) -> None:
    """
    A cancelled stream says nothing about the provider: the next call is the probe.
    """
    breaker = _breaker(clock)
    _trip(breaker, provider="deepseek")
    clock.advance(30)
    with memory_ledger(policies=[breaker]) as ledger:
        client = _client(provider, ledger)
        stream = client.chat.completions.create(**CHAT, stream=True)
        with pytest.raises(CircuitOpen):
            client.chat.completions.create(**CHAT)
        stream.close()
        client.chat.completions.create(**CHAT)
        assert _statuses(ledger) == ["cancelled", "circuit_open", "success"]
    assert [state.state for state in breaker.states()] == ["closed"]


def test_a_stream_that_nobody_closes(provider: Provider, clock: FakeClock) -> None:
    """
    The probe is out for a minute at the most; then another call may try.
    """
    breaker = _breaker(clock, probe_s=60.0)
    _trip(breaker, provider="deepseek")
    clock.advance(30)
    with memory_ledger(policies=[breaker]) as ledger:
        client = _client(provider, ledger)
        forgotten = client.chat.completions.create(**CHAT, stream=True)
        clock.advance(59.9)
        with pytest.raises(CircuitOpen) as caught:
            client.chat.completions.create(**CHAT)
        clock.advance(0.2)
        client.chat.completions.create(**CHAT)
        forgotten.close()
    assert caught.value.retry_after_s == pytest.approx(0.1)
    assert [state.state for state in breaker.states()] == ["closed"]


def test_a_probe_that_another_policy_refuses(provider: Provider, clock: FakeClock) -> None:
    """
    It was never sent, so it says nothing, and holds nobody up.
    """

    class Never:
        def check(self, call: CallRecord, request: Any) -> None:
            raise CallRefused("no")

        def settle(self, record: CallRecord) -> None:
            raise AssertionError("not admitted")

    breaker = _breaker(clock)
    _trip(breaker, provider="deepseek")
    clock.advance(30)
    with memory_ledger(policies=[breaker]) as ledger:
        client = _client(provider, ledger)
        strict = TrackedClient(client, policies=[Never()])
        for _ in range(3):
            with pytest.raises(CallRefused, match=r"^no$"):
                strict.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
    assert len(provider.requests) == 1


def test_64_threads_in_front_of_a_half_open_circuit(provider: Provider, clock: FakeClock) -> None:
    """
    Exactly one probe reaches the provider; the other 63 are refused.
    """
    # It fails, so that the slowest of the threads does not find the circuit closed. The clock
    # stands still, so that none of them finds it half-open a second time.
    breaker = _breaker(clock)
    provider.on(status=500, delay=0.5)
    _trip(breaker, provider="deepseek")
    clock.advance(30)
    barrier = threading.Barrier(64)
    raised: list[str] = []

    with memory_ledger(policies=[breaker]) as ledger:
        client = _client(provider, ledger)

        def call() -> None:
            barrier.wait(60)
            try:
                client.chat.completions.create(**CHAT)
            except (CircuitOpen, InternalServerError) as error:
                raised.append(type(error).__name__)

        threads = [threading.Thread(target=call) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert sorted(raised) == [*["CircuitOpen"] * 63, "InternalServerError"]
    assert len(provider.requests) == 1


async def test_64_coroutines_in_front_of_a_half_open_circuit(
    provider: Provider, clock: FakeClock
) -> None:
    """
    The same on one event loop.
    """
    breaker = _breaker(clock)
    provider.on(status=500, delay=0.5)
    _trip(breaker, provider="deepseek")
    clock.advance(30)
    with memory_ledger(policies=[breaker]) as ledger:
        async with AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as own:
            client = TrackedClient(own, ledger=ledger, provider="deepseek")
            calls = [client.chat.completions.create(**CHAT) for _ in range(64)]
            raised = await asyncio.gather(*calls, return_exceptions=True)
    names = sorted(type(error).__name__ for error in raised)
    assert names == [*["CircuitOpen"] * 63, "InternalServerError"]
    assert len(provider.requests) == 1


# What counts


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"status": "success"}, False),
        ({"status": "timeout"}, True),
        ({"status": "cancelled"}, None),
        ({"status": "blocked"}, None),
        ({"status": "circuit_open"}, None),
        ({"http_status": 500}, True),
        ({"http_status": 504}, True),
        ({"http_status": 408}, True),
        ({"http_status": 400}, None),
        ({"http_status": 429}, None),
        ({"error_type": "APIConnectionError"}, True),
        ({"error_type": "ConnectionResetError"}, True),
        ({"error_type": "CallFailed", "http_status": 200, "streamed": True}, True),
        ({"error_type": "RemoteProtocolError", "http_status": 200, "streamed": True}, True),
        ({"error_type": "JSONDecodeError", "http_status": 200}, True),
        ({"error_type": "ValidationError", "http_status": 200}, None),
        ({"error_type": "LengthFinishReasonError", "http_status": 200}, None),
        ({"error_type": "TypeError"}, None),
    ],
    ids=str,
)
def test_what_an_end_says(fields: dict[str, Any], verdict: bool | None) -> None:
    """
    Who answers has failed, or is well, or neither can be told from this call.
    """
    assert verdict_of(_record(**{"status": "failed", **fields})) is verdict


# Shared


def test_a_circuit_for_each(clock: FakeClock) -> None:
    """
    One who fails closes no door to the others, whatever they are told apart by.
    """
    breaker = _breaker(clock, per=("model", "tags.region"))
    _trip(breaker, request_model="m", tags={"region": "eu"})

    with pytest.raises(CircuitOpen, match=r"request_model 'm', tags\.region 'eu'"):
        breaker.check(_record(request_model="m", tags={"region": "eu"}))
    breaker.check(_record(request_model="m", tags={"region": "us"}))
    breaker.check(_record(request_model="m"))
    breaker.check(_record())


def test_calls_of_nobody_in_particular(clock: FakeClock) -> None:
    """
    Where nothing says who answers, unrelated calls are not thrown together.
    """
    breaker = _breaker(clock)

    _trip(breaker, provider=None)

    breaker.check(_record(provider=None))
    assert breaker.states() == []


def test_states(clock: FakeClock) -> None:
    """
    Who, how, how often, since when and until when; those in trouble first.
    """
    breaker = _breaker(clock, name="front")
    breaker.settle(_record(provider="well"))
    before = datetime.now(UTC)
    _trip(breaker)
    after = datetime.now(UTC)
    clock.advance(10)

    broken, well = breaker.states()

    assert broken.opened_at is not None
    assert before <= broken.opened_at <= after
    assert broken.next_probe_at is not None
    assert timedelta(seconds=20) <= broken.next_probe_at - before < timedelta(seconds=60)
    assert broken == BreakerState(
        breaker="front",
        key="p",
        fields={"provider": "p"},
        state="open",
        failures=3,
        calls=3,
        opened_at=broken.opened_at,
        next_probe_at=broken.next_probe_at,
    )
    assert (well.key, well.state, well.calls) == ("well", "closed", 1)
    assert (well.opened_at, well.next_probe_at) == (None, None)


def test_changes_are_told_once_each(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """
    A listener hears of every change; the log of the first opening and of the closing.
    """
    caplog.set_level(logging.INFO, "ai_ledger")
    changes: list[BreakerChange] = []
    breaker = _breaker(clock, on_change=changes.append)
    _trip(breaker, 5)
    opened_at = breaker.states()[0].opened_at
    for status in ("timeout", "success"):
        clock.advance(30)
        probe = _record()
        breaker.check(probe)
        breaker.settle(probe.replace(status=status))

    assert [(change.before, change.now.state) for change in changes] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert {change.now.opened_at for change in changes[:4]} == {opened_at}
    assert [record.getMessage() for record in caplog.records] == [
        "breaker opened: provider 'p': 3 of 3 calls failed within 60 s",
        "breaker closed: 'p' answers again",
    ]


def test_a_listener_that_breaks(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """
    It is logged once, and the breaker does what it has to.
    """

    def broken(change: BreakerChange) -> None:
        raise ZeroDivisionError

    breaker = _breaker(clock, on_change=broken)
    _trip(breaker)
    with pytest.raises(CircuitOpen):
        breaker.check(_record())
    clock.advance(30)
    breaker.check(_record())

    said = [record.getMessage() for record in caplog.records if "broke" in record.getMessage()]
    assert said == [
        "on_change of breaker broke: ZeroDivisionError:  (further ones are only counted)"
    ]


def test_a_listener_that_asks(clock: FakeClock) -> None:
    """
    It may use the breaker it listens to.
    """
    seen: list[str] = []
    breaker = _breaker(clock, on_change=lambda _: seen.append(breaker.states()[0].state))

    _trip(breaker)

    assert seen == ["open"]


def test_a_finalizer_in_the_middle_of_it() -> None:
    """
    A stream collected while the breaker counts is counted next, and nothing waits for itself.
    """
    # The clock is read in the middle of everything, which a finalizer may come at as well.
    left: list[CallRecord] = []
    within: list[int] = []
    depth = 0

    def clock() -> float:
        nonlocal depth
        depth += 1
        within.append(depth)
        if left:
            breaker.settle(left.pop())
        depth -= 1
        return 1000.0

    breaker = Breaker(min_calls=100, clock=clock)
    left += [_record("timeout"), _record("timeout")]
    finished = threading.Event()

    def use() -> None:
        breaker.settle(_record("timeout"))
        breaker.states()
        finished.set()

    threading.Thread(target=use, daemon=True).start()

    assert finished.wait(30)
    assert set(within) == {1}
    assert [(state.failures, state.calls) for state in breaker.states()] == [(3, 3)]


def test_no_call_is_lost_between_threads(clock: FakeClock) -> None:
    """
    What sixteen threads tell at the same time is all counted.
    """
    breaker = _breaker(clock, min_calls=10**6)
    barrier = threading.Barrier(16)

    def tell() -> None:
        barrier.wait(60)
        for number in range(500):
            breaker.settle(_record("failed" if number % 5 == 0 else "success", http_status=500))

    threads = [threading.Thread(target=tell) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    (state,) = breaker.states()
    assert (state.failures, state.calls) == (1600, 8000)


def test_the_last_time_outs_of_an_outage(clock: FakeClock) -> None:
    """
    Calls that hung while the circuit was open end after it is closed, and do not open it again.
    """
    breaker = _breaker(clock)
    _trip(breaker)
    clock.advance(30)
    probe = _record()
    breaker.check(probe)
    breaker.settle(probe)

    _trip(breaker, 50, duration_ms=600_000.0)
    breaker.check(_record())
    _trip(breaker)

    with pytest.raises(CircuitOpen):
        breaker.check(_record())


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_a_clock_that_goes_back(steps: list[float]) -> None:
    """
    It can only make the wait longer by what is left of it, and everything goes on afterwards.
    """
    now = [0.0]
    breaker = Breaker(min_calls=3, open_s=30.0, clock=lambda: now[0])
    _trip(breaker)
    passed = 0.0
    waits: list[float] = []
    for step in steps:
        now[0] += step
        passed += max(0.0, step)
        probe = _record()
        try:
            breaker.check(probe)
        except CircuitOpen as refusal:
            waits.append(refusal.retry_after_s)
            assert passed < 30
        else:
            assert passed >= 30
            breaker.settle(probe)
            assert [state.state for state in breaker.states()] == ["closed"]
            break
    else:
        now[0] += 30
        breaker.check(_record())
    assert all(0 < wait <= 30 for wait in waits)
    assert waits == sorted(waits, reverse=True)


def test_memory_is_bounded(clock: FakeClock) -> None:
    """
    A million names leave no more than was allowed, and do not push out who is in trouble.
    """
    breaker = _breaker(clock, max_keys=50)
    _trip(breaker)
    for number in range(1000):
        breaker.settle(_record(provider="often"))
        breaker.settle(_record(provider=f"p-{number}"))

    states = breaker.states()
    assert len(states) == 50
    assert states[0].key == "p"
    assert [(state.key, state.calls) for state in states[-2:]] == [("often", 1000), ("p-999", 1)]


def test_memory_is_bounded_in_a_bad_outage(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """
    When all are in trouble the oldest is forgotten, and the log says so.
    """
    breaker = _breaker(clock, max_keys=5)
    for number in range(20):
        _trip(breaker, provider=f"p-{number}")

    assert [state.key for state in breaker.states()] == [f"p-{n}" for n in range(15, 20)]
    assert len(breaker._opened_at) == 5
    assert "more than 5 circuits are open" in caplog.text


def test_all_breakers_can_be_listed() -> None:
    """
    For as long as something holds them, and no longer.
    """
    before = living_breakers()
    one, other = Breaker(name="one"), Breaker(name="another")
    assert [each for each in living_breakers() if each not in before] == [other, one]

    del one, other

    gc.collect()
    assert living_breakers() == before


FORKS = """
import os, sys, threading
from datetime import UTC, datetime
from ai_ledger.errors import CircuitOpen
from ai_ledger.policies import Breaker
from ai_ledger.policies.breaker import living_breakers
from ai_ledger.records import CallRecord, new_id

def record(status):
    return CallRecord(id=new_id(), started_at=datetime.now(UTC), provider="p", status=status)

now = [0.0]
breaker = Breaker(min_calls=3, open_s=30.0, clock=lambda: now[0])
for _ in range(3):
    breaker.settle(record("timeout"))
now[0] = 30.0
probe = record("success")
breaker.check(probe)  # in flight, in the parent
busy = Breaker(name="busy", min_calls=10**9)
stop = threading.Event()

def count():
    while not stop.is_set():
        busy.settle(record("success"))

threads = [threading.Thread(target=count, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        thread = threading.Thread(target=busy.settle, args=[record("success")], daemon=True)
        thread.start()
        thread.join(20)
        if thread.is_alive():
            os._exit(2)
        (state,) = busy.states()
        well = state.failures == 0 and state.calls > 0
        breaker.check(record("success"))  # a probe of its own
        try:
            breaker.check(record("success"))
            well = False
        except CircuitOpen:
            pass
        well = well and len(living_breakers()) == 2
        os._exit(0 if well else 1)
    assert os.waitpid(child, 0)[1] == 0, "the child"
stop.set()
breaker.settle(probe)
assert [state.state for state in breaker.states()] == ["closed"]
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child() -> None:
    """
    It begins with a whole copy and a lock of its own, and probes for itself.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=100
    )

    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


def test_it_needs_the_core_only() -> None:
    """
    Neither a database nor an SDK is loaded for a breaker, or has to be installed.
    """
    absent = ("pydantic", "sqlalchemy", "alembic", "openai", "rich", "click", "limits")
    program = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))
from ai_ledger.policies import Breaker
from ai_ledger import Ledger
with Ledger("memory:", policies=[Breaker(min_calls=1)]) as ledger:
    try:
        with ledger.call(model="m", provider="p"):
            raise TimeoutError
    except TimeoutError:
        pass
    try:
        ledger.call(model="m", provider="p")
    except Exception as error:
        print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout == "CircuitOpen\n", done.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"per": "cost"},
        {"per": "status"},
        {"per": ()},
        {"per": ("provider", 7)},
        {"per": ("model", "request_model")},
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"failure_rate": float("nan")},
        {"window_s": -1},
        {"window_s": True},
        {"min_calls": 0},
        {"min_calls": 2.5},
        {"open_s": 0},
        {"open_s": float("inf")},
        {"probe_s": "soon"},
        {"max_keys": 0},
        {"on_change": "shout"},
    ],
    ids=str,
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    """
    Refused when the breaker is made, by name, with what would be accepted.
    """
    with pytest.raises(ConfigurationError, match=f"^{next(iter(options))}=.*: expected "):
        Breaker(**options)
