"""Charges: what is used of a budget is what the ledger's rows say, however they come."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from tests.policies.support import Hand

from ai_ledger.errors import NotFound
from ai_ledger.policies.budgets.account import Claim
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.holds import Consumed
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.terms import Terms

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
UNIT = 10**9


def call(number: int, **fields: Any) -> CallRecord:
    known: dict[str, Any] = {
        "started_at": NOON + timedelta(seconds=number),
        "input_tokens": 10,
        "output_tokens": 5,
        "usage_source": "reported",
        "cost": Decimal("0.25"),
        "currency": "USD",
        "user_id": f"user-{number % 3}",
        "org_id": "acme",
    }
    return CallRecord(id=f"call-{number:05}", **(known | fields))


def terms(**changes: Any) -> Terms:
    return Terms(**({"name": "b", "unit": "USD", "limit": 100 * UNIT, "per": "day"} | changes))


@pytest.fixture
def accounts(sql_url: str) -> Accounts:
    return Accounts(shared_database(sql_url), Hand(NOON))


@pytest.fixture
def sink(sql_url: str) -> Iterator[SQLSink]:
    opened = SQLSink(sql_url)
    yield opened
    opened.close()


def used(accounts: Accounts, name: str = "b") -> dict[tuple[str, str], tuple[int, int, int]]:
    """Whose and period → used, calls, uncounted."""
    budget = accounts.budget(name)
    assert budget is not None
    return {
        (one.whose, one.period): (one.used, one.calls, one.uncounted)
        for one in accounts.history(budget.id, limit=1_000)
    }


MANY = [
    terms(name="all"),
    terms(name="hours", per="hour", tz="Asia/Kolkata", each="user_id"),
    terms(name="weeks", per="week", unit="tokens", limit=10**6, each="org_id"),
    terms(name="months", per="month", where={"user_id": ("user-1", None)}),
    terms(name="window", per="window", since=NOON, until=NOON + timedelta(hours=1)),
    terms(name="tag", per="total", each="tags.team", where={"tags.team": ("a", "b", None)}),
    terms(name="worst", per="total", unit="CNY", unpriced_as=(7, 11), rates={"USD": "7.123456789"}),
    terms(name="models", per="total", where={"request_model": ("m",), "status": ("success",)}),
]
ODD = [
    call(1),
    call(2, cost=None, currency=None),
    call(3, currency="EUR"),
    call(4, status="failed", usage_source="unknown", cost=None, currency=None,
         input_tokens=None, output_tokens=None),
    call(5, status="blocked", cost=None, currency=None, input_tokens=None, output_tokens=None),
    call(6, user_id=None, org_id=None, tags={"team": "a"}),
    call(7, user_id="", tags={"team": "c"}),
    call(8, user_id="\\", tags={"team": "\x00"}),
    call(9, user_id="n" * 300, tags={"team": "b"}, request_model="m"),
    call(10, started_at=NOON + timedelta(days=40), cost=Decimal("0.000000001")),
    call(11, input_tokens=None, cost=None, currency=None),
    call(12, input_tokens=None, output_tokens=None, cost=None, currency=None, status="cancelled"),
    call(13, user_id="User-1", request_model="m", status="failed"),
    call(14, deleted_at=NOON),
    call(15, started_at=datetime(1850, 1, 1, tzinfo=UTC)),
    call(16, started_at=datetime(9995, 1, 1, tzinfo=UTC)),
]  # fmt: skip


def test_a_call_is_charged_where_it_counts(accounts: Accounts, sink: SQLSink) -> None:
    """
    Each call is charged to the account it belongs to, in its period, once.
    """
    accounts.register(terms(each="user_id"))

    sink.write([call(1), call(2, cost=None, currency=None), call(4)])
    sink.write([call(1), call(5, started_at=NOON + timedelta(days=1))])

    assert used(accounts) == {
        ("user-1", "2026-03-04"): (UNIT // 2, 2, 0),
        ("user-2", "2026-03-04"): (0, 1, 1),
        ("user-2", "2026-03-05"): (UNIT // 4, 1, 0),
    }


@pytest.mark.parametrize("first", ["rows", "budgets"])
def test_rows_and_accounts_agree(accounts: Accounts, sink: SQLSink, first: str) -> None:
    """
    Odd calls under odd terms count the same, whether they come before the budget or after it.
    """
    if first == "rows":
        sink.write(ODD)
    for each in MANY:
        accounts.register(each)
    if first == "budgets":
        sink.write(ODD)

    assert accounts.check() == []
    assert sum(calls for _, calls, _ in used(accounts, "all").values()) == 14
    assert used(accounts, "worst")["", "total"][0] > UNIT


def test_a_difference_is_found(accounts: Accounts, sink: SQLSink, sql_url: str) -> None:
    """
    An account that somebody has changed by hand is told of, with both figures.
    """
    accounts.register(terms())
    sink.write([call(1)])
    with shared_database(sql_url).writer.begin() as connection:
        connection.execute(sa.text("UPDATE ai_budget_accounts SET used = used + 1, reserved = 7"))

    (difference,) = accounts.check()

    assert (difference.budget, difference.period) == ("b", "2026-03-04")
    assert (difference.used, difference.rows) == (UNIT // 4 + 1, UNIT // 4)
    assert (difference.reserved, difference.leases) == (7, 0)


def test_an_unfinished_call_ends(accounts: Accounts, sink: SQLSink) -> None:
    """
    The end of a call takes the place of its beginning in the account too, also when it
    says other things.
    """
    for each in MANY:
        accounts.register(each)
    begin = [
        call(n, status="unfinished", cost=None, currency=None, input_tokens=None,
             output_tokens=None, usage_source="unknown", tags={"team": "a"})
        for n in range(6)
    ]  # fmt: skip
    sink.write(begin)
    assert used(accounts, "all")["", "2026-03-04"] == (0, 6, 6)

    sink.write([call(n, user_id="user-1", request_model="m") for n in range(3)] + begin)

    assert used(accounts, "all")["", "2026-03-04"] == (3 * UNIT // 4, 6, 3)
    assert accounts.check() == []


def test_corrected_costs(accounts: Accounts, sink: SQLSink) -> None:
    """
    A new cost, or a new currency, replaces the old one in the account.
    """
    for each in MANY:
        accounts.register(each)
    sink.write([call(n) for n in range(4)])

    sink.correct_costs(
        [
            CostChange(call_id=f"call-{n:05}", corrected_at=NOON, old_cost=Decimal("0.25"),
                       old_currency="USD", old_price_id=None, cost=cost, currency=currency,
                       price_id="new")
            for n, (cost, currency) in enumerate(
                [(Decimal("0.5"), "USD"), (Decimal(3), "EUR"), (None, None)]
            )
        ]
    )  # fmt: skip

    assert used(accounts, "all")["", "2026-03-04"] == (3 * UNIT // 4, 4, 2)
    assert accounts.check() == []


def test_deleted_calls_stay_paid(accounts: Accounts, sink: SQLSink) -> None:
    """
    What is deleted, and comes back, has been spent all the same.
    """
    accounts.register(terms())
    sink.write([call(n) for n in range(4)])
    before = used(accounts)
    everything = Query.build(scope=None)

    sink.delete(everything, at=NOON)
    assert used(accounts) == before
    assert accounts.check() == []
    sink.restore(everything)

    assert used(accounts) == before
    assert accounts.check() == []


def test_forgotten_calls_stay_paid(accounts: Accounts, sink: SQLSink) -> None:
    """
    Forgetting somebody leaves no name in the accounts, and opens no budget again.
    """
    for each in MANY:
        accounts.register(each)
    accounts.register(terms(name="team", where={"tags.team": ("a",)}))
    accounts.register(terms(name="nobody", where={"user_id": (None,)}))
    sink.write([call(n, tags={"team": "a"}) for n in range(6)] + ODD[5:9])
    before = {name: used(accounts, name) for name in ("all", "team", "nobody", "months")}

    sink.forget(Query.build(scope=None, where={"user_id": ["user-1", "user-2"]}))

    assert {name: used(accounts, name) for name in before} == before
    assert not [key for key in used(accounts, "hours") if key[0] in ("user-1", "user-2")]
    assert accounts.check() == []
    accounts.register(terms(name="later", each="user_id"))
    sink.forget(Query.build(scope=None))
    sink.forget(Query.build(scope=None))
    assert accounts.check() == []


LONG_S = 10.0**9
"""A lease does not end by itself in this test, wherever its clock stands."""


def names(sql_url: str) -> set[str]:
    """Whoever is named in accounts and leases."""
    with shared_database(sql_url).reading() as connection:
        found = [
            connection.execute(sa.text(f"SELECT scope FROM {table}")).scalars().all()
            for table in ("ai_budget_accounts", "ai_budget_leases")
        ]
    return {scope for scopes in found for scope in scopes} - {""}


@pytest.mark.parametrize("end", ["it returns", "it dies", "it died", "a later call"])
def test_forgotten_while_a_process_holds_a_lease(
    accounts: Accounts, sink: SQLSink, sql_url: str, end: str
) -> None:
    """
    The name goes with the lease, however that ends.
    """
    clock = accounts._clock
    assert isinstance(clock, Hand)
    budget_id = accounts.register(terms(each="user_id"))
    claim = Claim(budget_id=budget_id, whose="user-1", period="2026-03-04", needed=100)
    ttl_s = 60.0 if end == "it died" else LONG_S
    lease_id = accounts.reserve([claim], holder="h", ttl_s=ttl_s).grants[0].lease_id
    sink.write([call(1)])

    sink.forget(Query.build(scope=None, where={"user_id": "user-1"}))
    assert accounts.check() == []
    assert used(accounts)["", "2026-03-04"] == (UNIT // 4, 1, 0)

    if end != "it died":
        assert accounts.state(budget_id, "user-1", "2026-03-04").reserved == 100
    if end == "it returns":
        refill = Claim(
            budget_id=budget_id, whose="user-1", period="2026-03-04", needed=0, wanted=10,
            lease_id=lease_id,
        )  # fmt: skip
        accounts.reserve([refill], holder="h", ttl_s=LONG_S)
        accounts.give_back([(lease_id, 2**62)])
    elif end == "it dies":
        clock.now += timedelta(seconds=LONG_S + 1)
        accounts.renew("somebody else", ttl_s=60)
    elif end == "a later call":
        sink.holds = Pocket({"call-00004": Consumed(lease_id, 100)})
        sink.write([call(4, user_id=None)])
    assert names(sql_url) == set()
    assert accounts.check() == []
    if sql_url.startswith("sqlite") and end != "a later call":
        assert b"user-1" not in Path(sql_url.removeprefix("sqlite:///")).read_bytes()


@pytest.mark.parametrize("over", ["deactivated", "replaced", "counted anew"])
@pytest.mark.parametrize("leased", [False, True], ids=["", "leased"])
def test_forgotten_in_budgets_that_are_history(
    accounts: Accounts, sink: SQLSink, sql_url: str, over: str, leased: bool
) -> None:
    """
    Their accounts name nobody either, and say as much as before in all.
    """
    clock = accounts._clock
    assert isinstance(clock, Hand)
    yen = {"USD": "1"}
    budget_id = accounts.register(terms(each="user_id", unit="JPY", rates=yen))
    lease_id = 0
    if leased:
        claim = Claim(budget_id=budget_id, whose="user-1", period="2026-03-04", needed=100)
        lease_id = accounts.reserve([claim], holder="h", ttl_s=LONG_S).grants[0].lease_id
    sink.write([call(n) for n in range(6)])
    clock.now += timedelta(days=1)
    if over == "deactivated":
        accounts.deactivate("b")
    elif over == "replaced":
        accounts.register(terms(each="user_id", per="month"))
    else:
        accounts.register(terms(each="user_id", unit="JPY", rates={"USD": "2"}))

    sink.forget(Query.build(scope=None, where={"user_id": "user-1"}))

    accounts.give_back([(lease_id, 2**62)])
    assert names(sql_url) == {"user-0", "user-2"}
    assert {
        (one.whose, one.period): (one.used, one.calls)
        for one in accounts.history(budget_id, limit=1_000)
    } == {(whose, "2026-03-04"): (UNIT // 2, 2) for whose in ("", "user-0", "user-2")}
    assert accounts.check() == []


def test_an_account_of_a_call_that_took_nothing_stays(accounts: Accounts, sql_url: str) -> None:
    """
    It says when something was last reserved, by which no clock is stepped back.
    """
    budget_id = accounts.register(terms(each="user_id"))
    claim = Claim(budget_id=budget_id, whose="user-1", period="2026-03-04", needed=100)
    granted = accounts.reserve([claim], holder="h", ttl_s=60)

    accounts.give_back([(granted.grants[0].lease_id, 100)])

    assert names(sql_url) == {"user-1"}


@pytest.mark.parametrize("change", ["write", "correct", "forget", "delete"])
def test_accounts_are_locked_after_the_totals(
    accounts: Accounts, sink: SQLSink, change: str
) -> None:
    """
    Whoever changes both does so in one order, so that no two wait for each other.
    """
    accounts.register(terms(each="user_id"))
    sink.write([call(1)])
    changed: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        for table in ("ai_call_totals", "ai_budget_accounts"):
            if table in statement and not statement.startswith("SELECT"):
                changed.append(table)

    event.listen(sink._opened()[2]._database.writer, "before_cursor_execute", note)
    if change == "write":
        sink.write([call(2)])
    elif change == "correct":
        old = call(1)
        more = CostChange(
            call_id=old.id, corrected_at=NOON, old_cost=old.cost, old_currency="USD",
            old_price_id=None, cost=Decimal("0.5"), currency="USD", price_id=None,
        )  # fmt: skip
        assert sink.correct_costs([more]) == 1
    elif change == "forget":
        assert sink.forget(Query.build(scope=None)) == 1
    else:
        assert sink.delete(Query.build(scope=None), at=NOON) == 1

    assert changed == sorted(changed, reverse=True)
    assert set(changed) >= {"ai_call_totals"}
    assert ("ai_budget_accounts" in changed) == (change != "delete")


def test_registering_again(accounts: Accounts, sink: SQLSink) -> None:
    """
    Equal terms change nothing, another limit keeps the account, another shape starts anew.
    """
    sink.write([call(n) for n in range(4)])
    first = accounts.register(terms(), by="ada")

    assert accounts.register(terms(), by="bob") == first
    assert accounts.register(terms(limit=UNIT, mode="soft"), by="bob") == first
    known = accounts.budget("b")
    assert known is not None
    assert (known.version, known.updated_by, known.terms.mode) == (2, "bob", "soft")
    assert used(accounts) == {("", "2026-03-04"): (UNIT, 4, 0)}

    second = accounts.register(terms(each="user_id"))

    assert second != first
    assert sorted(used(accounts)) == [(f"user-{n}", "2026-03-04") for n in range(3)]
    assert accounts.check() == []


def test_new_rates_count_the_current_period_anew(accounts: Accounts, sink: SQLSink) -> None:
    """
    A rate that changes is applied to the calls of the current period, and to no earlier one.
    """
    clock = accounts._clock
    assert isinstance(clock, Hand)
    accounts.register(terms(unit="CNY", rates={"USD": "7"}))
    sink.write([call(1)])
    clock.now = NOON + timedelta(days=1)
    sink.write([call(2, started_at=clock.now)])

    accounts.register(terms(unit="CNY", rates={"USD": "8"}))
    sink.write([call(3), call(4, started_at=clock.now)])

    assert used(accounts) == {
        ("", "2026-03-04"): (7 * UNIT // 4, 1, 0),
        ("", "2026-03-05"): (4 * UNIT, 2, 0),
    }
    assert accounts.check() == []


def test_deactivated(accounts: Accounts, sink: SQLSink) -> None:
    """
    A budget out of force counts nothing; back in force it counts what it has missed.
    """
    budget_id = accounts.register(terms())
    accounts.reserve(
        [Claim(budget_id=budget_id, whose="", period="2026-03-04", needed=5)], holder="h", ttl_s=60
    )
    sink.write([call(1)])
    accounts.deactivate("b", by="ada")
    sink.write([call(2)])
    assert used(accounts) == {("", "2026-03-04"): (UNIT // 4, 1, 0)}
    assert accounts.check() == []

    accounts.register(terms())

    assert used(accounts) == {("", "2026-03-04"): (UNIT // 2, 2, 0)}
    assert accounts.check() == []
    with pytest.raises(NotFound):
        accounts.deactivate("nothing")


def test_sums_stay_where_they_are_full(accounts: Accounts, sink: SQLSink) -> None:
    """
    Calls whose costs pass 64 bits together are stored, and the account is full.
    """
    accounts.register(terms(unit="CNY", per="total", rates={"USD": "1000000000"}))

    for n in range(3):
        sink.write([call(n, cost=Decimal(10**8))])

    assert used(accounts)["", "total"] == (2**63 - 1, 3, 0)
    assert accounts.check() == []


class Pocket:
    """Holds of some calls, and what it was told."""

    def __init__(self, holds: dict[str, Consumed]) -> None:
        self.holds = holds
        self.told: list[str] = []

    def consumed(self, call_ids: Sequence[str]) -> list[Consumed]:
        return [self.holds[call_id] for call_id in call_ids if call_id in self.holds]

    def charged(self, call_ids: Sequence[str]) -> None:
        self.told.extend(call_ids)

    def closed(self) -> None:
        self.told.append("closed")


def test_a_row_takes_the_place_of_its_hold(accounts: Accounts, sink: SQLSink) -> None:
    """
    What was set aside for a call goes when its row comes, once, and never below nothing.
    """
    budget_id = accounts.register(terms())
    claim = Claim(budget_id=budget_id, whose="", period="2026-03-04", needed=100)
    first = accounts.reserve([claim], holder="h", ttl_s=60).grants[0].lease_id
    second = accounts.reserve([claim], holder="i", ttl_s=60).grants[0].lease_id
    pocket = Pocket(
        {
            "call-00001": Consumed(first, 60),
            "call-00002": Consumed(second, 500),
            "call-00003": Consumed(999_999, 1),
            "call-00004": Consumed(first, 1),
        }
    )
    sink.holds = pocket

    sink.write([call(1), call(2), call(3), call(4, status="unfinished")])
    sink.write([call(1), call(2)])

    state = accounts.state(budget_id, "", "2026-03-04")
    assert (state.used, state.reserved, state.calls) == (UNIT, 40, 4)
    assert pocket.told == [f"call-0000{n}" for n in (1, 2, 3, 1, 2)]
    assert accounts.check() == []
    sink.holds = None
    sink.write([call(4)])
    assert accounts.state(budget_id, "", "2026-03-04").reserved == 40


def test_a_row_that_comes_while_its_budget_is_out_of_force(
    accounts: Accounts, sink: SQLSink
) -> None:
    """
    What was set aside for it goes all the same, and the row counts when the budget is back.
    """
    budget_id = accounts.register(terms())
    claim = Claim(budget_id=budget_id, whose="", period="2026-03-04", needed=100)
    lease_id = accounts.reserve([claim], holder="h", ttl_s=60).grants[0].lease_id
    sink.holds = Pocket({"call-00001": Consumed(lease_id, 60)})
    accounts.deactivate("b")

    sink.write([call(1)])
    assert accounts.state(budget_id, "", "2026-03-04").reserved == 40
    assert accounts.check() == []
    accounts.reactivate("b")

    state = accounts.state(budget_id, "", "2026-03-04")
    assert (state.used, state.reserved, state.calls) == (UNIT // 4, 40, 1)
    assert accounts.check() == []


def test_without_a_budget_one_look(sink: SQLSink, sql_url: str) -> None:
    """
    As long as there is no budget a batch costs one point query more, and writes nothing.
    """
    sink.write([call(1)])
    statements: list[str] = []
    writer = sink._opened()[2]

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(writer._database.writer, "before_cursor_execute", note)
    sink.write([call(2), call(3)])

    about_budgets = [text for text in statements if "budget" in text]
    assert len(about_budgets) == 1
    assert about_budgets[0].startswith("SELECT ai_budget_state.number")


_WRITE = """
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql import SQLSink

