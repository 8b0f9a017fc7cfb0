"""Clients from the catalogue: the SDK's own, ready to call, and one small call to try a model."""

from __future__ import annotations

from typing import Any

import openai
import pytest

import ai_ledger.openai
from ai_ledger import CallRecord, Ledger, TrackedClient
from ai_ledger.catalog import Catalog
from ai_ledger.errors import CallRefused, ConfigurationError, ModelNotAllowed
from ai_ledger.query import Query
from ai_ledger.testing import Provider

from .conftest import KEY

MESSAGES: Any = [{"role": "user", "content": "hello there"}]


def records(ledger: Ledger) -> list[CallRecord]:
    assert ledger.flush(30)
    return sorted(ledger.store.calls(Query.build(scope=None)), key=lambda record: record.id)


def chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "deepseek-chat", "messages": MESSAGES, **options}
    )


def test_ready_to_call(shop: Catalog, ledger: Ledger, provider: Provider) -> None:
    """
    URL, key, time-out and parameters are the catalogue's; the call is on the books, and priced.
    """
    client = shop.client("deepseek-chat", user_id=7)
    assert isinstance(client, openai.OpenAI)
    assert isinstance(client, ai_ledger.openai.OpenAI)
    assert isinstance(client, TrackedClient)
    assert client.timeout == 20
    chat(client)

    (request,) = provider.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["user-agent"].startswith("OpenAI/Python")
    assert request.body == {
        "model": "deepseek-chat",
        "messages": MESSAGES,
        "temperature": 0.5,
        "max_tokens": 64,
        "enable_thinking": False,
    }
    (record,) = records(ledger)
    assert (record.provider, record.user_id) == ("shop", "7")
    assert (record.currency, record.price_id) == ("CNY", "catalog:shop/deepseek-chat")
    assert record.input_tokens is not None
    assert record.output_tokens is not None
    nano = record.input_tokens * 2_000 + record.output_tokens * 8_000
    assert record.cost is not None
    assert int(record.cost.scaleb(9)) == nano


async def test_for_coroutines(shop: Catalog, ledger: Ledger, provider: Provider) -> None:
    """
    The same for an AsyncOpenAI, streamed as well.
    """
    async with shop.aclient("deepseek-chat", business_type="report") as client:
        assert isinstance(client, openai.AsyncOpenAI)
        await chat(client, temperature=0)
        async for _ in await chat(client, stream=True):
            pass

    first, second = provider.requests
    assert (first.body["temperature"], first.body["max_tokens"]) == (0, 64)
    assert second.body["temperature"] == 0.5
    assert [each.business_type for each in records(ledger)] == ["report"] * 2


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ({"temperature": 0}, {"temperature": 0, "max_tokens": 64}),
        ({"temperature": None}, {"temperature": None, "max_tokens": 64}),
        ({"max_completion_tokens": 3}, {"temperature": 0.5, "max_completion_tokens": 3}),
        ({"extra_body": {"enable_thinking": True}}, {"max_tokens": 64, "enable_thinking": True}),
        ({"extra_body": {"max_tokens": 1}}, {"temperature": 0.5, "max_tokens": 1}),
        ({"model": "another"}, {"model": "another"}),
    ],
)
def test_what_the_caller_says_wins(shop: Catalog, provider: Provider, said: Any, sent: Any) -> None:
    """
    Parameters stand only where the caller left something out, and only for their model.
    """
    chat(shop.client("deepseek-chat"), **said)

    body = provider.requests[0].body
    names = ("temperature", "max_tokens", "max_completion_tokens")
    expected = {"model": "deepseek-chat", **sent}
    if expected["model"] != "another":
        expected = {"temperature": 0.5, "enable_thinking": False, **expected}
    assert {name: body[name] for name in (*names, "enable_thinking", "model") if name in body} == (
        expected
    )


