"""Budgets before and after real calls: refused before anything is sent, exact afterwards."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from ai_ledger import Budget, Ledger, PriceTable, TrackedClient, call_context
from ai_ledger.errors import (
    BudgetExceeded,
    BudgetUnavailable,
    CallRefused,
    ConfigurationError,
    InvalidValue,
)
from ai_ledger.policies.budgets import BudgetWarning
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.budgets.workers import Workers
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.testing import Provider

MESSAGES: Any = [{"role": "user", "content": "What is a ledger?"}]
PRICES = {"prices": [{"model": "m", "currency": "CNY", "input": "1", "output": "2"}]}
# Input of the request above at the most, with 100 of output.
WORST = 300


@contextmanager
def tracked(
    url: str, *budgets: Budget, prices: Any = PRICES, **options: Any
) -> Iterator[tuple[Provider, Ledger, OpenAI]]:
    table = PriceTable.load(prices, defaults=False)
    with (
        Provider(input_tokens=20, output_tokens=30) as provider,
        Ledger(url, policies=budgets, prices=table, **options) as ledger,
    ):
        client = OpenAI(base_url=provider.base_url, api_key="k", max_retries=2)
        yield provider, ledger, TrackedClient(client, ledger=ledger)
        assert ledger.flush(20)
        assert_exact(ledger)


def assert_exact(ledger: Ledger) -> None:
    assert Accounts(shared_database(ledger)).check() == []


def ask(client: Any, **body: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "m", "messages": MESSAGES, "max_tokens": 100, **body}
    )


def wait_until(happens: Callable[[], bool]) -> None:
    """Wait for what another thread does, at most a minute."""
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def records(ledger: Ledger) -> list[CallRecord]:
    assert ledger.flush(20)
    return [each for batch in ledger.store.scan(Query.build(scope=None)) for each in batch]


@pytest.fixture
def url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


def test_admitted_until_it_does_not_fit_and_then_nothing_is_sent(sql_url: str) -> None:
    """
    The call that could pass the limit is refused before it is sent; what was spent is exact.
    """
    budget = Budget(tokens=WORST + 100, per="day")
    with tracked(sql_url, budget) as (provider, ledger, client):
        for _ in range(3):  # 50 tokens each
            ask(client)
        with pytest.raises(BudgetExceeded) as refused:
            ask(client, max_tokens=300)
        assert len(provider.requests) == 3
        assert ledger.flush(20)
        assert budget.spent() == 150
        assert budget.remaining() == WORST + 100 - 150
        assert [each.status for each in records(ledger)][-1] == "blocked"

    error = refused.value
    assert (error.budget, error.whose, error.unit) == (
        f"hard {WORST + 100} tokens per day",
        None,
        "tokens",
    )
    assert error.limit == WORST + 100
    assert error.used + error.reserved + error.needed > error.limit
    assert error.resets_at is not None
    assert error.resets_at - datetime.now(UTC) <= timedelta(days=1)


def test_money_is_counted_by_the_ledgers_prices(url: str) -> None:
    """
    The worst case is priced, and the true cost takes its place.
    """
    budget = Budget("1 CNY", per="month")
    with tracked(url, budget) as (_, ledger, client):
        ask(client)
        assert ledger.flush(20)
        assert budget.spent() == Decimal("0.00008")
        with pytest.raises(BudgetExceeded, match=r"1\.0\d* CNY, and of 1 0\.00008 are used"):
            ask(client, max_tokens=500_000)


def test_the_budgets_of_a_deployment_are_one_line_each(url: str) -> None:
    """
    100,000 tokens a day and 2,000,000 a month: both have to admit, or none is charged.
    """
    daily = Budget(tokens=100_000, per="day")
    monthly = Budget(tokens=2_000_000, per="month")
    with tracked(url, daily, monthly) as (provider, ledger, client):
        ask(client)
        with pytest.raises(BudgetExceeded) as refused:
            ask(client, max_tokens=150_000)
        assert refused.value.budget == daily.name
        assert len(provider.requests) == 1
        assert ledger.flush(20)
        assert (daily.spent(), monthly.spent()) == (50, 50)
        assert held(monthly) == 0


def held(budget: Budget) -> int:
    """What calls hold of it in this process."""
    assert budget.panel is not None
    holds = budget.panel.holds
    return sum(
        part.amount
        for hold in holds.held.values()
        for part in hold.parts
        if part.member is budget.member
    )


def test_the_second_budget_refuses_and_the_first_is_not_charged(url: str) -> None:
    """
    All or none, in whichever order they stand.
    """
    wide, narrow = Budget(tokens=10**6), Budget(tokens=10, per="hour")
    with tracked(url, wide, narrow) as (provider, _, client):
        for _ in range(5):
            with pytest.raises(BudgetExceeded) as refused:
                ask(client)
            assert refused.value.budget == narrow.name
        assert provider.requests == []
        assert held(wide) == held(narrow) == 0
        assert wide.spent() == 0


class Refusing:
    """Refuses all that comes behind the budgets."""

    def check(self, call: CallRecord, request: Any) -> None:
        raise CallRefused("no")

    def settle(self, record: CallRecord) -> None:
        raise AssertionError("it admitted nothing")


def test_what_another_policy_refuses_is_given_back(url: str) -> None:
    """
    A call that is not sent takes nothing.
    """
    budget = Budget(tokens=10_000)
    with tracked(url, budget) as (provider, ledger, client):
        refusing = TrackedClient(client, policies=[Refusing()])
        for _ in range(100):
            with pytest.raises(CallRefused, match="no"):
                ask(refusing)
        assert provider.requests == []
        assert ledger.flush(20)
        assert held(budget) == 0
        assert budget.spent() == 0


@pytest.mark.parametrize(
    ("behaviour", "error", "requests"),
    [
        pytest.param({"status": 500}, openai.InternalServerError, 3, id="failed, after retries"),
        pytest.param({"status": 400}, openai.BadRequestError, 1, id="refused by the provider"),
        pytest.param({"hang_up": True}, openai.APIConnectionError, 3, id="cut off"),
        pytest.param({"delay": 20.0}, openai.APITimeoutError, 1, id="timed out"),
    ],
)
def test_a_call_that_failed_gives_all_of_it_back(
    url: str, behaviour: Any, error: type[Exception], requests: int
) -> None:
    """
    Nothing was answered, so nothing is charged, however often the SDK has tried.
    """
    budget = Budget(tokens=WORST, per="day")
    with tracked(url, budget) as (provider, ledger, client):
        provider.next(times=requests, **behaviour)
        with pytest.raises(error):
            if "delay" in behaviour:
                ask(client.with_options(timeout=0.2, max_retries=0))
            else:
                ask(client)
        assert len(provider.requests) == requests
        assert held(budget) == 0
        ask(client)  # all of the budget is there again
        assert ledger.flush(20)
        assert budget.spent() == 50


def test_retries_of_the_sdk_are_one_call(url: str) -> None:
    """
    What is set aside once holds for all attempts, and the answer is charged once.
    """
    budget = Budget(tokens=WORST, per="day")
    with tracked(url, budget) as (provider, ledger, client):
        provider.next(status=429, times=2)
        ask(client)
        assert len(provider.requests) == 3
        assert ledger.flush(20)
        assert budget.spent() == 50


def test_one_budget_for_each_user(sql_url: str) -> None:
    """
    One who has used it all does not stop the others, and calls of nobody count together.
    """
    budget = Budget("0.001 CNY", each="user_id")
    with tracked(sql_url, budget) as (provider, ledger, client):
        for user in ("a", "b", None):
            with call_context(user_id=user):
                ask(client)
        with call_context(user_id="a"), pytest.raises(BudgetExceeded) as refused:
            ask(client, max_tokens=450)
        assert refused.value.whose == "a"
        with call_context(user_id="c"):
            ask(client, max_tokens=350)
        assert len(provider.requests) == 4
        assert ledger.flush(20)
        assert budget.spent("a") == budget.spent("c") == Decimal("0.00008")
        assert budget.spent() == Decimal("0.00032")
        assert budget.spent("nobody") == 0
        assert {each.whose for each in budget.history()} == {"a", "b", "c", None}
        with pytest.raises(InvalidValue, match="for each user_id"):
            budget.remaining()


def test_only_the_calls_that_are_meant(url: str) -> None:
    """
    Conditions on fields and tags, several values, and values that are not set.
    """
    budget = Budget(
        tokens=WORST,
        where={"business_type": ["chat", "search"], "tags.team": None, "model": "m"},
    )
    with tracked(url, budget) as (provider, ledger, client):
        for context in (
            {"business_type": "report"},
            {},
            {"business_type": "chat", "tags": {"team": "x"}},
        ):
            with call_context(**context):
                ask(client, max_tokens=100_000)
        for kind in ("chat", "search"):
            with call_context(business_type=kind), pytest.raises(BudgetExceeded):
                ask(client, max_tokens=100_000)
        with call_context(business_type="chat"):
            ask(client)
        assert len(provider.requests) == 4
        assert ledger.flush(20)
        assert budget.spent() == 50


def test_a_soft_budget_counts_and_warns(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    Nothing is refused; each threshold is told of once.
    """
    warnings: list[BudgetWarning] = []
    budget = Budget(
        tokens=100, mode="soft", warn_at=(0.5, 1.0, 4.0), on_warning=warnings.append, name="soft"
    )
    with (
        caplog.at_level(logging.WARNING, "ai_ledger.budgets"),
        tracked(url, budget) as (provider, ledger, client),
    ):
        for _ in range(4):
            ask(client)
            assert ledger.flush(20)
        assert len(provider.requests) == 4
        assert budget.spent() == 200
        assert budget.remaining() == 0
        assert budget.history()[0].overrun == 100
        ask(client)  # asks the store, and so sees what is used

    assert [each.threshold for each in warnings] == [0.5, 1.0]
    assert (warnings[0].budget, warnings[0].unit, warnings[0].limit) == ("soft", "tokens", 100)
    assert warnings[0].used >= 50
    assert len([each for each in caplog.records if "'soft'" in each.getMessage()]) == 2


