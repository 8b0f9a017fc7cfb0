"""Budgets when something goes wrong: lost answers, stopped processes, other programs."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from ai_ledger import Budget, Ledger
from ai_ledger.errors import BudgetUnavailable, ConfigurationError, SinkUnavailable
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.budgets.elapsed import elapsed
from ai_ledger.policies.budgets.holds import Holds
from ai_ledger.policies.budgets.keeper import LONGEST_CALL_S
from ai_ledger.policies.budgets.member import BudgetWarning
from ai_ledger.policies.budgets.worst_case import size_of
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks.sql.shared import shared_database

OPTIONS: Any = {"max_output_tokens": 100, "unseen_input_tokens": 0}


def call(**fields: Any) -> CallRecord:
    return CallRecord(**{"id": new_id(), "started_at": utc_now(), "request_model": "m", **fields})


def holds_of(budget: Budget) -> Holds:
    assert budget.panel is not None
    return budget.panel.holds


@pytest.fixture
def url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


def test_a_grant_that_was_never_heard_of_comes_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The keeper looks for such leases also when it has no other, and drops them.
    """
    budget = Budget(tokens=150, per="total", warn_at=(), **OPTIONS)
    with Ledger(url, policies=[budget]):
        reserve = Accounts.reserve

        def lost(*args: Any, **kwargs: Any) -> Any:
            reserve(*args, **kwargs)
            raise SinkUnavailable("the answer was lost")

        with monkeypatch.context() as broken:
            broken.setattr(Accounts, "reserve", lost)
            with pytest.raises(BudgetUnavailable, match="the answer was lost"):
                budget.check(call(), None)
        holds = holds_of(budget)
        holds.keeper.probe()
        with holds.slow:
            holds.keeper.tick()
        assert budget.reserved() == 0
        budget.check(call(), None)


def test_own_leases_nobody_knows_of_end_like_those_of_others(url: str) -> None:
    """
    An expired lease that the asking process does not know is given back.
    """
    with Ledger(url) as ledger:
        moment = [utc_now()]
        accounts = Accounts(shared_database(ledger), clock=lambda: moment[0])
        from ai_ledger.policies.budgets.account import Claim, Exhausted

        terms = Budget(tokens=100, per="total").terms
        claim = Claim(budget_id=accounts.register(terms), whose="", period="total", needed=100)
        accounts.reserve([claim], holder="me", ttl_s=60)
        moment[0] += timedelta(seconds=61)
        with pytest.raises(Exhausted):
            accounts.reserve([claim], holder="me", ttl_s=60)  # whoever asks is alive
        assert accounts.reserve([claim], holder="me", ttl_s=60, known=()).grants[0].amount == 100


def test_who_is_warned_may_make_a_call(url: str) -> None:
    """
    The warning comes when nothing is locked any more.
    """
    seen: list[float] = []

    def warned(warning: BudgetWarning) -> None:
        seen.append(warning.threshold)
        budget.check(call(), None)

    budget = Budget(tokens=1000, per="total", warn_at=(0.1,), on_warning=warned, **OPTIONS)
    with Ledger(url, policies=[budget]) as ledger:
        with ledger.call("m") as first:
            first.set_usage(input_tokens=100, output_tokens=50)
        assert ledger.flush(20)
        holds = holds_of(budget)
        with holds.slow:
            holds.keeper.give_back(0.0)
        checking = threading.Thread(target=budget.check, args=(call(), None), daemon=True)
        checking.start()
        checking.join(60)
        assert not checking.is_alive()
        assert seen == [0.1]


def test_unnamed_budgets_never_change_each_other() -> None:
    """
    Limit and mode are in the name that is made for a budget.
    """
    names = {
        Budget(tokens=1000, per="day").name,
        Budget(tokens=2000, per="day").name,
        Budget(tokens=1000, per="day", mode="soft").name,
    }
    assert len(names) == 3


def test_one_name_in_one_store_is_one_budget(url: str) -> None:
    """
    Another ledger, or a client, that has another budget of the name is told so.
    """
    with Ledger(url, policies=[Budget(tokens=90_000, name="b")]) as ledger:
        with pytest.raises(ConfigurationError, match="several budgets in one store"):
            Budget(tokens=80_000, name="b").bind(ledger)
        Budget(tokens=90_000, name="b").bind(ledger)
        with ledger.call("m"):
            pass
    with Ledger(url, policies=[Budget(tokens=80_000, name="b")]):
        pass


def test_another_program_with_another_shape_does_not_start_a_fight(url: str) -> None:
    """
    Who was there before says so, and registers nothing; the old accounts stay.
    """
    budget = Budget(tokens=1000, per="day", name="b", warn_at=(), **OPTIONS)
    with Ledger(url, policies=[budget]) as ledger:
        budget.check(call(), None)
        accounts = Accounts(shared_database(ledger))
        other = Budget(tokens=1000, per="day", name="b", each="user_id").terms
        new = accounts.register(other, by="the other")
        holds = holds_of(budget)
        with holds.slow:
            for slab in list(holds.slabs.values()):
                holds.retire(slab)
        for _ in range(2):
            with pytest.raises(BudgetUnavailable, match=r"another program \(the other\)"):
                budget.check(call(), None)
        stored = accounts.budget("b")
        assert stored is not None
        assert (stored.id, stored.terms) == (new, other)
        (kept,) = [each for each in accounts.budgets() if not each.active]
        assert kept.terms.name.startswith("b until ")
        assert len(accounts.history(kept.id)) == 1
        assert accounts.check() == []