def test_copies_stay_what_they_are(shop: Catalog, ledger: Ledger, provider: Provider) -> None:
    """
    with_options, with_context, raw responses and tracking once more keep URL and parameters.
    """
    client = shop.client("deepseek-chat")
    chat(client.with_options(timeout=9))
    chat(client.copy(max_retries=1))
    chat(client.with_context(user_id=8))
    chat(TrackedClient(client, function="f"))
    client.chat.completions.with_raw_response.create(model="deepseek-chat", messages=MESSAGES)
    client.models.list()

    assert [each.body.get("temperature") for each in provider.requests] == [*[0.5] * 5, None]
    found = records(ledger)
    assert [each.user_id for each in found] == [None, None, "8", None, None]
    assert found[3].function == "f"


def test_the_callers_objects_stay(shop: Catalog) -> None:
    """
    Nothing is written into what the caller handed in.
    """
    extra = {"top_k": 3}
    chat(shop.client("deepseek-chat"), extra_body=extra)
    assert extra == {"top_k": 3}
    assert MESSAGES == [{"role": "user", "content": "hello there"}]


def test_azure(shop: Catalog, provider: Provider) -> None:
    """
    A model of the type azure is called through AzureOpenAI, at its deployment.
    """
    shop.add_provider(
        "azure", settings={"api_key": "env:SHOP_KEY", "api_version": "2024-10-21-preview"}
    )
    shop.add_model("gpt-4o", provider="azure", api_url=provider.url, api_type="azure")
    client = shop.client("gpt-4o")
    assert isinstance(client, openai.AzureOpenAI)
    chat(client, model="gpt-4o")

    (request,) = provider.requests
    assert request.path == "/openai/deployments/gpt-4o/chat/completions"
    assert request.query == {"api-version": "2024-10-21-preview"}
    assert request.headers["api-key"] == KEY


def test_nothing_of_another_account(shop: Catalog, provider: Provider, monkeypatch) -> None:
    """
    What the SDK would take from the environment for OpenAI is sent to nobody else.
    """
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-alone")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai-alone")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-openai-alone")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    shop.add_provider(
        "house",
        type="internal",
        settings={
            "base_url": provider.base_url,
            "default_headers": {"X-Team": "red", "X-Pass": "Bearer env:SHOP_KEY"},
        },
    )
    shop.add_model("house-model", provider="house")
    chat(shop.client("house-model"), model="house-model")

    (request,) = provider.requests
    assert "of-openai-alone" not in str(request.headers)
    assert (request.headers["x-team"], request.headers["x-pass"]) == ("red", f"Bearer {KEY}")


def test_what_is_missing(shop: Catalog, monkeypatch) -> None:
    """
    A variable that is not set, a URL that nobody gave, a version that Azure needs: said by name.
    """
    shop.add_provider("bare")
    shop.add_model("nowhere", provider="bare")
    shop.add_model("clouded", provider="bare", api_type="azure", api_url="https://example.com")
    shop.add_model("elsewhere", provider="bare", api_type="other", api_url="https://example.com")
    for name, said in (("nowhere", "api_url"), ("clouded", "api_version"), ("elsewhere", "other")):
        with pytest.raises(ConfigurationError, match=said):
            shop.client(name)
    monkeypatch.delenv("SHOP_KEY")
    with pytest.raises(ConfigurationError, match=r"'shop'.*SHOP_KEY is not set"):
        shop.client("deepseek-chat")


@pytest.mark.parametrize("action", ["disable", "remove"])
@pytest.mark.parametrize("kind", ["provider", "model"])
async def test_switched_off(
    shop: Catalog, ledger: Ledger, provider: Provider, action: str, kind: str
) -> None:
    """
    A client that is in use is refused before anything is sent, and let through again later.
    """
    name = "shop" if kind == "provider" else "deepseek-chat"
    client, other = shop.client("deepseek-chat"), shop.aclient("deepseek-chat")
    chat(client)
    getattr(shop, f"{action}_{kind}")(name)
    for _ in range(2):
        with pytest.raises(
            ModelNotAllowed, match=f"'{name}' is {action}d".replace("removed", "deleted")
        ):
            chat(client)
    with pytest.raises(ModelNotAllowed):
        await chat(other)
    with pytest.raises(ModelNotAllowed):
        chat(shop.client("deepseek-chat"))
    assert len(provider.requests) == 1

    getattr(shop, f"enable_{kind}")(name)
    chat(client)
    assert [each.status for each in records(ledger)] == [
        "success", *["blocked"] * 4, "success",
    ]  # fmt: skip
    await other.close()