def test_a_function_that_fails_to_be_warned_disturbs_nobody(url: str) -> None:
    """
    The call goes on, and the other thresholds are told of.
    """
    warnings: list[float] = []

    def broken(warning: BudgetWarning) -> None:
        warnings.append(warning.threshold)
        raise RuntimeError("no")

    budget = Budget(tokens=100, mode="soft", warn_at=(0.1, 0.2), on_warning=broken)
    with tracked(url, budget) as (_, ledger, client):
        ask(client)
        assert ledger.flush(20)
        ask(client)
    assert warnings == [0.1, 0.2]


def test_a_model_without_a_price(url: str) -> None:
    """
    A hard budget in money refuses it and says what to do; a soft one lets it through, marked.
    """
    hard = Budget("1 CNY")
    with tracked(url, hard) as (provider, _, client):
        with pytest.raises(BudgetUnavailable, match=r"'alias'.*unpriced_as"):
            ask(client, model="alias")
        assert provider.requests == []
    soft = Budget("1 CNY", mode="soft", name="soft")
    with tracked(url, soft) as (provider, ledger, client):
        ask(client, model="alias")
        (record,) = [each for each in records(ledger) if each.status == "success"]
        assert record.tags == {"ai_ledger.budget": "unpriced"}
        assert soft.history()[0].uncounted == 1


