"""The decorator: names the function, records what nobody tracked, and counts nothing twice."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest

from ai_ledger import InvalidValue, call_context, current_context, track_ai_usage, use_ledger
from ai_ledger.testing import Provider

from .support import MESSAGES, Books, bare, tracked

ANSWER = {
    "id": "chatcmpl-untracked",
    "object": "chat.completion",
    "model": "qwen-plus-latest",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
_numbers = iter(range(10**6))


def answer(**more: Any) -> dict[str, Any]:
    """An answer that no tracked client has seen."""
    return {**ANSWER, "id": f"chatcmpl-untracked-{next(_numbers)}", **more}


@pytest.fixture(autouse=True)
def _default(books: Books) -> Iterator[None]:
    use_ledger(books.ledger)
    yield
    use_ledger(None)


@pytest.fixture
def client(provider: Provider, books: Books) -> Iterator[Any]:
    with bare("sync", provider) as own:
        yield tracked(own, books)


def ask(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="qwen-plus", messages=MESSAGES, **more)


def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that makes a coroutine function look like a plain one."""

    @wraps(function)
    def hidden(*args: Any) -> Any:
        return function(*args)

    return hidden


# Each form of a function, returning an answer that nobody tracked


async def as_function(decorate: Any) -> Any:
    return decorate(lambda: answer())()


async def as_coroutine(decorate: Any) -> Any:
    @decorate
    async def work() -> Any:
        await asyncio.sleep(0)
        return answer()

    return await work()


async def as_hidden_coroutine(decorate: Any) -> Any:
    @decorate
    @hiding
    async def work() -> Any:
        await asyncio.sleep(0)
        return answer()

    return await work()


async def as_generator(decorate: Any) -> Any:
    @decorate
    def work() -> Any:
        yield 1
        return answer()

    running = work()
    assert next(running) == 1
    with pytest.raises(StopIteration) as stop:
        next(running)
    return stop.value.value


async def as_method(decorate: Any) -> Any:
    class Worker:
        @decorate
        def work(self) -> Any:
            return answer()

    return Worker().work()


async def as_class_method(decorate: Any) -> Any:
    class Worker:
        @decorate
        @classmethod
        def work(cls) -> Any:
            assert cls is Worker
            return answer()

    return Worker.work()


async def as_static_method(decorate: Any) -> Any:
    class Worker:
        @decorate
        @staticmethod
        def work() -> Any:
            return answer()

    return Worker.work()


@pytest.mark.parametrize(
    "form",
    [
        as_function,
        as_coroutine,
        as_hidden_coroutine,
        as_generator,
        as_method,
        as_class_method,
        as_static_method,
    ],
)
async def test_an_untracked_answer_is_recorded(form: Any, books: Books) -> None:
    """
    Whatever kind of function returns it, it comes back as it is and goes on the books once.
    """
    result = await form(track_ai_usage("real-time analysis", "qwen-plus", user_id="u"))

    assert result["usage"] == ANSWER["usage"]
    assert books.facts(
        "status",
        "function",
        "user_id",
        "request_model",
        "response_model",
        "usage_source",
        "input_tokens",
        "output_tokens",
        "finish_reason",
        "response_content",
    ) == (
        "success",
        "real-time analysis",
        "u",
        "qwen-plus",
        "qwen-plus-latest",
        "reported",
        9,
        2,
        "stop",
        "Hi",
    )


def test_bare_and_with_keywords_only(books: Books) -> None:
    """
    Without a name the function's own is taken; with keywords alone too.
    """

    @track_ai_usage
    def first() -> Any:
        """Its own words."""
        return answer()

    @track_ai_usage(business_type="resume", anchor_id=7)
    def second() -> Any:
        return answer()

    first()
    second()

    assert first.__name__ == "first"
    assert first.__doc__ == "Its own words."
    assert [
        (str(r.function).rpartition(".")[2], r.business_type, r.tags) for r in books.records
    ] == [
        ("first", None, {}),
        ("second", "resume", {"anchor_id": "7"}),
    ]


