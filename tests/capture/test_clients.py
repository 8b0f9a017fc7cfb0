"""Tracked clients: the SDK's own in every respect, and the user's own client as it was."""

from __future__ import annotations

import abc
import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

import ai_ledger.openai
from ai_ledger import (
    ConfigurationError,
    ContextThreadPoolExecutor,
    Ledger,
    TrackedClient,
    call_context,
    instrument,
    track_ai_usage,
    uninstrument,
    use_ledger,
)
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.testing import Provider

from .support import (
    KEY,
    MESSAGES,
    OPENAI,
    Books,
    bare,
    close,
    described,
    each,
    got,
    listed,
    outcome,
    tracked,
)

CHAT: dict[str, Any] = {"model": "qwen-plus", "messages": MESSAGES}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}


async def create(client: Any) -> Any:
    return await got(client.chat.completions.create(**CHAT))


# What it is


async def test_it_is_the_clients_own_class(sdk: Any, books: Books) -> None:
    """
    isinstance, attributes, parameters and documentation are the SDK's; the class says so too.
    """
    client = sdk(max_retries=7, default_headers={"x-own": "1"})
    kind = type(client)

    made = tracked(client, books)

    assert isinstance(made, kind)
    assert isinstance(made, TrackedClient)
    assert type(made).__name__ == kind.__name__
    assert inspect.signature(type(made)) == inspect.signature(kind)
    assert type(made).__doc__ == kind.__doc__
    assert (made.api_key, made.max_retries, made.base_url) == (
        client.api_key,
        7,
        client.base_url,
    )
    assert described(dict(made.default_headers)) == described(dict(client.default_headers))
    assert made._client is client._client
    assert type(tracked(sdk(), books)) is type(made)
    assert list(inspect.signature(TrackedClient).parameters) == [
        "client",
        "ledger",
        "policies",
        "context",
    ]
    for name in ("create", "parse"):
        own, its = (getattr(one.chat.completions, name, None) for one in (made, client))
        if own is not None:
            assert inspect.signature(own) == inspect.signature(its)


async def test_the_users_client_is_left_as_it_was(
    sdk: Any, provider: Provider, books: Books
) -> None:
    """
    It keeps its class and attributes, and its own calls are nobody's business.
    """
    client = sdk()
    client._platform = "Linux"  # looked up at the first call otherwise
    chat = client.chat
    before = dict(client.__dict__)
    made = tracked(client, books)
    await create(made)

    await create(client)

    assert client.__dict__ == before
    assert client.chat is chat
    assert made.chat is not chat
    assert type(client) in (openai.OpenAI, openai.AsyncOpenAI)
    assert len(provider.requests) == 2
    assert len(books.records) == 1


async def test_copies_keep_tracking_and_context(sdk: Any, books: Books) -> None:
    """
    with_options and copy give clients of the same class, on the same books.
    """
    made = tracked(sdk(), books, user_id="u").with_context(session_id="s")

    copied = made.with_options(timeout=3).copy(max_retries=1)
    await create(copied)

    assert type(copied) is type(made)
    assert (copied.timeout, copied.max_retries) == (3, 1)
    assert books.facts("user_id", "session_id") == ("u", "s")


async def test_tracking_twice_counts_once(sdk: Any, books: Books) -> None:
    """
    A tracked client that is tracked again is the same with more context, not more records.
    """
    made = tracked(tracked(sdk(), books, user_id="u"), books, session_id="s")

    await create(made)

    assert books.facts("user_id", "session_id") == ("u", "s")


async def test_subclasses_of_the_user(mode: str, provider: Provider, books: Books) -> None:
    """
    They keep their methods, their constructor and their type, with a metaclass of their own too.
    """
    base: Any = openai.OpenAI if mode == "sync" else openai.AsyncOpenAI

    class Mine(base, metaclass=abc.ABCMeta):
        def __init__(self, place: str, **options: Any) -> None:
            self.place = place
            super().__init__(**options)

        def ask(self) -> Any:
            return self.chat.completions.create(**CHAT)

    client = Mine("here", api_key=KEY, base_url=provider.base_url)

    made = tracked(client, books)
    await got(made.ask())
    await close(client)

    assert isinstance(made, Mine)
    assert made.place == "here"
    assert books.facts("status") == ("success",)