def test_nobody_waits_for_a_store_that_is_away(url: str) -> None:
    """
    Callers in line hear it from whoever has noticed, and the keeper probes beside them.
    """
    budget = Budget(tokens=1000, on_unavailable="allow", **OPTIONS)
    with Ledger(url, policies=[budget]):
        holds = holds_of(budget)
        with holds.slow:
            waiting = threading.Thread(target=budget.check, args=(call(), None), daemon=True)
            waiting.start()
            with holds.probing:  # as if the keeper were asking a store that hangs
                holds.away = "it hangs"
                waiting.join(60)
                assert not waiting.is_alive()
                assert budget.check(call(), None) is not None
            holds.away = None


def test_a_process_that_was_stopped_marks_what_it_did_then(url: str) -> None:
    """
    Its lease has ended before its call has, so that others may have been given the same.
    """
    budget = Budget(tokens=1000, warn_at=(), **OPTIONS)
    with Ledger(url, policies=[budget]):
        begun, second = call(), call()
        budget.check(begun, None)
        budget.check(second, None)
        holds = holds_of(budget)
        for part in holds.held[begun.id].parts:
            part.slab.leased_until = elapsed() - 1
        end = begun.replace(status="success", input_tokens=0, output_tokens=30)
        assert budget.review(end, None) == {"ai_ledger.budget": "late"}
        assert budget.review(second.replace(status="failed"), None) is None


def test_what_the_program_raises_itself_passes_through(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The time limit of a worker's task is no outage, also when the driver complains of it.
    """

    class SoftTimeLimit(Exception):
        pass

    def plain(*_: Any, **__: Any) -> Any:
        raise SoftTimeLimit

    def hidden(*_: Any, **__: Any) -> Any:
        try:
            raise SoftTimeLimit
        except SoftTimeLimit:
            raise SinkUnavailable("another command is already in progress")  # noqa: B904

    budget = Budget(tokens=1000, on_unavailable="allow", warn_at=(), **OPTIONS)
    with Ledger(url, policies=[budget]) as ledger:
        for raising in (plain, hidden):
            with monkeypatch.context() as broken:
                broken.setattr(Accounts, "reserve", raising)
                with pytest.raises(SoftTimeLimit), ledger.call("m"):
                    raise AssertionError("the call was made")
            assert holds_of(budget).away is None
        assert holds_of(budget).held == {}


def test_a_clock_that_was_far_ahead_once_blocks_nobody(url: str) -> None:
    """
    What was reserved a month ahead was reserved by a wrong clock, and is not believed.
    """
    with Ledger(url) as ledger:
        from ai_ledger.policies.budgets.account import Claim

        right = utc_now()
        moment = [right + timedelta(days=70)]
        accounts = Accounts(shared_database(ledger), clock=lambda: moment[0])
        terms = Budget(tokens=100, per="day").terms
        budget_id = accounts.register(terms)
        for now in (moment[0], right):
            moment[0] = now
            period = terms.period_of(now)
            assert period is not None
            claim = Claim(budget_id=budget_id, whose="", period=period, needed=10)
            assert accounts.reserve([claim], holder="h", ttl_s=60).grants[0].amount >= 10


def test_a_call_whose_row_was_lost_holds_nothing_for_ever(url: str) -> None:
    """
    When its record was dropped on the way, what it held is free again in the end.
    """
    budget = Budget(tokens=1000, warn_at=(), **OPTIONS)
    with Ledger(url, policies=[budget]):
        begun = call()
        budget.check(begun, None)
        budget.settle(begun.replace(status="success", input_tokens=0, output_tokens=30))
        holds = holds_of(budget)
        with holds.slow:
            holds.keeper.tick()
            assert begun.id in holds.held
            holds.held[begun.id].ended_at -= LONGEST_CALL_S + 1
            holds.keeper.tick()
        assert holds.held == {}


def test_the_first_prices_are_not_read_on_the_event_loop(url: str) -> None:
    """
    They are in the store, and asking it takes its time.
    """
    import asyncio

    budget = Budget("5 USD", unpriced_as=(1, 1), **OPTIONS)
    with Ledger(url, policies=[budget]) as ledger:
        pricing = budget.member.pricing
        assert pricing is not None
        where: list[str] = []
        found = pricing._found

        def noted(*args: Any) -> Any:
            where.append(threading.current_thread().name)
            return found(*args)

        pricing._found = noted  # type: ignore[method-assign]
        assert not budget.member.knows_prices
        asyncio.run(budget.acheck(call(), None))
        assert where
        assert all(name.startswith("ai-ledger-budgets") for name in where)
        ledger.flush(20)


@pytest.mark.parametrize(
    ("request_", "least"),
    [
        ({"max_tokens": 10, "options": {"num_predict": 99_999}}, 99_999),
        ({"max_tokens": 10, "parameters": {"max_tokens": 99_999}}, 99_999),
        ({"max_tokens": 10, "generationConfig": {"maxOutputTokens": 99_999}}, 99_999),
        ({"max_tokens": 10, "thinking": {"type": "enabled", "budget_tokens": 50_000}}, 50_000),
        ({"thinking": {"type": "enabled", "budget_tokens": 50_000}}, 54_096),
        ({"max_tokens": 10, "chat_template_kwargs": {"thinking_budget": 50_000}}, 50_010),
        (
            {
                "max_tokens": 10,
                "extra_body": {"google": {"thinking_config": {"thinking_budget": 50_000}}},
            },
            50_010,
        ),
    ],
)
def test_limits_further_inside_count(request_: dict[str, Any], least: int) -> None:
    """
    The largest of all that a server may read.
    """
    assert size_of(request_, "chat").worst(4_096, 0)[1] == least