url, part = sys.argv[1], int(sys.argv[2])
sink = SQLSink(url)
for batch in range(12):
    sink.write([
        CallRecord(
            id=f"call-{part}-{batch}-{n}", started_at=datetime.now(UTC),
            cost=Decimal("0.25"), currency="USD", user_id=f"user-{(part + n) % 5}",
        )
        for n in range(20)
    ])
    print(batch, flush=True)
sink.close()
"""


def test_budgets_that_come_while_others_write(sink: SQLSink, sql_url: str) -> None:
    """
    Processes that write while budgets are registered, changed and dropped lose no charge.
    """
    accounts = Accounts(shared_database(sql_url))
    sink.write([call(1)])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITE, sql_url, str(part)], stdout=subprocess.PIPE, text=True
        )
        for part in range(2)
    ]
    assert writers[0].stdout is not None
    writers[0].stdout.readline()

    thread = threading.Thread(
        target=lambda: [accounts.register(terms(name="b", limit=n, per="total")) for n in range(9)]
    )
    thread.start()
    accounts.register(terms(name="users", each="user_id", per="total"))
    accounts.register(terms(name="users", each="org_id", per="total"))
    accounts.deactivate("users")
    accounts.register(terms(name="users", each="user_id", per="total"))
    thread.join()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0

    assert accounts.check() == []
    assert used(accounts)["", "total"] == (481 * UNIT // 4, 481, 0)
    assert sum(calls for _, calls, _ in used(accounts, "users").values()) == 481