def test_a_stated_worst_case_for_models_without_a_price(url: str) -> None:
    """
    Tokens of unknown price are counted as what the budget assumes.
    """
    budget = Budget("1 CNY", unpriced_as=("10", 20))
    with tracked(url, budget) as (provider, ledger, client):
        ask(client, model="alias")
        assert ledger.flush(20)
        assert budget.spent() == Decimal("0.0008")
        with pytest.raises(BudgetExceeded):
            ask(client, model="alias", max_tokens=50_000)
        assert len(provider.requests) == 1


def test_prices_in_another_currency(url: str) -> None:
    """
    With a rate they are converted; without one nobody knows.
    """
    dollars = {"prices": [{"model": "m", "currency": "USD", "input": "1", "output": "2"}]}
    with tracked(url, Budget("1 CNY", name="a"), prices=dollars) as (provider, _, client):
        with pytest.raises(BudgetUnavailable, match="rates"):
            ask(client)
        assert provider.requests == []
    budget = Budget("1 CNY", name="b", rates={"USD": "7.1"})
    with tracked(url, budget, prices=dollars) as (_, ledger, client):
        ask(client)
        assert ledger.flush(20)
        assert budget.spent() == Decimal("0.000568")
        with pytest.raises(BudgetExceeded):
            ask(client, max_tokens=100_000)