async def test_what_is_inside_gets_the_context(
    client: Any, provider: Provider, books: Books
) -> None:
    """
    Calls of tracked clients are named for the function, in tasks and threads of it as well.
    """

    @track_ai_usage("plain")
    def plain() -> str:
        return ask(client).choices[0].message.content

    @track_ai_usage("stream")
    def streaming() -> Iterator[Any]:
        for chunk in ask(client, stream=True):
            assert current_context().function == "stream"
            yield chunk

    @track_ai_usage("async")
    async def coroutine() -> None:
        await asyncio.gather(*(asyncio.to_thread(ask, client) for _ in range(2)))

    @track_ai_usage("async stream")
    async def chunks() -> AsyncIterator[Any]:
        async with bare("async", provider) as own:
            async for chunk in await ask(tracked(own, books), stream=True):
                yield chunk

    plain()
    for _ in streaming():
        assert current_context().function is None
    await coroutine()
    async for _ in chunks():
        assert current_context().function is None

    assert [record.function for record in books.records] == [
        "plain",
        "stream",
        "async",
        "async",
        "async stream",
    ]


# Never twice


def test_a_tracked_answer_is_not_counted_again(client: Any, books: Books) -> None:
    """
    Returned as it is, as a mapping, from a decorated function in a decorated function: once.
    """

    @track_ai_usage("inner", "qwen-plus")
    def inner() -> Any:
        return ask(client)

    @track_ai_usage("outer", "qwen-plus")
    def outer() -> Any:
        return inner()

    @track_ai_usage("dump", "qwen-plus")
    def dump() -> Any:
        return outer().model_dump()

    @track_ai_usage("json", "qwen-plus")
    def without_id() -> Any:
        made = client.embeddings.create(model="text-embedding-3-small", input="hello")
        return made.model_dump()

    @track_ai_usage("raw", "qwen-plus")
    def raw() -> Any:
        return client.chat.completions.with_raw_response.create(
            model="qwen-plus", messages=MESSAGES
        ).parse()

    for function in (inner, outer, dump, without_id, raw):
        function()

    assert [record.function for record in books.records] == [
        "inner",
        "inner",
        "inner",
        "json",
        "raw",
    ]


def test_an_untracked_answer_passed_on_is_recorded_once(books: Books) -> None:
    """
    The innermost function has it; who hands it on does not count it again, then or later.
    """
    kept = answer()

    @track_ai_usage("inner")
    def inner() -> Any:
        return kept

    @track_ai_usage("outer")
    def outer() -> Any:
        return inner()

    outer()
    outer()

    assert books.facts("function")[0] == "inner"


def test_two_answers_are_two_calls(client: Any, books: Books) -> None:
    """
    One that was tracked does not hide one that was not.
    """

    @track_ai_usage("both")
    def both() -> Any:
        ask(client)
        return answer()

    both()

    assert [record.function for record in books.records] == ["both", "both"]
    assert len({record.response_id for record in books.records}) == 2


def test_a_stream_that_a_client_tracks_is_not_counted_by_the_decorator(
    client: Any, books: Books
) -> None:
    """
    The summed-up answer of a tracked stream has the id of its chunks.
    """

    @track_ai_usage("summed")
    def summed() -> Any:
        chunks = list(ask(client, stream=True))
        return answer(id=chunks[0].id)

    summed()

    assert books.facts("streamed", "function") == (True, "summed")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        7,
        b"bytes",
        [ANSWER],
        {"usage": 3},
        {"model": "x"},
        object(),
        SimpleNamespace(),
    ],
)
def test_what_is_no_answer_is_not_recorded(value: object, books: Books) -> None:
    """
    Functions may return what they like.
    """
    assert track_ai_usage("any", "qwen-plus")(lambda: value)() is value
    assert books.records == []


# Failures


class Broken(Exception):
    pass


def boom() -> Any:
    raise Broken("because of sk-abcdef0123456789")


async def async_boom() -> Any:
    await asyncio.sleep(0)
    raise Broken("because")


def generator_boom() -> Any:
    yield 1
    raise Broken("because")


async def async_generator_boom() -> Any:
    yield 1
    raise Broken("because")


