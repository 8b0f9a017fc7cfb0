"""Forgery: who calls may say what he likes; id, organisation and cost are the ledger's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import openai
import pytest

from ai_ledger import Ledger, TrackedClient, call_context
from ai_ledger.errors import InvalidValue
from ai_ledger.records import CallRecord
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.testing import Provider

FORGED: dict[str, Any] = {
    "id": "forged",
    "cost": 0,
    "cost_usd": "0",
    "currency": "XTS",
    "price_id": "forged",
    "input_tokens": 0,
    "usage": {"prompt_tokens": 0, "cost": 0},
    "org_id": "forged",
    "status": "blocked",
    "deleted_at": "2026-01-01T00:00:00Z",
}


def recorded(provider: Provider, **options: Any) -> CallRecord:
    """The record of a chat made with *options* for the organisation ``acme``."""
    sink = MemorySink()
    with Ledger(sinks=[sink], journal=False) as ledger:
        client = TrackedClient(
            openai.OpenAI(base_url=provider.base_url, api_key="sk-test"),
            ledger=ledger,
            provider="openai",
        )
        with client, call_context(org_id="acme"):
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hello"}], **options
            )
        assert ledger.flush(20)
    (record,) = sink.records
    return record


def facts(record: CallRecord) -> tuple[Any, ...]:
    return (
        *(record.org_id, record.status, record.cost, record.currency, record.price_id),
        *(record.input_tokens, record.output_tokens, record.deleted_at, record.tags),
    )


def test_a_request_cannot_forge_its_record(provider: Provider) -> None:
    """
    Metadata, fields and headers of a request, sent to the provider, change nothing of its record.
    """
    honest = recorded(provider)
    text = {name: str(value) for name, value in FORGED.items()}
    forged = recorded(
        provider,
        metadata=text,
        user="forged",
        extra_body=FORGED,
        extra_headers={f"X-{name.replace('_', '-')}": value for name, value in text.items()},
        extra_query=text,
    )

    assert facts(forged) == facts(honest)
    assert honest.cost is not None
    assert honest.cost > 0
    assert forged.id != "forged"
    assert forged.user_id is None


def test_an_answer_cannot_forge_its_record(provider: Provider) -> None:
    """
    An answer says its tokens and its cost; what else it says of itself is not believed.
    """
    provider.next(
        body=b"""{"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 8, "cost": -5,
        "org_id": "forged"}, "org_id": "forged", "price_id": "forged", "user_id": "forged",
        "deleted_at": "2026-01-01T00:00:00Z", "status": "blocked", "tags": {"a": "b"}}"""
    )
    record = recorded(provider)

    assert (record.org_id, record.user_id, record.status) == ("acme", None, "success")
    assert record.price_id != "forged"
    assert record.cost is None or record.cost > 0
    assert record.deleted_at is None
    assert "a" not in record.tags


@pytest.mark.parametrize("name", ["id", "cost", "price_id", "status", "deleted_at", "input_tokens"])
def test_a_context_cannot_say_what_is_read_from_calls(name: str) -> None:
    """
    A context takes who and why, and refuses what is not the caller's to say.
    """
    with pytest.raises(InvalidValue, match=name):
        call_context(**{name: "1"})


@pytest.mark.parametrize("name", ["id", "price_id", "deleted_at", "is_delete"])
def test_an_entry_by_hand_cannot_choose_its_id(name: str) -> None:
    """
    By hand a cost may be stated, and is marked so; ids and prices are the ledger's own.
    """
    with Ledger("memory:") as ledger:
        with pytest.raises(InvalidValue, match="the ledger decides this itself"):
            ledger.record("m", **{name: "forged"})
        stated = ledger.record("m", cost="1.5", currency="USD", tags={"id": "x", "cost": "0"})

    assert (stated.cost, stated.price_id) == (Decimal("1.5"), "provider")


@pytest.mark.parametrize("cost", ["NaN", "Infinity", "-1", float("nan"), float("-inf"), True])
def test_a_cost_that_is_no_amount_is_refused(cost: object) -> None:
    """
    A cost by hand is finite and not negative; so is one that a price would give.
    """
    with Ledger("memory:") as ledger:
        with pytest.raises(InvalidValue, match="cost"):
            ledger.record("m", cost=cost, currency="USD")
        assert ledger.flush(10)
        assert ledger.stats.summary().calls == 0
