"""Quotas at their edges: finalizers, calls that were never sent, half-made edits, old rows."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any, cast

import pytest
import sqlalchemy as sa
from tests.policies.support import call

from ai_ledger import Ledger
from ai_ledger.database.tables.quotas import gates as gates_table
from ai_ledger.errors import (
    EditConflict,
    InvalidValue,
    ModelNotAllowed,
    QuotaExceeded,
    TooSoon,
)
from ai_ledger.policies import Quotas
from ai_ledger.policies.budgets import registration
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.quotas import gates
from ai_ledger.policies.quotas.gate import Wish
from ai_ledger.policies.quotas.places import LocalPlaces, SharedPlaces
from ai_ledger.policies.quotas.tokens import budget_name
from ai_ledger.sinks.sql.shared import database_url_of, shared_database

GATE = ("acme", "m")


def test_a_stream_is_collected_while_its_thread_takes_a_place() -> None:
    """
    What a finalizer gives back in the middle of `enter` does not wait for its own thread.
    """
    wish = Wish(GATE, 1, 2)

    def now() -> float:
        # Stands in for the collector, which runs finalizers wherever something is made.
        if places._taken:
            places.leave(GATE)
        return 0.0

    places = LocalPlaces(now)

    def enter() -> None:
        places.enter(Wish(GATE, 0, 2))
        places.enter(Wish(GATE, 0, 2))
        places.enter(wish)

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    places._drain()
    assert places._taken == {GATE: 1}


def test_places_of_all_processes_are_given_back_without_a_lock(tmp_path: Any) -> None:
    """
    A finalizer can give them back whatever its thread, or another one, is about.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/a.db")
    quotas.set("acme", "m", max_concurrent=1)
    first = call()
    quotas.check(first, None)
    thread = threading.Thread(target=quotas.settle, args=(first,), daemon=True)
    with quotas._shared._changed:
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    quotas.close()
    assert quotas.in_flight("m", "acme") == 0


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("concurrent", [0, 3])
def test_a_turn_comes_back_when_tokens_are_out(sql_url: str, shared: bool, concurrent: int) -> None:
    """
    Nothing was sent, so the next call need not wait; the one that is sent has the turn.
    """
    quotas = Quotas()
    with Ledger(sql_url, journal=False) as ledger:
        quotas.bind(ledger)
        quotas.set(
            "acme",
            "m",
            tokens=1000,
            min_interval_s=600,
            max_concurrent=concurrent,
            shared=shared,
        )
        for _ in range(2):
            with pytest.raises(QuotaExceeded):
                quotas.check(call(), {"messages": [], "max_tokens": 5000})
        sent = call()
        quotas.check(sent, {"messages": [], "max_tokens": 10})
        quotas.settle(sent.replace(status="success"))
        with pytest.raises(TooSoon):
            quotas.check(call(), {"messages": [], "max_tokens": 10})
        quotas.close()


@pytest.mark.parametrize("shared", [True, False])
def test_a_turn_comes_back_when_another_policy_refuses(sql_url: str, shared: bool) -> None:
    """
    A call that ends as blocked has not used its turn, one that failed has; in all processes.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", min_interval_s=600, shared=shared)
    for status in ("blocked", "circuit_open", "failed"):
        asked = call()
        quotas.check(asked, None)
        quotas.settle(asked.replace(status=status))
    quotas.close()
    with pytest.raises(TooSoon):
        (Quotas(sql_url) if shared else quotas).check(call(), None)


def test_a_turn_taken_by_somebody_else_is_not_given_back(sql_url: str) -> None:
    """
    Whoever gives back late gives back what he took, not what another one has.
    """
    database = shared_database(database_url_of(sql_url))
    wish = Wish(GATE, 600_000_000, 0)
    options: Any = {"holder": "h", "ttl_s": 30.0}
    _, turns = gates.enter(database, [wish], **options)
    gates.leave(database, [], turns)
    _, later = gates.enter(database, [wish], **options)
    gates.leave(database, [], turns if turns != later else {})
    with pytest.raises(gates.Refused):
        gates.enter(database, [wish], **options)


def test_a_refusal_says_what_the_call_may_take(tmp_path: Any) -> None:
    """
    A call refused by an unused quota is told that it is too large, not that nothing is left.
    """
    quotas = Quotas()
    with Ledger(f"sqlite:///{tmp_path}/a.db", journal=False) as ledger:
        quotas.bind(ledger)
        quotas.set("acme", "m", tokens=1000)
        with pytest.raises(QuotaExceeded, match=r"may take 5,\d+ tokens, and of 1,000 0 are") as it:
            quotas.check(call(), {"messages": [], "max_tokens": 5000})
    assert it.value.needed >= 5000
    assert (it.value.used, it.value.reserved) == (0, 0)


def test_a_row_and_its_budget_change_together(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the budget cannot be changed, the row is not either, and trying again does both.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", tokens=100)

    def broken(*_: object) -> None:
        raise RuntimeError("out of order")

    with monkeypatch.context() as patch:
        patch.setattr(registration, "register", broken)
        patch.setattr(registration, "deactivate", broken)
        with pytest.raises(RuntimeError, match="out of order"):
            quotas.set("acme", "m", tokens=500)
        with pytest.raises(RuntimeError, match="out of order"):
            quotas.remove("acme", "m")
    accounts = Accounts(shared_database(database_url_of(sql_url)))
    stored = accounts.budget(budget_name("acme", "m"))
    assert quotas.get("acme", "m").tokens == 100
    assert stored is not None
    assert stored.terms.limit == 100
    quotas.remove("acme", "m")
    stored = accounts.budget(budget_name("acme", "m"))
    assert stored is not None
    assert not stored.active


def test_old_gates_are_swept(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Gates that nobody comes to any more go, those with a turn or a place stay.
    """
    database = shared_database(database_url_of(sql_url))
    options: Any = {"holder": "h", "ttl_s": 36_000.0}
    gates.enter(database, [Wish(("a", "turn"), 600_000_000, 0)], **options)
    gates.enter(database, [Wish(("a", "place"), 0, 1)], **options)
    database.writing(
        lambda connection: connection.execute(
            sa.insert(gates_table), [{"org_id": "a", "model": "old", "next_at_us": 5}]
        )
    )
    monkeypatch.setattr(gates, "_SWEEP_SHARE", 1.0)
    gates.enter(database, [Wish(("a", "new"), 600_000_000, 0)], **options)
    with database.reading() as connection:
        left = connection.execute(sa.select(gates_table.c.model)).scalars().all()
    assert sorted(left) == ["new", "place", "turn"]