@pytest.mark.parametrize("limit", [-1, -(10**9), "nan", "100", 10**30, "1e30", 0, None, True])
def test_no_output_limit_opens_the_gate(url: str, limit: Any) -> None:
    """
    Negative, odd and enormous limits hold no less than the budget assumes.
    """
    budget = Budget(tokens=4_000, max_output_tokens=4_096)
    with tracked(url, budget) as (provider, _, client):
        if limit == "100":
            ask(client, max_tokens=limit)
        else:
            with pytest.raises(BudgetExceeded):
                ask(client, max_tokens=limit)
        assert len(provider.requests) == (limit == "100")


def test_several_answers_are_all_set_aside(url: str) -> None:
    """
    ``n`` multiplies the output.
    """
    with tracked(url, Budget(tokens=WORST)) as (provider, _, client):
        with pytest.raises(BudgetExceeded):
            ask(client, n=20)
        assert provider.requests == []


def test_a_call_that_takes_more_than_was_set_aside(url: str) -> None:
    """
    It is charged in full and marked, and never turned into an exception; the next is refused.
    """
    budget = Budget(tokens=WORST)
    with tracked(url, budget) as (provider, ledger, client):
        provider.next(input_tokens=20, output_tokens=5_000)
        ask(client)
        (record,) = records(ledger)
        assert record.tags == {"ai_ledger.budget": "overrun"}
        assert budget.spent() == 5_020
        assert budget.history()[0].overrun == 5_020 - WORST
        with pytest.raises(BudgetExceeded):
            ask(client)
        assert len(provider.requests) == 1


def test_an_answer_of_a_dearer_model(url: str) -> None:
    """
    What answered is charged, whatever was asked for, and the overrun is marked.
    """
    prices = {
        "prices": [
            {"model": "m", "currency": "CNY", "input": "1", "output": "2"},
            {"model": "dear", "currency": "CNY", "input": "1000", "output": "2000"},
        ]
    }
    budget = Budget("1 CNY")
    with tracked(url, budget, prices=prices) as (provider, ledger, client):
        provider.next(model="dear", input_tokens=20, output_tokens=30)
        ask(client)
        (record,) = records(ledger)
        assert record.tags == {"ai_ledger.budget": "overrun"}
        assert budget.spent() == Decimal("0.08")


def test_a_budget_of_one_client(url: str) -> None:
    """
    It holds for that client's calls, besides the ledger's own budgets.
    """
    own, ours = Budget(tokens=WORST, name="own"), Budget(tokens=10**6, name="ours")
    with tracked(url, ours) as (provider, ledger, client):
        limited = TrackedClient(client, policies=[own])
        ask(limited)
        with pytest.raises(BudgetExceeded) as refused:
            ask(limited)
        assert refused.value.budget == "own"
        assert ledger.flush(20)
        assert held(ours) == 0
        ask(client)
        assert len(provider.requests) == 2
        assert ledger.flush(20)
        # A budget counts what its terms say, also of clients that need not ask it.
        assert (own.spent(), ours.spent()) == (100, 100)


