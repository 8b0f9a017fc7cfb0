"""The loopback provider, driven by the real SDK, and the other helpers for tests."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import openai
import pytest

from ai_ledger import TrackedClient
from ai_ledger.testing import MISSING, FakeClock, Provider, memory_ledger, tokens_of

HELLO = [{"role": "user", "content": "Say hello."}]
ANSWER = "Hello! How can I help you today?"


@pytest.fixture
def provider():
    with Provider() as running:
        yield running


@pytest.fixture
def client(provider):
    with openai.OpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=2) as client:
        yield client


def chat(client, **options):
    return client.chat.completions.create(model="gpt-4o", messages=HELLO, **options)


def test_a_chat_says_what_it_took(client, provider):
    """
    Tokens are counted by the documented rule, and the request can be read back.
    """
    answer = chat(client, n=2)

    assert [choice.message.content for choice in answer.choices] == [ANSWER, ANSWER]
    assert answer.usage.prompt_tokens == tokens_of("Say hello.") == 3
    assert answer.usage.completion_tokens == 2 * tokens_of(ANSWER) == 16
    (request,) = provider.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.body == {"model": "gpt-4o", "messages": HELLO, "n": 2}


@pytest.mark.parametrize(
    ("options", "fields", "last_usage"),
    [
        pytest.param({}, {}, None, id="not asked for"),
        pytest.param({"stream_options": {"include_usage": True}}, {}, (3, 8), id="asked for"),
        pytest.param(
            {"stream_options": {"include_usage": True}},
            {"stream_usage": "never"},
            None,
            id="asked for in vain",
        ),
        pytest.param({}, {"stream_usage": "always"}, (3, 8), id="always said"),
    ],
)
def test_a_stream_says_its_usage_when_asked(client, provider, options, fields, last_usage):
    """
    The usage chunk has no choices and comes last, or does not come.
    """
    provider.next(**fields)

    chunks = list(chat(client, stream=True, **options))

    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == ANSWER
    usage = chunks[-1].usage
    assert (usage and (usage.prompt_tokens, usage.completion_tokens)) == last_usage
    assert (chunks[-1].choices == []) == (last_usage is not None)


def test_chunks_before_the_usage_say_null(client):
    """
    When usage was asked for, each chunk has the key, and only the last one a value.
    """
    completions = client.chat.completions.with_streaming_response
    asked = {"stream_options": {"include_usage": True}, "stream": True}
    with completions.create(model="gpt-4o", messages=HELLO, **asked) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]

    assert lines.pop() == "[DONE]"
    usages = [json.loads(line)["usage"] for line in lines]
    assert usages[:-1] == [None] * (len(usages) - 1)
    assert usages[-1]["total_tokens"] == 11


def test_thousands_of_chunks(client, provider):
    """
    A stream has as many pieces of text as were asked for.
    """
    provider.next(chunks=2_000)

    pieces = [chunk for chunk in chat(client, stream=True) if chunk.choices[0].delta.content]

    assert len(pieces) == 2_000


def test_async_streams_run_side_by_side(provider):
    """
    The provider answers several requests at once.
    """

    async def one(client) -> str:
        stream = await chat(client, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test") as client:
            return await asyncio.gather(*(one(client) for _ in range(8)))

    provider.on(delay=1.0)
    began = time.monotonic()

    assert asyncio.run(all_of_them()) == [ANSWER] * 8
    assert time.monotonic() - began < 7


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_errors_have_the_providers_shape(client, provider, status, error):
    """
    The SDK makes its own error of each status, with the message that was asked for.
    """
    provider.on(status=status, message="No such luck.")

    with pytest.raises(error, match=r"No such luck\.") as caught:
        chat(client.with_options(max_retries=0))

    assert caught.value.status_code == status


def test_failing_twice_and_then_succeeding(client, provider):
    """
    The SDK's own retries see the scripted failures one by one, without waiting for long.
    """
    provider.next(status=429, times=2)

    assert chat(client).choices[0].message.content == ANSWER
    assert len(provider.requests) == 3


def test_a_timeout(client, provider):
    """
    A delay longer than the client's patience is a timeout, and closing does not wait for it.
    """
    provider.on(delay=60)

    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.05, max_retries=0))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param({"drop_after": 3}, openai.APIConnectionError, id="connection lost"),
        pytest.param({"stall_after": 3}, openai.APITimeoutError, id="stalled"),
        pytest.param({"error_after": 3}, openai.APIError, id="error event"),
        pytest.param({"garbage_after": 3}, json.JSONDecodeError, id="not JSON"),
    ],
)
def test_a_stream_that_ends_badly(client, provider, fields, error):
    """
    The chunks before the trouble arrive; then the SDK raises.
    """
    provider.next(**fields)
    seen = []

    with pytest.raises(Exception) as caught:
        for chunk in chat(client.with_options(timeout=1.0), stream=True):
            seen.append(chunk.choices[0].delta.content)

    # openai 1.x and 2.x let the transport's own error through in mid-stream.
    if openai.__version__.startswith("3") or error is not openai.APIConnectionError:
        assert isinstance(caught.value, error) or "timed out" in str(caught.value)
    assert seen == ["", "Hello!", " How"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param({"hang_up": True}, openai.APIConnectionError, id="hung up"),
        pytest.param({"drop_after": 0}, openai.APIConnectionError, id="half a body"),
        pytest.param({"body": b'{"id": "chatcmpl'}, json.JSONDecodeError, id="not JSON"),
    ],
)
def test_an_answer_that_is_cut(client, provider, fields, error):
    """
    A whole answer can be cut short as well.
    """
    provider.on(**fields)

    with pytest.raises(error):
        chat(client.with_options(max_retries=0))


@pytest.mark.parametrize(
    ("usage", "seen"),
    [
        pytest.param(MISSING, None, id="missing"),
        pytest.param(None, None, id="null"),
        pytest.param({"prompt_tokens": -5}, {"prompt_tokens": -5}, id="negative and partial"),
        pytest.param({"prompt_tokens": "many"}, {"prompt_tokens": "many"}, id="nonsense"),
    ],
)
def test_usage_is_said_as_it_stands(client, provider, usage, seen):
    """
    Whatever is scripted as usage goes out unchanged.
    """
    provider.next(usage=usage)

    body = json.loads(
        client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=HELLO
        ).http_response.content
    )

    assert ("usage" in body) == (usage is not MISSING)
    assert body.get("usage") == seen


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("deepseek", {"prompt_cache_hit_tokens": 20, "prompt_cache_miss_tokens": 80}),
        ("dashscope", {"prompt_tokens_details": {"cached_tokens": 20}}),
        ("groq", {"total_time": 0.021}),
        ("openrouter", {"cost": 0.00025}),
    ],
)
def test_dialects(client, provider, dialect, expected):
    """
    Each provider words its usage in its own way; the totals are the same.
    """
    provider.next(
        dialect=dialect, input_tokens=100, output_tokens=50, cached_tokens=20, cost=0.00025
    )

    usage = chat(client).usage.model_dump()

    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (100, 50)
    for name, value in expected.items():
        said = usage[name]
        assert (said if not isinstance(value, dict) else {k: said[k] for k in value}) == value


def test_groq_says_its_stream_usage_elsewhere(client, provider):
    """
    Groq's last chunk carries ``x_groq.usage``, asked for or not.
    """
    provider.next(dialect="groq")

    *_, last = chat(client, stream=True)

    assert last.model_extra["x_groq"]["usage"]["total_tokens"] == 11


def test_a_server_that_refuses_stream_options(client, provider):
    """
    The error names the option, so that a client can leave it out.
    """
    provider.on(refuses_stream_options=True)

    with pytest.raises(openai.BadRequestError, match="stream_options"):
        chat(client, stream=True, stream_options={"include_usage": True})
    assert list(chat(client, stream=True))


def test_tools_and_reasoning(client, provider):
    """
    A function that is offered is called; reasoning comes before the text.
    """
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}

    whole = chat(client, tools=[tool]).choices[0]
    parts = [
        call.function.arguments
        for chunk in chat(client, tools=[tool], stream=True)
        for call in chunk.choices[0].delta.tool_calls or ()
    ]
    provider.next(reasoning="Let me think")
    thought = [
        (chunk.choices[0].delta.model_extra or {}).get("reasoning_content")
        for chunk in chat(client, stream=True)
    ]

    assert whole.finish_reason == "tool_calls"
    assert whole.message.tool_calls[0].function.arguments == '{"city": "text"}'
    assert "".join(parts) == '{"city": "text"}'
    assert thought[:5] == [None, "Let", " me", " think", None]


def test_responses(client):
    """
    The events come in the order of the real API and end with the usage.
    """
    whole = client.responses.create(model="gpt-4o", input="Say hello.")
    events = list(client.responses.create(model="gpt-4o", input="Say hello.", stream=True))

    assert whole.output_text == ANSWER
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 8)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds.count("response.output_text.delta") == 7
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.usage == whole.usage


def test_the_other_endpoints(client, provider):
    """
    Each endpoint answers something that the SDK can read.
    """
    assert client.completions.create(model="m", prompt="Hi").choices[0].text == ANSWER
    assert client.embeddings.create(model="m", input=["a", "b"]).data[1].embedding[0] == 0.25
    assert client.moderations.create(input="Hi").results[0].flagged is False
    assert client.images.generate(model="gpt-image-1", prompt="A").usage.output_tokens == 272
    assert (
        client.audio.speech.create(model="m", voice="alloy", input="Hi").content[:2] == b"\xff\xfb"
    )
    heard = client.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF"))
    assert heard.text == ANSWER
    assert provider.requests[-1].body == {"model": "m", "file": "a.wav"}
    assert "gpt-4o" in [model.id for model in client.models.list()]
    stream = client.completions.create(model="m", prompt="Hi", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == ANSWER


def test_structured_outputs(client):
    """
    A request with a schema is answered with JSON that fits it.
    """
    from pydantic import BaseModel

    class City(BaseModel):
        name: str
        people: int

    answer = client.chat.completions.parse(model="m", messages=HELLO, response_format=City)

    assert answer.choices[0].message.parsed == City(name="text", people=1)


def test_azure(provider):
    """
    Azure's paths name the deployment, which is the model.
    """
    with openai.AzureOpenAI(
        azure_endpoint=provider.url, api_version="2024-10-21", api_key="k"
    ) as client:
        answer = client.chat.completions.create(model="my-deployment", messages=HELLO)

    assert answer.model == "my-deployment"
    (request,) = provider.requests
    assert request.path == "/openai/deployments/my-deployment/chat/completions"
    assert request.query == {"api-version": "2024-10-21"}


def test_anthropic(provider):
    """
    Input leaves the cached tokens out, whole and streamed.
    """
    anthropic = pytest.importorskip("anthropic")
    provider.on(input_tokens=100, cached_tokens=20, cache_write_tokens=10)
    asked = {"model": "claude", "max_tokens": 10, "messages": HELLO}

    with anthropic.Anthropic(base_url=provider.url, api_key="k") as client:
        whole = client.messages.create(**asked).usage
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()

    assert (whole.input_tokens, whole.cache_read_input_tokens) == (70, 20)
    assert (final.usage.input_tokens, final.usage.output_tokens) == (70, 8)
    assert final.content[0].text == ANSWER


def test_rules_by_model(client, provider):
    """
    The newest rule that fits counts; ``next`` goes before it, once.
    """
    provider.on("gpt-4o", text="first")
    provider.on("gpt-4o", text="second", served_model="gpt-4o-2024-08-06")
    provider.on("other", text="third")
    provider.next(text="once")

    answers = [chat(client) for _ in range(2)]

    assert [answer.choices[0].message.content for answer in answers] == ["once", "second"]
    assert answers[1].model == "gpt-4o-2024-08-06"


def test_the_clock_stands_still():
    """
    Time passes when it is told to; a step back leaves durations alone.
    """
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    clock.advance(1.5)
    clock.set(datetime(2020, 1, 1, tzinfo=UTC))

    assert clock.now() == clock() == datetime(2020, 1, 1, tzinfo=UTC)
    assert clock.monotonic() == 1001.5


def test_a_ledger_in_memory(client):
    """
    What a user's test needs: a tracked client, a flush, and a question.
    """
    with memory_ledger() as ledger:
        chat(TrackedClient(client, ledger=ledger, user_id="u-1"))
        assert ledger.flush(60)
        summary = ledger.stats.summary(by="user_id")

    assert summary.tokens.total == 11
    assert [group.key for group in summary.groups] == [{"user_id": "u-1"}]


def test_a_provider_that_is_reset_is_as_it_was_made() -> None:
    """
    Whoever uses it next is not answered with what the one before has set.
    """
    with Provider(text="as made") as provider:
        made = provider.default
        provider.default = replace(made, text="for one test")

        provider.reset()

        assert provider.default == made
