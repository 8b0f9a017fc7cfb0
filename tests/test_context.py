"""Context: who is calling and why, carried everywhere and leaking nowhere."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from enum import Enum
from functools import wraps
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger import ContextThreadPoolExecutor, InvalidValue, bind, call_context, current_context
from ai_ledger.context import EMPTY, Context


class Kind(Enum):
    RESUME = "resume"
    NUMBER = 7


def said() -> tuple[str | None, str | None]:
    """The two fields that these tests look at."""
    context = current_context()
    return context.user_id, context.session_id


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Every test leaves the context as it found it."""
    assert current_context() == EMPTY
    yield
    assert current_context() == EMPTY


# What can be said


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        pytest.param("u-42", "u-42", id="text"),
        pytest.param(42, "42", id="number"),
        pytest.param(Decimal("1.50"), "1.50", id="decimal"),
        pytest.param(UUID(int=7), "00000000-0000-0000-0000-000000000007", id="UUID"),
        pytest.param(Kind.RESUME, "resume", id="enum"),
        pytest.param(Kind.NUMBER, "7", id="enum of numbers"),
        pytest.param(None, None, id="not set"),
        pytest.param("NUL \x00 and \ud800", "NUL \ufffd and \ufffd", id="what no store takes"),
    ],
)
def test_values(given_value: object, kept: str | None) -> None:
    """
    Ids become text that every store can keep; None means not set.
    """
    assert Context.of({"user_id": given_value}) == Context(user_id=kept)


def test_long_values_are_cut_and_stay_different() -> None:
    """
    An id that is too long for an index is cut, with a hash so that two never become one.
    """
    one, two = (Context.of({"user_id": "x" * 300 + end}).user_id for end in "ab")

    assert one is not None
    assert len(one) == 255
    assert one != two


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        pytest.param("user_id", b"u", "user_id", id="bytes"),
        pytest.param("user_id", ["u"], "user_id", id="a list"),
        pytest.param("site_id", object(), "site_id", id="an object, by an alias"),
        pytest.param("anchor", {"a": 1}, "anchor", id="a tag that is no text"),
        pytest.param("input_tokens", 3, "input_tokens", id="what is read from the call"),
        pytest.param("cost_usd", 3, "cost_usd", id="the same, by an alias"),
        pytest.param("id", "x", "id", id="the record's own id"),
        pytest.param("tags", dict.fromkeys(map(str, range(33)), 1), "tags", id="too many tags"),
    ],
)
def test_values_that_cannot_be(name: str, value: object, field: str) -> None:
    """
    They are refused at once, by name, and not when a call is made.
    """
    with pytest.raises(InvalidValue, match=f"^{field}=") as caught:
        call_context(**{name: value})

    assert caught.value.field == field


def test_aliases_and_tags() -> None:
    """
    The words of other systems are understood, and unknown ones become tags.
    """
    context = Context.of(
        {
            "site_id": 1,
            "sn_code": "d",
            "app_type": "b",
            "anchor_id": 9,
            "tags": {"x": 1, "y": Kind(7)},
        }
    )

    assert context == Context(
        org_id="1", device_id="d", business_type="b", tags={"anchor_id": "9", "x": "1", "y": "7"}
    )


# Nesting


def test_nested_contexts_merge_and_the_inner_wins() -> None:
    """
    What the inner context sets wins, tags one by one; None takes nothing away.
    """
    with call_context(user_id="outer", session_id="s", a=1, b=1):
        with call_context(user_id="inner", session_id=None, b=2):
            assert current_context() == Context(
                user_id="inner", session_id="s", tags={"a": "1", "b": "2"}
            )
        assert said() == ("outer", "s")


_CONTEXTS = st.builds(
    Context,
    user_id=st.none() | st.sampled_from("ab"),
    session_id=st.none() | st.sampled_from("ab"),
    tags=st.dictionaries(st.sampled_from("xy"), st.sampled_from("12")),
)


@given(_CONTEXTS, _CONTEXTS, _CONTEXTS)
def test_merging_is_associative(one: Context, two: Context, three: Context) -> None:
    """
    It does not matter in which order contexts are put together, only which is nearer.
    """
    assert one.merged(two).merged(three) == one.merged(two.merged(three))
    assert one.merged(EMPTY) == EMPTY.merged(one) == one


def test_a_context_may_be_used_again_and_inside_itself() -> None:
    """
    One object serves many blocks, also nested ones and several threads at once.
    """
    context = call_context(user_id="u")
    seen: list[object] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        with context:
            barrier.wait()
            seen.append(said())
            barrier.wait()
        seen.append(said())

    with context, context:
        pass
    assert said() == (None, None)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen[:4] == [("u", None)] * 4
    assert seen[4:] == [(None, None)] * 4


def test_contexts_left_out_of_order() -> None:
    """
    Who leaves takes away what he said and nothing else, whoever came after.
    """
    first, second = call_context(user_id="one", session_id="s"), call_context(user_id="two")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert said() == ("two", None)
    second.__exit__(None, None, None)
    second.__exit__(None, None, None)


def test_an_exception_passes_and_the_context_ends() -> None:
    """
    The block's exception is the caller's own business.
    """
    with pytest.raises(ZeroDivisionError), call_context(user_id="u"):
        _ = 1 / 0
    assert said() == (None, None)


# As a decorator


@call_context(user_id="u")
def plain(given_session: str | None = None) -> Any:
    """A function."""
    with call_context(session_id=given_session):
        return said()


@call_context(user_id="u")
async def coroutine() -> Any:
    """A coroutine."""
    await asyncio.sleep(0)
    return said()