def test_coroutines(sql_url: str) -> None:
    """
    Admitted, refused, failed and cancelled: the same as in threads.
    """
    budget = Budget(tokens=2 * WORST, per="day")

    async def main(provider: Provider, ledger: Ledger) -> None:
        client = TrackedClient(
            AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0), ledger=ledger
        )
        async with client:
            await ask(client)
            with pytest.raises(BudgetExceeded):
                await ask(client, max_tokens=5_000)
            provider.next(status=500)
            with pytest.raises(openai.InternalServerError):
                await ask(client)
            assert await ledger.aflush(20)
            assert held(budget) == 0
            provider.next(delay=30.0)
            before = len(provider.requests)
            task = asyncio.create_task(ask(client))
            while len(provider.requests) == before:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert held(budget) == 0
            await ask(client)

    with (
        Provider(input_tokens=20, output_tokens=30) as provider,
        Ledger(sql_url, policies=[budget]) as ledger,
    ):
        asyncio.run(main(provider, ledger))
        assert ledger.flush(20)
        assert budget.spent() == 100
        assert len(provider.requests) == 4
        assert_exact(ledger)


def test_coroutines_of_trio(sql_url: str) -> None:
    """
    Admitted, refused and given up while the store is asked, where there is no asyncio.
    """
    budget = Budget(tokens=2 * WORST, per="day")

    async def main(provider: Provider, ledger: Ledger) -> None:
        client = TrackedClient(
            AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0), ledger=ledger
        )
        assert budget.panel is not None
        holds = budget.panel.holds
        async with client:
            await ask(client)
            with pytest.raises(BudgetExceeded):
                await ask(client, max_tokens=5_000)
            assert await anyio.to_thread.run_sync(ledger.flush, 20)
            holds.closed()  # so that the store has to be asked
            holds._pool = Workers(1)
            with holds.slow:  # as if somebody else were asking
                async with anyio.create_task_group() as group:
                    group.start_soon(ask, client)
                    while not holds._pool._own:
                        await anyio.sleep(0.01)
                    group.cancel_scope.cancel()
            holds.pool.submit(lambda: None).result(10)
            assert held(budget) == 0
            await ask(client)

    with (
        Provider(input_tokens=20, output_tokens=30) as provider,
        Ledger(sql_url, policies=[budget]) as ledger,
    ):
        anyio.run(main, provider, ledger, backend="trio")
        assert ledger.flush(20)
        assert budget.spent() == 100
        assert len(provider.requests) == 2
        assert_exact(ledger)


def test_a_coroutine_that_is_cancelled_while_the_store_is_asked(url: str) -> None:
    """
    What the store grants to a call that was given up comes back.
    """
    budget = Budget(tokens=WORST, per="day")

    async def main(provider: Provider, ledger: Ledger) -> None:
        client = TrackedClient(AsyncOpenAI(base_url=provider.base_url, api_key="k"), ledger=ledger)
        assert budget.panel is not None
        holds = budget.panel.holds
        holds._pool = Workers(1)  # so that one job is over when the next one is
        async with client:
            with holds.slow:  # as if somebody else were asking
                task = asyncio.create_task(ask(client))
                while not holds._pool._own:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            holds.pool.submit(lambda: None).result(10)
            assert held(budget) == 0
            await ask(client)

    with (
        Provider(input_tokens=20, output_tokens=30) as provider,
        Ledger(url, policies=[budget]) as ledger,
    ):
        asyncio.run(main(provider, ledger))
        assert ledger.flush(20)
        assert len(provider.requests) == 1
        assert budget.spent() == 50