@pytest.mark.parametrize("entra", [False, True], ids=["key", "Entra ID"])
async def test_azure(entra: bool, sdk: Any, provider: Provider, books: Books) -> None:
    """
    Azure's clients put the deployment into the path; the calls are those of provider azure.
    """
    auth = {"azure_ad_token": "token", "api_key": None} if entra else {}
    client = sdk("AzureOpenAI", azure_endpoint=provider.url, api_version="2024-10-21", **auth)
    expected = await outcome(create, client)

    assert await outcome(create, tracked(client, books)) == expected
    stream = await got(tracked(client, books).chat.completions.create(**CHAT, stream=True))
    await listed(stream)

    assert provider.requests[-1].path == "/openai/deployments/qwen-plus/chat/completions"
    assert [(r.provider, r.request_model, r.usage_source) for r in books.records] == [
        ("azure", "qwen-plus", "reported")
    ] * 2


@pytest.mark.parametrize(
    ("base_url", "provider_name", "host"),
    [
        ("https://api.openai.com/v1", "openai", "api.openai.com"),
        ("https://us.api.openai.com/v1/", "openai", "us.api.openai.com"),
        (
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "dashscope",
            "dashscope.aliyuncs.com",
        ),
        ("https://API.DeepSeek.com", "deepseek", "api.deepseek.com"),
        ("https://me.openai.azure.com/openai/v1", "azure", "me.openai.azure.com"),
        ("https://openrouter.ai/api/v1", "openrouter", "openrouter.ai"),
        ("https://notopenai.com/v1", None, "notopenai.com"),
        ("http://localhost:11434/v1", None, "localhost"),
        ("http://[::1]:8000/v1", None, "::1"),
    ],
)
def test_who_answers(base_url: str, provider_name: str | None, host: str, books: Books) -> None:
    """
    The provider is read from the host, never from a part of a name; a name given wins.
    """
    with httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=ANSWER))
    ) as http:
        client = openai.OpenAI(api_key=KEY, base_url=base_url, http_client=http)
        tracked(client, books).chat.completions.create(**CHAT)
        tracked(client, books, provider="mine").chat.completions.create(**CHAT)

    assert [(r.provider, r.server_address) for r in books.records] == [
        (provider_name, host),
        ("mine", host),
    ]


def test_what_is_no_client(books: Books) -> None:
    """
    Anything else is refused at once, with what to use instead.
    """
    for thing in (object(), httpx.Client, "client", openai):
        with pytest.raises(ConfigurationError, match=r"ledger\.call"):
            TrackedClient(thing, ledger=books.ledger)


async def test_other_requests_are_no_calls(sdk: Any, provider: Provider, books: Books) -> None:
    """
    Listing models and the like is not on the books.
    """
    client = tracked(sdk(), books)

    await got(client.models.list())
    await outcome(lambda c: got(c.files.list()), client)
    await outcome(lambda c: got(c.post("/batches", body={}, cast_to=object)), client)
    await outcome(lambda c: got(c.post("/threads/t/messages", body={}, cast_to=object)), client)

    assert len(provider.requests) == 4
    assert books.records == []


# Context


async def test_what_is_said_nearer_to_the_call_wins(sdk: Any, books: Books) -> None:
    """
    with_context beats what is around the call, which beats what the client was made with.
    """
    client = tracked(sdk(), books, user_id="client", session_id="client", org_id="client")

    with call_context(user_id="ambient", session_id="ambient", function="ambient"):
        await create(client.with_context(user_id="call", x=1).with_context(y=2))
        await create(client)
    await create(client)

    assert [(r.user_id, r.session_id, r.org_id, r.function, r.tags) for r in books.records] == [
        ("call", "ambient", "client", "ambient", {"x": "1", "y": "2"}),
        ("ambient", "ambient", "client", "ambient", {}),
        ("client", "client", "client", None, {}),
    ]


async def test_a_stream_keeps_the_context_of_its_creation(sdk: Any, books: Books) -> None:
    """
    It may be read wherever and whenever.
    """
    client = tracked(sdk(), books)
    with call_context(user_id="creator"):
        stream = await got(client.chat.completions.create(**CHAT, stream=True))
    with call_context(user_id="reader", session_id="reader"):
        await listed(stream)

    assert books.facts("user_id", "session_id") == ("creator", None)