def test_a_try(shop: Catalog, ledger: Ledger, provider: Provider) -> None:
    """
    One small call says that a model answers, and what that took; it is on the books.
    """
    provider.on(model="deepseek-chat", served_model="deepseek-chat-v3")
    result = shop.test("deepseek-chat")

    assert (result.ok, result.status, result.http_status) == (True, "success", 200)
    assert (result.model, result.response_model) == ("deepseek-chat", "deepseek-chat-v3")
    assert (result.currency, result.error, result.error_type) == ("CNY", None, None)
    (record,) = records(ledger)
    assert (record.business_type, record.id) == ("connection_test", result.call_id)
    assert (record.cost, record.price_id) == (result.cost, result.price_id)
    assert (record.input_tokens, record.output_tokens) == (
        result.input_tokens,
        result.output_tokens,
    )
    assert result.latency_ms == pytest.approx(record.duration_ms)
    assert provider.requests[0].body["max_tokens"] == 16


def test_a_try_of_embeddings(shop: Catalog, provider: Provider) -> None:
    """
    A model that answers no chats is tried with what it does.
    """
    shop.add_model("bge-m3", provider="shop", api_url=provider.base_url)
    assert shop.test("bge-m3", operation="embeddings").ok
    assert provider.requests[0].path.endswith("/embeddings")
    with pytest.raises(ConfigurationError, match="operation"):
        shop.test("bge-m3", operation="poems")


@pytest.mark.parametrize(
    ("behaviour", "status", "http_status", "error_type"),
    [
        ({"status": 401, "message": f"Incorrect API key provided: {KEY}."}, "failed", 401,
         "AuthenticationError"),
        ({"status": 500, "message": f"the gateway says {KEY}"}, "failed", 500,
         "InternalServerError"),
        ({"hang_up": True}, "failed", None, "APIConnectionError"),
    ],
)  # fmt: skip
def test_a_try_that_fails(
    shop: Catalog,
    provider: Provider,
    behaviour: Any,
    status: str,
    http_status: Any,
    error_type: str,
) -> None:
    """
    What went wrong is told once, without the key, and nothing is tried again.
    """
    provider.on(model="deepseek-chat", **behaviour)
    result = shop.test("deepseek-chat")

    assert (result.ok, result.status, result.http_status) == (False, status, http_status)
    assert result.error_type == error_type
    assert result.error
    assert KEY not in repr(result)
    assert len(provider.requests) == 1


def test_a_try_of_what_is_switched_off(shop: Catalog, provider: Provider) -> None:
    """
    It is refused like any other call, and says so.
    """
    shop.disable_provider("shop")
    result = shop.test("deepseek-chat")

    assert (result.ok, result.status, result.error_type) == (False, "blocked", "ModelNotAllowed")
    assert result.error == "provider 'shop' is disabled in the catalogue"
    assert provider.requests == []


def test_a_try_that_a_policy_refuses(shop: Catalog, tmp_path, provider: Provider) -> None:
    """
    A refusal by somebody else is a result, too.
    """

    class Never:
        def check(self, call: CallRecord, request: Any) -> None:
            raise CallRefused("not today")

        def settle(self, record: CallRecord) -> None:
            raise AssertionError

    with Ledger(f"sqlite:///{tmp_path}/other.db", policies=[Never()]) as other:
        result = shop.test("deepseek-chat", ledger=other)

    assert (result.ok, result.status, result.error) == (False, "blocked", "not today")
    assert provider.requests == []