@call_context(user_id="u")
def generator() -> Iterator[Any]:
    """A generator."""
    with call_context(session_id="s"):
        sent = yield said()
        yield (*said(), sent)
    yield said()
    return "returned"


@call_context(user_id="u")
async def async_generator() -> AsyncIterator[Any]:
    """An async generator."""
    with call_context(session_id="s"):
        sent = yield said()
        await asyncio.sleep(0)
        yield (*said(), sent)
    yield said()


def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that makes a coroutine function look like a plain one."""

    @wraps(function)
    def hidden(*args: Any) -> Any:
        return function(*args)

    return hidden


class Methods:
    """Every kind of method."""

    @call_context(user_id="u")
    def method(self) -> Any:
        return said()

    @call_context(user_id="u")
    @classmethod
    def of_class(cls) -> Any:
        return cls.__name__, *said()

    @call_context(user_id="u")
    @staticmethod
    def static() -> Any:
        return said()


async def test_decorated_functions() -> None:
    """
    Functions, coroutines and methods run with the context, under the caller's other fields.
    """

    async def waits() -> Any:
        await asyncio.sleep(0)
        return said()

    with call_context(user_id="caller", session_id="s"):
        assert plain() == ("u", "s")
        assert plain("mine") == ("u", "mine")
        assert await coroutine() == ("u", "s")
        assert Methods().method() == ("u", "s")
        assert Methods.of_class() == ("Methods", "u", "s")
        assert Methods.static() == ("u", "s")
        assert await call_context(user_id="u")(hiding(waits))() == ("u", "s")
        assert said() == ("caller", "s")
    assert plain.__name__ == "plain"
    assert plain.__doc__ == "A function."
    assert asyncio.iscoroutinefunction(coroutine)


def test_a_generator_keeps_its_context_to_itself() -> None:
    """
    It has the context of its creation while it runs, and its caller never sees it.
    """
    with call_context(session_id="caller"):
        running = generator()
    assert next(running) == ("u", "s")
    assert said() == (None, None)
    with call_context(user_id="other"):
        assert running.send("sent") == ("u", "s", "sent")  # type: ignore[attr-defined]
        assert said() == ("other", None)
    assert next(running) == ("u", "caller")
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "returned"


def test_a_generator_that_pauses_inside_a_block_leaves_the_callers_block_alone() -> None:
    """
    The caller's own block ends as it should while the generator waits in the middle of one.
    """
    running = generator()
    with call_context(user_id="caller"):
        next(running)
        assert said() == ("caller", None)
    assert said() == (None, None)
    running.close()  # type: ignore[attr-defined]
    assert said() == (None, None)


def test_what_is_thrown_into_a_generator_arrives_inside_its_context() -> None:
    """
    The body may catch it, and go on in its own context.
    """

    @call_context(user_id="u")
    def catches() -> Iterator[Any]:
        try:
            yield 1
        except ZeroDivisionError:
            yield said()

    running: Any = catches()
    next(running)

    assert running.throw(ZeroDivisionError()) == ("u", None)


async def test_an_async_generator_keeps_its_context_to_itself() -> None:
    """
    The same for the async kind, when read, closed or thrown away.
    """
    running: Any = async_generator()
    assert await anext(running) == ("u", "s")
    assert said() == (None, None)
    with call_context(user_id="other"):
        assert await running.asend("sent") == ("u", "s", "sent")
        assert said() == ("other", None)
    assert await anext(running) == ("u", None)
    with pytest.raises(StopAsyncIteration):
        await anext(running)

    closed: Any = async_generator()
    await anext(closed)
    await closed.aclose()
    async for _ in async_generator():
        break
    gc.collect()
    await asyncio.sleep(0.01)
    assert said() == (None, None)


# Where it goes


async def test_tasks_take_the_context_of_their_creation_with_them() -> None:
    """
    Tasks, gather and to_thread see it, also after its block has ended; they give nothing back.
    """

    async def work(user: str) -> Any:
        with call_context(user_id=user):
            await asyncio.sleep(0.001)
            return await asyncio.to_thread(said)

    with call_context(session_id="s"):
        late = asyncio.create_task(work("late"))
        thread = await asyncio.to_thread(said)
        gathered = await asyncio.gather(*(work(str(number)) for number in range(50)))

    assert thread == (None, "s")
    assert gathered == [(str(number), "s") for number in range(50)]
    assert await late == ("late", "s")
    assert said() == (None, None)


def test_threads_start_with_nothing_unless_bound() -> None:
    """
    A thread has a context of its own; `bind` carries the present one, as often as wanted.
    """
    with call_context(user_id="u"):
        bound = bind(said)
        with ThreadPoolExecutor(4) as pool:
            unbound = pool.submit(said).result()
            carried = [future.result() for future in [pool.submit(bound) for _ in range(20)]]

    assert unbound == (None, None)
    assert carried == [("u", None)] * 20
    assert bound() == ("u", None)
    assert contextvars.copy_context().run(bound) == ("u", None)


def test_executor_that_carries_the_context() -> None:
    """
    Each task runs in the context that it was submitted from, by submit and by map.
    """
    with ContextThreadPoolExecutor(3) as pool:
        futures = []
        for number in range(30):
            with call_context(user_id=number):
                futures.append(pool.submit(said))
        with call_context(user_id="mapped"):
            mapped = list(pool.map(lambda _: said(), range(5)))
        outside = pool.submit(said).result()

    assert [future.result() for future in futures] == [(str(number), None) for number in range(30)]
    assert mapped == [("mapped", None)] * 5
    assert outside == (None, None)