def test_threads_never_mix_contexts(provider: Provider, books: Books) -> None:
    """
    Two hundred calls by eight threads: each has its own user, from an executor that carries it.
    """
    with bare("sync", provider) as client, ContextThreadPoolExecutor(8) as pool:
        made = tracked(client, books)
        for number in range(100):
            with call_context(user_id=number, session_id=f"s-{number}"):
                pool.submit(made.chat.completions.create, **CHAT)
                pool.submit(lambda: list(made.chat.completions.create(**CHAT, stream=True)))

    assert sorted((r.user_id, r.session_id, r.streamed) for r in books.records) == sorted(
        (str(number), f"s-{number}", streamed)
        for number in range(100)
        for streamed in (True, False)
    )


async def test_tasks_never_mix_contexts(provider: Provider, books: Books) -> None:
    """
    The same for a hundred tasks of one loop, some of them cancelled.
    """
    async with bare("async", provider) as client:
        made = tracked(client, books)

        async def work(number: int) -> None:
            with call_context(user_id=number):
                if number % 2:
                    await made.chat.completions.create(**CHAT)
                else:
                    async for _ in await made.chat.completions.create(**CHAT, stream=True):
                        pass
            assert number % 10, "some fail afterwards"

        await asyncio.gather(*map(work, range(100)), return_exceptions=True)

    assert sorted((r.user_id, r.streamed, r.status) for r in books.records) == sorted(
        (str(number), number % 2 == 0, "success") for number in range(100)
    )


def test_one_client_made_by_many_threads_at_once(provider: Provider, books: Books) -> None:
    """
    Making tracked clients in parallel makes one class and loses no call.
    """
    with bare("sync", provider) as client, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: tracked(client, books), range(32)))
        list(pool.map(lambda one: one.chat.completions.create(**CHAT), made))

    assert len({type(one) for one in made}) == 1
    assert len(books.records) == 32


# Drop-in classes and instrumenting


async def test_drop_in_classes(mode: str, provider: Provider, books: Books) -> None:
    """
    ``from ai_ledger.openai import OpenAI`` is all that has to be changed.
    """
    name = "OpenAI" if mode == "sync" else "AsyncOpenAI"
    kind: Any = getattr(ai_ledger.openai, name)
    client = kind(api_key=KEY, base_url=provider.base_url, ledger=books.ledger)
    use_ledger(books.ledger)
    other = kind(api_key=KEY, base_url=provider.base_url)

    try:
        await create(client.with_context(user_id="u").with_options(timeout=9))
        await create(other)
    finally:
        use_ledger(None)
        await close(client)
        await close(other)

    assert isinstance(client, getattr(openai, name))
    assert issubclass(getattr(ai_ledger.openai, f"{name[:-6]}AzureOpenAI"), openai.OpenAI) == (
        mode == "sync"
    )
    assert [record.user_id for record in books.records] == ["u", None]


@pytest.fixture
def instrumented(books: Books) -> Any:
    """The SDK with every client tracked; undone in the end."""
    use_ledger(books.ledger)
    instrument()
    yield
    uninstrument()
    use_ledger(None)


async def test_instrumented_clients(
    instrumented: None, mode: str, provider: Provider, books: Books, sdk: Any
) -> None:
    """
    Clients of any kind count once each: own, tracked, copied, Azure's and drop-in ones.
    """
    instrument()
    other = Books()
    client = sdk()
    await create(client)
    await create(client.with_options(timeout=3))
    await create(sdk("AzureOpenAI", azure_endpoint=provider.url, api_version="2024-10-21"))
    await listed(await got(client.chat.completions.create(**CHAT, stream=True)))
    assert len(books.records) == 4

    await create(tracked(client, other, user_id="u"))
    await create(tracked(sdk(), other, user_id="u").with_context(session_id="s"))
    assert [(r.user_id, r.session_id) for r in other.records] == [("u", None), ("u", "s")]

    # Its tracked class is made now, from a class that is hooked itself.
    base: Any = type(client)
    fresh = type("Fresh", (base,), {})(api_key=KEY, base_url=provider.base_url)
    await create(tracked(fresh, other))
    await create(fresh)
    await close(fresh)
    assert len(other.records) == 3
    assert len(books.records) == 5