def test_capitals_do_not_matter(sql_url: str) -> None:
    """
    A model switched off or limited is so however its name is written, as in the catalogue.
    """
    quotas = Quotas(sql_url)
    quotas.switch_off("gpt-4o")
    with pytest.raises(ModelNotAllowed):
        quotas.check(call(model="GPT-4o"), None)
    assert not quotas.switch_on("GPT-4O").off
    assert [each.model for each in quotas.switches()] == ["gpt-4o"]
    assert len(quotas.history(None, "Gpt-4o")) == 2

    quotas.set("acme", "GPT-4o", min_interval_s=600)
    quotas.check(call(model="gpt-4o"), None)
    with pytest.raises(TooSoon):
        quotas.check(call(model="GPT-4o"), None)
    quotas.set("acme", "gpt-4o", min_interval_s=0)
    assert [(each.model, each.version) for each in quotas.rows()] == [("GPT-4o", 2)]
    quotas.set("acme", "gpt-4O", tokens=1000)
    with pytest.raises(ModelNotAllowed, match="counts tokens of 'GPT-4o' alone"):
        quotas.check(call(model="gpt-4o"), None)
    quotas.remove("acme", "gpt-4o")
    assert quotas.rows() == []


def test_a_ledger_is_not_kept(tmp_path: Any) -> None:
    """
    Quotas that serve one ledger after the other let go of those that are gone.
    """

    class Bound:
        """As much of a ledger as the policy holds on to."""

        sinks: Any = ()

        def note(self, message: str, error: BaseException | None = None) -> None:
            """Nothing to say."""

    quotas = Quotas(f"sqlite:///{tmp_path}/a.db")
    ledger = Bound()
    gone = weakref.ref(ledger)
    quotas.bind(cast("Ledger", ledger))
    del ledger
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unexpected_error_does_not_end_giving_back(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The thread goes on after it, and another one starts when it was ended.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/a.db")
    quotas.set("acme", "m", max_concurrent=1)
    failed = threading.Event()
    leave = gates.leave

    def broken(*arguments: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        leave(*arguments)

    monkeypatch.setattr(gates, "leave", broken)
    first = call()
    quotas.check(first, None)
    quotas.settle(first)
    assert failed.wait(30)
    quotas._shared.close(60)
    assert quotas.in_flight("m", "acme") == 0

    ended = SharedPlaces(quotas._database, 30.0)

    def round_() -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(ended, "_round", round_)
    ended._thread = threading.Thread(target=ended._run, daemon=True)
    ended._thread.start()
    with ended._changed:
        assert ended._changed.wait_for(lambda: ended._thread is None, timeout=30)


def test_who_was_refused_is_no_active_user(sql_url: str) -> None:
    """
    Only users of calls that were sent are counted.
    """
    quotas = Quotas()
    with Ledger(sql_url, journal=False, policies=[quotas]) as ledger:
        quotas.bind(ledger)
        quotas.set("acme", "m")
        ledger.record("m", org_id="acme", user_id="a", input_tokens=1, output_tokens=1)
        quotas.set("acme", "m", enabled=False)
        with (
            pytest.raises(ModelNotAllowed),
            ledger.call(model="m", org_id="acme", user_id="b"),
        ):
            pass
        assert ledger.flush(30)
        assert ledger.stats.summary().calls == 2
        assert quotas.used("acme", "m").active_users == 1


def test_switches_are_edited_like_rows(sql_url: str) -> None:
    """
    A stale edit of a switch is refused, and so is one by nobody; nothing is written.
    """
    quotas = Quotas(sql_url)
    made = quotas.switch_off("m", version=0, by="ann")
    quotas.cap("m", 1, version=made.version)
    with pytest.raises(EditConflict):
        quotas.switch_on("m", version=made.version)
    with pytest.raises(InvalidValue):
        quotas.switch_on("m", by=" ")
    with pytest.raises(InvalidValue):
        quotas.set("acme", "m", by="")
    assert [(each.off, each.max_concurrent) for each in quotas.switches()] == [(True, 1)]
    assert quotas.rows() == []
    quotas.switch_on("m")
    quotas.check(call(), None)
    with pytest.raises(TooSoon, match="1 call is in flight"):
        quotas.check(call(), None)
    quotas.close()