async def run(function: Any) -> None:
    result = function()
    if hasattr(result, "__anext__"):
        async for _ in result:
            pass
    elif hasattr(result, "__next__"):
        for _ in result:
            pass
    elif asyncio.iscoroutine(result):
        await result


@pytest.mark.parametrize("function", [boom, async_boom, generator_boom, async_generator_boom])
async def test_a_failure_without_a_tracked_call_is_recorded(function: Any, books: Books) -> None:
    """
    With a model given, it is one failed call; the exception is the function's own.
    """
    with pytest.raises(Broken, match="because"):
        await run(track_ai_usage("fails", "qwen-plus")(function))
    with pytest.raises(Broken, match="because"):
        await run(track_ai_usage("names no model")(function))

    assert books.facts("status", "function", "error_type", "request_model", "usage_source") == (
        "failed",
        "fails",
        "Broken",
        "qwen-plus",
        "unknown",
    )
    assert "sk-abc" not in (books.record.error_message or "")


def test_a_failure_of_a_tracked_call_is_not_recorded_again(
    client: Any, provider: Provider, books: Books
) -> None:
    """
    Nor is what a function raises after its tracked calls.
    """
    provider.next(status=400)

    @track_ai_usage("outer", "qwen-plus")
    @track_ai_usage("fails", "qwen-plus")
    def fails(then: bool) -> None:
        ask(client)
        if then:
            raise Broken

    with pytest.raises(Exception, match="Bad request"):
        fails(then=False)
    with pytest.raises(Broken):
        fails(then=True)

    assert [(r.status, r.function) for r in books.records] == [
        ("failed", "fails"),
        ("success", "fails"),
    ]


async def test_what_is_no_failure(books: Books) -> None:
    """
    Closing a generator early is its caller's choice; cancelling a coroutine is recorded as that.
    """
    running = track_ai_usage("closed", "qwen-plus")(generator_boom)()
    next(running)
    running.close()
    async for _ in track_ai_usage("closed", "qwen-plus")(async_generator_boom)():
        break
    gc.collect()
    await asyncio.sleep(0.01)
    assert books.records == []

    task = asyncio.create_task(track_ai_usage("cancelled", "qwen-plus")(asyncio.sleep)(10))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert books.facts("status", "function") == ("cancelled", "cancelled")


# Context fed by arguments


class Worker:
    def __init__(self) -> None:
        self.tenant = "t-1"

    @track_ai_usage(
        "fed",
        user_id="user",
        reference_id=lambda call: call.job["id"],
        org_id=lambda call: call.self.tenant,
        business_type="fixed",
        kind=lambda call: len(call.rest),
    )
    def work(self, user: int, job: Any = None, *rest: Any, **more: Any) -> Any:
        return answer()


def test_arguments_feed_the_context(books: Books) -> None:
    """
    By a parameter's name or by a callable, however the argument was given, defaults included.
    """
    worker = Worker()
    worker.work(7, {"id": "j-1"}, "more")
    with call_context(session_id="s"):
        worker.work(user=8, job={"id": 2}, user_id="shadow")

    assert [
        (r.user_id, r.reference_id, r.org_id, r.business_type, r.tags, r.session_id)
        for r in books.records
    ] == [
        ("7", "j-1", "t-1", "fixed", {"kind": "1"}, None),
        ("8", "2", "t-1", "fixed", {"kind": "0"}, "s"),
    ]


def test_arguments_that_cannot_feed_it(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    """
    A callable that fails leaves its field out; the function runs all the same.
    """
    Worker().work(7)

    assert books.facts("user_id", "reference_id", "status") == ("7", None, "success")
    assert list(books.incidents) == [
        "a decorator's context could not be read from arguments; a callable is "
        "given one object with all of them as attributes"
    ]
    assert len(caplog.records) == 1


def test_wrong_calls_of_the_function_stay_its_own(books: Books) -> None:
    """
    A missing argument is the TypeError that Python makes of it.
    """
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'user'"):
        Worker().work()  # type: ignore[call-arg]


def test_bad_context_is_refused_when_decorating() -> None:
    """
    At import and not at the first call.
    """
    with pytest.raises(InvalidValue, match="user_id"):
        track_ai_usage("x", user_id=[1])(lambda: None)
