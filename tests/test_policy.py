"""Policies: asked before a call, told after it; and context that is required."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ai_ledger import CallRecord, CallRefused, ContextMissing, Ledger, Policy, call_context
from ai_ledger.errors import AILedgerError, ConfigurationError
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.testing import Provider

CHAT: dict[str, Any] = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hello"}]}


class QuotaExceeded(CallRefused):
    """What the test policy refuses with."""


class CircuitOpen(CallRefused):
    """Refused because the provider is known to be away."""

    status = "circuit_open"


class Quota:
    """The policy of these tests: so many calls, and a note of all it was asked and told."""

    def __init__(self, calls: int = 10**6, refusal: type[CallRefused] = QuotaExceeded) -> None:
        self.left = calls
        self.refusal = refusal
        self.asked: list[tuple[CallRecord, Mapping[str, Any] | None]] = []
        self.told: list[CallRecord] = []

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        self.asked.append((call, request))
        if self.left <= 0:
            raise self.refusal("no calls left, said by sk-abcdef0123456789")
        self.left -= 1

    def settle(self, record: CallRecord) -> None:
        self.told.append(record)


class Broken:
    """A policy with a fault."""

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        raise ZeroDivisionError

    def settle(self, record: CallRecord) -> None:
        raise ZeroDivisionError


def _ledger(*policies: Policy, **options: Any) -> Ledger:
    return Ledger(sinks=[MemorySink()], journal=False, policies=policies, **options)


def _client(provider: Provider, ledger: Ledger, **options: Any) -> Any:
    from openai import OpenAI

    from ai_ledger import TrackedClient

    own = OpenAI(api_key="sk-test-0123456789", base_url=provider.base_url, max_retries=2)
    return TrackedClient(own, ledger=ledger, **options)


def _records(ledger: Ledger) -> list[CallRecord]:
    assert ledger.flush(60)
    (sink,) = ledger.sinks
    return sorted(sink.records, key=lambda record: record.id)  # type: ignore[attr-defined]


def test_the_protocol_is_a_shape() -> None:
    """
    A policy inherits nothing.
    """
    assert isinstance(Quota(), Policy)
    assert not isinstance(object(), Policy)


@pytest.mark.parametrize(
    ("refusal", "status"), [(QuotaExceeded, "blocked"), (CircuitOpen, "circuit_open")]
)
def test_a_refused_call(refusal: Any, status: str, provider: Provider) -> None:
    """
    Nothing is sent, nothing is spent, it is on the books once, and the caller gets the reason.
    """
    quota = Quota(1, refusal)
    ledger = _ledger(quota)
    client = _client(provider, ledger, user_id="u")
    client.chat.completions.create(**CHAT)
    with pytest.raises(refusal, match="no calls left") as caught:
        client.chat.completions.create(**CHAT)
    with pytest.raises(refusal):
        client.chat.completions.create(**CHAT, stream=True)

    allowed, refused, refused_stream = _records(ledger)
    assert isinstance(caught.value, AILedgerError)
    assert len(provider.requests) == 1
    assert allowed.status == "success"
    assert (refused.status, refused.error_type, refused.user_id) == (status, refusal.__name__, "u")
    assert (refused.usage_source, refused.input_tokens, refused.output_tokens) == (
        "unknown",
        None,
        None,
    )
    assert (refused.cost, refused.retries, refused.http_status) == (None, 0, None)
    assert "sk-abc" not in (refused.error_message or "")
    assert refused_stream.status == status


async def test_a_refused_call_of_an_async_client(provider: Provider) -> None:
    """
    The same for the async client.
    """
    from openai import AsyncOpenAI

    from ai_ledger import TrackedClient

    ledger = _ledger(Quota(0))
    async with AsyncOpenAI(api_key="sk-test", base_url=provider.base_url) as own:
        with pytest.raises(QuotaExceeded):
            await TrackedClient(own, ledger=ledger).chat.completions.create(**CHAT)

    assert [record.status for record in _records(ledger)] == ["blocked"]
    assert provider.requests == []


def test_what_a_policy_is_asked_and_told(provider: Provider) -> None:
    """
    It sees who, why, which model and what is sent; later the whole outcome, whatever it was.
    """
    quota = Quota()
    ledger = _ledger(quota)
    client = _client(provider, ledger)
    with call_context(user_id="u", business_type="b"):
        client.chat.completions.create(**CHAT)
        provider.next(status=400)
        with pytest.raises(Exception, match="Bad request"):
            client.chat.completions.create(**CHAT)
        stream = client.chat.completions.create(**CHAT, stream=True)
    asked_before_the_end = len(quota.told)
    next(stream)
    stream.close()

    (call, request), *_ = quota.asked
    assert (call.status, call.user_id, call.business_type, call.request_model) == (
        "unfinished",
        "u",
        "b",
        "qwen-plus",
    )
    assert request is not None
    assert request["messages"] == CHAT["messages"]
    assert asked_before_the_end == 2
    assert [(told.id, told.status) for told in quota.told] == [
        (record.id, record.status) for record in _records(ledger)
    ]
    assert [told.status for told in quota.told] == ["success", "failed", "cancelled"]
    assert quota.told[0].input_tokens == 2


def test_several_policies(provider: Provider) -> None:
    """
    Asked in order, the client's after the ledger's; told only if they admitted, refusal or not.
    """
    first, second, third = Quota(), Quota(1), Quota()
    ledger = _ledger(first, second)
    client = _client(provider, ledger, policies=[third])
    client.chat.completions.create(**CHAT)
    with pytest.raises(QuotaExceeded):
        client.chat.completions.create(**CHAT)

    assert [len(each.asked) for each in (first, second, third)] == [2, 2, 1]
    assert [[told.status for told in each.told] for each in (first, second, third)] == [
        ["success", "blocked"],
        ["success"],
        ["success"],
    ]


def test_a_policy_that_breaks(provider: Provider) -> None:
    """
    It is counted and passed over; the others and the call do not notice.
    """
    quota = Quota()
    ledger = _ledger(Broken(), quota)
    client = _client(provider, ledger)

    client.chat.completions.create(**CHAT)
    client.chat.completions.create(**CHAT)

    assert [record.status for record in _records(ledger)] == ["success"] * 2
    assert ledger.health().incidents == {"policy Broken broke": 4}
    assert (len(quota.asked), len(quota.told)) == (2, 2)


def test_a_policy_that_changes_what_it_is_shown_changes_nothing(provider: Provider) -> None:
    """
    The caller's own dictionaries stay as they are even then.
    """

    class Greedy(Quota):
        def check(self, call: CallRecord, request: Any) -> None:
            request.clear()

    _client(provider, _ledger(Greedy())).chat.completions.create(**CHAT)

    (sent,) = provider.requests
    assert sent.body["messages"] == CHAT["messages"]


def test_calls_by_hand_are_asked_for_too() -> None:
    """
    The block of a refused call never runs.
    """
    quota = Quota(1)
    ledger = _ledger(quota)
    with ledger.call(model="m", user_id="u"):
        pass
    with pytest.raises(QuotaExceeded), ledger.call(model="m"):
        raise AssertionError("the block ran")

    assert [record.status for record in _records(ledger)] == ["success", "blocked"]
    assert [told.status for told in quota.told] == ["success"]


def test_required_context_raises(provider: Provider) -> None:
    """
    Strict ledgers refuse calls without the fields, by name, and send nothing.
    """
    ledger = _ledger(require=("user_id", "site_id"), on_missing="raise")
    client = _client(provider, ledger)
    with pytest.raises(ContextMissing, match="requires org_id:"), call_context(user_id="u"):
        client.chat.completions.create(**CHAT)
    client.with_context(user_id="u", org_id="o").chat.completions.create(**CHAT)

    assert [(r.status, r.error_type) for r in _records(ledger)] == [
        ("blocked", "ContextMissing"),
        ("success", None),
    ]
    assert len(provider.requests) == 1


def test_required_context_warns(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """
    The default says it once for each combination, and counts.
    """
    ledger = _ledger(require=("user_id",))
    client = _client(provider, ledger)

    for _ in range(3):
        client.chat.completions.create(**CHAT)

    assert ledger.health().incidents == {"calls without user_id": 3}
    assert [record.message.split(" (")[0] for record in caplog.records] == ["calls without user_id"]
    assert [record.status for record in _records(ledger)] == ["success"] * 3


@pytest.mark.parametrize(
    "options",
    [{"require": ("colour",)}, {"on_missing": "shout"}, {"content": "some"}],
    ids=["field", "on_missing", "content"],
)
def test_options_that_cannot_be(options: Any) -> None:
    """
    Refused when the ledger is made, with what would be accepted.
    """
    with pytest.raises(ConfigurationError, match="expected one of"):
        _ledger(**options)