async def test_instrumenting_is_undone_exactly(sdk: Any, books: Books, provider: Provider) -> None:
    """
    Afterwards the SDK's classes are what they were, and nobody is tracked but the tracked.
    """
    kinds = (openai.OpenAI, openai.AsyncOpenAI, openai.AzureOpenAI)
    before = [dict(vars(kind)) for kind in kinds]
    use_ledger(books.ledger)
    client = sdk()
    instrument(*kinds)
    made_meanwhile = tracked(client, books, user_id="u")
    await create(client)
    uninstrument(openai.OpenAI)
    uninstrument()
    uninstrument()

    await create(client)
    await create(made_meanwhile)
    await create(tracked(client, books, user_id="later").with_context(session_id="s"))
    use_ledger(None)

    assert [dict(vars(kind)) for kind in kinds] == before
    assert [record.user_id for record in books.records] == [None, "u", "later"]


async def test_the_default_ledger_may_be_changed(sdk: Any, provider: Provider) -> None:
    """
    Clients without a ledger of their own follow `use_ledger`, also after their first call.
    """
    one, two = Books(), Books()
    client = TrackedClient(sdk())
    try:
        for books in (one, two):
            use_ledger(books.ledger)
            await create(client)
    finally:
        use_ledger(None)

    assert (len(one.records), len(two.records)) == (1, 1)


# Other transports, other SDKs


def test_mocked_httpx(books: Books) -> None:
    """
    respx sees the calls of a tracked client whose HTTP client is httpx's, on any version.
    """
    import respx

    with respx.mock(base_url="https://api.openai.com/v1") as router, httpx.Client() as http:
        route = router.post("/chat/completions").mock(
            side_effect=[httpx.Response(500), httpx.Response(200, json=ANSWER)]
        )
        client = openai.OpenAI(api_key=KEY, http_client=http, max_retries=1)
        result = tracked(client, books).chat.completions.create(**CHAT)

    assert route.call_count == 2
    assert result.choices[0].message.content == "Hi"
    assert books.facts("provider", "input_tokens", "output_tokens", "retries") == (
        "openai",
        9,
        2,
        1,
    )


@pytest.mark.skipif(OPENAI < (3, 0), reason="openai below 3 speaks httpx")
async def test_mocked_httpx2(mode: str, books: Books) -> None:
    """
    httpx2's own mock transport works as with the bare SDK.
    """
    import httpx2

    def answer(request: Any) -> Any:
        return httpx2.Response(200, json=ANSWER)

    kind = httpx2.Client if mode == "sync" else httpx2.AsyncClient
    http = kind(transport=httpx2.MockTransport(answer))
    client = (openai.OpenAI if mode == "sync" else openai.AsyncOpenAI)(
        api_key=KEY, http_client=http
    )

    result = await create(tracked(client, books))
    await close(client)

    assert result.usage.total_tokens == 11
    assert books.facts("status", "input_tokens") == ("success", 9)


@pytest.mark.skipif(OPENAI < (3, 0), reason="openai below 3 speaks httpx")
def test_pytest_httpx2(books: Books, httpx2_mock: Any) -> None:
    """
    pytest-httpx2 sees the calls of a tracked client.
    """
    route = httpx2_mock.post("https://api.openai.com/v1/chat/completions").respond(json=ANSWER)
    with openai.OpenAI(api_key=KEY) as client:
        tracked(client, books).chat.completions.create(**CHAT)

    assert route.called
    assert books.facts("status", "input_tokens") == ("success", 9)


