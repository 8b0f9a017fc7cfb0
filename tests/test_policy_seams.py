"""What a policy may do beside refusing: wait, change what is sent, mark the record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from ai_ledger import Ledger, TrackedClient
from ai_ledger.errors import CallRefused
from ai_ledger.policy import Revision
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.testing import Provider, memory_ledger

MESSAGES: Any = [{"role": "user", "content": "a secret plan"}]


class Plain:
    """Admits everything and remembers it."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any] | None] = []
        self.told: list[CallRecord] = []

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        self.asked.append(request)
        return None

    def settle(self, record: CallRecord) -> None:
        self.told.append(record)


class Rewriting(Plain):
    """Replaces one word."""

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        super().check(call, request)
        assert request is not None
        messages = [{**each, "content": "a public plan"} for each in request["messages"]]
        return Revision(
            request={**request, "messages": messages}, marks={"ai_ledger.words": "secret"}
        )


def only(ledger: Ledger) -> CallRecord:
    assert ledger.flush(60)
    (record,) = next(ledger.store.scan(Query.build(scope=None)))
    return record


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_sent_is_changed_and_not_the_callers_objects(stream: bool) -> None:
    """
    The provider, the record and the next policy see the revised text; the caller keeps its own.
    """
    after = Plain()
    with Provider() as provider, memory_ledger(policies=[Rewriting(), after]) as ledger:
        client = TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger)
        extra = {"metadata": {"a": "b"}}
        answer = client.chat.completions.create(
            model="m", messages=MESSAGES, stream=stream, extra_body=extra
        )
        if stream:
            for chunk in answer:
                assert chunk.choices
        record = only(ledger)

    body = provider.requests[0].body
    assert body["messages"][0]["content"] == "a public plan"
    assert body["metadata"] == {"a": "b"}
    assert ("stream_options" in body) is stream
    assert MESSAGES == [{"role": "user", "content": "a secret plan"}]
    assert after.asked[0] is not None
    assert after.asked[0]["messages"][0]["content"] == "a public plan"
    assert "a public plan" in (record.request_content or "")
    assert record.tags == {"ai_ledger.words": "secret"}


class Slow(Plain):
    """Lets coroutines wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()

    async def acheck(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        self.waiting.set()
        await asyncio.sleep(30 if call.user_id == "patient" else 0)

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        raise AssertionError("coroutines ask acheck")


def test_a_coroutine_waits_in_acheck_and_may_be_cancelled_there() -> None:
    """
    A call cancelled while a policy let it wait is on the books, and nothing was sent.
    """

    async def main(url: str) -> None:
        client = TrackedClient(AsyncOpenAI(base_url=url, api_key="k"), ledger=ledger)
        policy = ledger.policies[0]
        assert isinstance(policy, Slow)
        await client.chat.completions.create(model="m", messages=MESSAGES)
        policy.waiting.clear()
        task = asyncio.create_task(
            client.with_context(user_id="patient").chat.completions.create(
                model="m", messages=MESSAGES
            )
        )
        await policy.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()

    with Provider() as provider, memory_ledger(policies=[Slow()]) as ledger:
        asyncio.run(main(provider.url))
        assert ledger.flush(60)
        assert sorted(each.status for each in ledger.stats.calls().calls) == [
            "cancelled",
            "success",
        ]
        assert len(provider.requests) == 1


class Reviewing(Plain):
    """Marks answers."""

    def review(self, record: CallRecord, answer: str | None) -> Mapping[str, str] | None:
        return {"ai_ledger.seen": str(len(answer or ""))}


class Forging(Reviewing):
    """Tries to say what only the caller may."""

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        return Revision(marks={"customer": "forged", "ai_ledger.checked": "yes"})

    def review(self, record: CallRecord, answer: str | None) -> Mapping[str, str] | None:
        return {"customer": "forged", "ai_ledger.seen": "1"}


def test_marks_are_not_the_callers_tags() -> None:
    """
    A policy cannot put its words in the place of the caller's; that it tried is noted.
    """
    with Provider() as provider, memory_ledger(policies=[Forging()]) as ledger:
        client = TrackedClient(
            OpenAI(base_url=provider.url, api_key="k"), ledger=ledger, customer="acme"
        )
        client.chat.completions.create(model="m", messages=MESSAGES)
        assert only(ledger).tags == {
            "customer": "acme",
            "ai_ledger.checked": "yes",
            "ai_ledger.seen": "1",
        }
        assert ledger.health().incidents == {"a mark must begin with ai_ledger.": 2}


class Broken(Plain):
    """Cannot even be bound, nor review."""

    def bind(self, ledger: Ledger) -> None:
        raise RuntimeError("no")

    def review(self, record: CallRecord, answer: str | None) -> Mapping[str, str] | None:
        raise RuntimeError("no")


def test_marks_after_the_answer() -> None:
    """
    What a policy says of the answer is on the record; one that breaks costs nothing.
    """
    with Provider() as provider, memory_ledger(policies=[Reviewing()]) as ledger:
        broken = Broken()
        client = TrackedClient(
            OpenAI(base_url=provider.url, api_key="k"), ledger=ledger, policies=[broken]
        )
        client.chat.completions.create(model="m", messages=MESSAGES)
        record = only(ledger)
        assert int(record.tags["ai_ledger.seen"]) > 0
        assert record.status == "success"
        assert ledger.health().incidents == {"policy Broken broke": 2}  # bind and review
        assert len(broken.told) == 1


def test_binding_happens_once_and_fails_at_set_up() -> None:
    """
    A ledger's policies are bound when it opens, a client's before its first call.
    """
    bound: list[object] = []

    class Binding(Plain):
        def bind(self, ledger: Ledger) -> None:
            bound.append((self, ledger))

    first, second = Binding(), Binding()
    with Provider() as provider, memory_ledger(policies=[first]) as ledger:
        assert bound == [(first, ledger)]
        client = TrackedClient(
            OpenAI(base_url=provider.url, api_key="k"), ledger=ledger, policies=[second]
        )
        for _ in range(3):
            client.chat.completions.create(model="m", messages=MESSAGES)
        assert bound == [(first, ledger), (second, ledger)]
    with pytest.raises(RuntimeError):
        memory_ledger(policies=[Broken()])


def test_a_body_is_copied_only_for_those_who_may_change_it() -> None:
    """
    Policies that promise to read only are shown the caller's own objects.
    """

    class Reading(Plain):
        reads_only = True

    for policy, same in ((Reading(), True), (Plain(), False)):
        with Provider() as provider, memory_ledger(policies=[policy]) as ledger:
            client = TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger)
            inner: Any = {"a": [1]}
            client.chat.completions.create(
                model="m", messages=MESSAGES, extra_body={"metadata": inner}
            )
        assert policy.asked[0] is not None
        assert (policy.asked[0]["metadata"] is inner) is same


class Refusing(Plain):
    """Refuses in coroutines."""

    async def acheck(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        raise CallRefused("not today")


def test_a_refusal_of_a_coroutine() -> None:
    """
    Nothing is sent, those that admitted it are told, and the refusal is on the books.
    """
    before = Plain()

    async def main(url: str) -> None:
        async with TrackedClient(AsyncOpenAI(base_url=url, api_key="k"), ledger=ledger) as client:
            with pytest.raises(CallRefused, match="not today"):
                await client.chat.completions.create(model="m", messages=MESSAGES)

    with Provider() as provider, memory_ledger(policies=[before, Refusing()]) as ledger:
        asyncio.run(main(provider.url))
        assert only(ledger).status == "blocked"
        assert provider.requests == []
        assert [each.status for each in before.told] == ["blocked"]