@pytest.mark.parametrize(("choice", "sent"), [("refuse", 0), ("allow", 1)])
def test_the_store_is_away(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, choice: Any, sent: int
) -> None:
    """
    The budget's stated choice applies, at once, and it is recorded.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    budget = Budget(tokens=10_000, on_unavailable=choice)
    with tracked(url, budget) as (provider, ledger, client):
        assert budget.panel is not None
        holds = budget.panel.holds

        def away(*_: Any, **__: Any) -> Any:
            raise ConnectionError("nobody answers")

        with monkeypatch.context() as broken:
            broken.setattr(Accounts, "register", away)
            broken.setattr(Accounts, "renew", away)
            if choice == "refuse":
                with pytest.raises(BudgetUnavailable, match="nobody answers"):
                    ask(client)
            else:
                ask(client)
            assert holds.away is not None
        assert len(provider.requests) == sent
        (record,) = records(ledger)
        if choice == "allow":
            assert record.tags == {"ai_ledger.budget": "unchecked"}
            assert any("unchecked" in reason for reason in ledger.health().incidents)
        else:
            assert (record.status, record.error_type) == ("blocked", "BudgetUnavailable")
        wait_until(lambda: holds.away is None)  # the keeper notices that it is back
        ask(client)
        assert len(provider.requests) == sent + 1


def test_what_nobody_uses_goes_back(url: str) -> None:
    """
    A process that has leased in advance does not keep it from the others.
    """
    budget = Budget(tokens=10**6)
    with tracked(url, budget) as (_, ledger, client):
        ask(client)
        assert ledger.flush(20)
        assert budget.reserved() > 0
        wait_until(lambda: not budget.reserved())
        assert budget.remaining() == 10**6 - 50


def test_the_end_of_the_ledger_gives_back_what_is_free(url: str) -> None:
    """
    The next process need not wait for a lease to end.
    """
    budget = Budget(tokens=10**6)
    with tracked(url, budget) as (_, ledger, client):
        ask(client)
    account = Accounts(shared_database(ledger)).history(budget.member.id or 0)[0]
    assert (account.used, account.reserved) == (50, 0)


def test_what_is_known_of_it(url: str) -> None:
    """
    Spent now and then, its history, and a forecast that says when there is too little to judge by.
    """
    budget = Budget(tokens=10_000, per="day", tz="Asia/Shanghai")
    with tracked(url, budget) as (_, ledger, client):
        assert budget.spent() == 0
        ask(client)
        assert ledger.flush(20)
        now = datetime.now(UTC)
        assert budget.spent(at=now - timedelta(days=2)) == 0
        (period,) = budget.history()
        assert (period.spent, period.calls, period.limit) == (50, 1, 10_000)
        assert period.starts_at is not None
        assert period.ends_at is not None
        assert period.starts_at <= now < period.ends_at
        forecast = budget.forecast()
        assert forecast.not_enough
        assert forecast.used == 50
        with pytest.raises(InvalidValue, match="time zone"):
            budget.spent(at=datetime(2026, 1, 1))
        with pytest.raises(InvalidValue, match="all together"):
            budget.spent("a")


def test_a_forecast_from_the_ledgers_rows(url: str) -> None:
    """
    Weeks of even use tell on which day the limit of a period is reached.
    """
    now = datetime.now(UTC)
    window = (now - timedelta(days=10), now + timedelta(days=400))
    budget = Budget("100 CNY", per=window, each="user_id")
    with tracked(url, budget) as (_, ledger, client):
        with call_context(user_id="a"):
            ask(client)
        for day in range(1, 30):
            for user in ("a", "b"):
                ledger.record(
                    "m",
                    user_id=user,
                    cost=Decimal(2),
                    currency="CNY",
                    started_at=now - timedelta(days=day),
                )
        assert ledger.flush(20)
        forecast = budget.forecast("a")
        left = 100 - budget.spent("a")
        assert forecast.not_enough is None
        assert forecast.day is not None
        assert abs((forecast.day - now.date()).days - int(left / 2)) <= 2
        with pytest.raises(InvalidValue, match="for each user_id"):
            budget.forecast()


def test_switched_off_by_somebody(url: str) -> None:
    """
    A budget that an operator ends while the program runs refuses nothing more.
    """
    budget = Budget(tokens=WORST)
    with tracked(url, budget) as (provider, ledger, client):
        ask(client)
        with pytest.raises(BudgetExceeded):
            ask(client)
        Accounts(shared_database(ledger)).deactivate(budget.name)
        ask(client)
        assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a limit in money"),
        ({"limit": "5 CNY", "tokens": 5}, "either a limit in money"),
        ({"limit": "-5 CNY"}, "not negative"),
        ({"limit": "nan CNY"}, "not negative"),
        ({"limit": "1e30 CNY"}, "not negative"),
        ({"limit": "5"}, "an amount and a currency"),
        ({"limit": 5}, "an amount and a currency"),
        ({"limit": "5 XYZ"}, "a currency of ISO 4217 instead of XYZ"),
        ({"tokens": -1}, "at least 0"),
        ({"tokens": 1.5}, "whole number"),
        ({"tokens": True}, "whole number"),
        ({"tokens": 10**30}, "limit"),
        ({"tokens": 1, "per": "fortnight"}, "one of hour, day, week, month, total"),
        ({"tokens": 1, "per": "window"}, "one of hour, day, week, month, total"),
        ({"tokens": 1, "per": (1, 2)}, "two datetimes"),
        ({"tokens": 1, "each": "colour"}, "one of"),
        ({"tokens": 1, "each": "status"}, "one of"),
        ({"tokens": 1, "each": "tags.ai_ledger.words"}, "a tag of yours"),
        ({"tokens": 1, "where": {"colour": "red"}}, "one of"),
        ({"tokens": 1, "where": {"response_model": "m"}}, "one of"),
        ({"tokens": 1, "where": {"user_id": []}}, "at least one value"),
        ({"tokens": 1, "where": {"user_id": 1.5}}, "a text"),
        ({"tokens": 1, "where": "user_id"}, "a mapping"),
        ({"tokens": 1, "tz": "Mars/Olympus"}, "tz"),
        ({"tokens": 1, "tz": 8}, "time zone"),
        ({"tokens": 1, "mode": "strict"}, "'hard', 'soft'"),
        ({"tokens": 1, "warn_at": (0,)}, "above 0"),
        ({"tokens": 1, "warn_at": (-0.5,)}, "above 0"),
        ({"tokens": 1, "warn_at": (float("nan"),)}, "above 0"),
        ({"tokens": 1, "warn_at": "half"}, "shares"),
        ({"tokens": 1, "on_warning": 5}, "a function"),
        ({"tokens": 1, "on_unavailable": "wait"}, "'allow', 'refuse'"),
        ({"tokens": 1, "name": ""}, "name"),
        ({"tokens": 1, "unpriced_as": ("1", "2")}, "in money"),
        ({"limit": "1 CNY", "unpriced_as": "1"}, "a million tokens"),
        ({"limit": "1 CNY", "unpriced_as": ("1", "-2")}, "not negative"),
        ({"limit": "1 CNY", "rates": {"XYZ": "1"}}, "currencies"),
        ({"limit": "1 CNY", "rates": {"USD": "0"}}, "positive"),
        ({"limit": "1 CNY", "rates": {"USD": "many"}}, "decimal"),
        ({"tokens": 1, "max_output_tokens": -1}, "at least 0"),
        ({"tokens": 1, "unseen_input_tokens": 0.5}, "at least 0"),
        ({"tokens": 1, "lease_ttl": 0}, "from 1"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    """
    The error names the option and says what would do.
    """
    with pytest.raises(ConfigurationError, match=message):
        Budget(**options)


def test_budgets_that_do_not_fit_their_ledger(tmp_path: Any) -> None:
    """
    Without an SQL store, of the same name, on two stores: told when the ledger opens.
    """
    with pytest.raises(ConfigurationError, match="no SQL store"):
        Ledger("memory:", policies=[Budget(tokens=1)])
    with pytest.raises(ConfigurationError, match="several budgets are called 'b'"):
        Ledger(
            f"sqlite:///{tmp_path}/a.db",
            policies=[Budget(tokens=1, name="b"), Budget(tokens=2, name="b")],
        )
    budget = Budget(tokens=1)
    with Ledger(f"sqlite:///{tmp_path}/a.db", policies=[budget]) as ledger:
        with pytest.raises(ConfigurationError, match="make another one"):
            Ledger(f"sqlite:///{tmp_path}/b.db", policies=[budget])
        assert ledger.policies == (budget,)
    with pytest.raises(ConfigurationError, match="on no ledger yet"):
        Budget(tokens=1).spent()


def test_how_it_shows_itself() -> None:
    """
    With its name, its limit and its period.
    """
    assert repr(Budget("50 CNY", each="user_id")) == (
        "Budget('hard 50 CNY per month for each user_id', 50 CNY per month, hard)"
    )
    window = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    assert repr(Budget(tokens=2_000_000, per=window, name="q1", mode="soft")) == (
        "Budget('q1', 2,000,000 tokens from 2026-01-01T00:00Z to 2026-04-01T00:00Z, soft)"
    )