async def test_anthropic(mode: str, provider: Provider, books: Books) -> None:
    """
    An SDK built on the same base client is tracked too; its input excludes what was cached.
    """
    anthropic = pytest.importorskip("anthropic")
    provider.on("claude", input_tokens=100, cached_tokens=20, cache_write_tokens=30)
    kind = anthropic.Anthropic if mode == "sync" else anthropic.AsyncAnthropic
    client = kind(api_key=KEY, base_url=provider.url, max_retries=1)
    request: Any = {"model": "claude", "max_tokens": 9, "messages": MESSAGES, "system": "Be nice"}

    async def message(client: Any) -> Any:
        return await got(client.messages.create(**request))

    async def events(client: Any) -> Any:
        return await listed(await got(client.messages.create(**request, stream=True)))

    async def helper(client: Any) -> Any:
        manager = client.messages.stream(**request)
        if mode == "sync":
            with manager as stream:
                return [*stream, stream.get_final_message()]
        async with manager as stream:
            return [*[event async for event in stream], await stream.get_final_message()]

    async def cut_short(client: Any) -> Any:
        stream = await got(client.messages.create(**request, stream=True))
        async for event in each(stream):
            if event.type == "content_block_delta":
                break
        await close(stream)
        return "cut"

    async def refused(client: Any) -> Any:
        provider.next(status=429, times=2)
        return await message(client)

    made = tracked(client, books)
    for call in (message, events, helper, cut_short, refused):
        expected = await outcome(call, client)
        assert await outcome(call, made) == expected
    await close(client)

    read = [
        (r.status, r.usage_source, r.input_tokens, r.cache_read_tokens, r.cache_write_tokens)
        for r in books.records
    ]
    assert read == [
        *[("success", "reported", 100, 20, 30)] * 3,
        ("cancelled", "estimated", 100, 20, 30),
        ("failed", "unknown", None, None, None),
    ]
    assert [r.finish_reason for r in books.records] == ["end_turn"] * 3 + [None] * 2
    assert [r.retries for r in books.records] == [0, 0, 0, 0, 1]
    assert books.incidents == {}


# What a program may do wrong, or do in its own way


def test_a_url_is_no_ledger() -> None:
    """
    What is no ledger or no policy is refused when the client is made, not at each call.
    """
    for options in ({"ledger": "sqlite:///x.db"}, {"policies": [object()]}):
        with pytest.raises(ConfigurationError):
            TrackedClient(openai.OpenAI(api_key="k"), **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        track_ai_usage("name", ledger="sqlite:///x.db")(lambda: None)  # type: ignore[call-overload]


def test_an_answer_outlives_a_ledger_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A decorated function's paid answer comes back although the default ledger has no sink.
    """
    monkeypatch.setenv("AI_LEDGER_URL", "oracle://nowhere")
    use_ledger(None)
    answer = {"model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    assert track_ai_usage(lambda: answer)() is answer
    with pytest.raises(KeyError):
        track_ai_usage("name", "m")(lambda: {}["nothing"])()


async def test_an_async_client_with_a_plain_request() -> None:
    """
    A subclass may hand the coroutine on from a plain function: its outcome is what counts.
    """

    class Mine(openai.AsyncOpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    sink = MemorySink()
    with Provider() as provider, Ledger(sinks=[sink], journal=False) as ledger:
        provider.next(status=500)
        mine = Mine(base_url=provider.base_url, api_key="k", max_retries=0)
        client = TrackedClient(mine, ledger=ledger)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="m", messages=[])
        await client.chat.completions.create(model="m", messages=[])
        await client.close()
        ledger.flush(60)

    assert [(each.status, each.usage_source) for each in sink.records] == [
        ("failed", "unknown"),
        ("success", "reported"),
    ]


def test_policies_cannot_change_what_is_sent() -> None:
    """
    Not even inside the messages.
    """

    class Meddler:
        def check(self, call: Any, request: Any) -> None:
            request["messages"].append({"role": "user", "content": "obey"})

        def settle(self, record: Any) -> None:
            pass

    messages: list[Any] = [{"role": "user", "content": "hello"}]
    with Provider() as provider, Ledger("memory:", policies=[Meddler()]) as ledger:
        client = TrackedClient(
            openai.OpenAI(base_url=provider.base_url, api_key="k"), ledger=ledger
        )
        client.chat.completions.create(model="m", messages=messages)
        sent = provider.requests[-1].body

    assert sent["messages"] == messages == [{"role": "user", "content": "hello"}]


def test_a_body_read_raw() -> None:
    """
    Bytes that never pass the SDK's decoder are accounted for when they have been read.
    """
    sink = MemorySink()
    with Provider() as provider, Ledger(sinks=[sink], journal=False) as ledger:
        client = TrackedClient(
            openai.OpenAI(base_url=provider.base_url, api_key="k"), ledger=ledger
        )
        with client.chat.completions.with_streaming_response.create(
            model="m", messages=[{"role": "user", "content": "hello"}]
        ) as response:
            list(response.http_response.iter_raw())
        ledger.flush(60)

    (record,) = sink.records
    assert record.status == "success"
    assert record.usage_source == "reported"
