"""Token limits of quotas: as much as the row says, by what the ledger's rows add up to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from openai import AsyncOpenAI, OpenAI

from ai_ledger import Ledger, TrackedClient
from ai_ledger.errors import QuotaExceeded
from ai_ledger.policies import Quotas
from ai_ledger.testing import Provider

MESSAGES: Any = [{"role": "user", "content": "hello"}]
# What the request below may take at the most: a token for each byte of input, and 10 of output.
MOST = 250
SPENT = 160


def client_of(ledger: Ledger, provider: Provider, org_id: str = "acme") -> Any:
    own = OpenAI(base_url=provider.base_url, api_key="k", timeout=60, max_retries=0)
    return TrackedClient(own, ledger=ledger).with_context(org_id=org_id)


def ask(client: Any, model: str = "m") -> bool:
    """Whether the call was allowed."""
    try:
        client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=10)
    except QuotaExceeded:
        return False
    return True


def test_a_token_limit(sql_url: str) -> None:
    """
    Calls are refused before they are sent when the most they can take is more than is left.
    """
    until = datetime.now(UTC) + timedelta(days=30)
    quotas = Quotas()
    with (
        Provider(input_tokens=150, output_tokens=10) as provider,
        Ledger(sql_url, journal=False, policies=[quotas]) as ledger,
    ):
        quotas.set("acme", "m", tokens=1100, valid_until=until)
        client = client_of(ledger, provider)
        answers = [ask(client) for _ in range(10)]
        assert answers == sorted(answers, reverse=True)
        assert 5 <= sum(answers) <= 6
        assert len(provider.requests) == sum(answers)
        with pytest.raises(QuotaExceeded) as refused:
            client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=10)
        assert (refused.value.quota, refused.value.limit) == ("acme / m", 1100)
        assert refused.value.until == until
        held = refused.value.used + refused.value.reserved
        assert held <= 1100 < held + refused.value.needed
        assert ask(client, "other")
        assert ask(client_of(ledger, provider, "globex"))
        assert ledger.flush(30)
        assert quotas.used("acme", "m").tokens_used == SPENT * sum(answers)
        quotas.set("acme", "m", tokens=10_000)
        assert ask(client)
        quotas.set("acme", "m", tokens=1)
        assert not ask(client)
        quotas.set("acme", "m", tokens=0)
        assert ask(client)


@pytest.mark.parametrize(("org_id", "model"), [("*", "m"), ("acme", "*")])
def test_a_default_limit_is_for_each(sql_url: str, org_id: str, model: str) -> None:
    """
    In a row for every organisation, or every model, each of them has that much.
    """
    quotas = Quotas()
    with (
        Provider(input_tokens=150, output_tokens=10) as provider,
        Ledger(sql_url, journal=False, policies=[quotas]) as ledger,
    ):
        quotas.set(org_id, model, tokens=MOST)
        mine = client_of(ledger, provider)
        other = client_of(ledger, provider, "globex") if org_id == "*" else mine
        second = "m" if org_id == "*" else "n"
        assert [ask(mine), ask(mine), ask(other, second), ask(other, second)] == [
            True,
            False,
            True,
            False,
        ]


def test_calls_made_before(sql_url: str) -> None:
    """
    A limit that is set later counts what the ledger has on its books since the start.
    """
    start = datetime.now(UTC) - timedelta(days=1)
    with (
        Provider(input_tokens=150, output_tokens=10) as provider,
        Ledger(sql_url, journal=False) as ledger,
    ):
        client = client_of(ledger, provider)
        assert all(ask(client) for _ in range(3))
        assert ledger.flush(30)
        quotas = Quotas(ledger)
        quotas.set("acme", "m", tokens=3 * SPENT + MOST, valid_from=start)
        limited = TrackedClient(
            OpenAI(base_url=provider.base_url, api_key="k"),
            ledger=ledger,
            policies=[quotas],
        ).with_context(org_id="acme")
        assert ask(limited)
        assert not ask(limited)


def test_active_users(sql_url: str) -> None:
    """
    The users of the organisation and model in the window are counted once each.
    """
    now = datetime.now(UTC)
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", valid_from=now - timedelta(days=5))
    quotas.set("*", "*")
    with Ledger(sql_url, journal=False) as ledger:
        for org_id, model, user_id, days in (
            ("acme", "m", "a", 1),
            ("acme", "m", "a", 2),
            ("acme", "m", "b", 3),
            ("acme", "m", None, 3),
            ("acme", "m", "c", 6),
            ("acme", "n", "d", 1),
            ("globex", "m", "a", 40),
            ("globex", "m", "e", 4),
        ):
            ledger.record(
                model,
                org_id=org_id,
                user_id=user_id,
                started_at=now - timedelta(days=days),
                input_tokens=10,
                output_tokens=1,
            )
        assert ledger.flush(30)
        use = quotas.used("acme", "m")
        every = quotas.used("*", "*")

    assert (use.tokens_used, use.active_users) == (44, 2)
    assert (every.tokens_used, every.active_users) == (88, 5)


def test_many_threads(sql_url: str) -> None:
    """
    No more calls are sent than the limit has room for, however many ask at once.
    """
    quotas = Quotas()
    with (
        Provider(input_tokens=150, output_tokens=10) as provider,
        Ledger(sql_url, journal=False, policies=[quotas]) as ledger,
    ):
        quotas.set("acme", "m", tokens=10 * MOST)
        client = client_of(ledger, provider)
        with ThreadPoolExecutor(16) as pool:
            sent = sum(pool.map(lambda _: ask(client), range(40)))
        assert ledger.flush(30)
        used = quotas.used("acme", "m").tokens_used

    assert sent == len(provider.requests)
    assert used == SPENT * sent <= 10 * MOST


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_coroutines(tmp_path: Any, backend: str) -> None:
    """
    Limits hold in coroutines too, under either loop.
    """
    quotas = Quotas()
    refused: list[bool] = []

    async def main() -> None:
        client = TrackedClient(
            AsyncOpenAI(base_url=provider.base_url, api_key="k", timeout=60), ledger=ledger
        ).with_context(org_id="acme")
        for _ in range(3):
            try:
                await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=10)
                refused.append(False)
            except QuotaExceeded:
                refused.append(True)
        await client.close()

    with (
        Provider(input_tokens=150, output_tokens=10) as provider,
        Ledger(f"sqlite:///{tmp_path}/a.db", journal=False, policies=[quotas]) as ledger,
    ):
        quotas.set("acme", "m", tokens=MOST)
        anyio.run(main, backend=backend)

    assert refused == [False, True, True]


def test_out_of_tokens_holds_no_place(tmp_path: Any) -> None:
    """
    A call refused for want of tokens gives back its place.
    """
    quotas = Quotas()
    with (
        Provider() as provider,
        Ledger(f"sqlite:///{tmp_path}/a.db", journal=False, policies=[quotas]) as ledger,
    ):
        quotas.set("acme", "m", tokens=1, max_concurrent=1)
        client = client_of(ledger, provider)
        assert [ask(client) for _ in range(5)] == [False] * 5
        quotas.close()
        assert quotas.in_flight("m", "acme") == 0
        assert len(provider.requests) == 0


def test_a_removed_row_counts_no_more(tmp_path: Any) -> None:
    """
    Made anew, it holds at once, with what was used before.
    """
    quotas = Quotas()
    with (
        Provider(input_tokens=150, output_tokens=10) as provider,
        Ledger(f"sqlite:///{tmp_path}/a.db", journal=False, policies=[quotas]) as ledger,
    ):
        client = client_of(ledger, provider)
        quotas.set("acme", "m", tokens=MOST)
        assert [ask(client), ask(client)] == [True, False]
        quotas.remove("acme", "m")
        assert ask(client)
        assert ledger.flush(30)
        quotas.set("acme", "m", tokens=MOST)
        assert not ask(client)
        quotas.set("acme", "m", tokens=2 * SPENT + MOST)
        assert [ask(client), ask(client)] == [True, False]
