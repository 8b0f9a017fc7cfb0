"""Accounts: what is set aside and used never passes the limit, and nothing leaks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.policies.support import Hand

from ai_ledger.database.engine import Database
from ai_ledger.database.upgrade import make_ready
from ai_ledger.policies.budgets.account import Claim, Exhausted, Grant, Granted, NotInForce
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.holds import Consumed
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.terms import Terms

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Hand:
    return Hand(NOON)


@pytest.fixture
def accounts(sql_url: str, clock: Hand) -> Accounts:
    return Accounts(shared_database(sql_url), clock)


def terms(**changes: Any) -> Terms:
    return Terms(**({"name": "b", "unit": "tokens", "limit": 1_000, "per": "day"} | changes))


def claim(budget_id: int, needed: int, **changes: Any) -> Claim:
    known = {"budget_id": budget_id, "whose": "", "period": "2026-03-04", "needed": needed}
    return Claim(**(known | changes))


def take(accounts: Accounts, *claims: Claim, holder: str = "h", ttl_s: float = 60) -> Granted:
    return accounts.reserve(claims, holder=holder, ttl_s=ttl_s)


def reserved(accounts: Accounts, budget_id: int, period: str = "2026-03-04") -> int:
    return accounts.state(budget_id, "", period).reserved


def test_all_or_none(accounts: Accounts) -> None:
    """
    When one of several budgets has not enough, nothing is taken from any.
    """
    wide = accounts.register(terms(name="wide"))
    narrow = accounts.register(terms(name="narrow", limit=10))
    take(accounts, claim(wide, 8), claim(narrow, 8))

    with pytest.raises(Exhausted) as refused:
        take(accounts, claim(wide, 8), claim(narrow, 8))

    assert (refused.value.claim.budget_id, refused.value.reserved) == (narrow, 8)
    assert (refused.value.used, refused.value.limit) == (0, 10)
    assert (reserved(accounts, wide), reserved(accounts, narrow)) == (8, 8)
    assert accounts.check() == []


def test_a_soft_budget_always_gives(accounts: Accounts) -> None:
    """
    A soft budget counts what is set aside above its limit, and refuses nothing.
    """
    budget_id = accounts.register(terms(limit=10, mode="soft"))

    grant = take(accounts, claim(budget_id, 50, wanted=500)).grants[0]

    assert (grant.amount, grant.reserved, grant.limit) == (50, 50, 10)


def test_shares_in_advance(accounts: Accounts) -> None:
    """
    A hundredth of what is left is lent in advance until little is left, then nothing.
    """
    budget_id = accounts.register(terms(limit=100_000))

    far = take(accounts, claim(budget_id, 10, wanted=5_000)).grants[0]
    less = take(accounts, claim(budget_id, 10, wanted=20)).grants[0]
    half = take(accounts, claim(budget_id, 58_980, wanted=20)).grants[0]
    beyond = take(accounts, claim(budget_id, 10, wanted=40_000)).grants[0]
    more = take(accounts, claim(budget_id, 35_000, wanted=20)).grants[0]
    near = take(accounts, claim(budget_id, 10, wanted=4_000)).grants[0]

    assert (far.amount, less.amount, half.amount) == (1_000, 20, 58_980)
    assert (beyond.amount, more.amount, near.amount) == (400, 35_000, 10)
    assert accounts.check() == []


def test_a_few_calls_of_a_small_budget(accounts: Accounts) -> None:
    """
    While more than half is left, an eighth of what is wanted is lent, up to a tenth of the rest.
    """
    budget_id = accounts.register(terms(limit=100_000))

    few = take(accounts, claim(budget_id, 1_000, wanted=64_000)).grants[0]
    tenth = take(accounts, claim(budget_id, 4_200, wanted=64 * 4_200)).grants[0]
    much = take(accounts, claim(budget_id, 32_800, wanted=32_800)).grants[0]
    half = take(accounts, claim(budget_id, 100, wanted=64 * 100)).grants[0]

    assert (few.amount, tenth.amount, much.amount) == (8_000, 9_200, 32_800)
    assert half.amount == 500
    assert accounts.check() == []


def test_a_lease_grows_and_shrinks(accounts: Accounts) -> None:
    """
    A holder adds to its lease, brings back what is left over, and gives it up.
    """
    budget_id = accounts.register(terms())
    first = take(accounts, claim(budget_id, 100)).grants[0]

    second = take(accounts, claim(budget_id, 50, returned=70, lease_id=first.lease_id)).grants[0]

    assert (second.lease_id, second.amount, second.reserved) == (first.lease_id, 50, 80)
    accounts.give_back([(first.lease_id, 30), (first.lease_id, 20), (12_345, 5)])
    assert reserved(accounts, budget_id) == 30
    accounts.give_back([(first.lease_id, 1_000)])
    assert reserved(accounts, budget_id) == 0
    assert accounts.renew("h", ttl_s=60) == frozenset()
    assert accounts.check() == []


def test_what_was_returned_comes_back_with_a_refusal(accounts: Accounts) -> None:
    """
    A holder that is refused has given back its leftover all the same.
    """
    budget_id = accounts.register(terms())
    first = take(accounts, claim(budget_id, 100)).grants[0]

    with pytest.raises(Exhausted) as refused:
        take(accounts, claim(budget_id, 981, returned=80, lease_id=first.lease_id))

    assert refused.value.reserved == reserved(accounts, budget_id) == 20
    assert accounts.check() == []


def test_nobody_returns_the_lease_of_another(accounts: Accounts) -> None:
    """
    A lease can be given back in passing only by who holds it.
    """
    budget_id = accounts.register(terms())
    theirs = take(accounts, claim(budget_id, 100), holder="other").grants[0]

    mine = take(accounts, claim(budget_id, 5, returned=100, lease_id=theirs.lease_id)).grants[0]

    assert mine.lease_id != theirs.lease_id
    assert reserved(accounts, budget_id) == 105
    assert accounts.check() == []


def test_a_holder_that_vanished(accounts: Accounts, clock: Hand) -> None:
    """
    What a dead process held comes back when its lease has ended, not before.
    """
    budget_id = accounts.register(terms())
    take(accounts, claim(budget_id, 900), holder="dead", ttl_s=30)
    clock.now += timedelta(seconds=29)
    with pytest.raises(Exhausted):
        take(accounts, claim(budget_id, 200))
    clock.now += timedelta(seconds=2)

    grant = take(accounts, claim(budget_id, 200)).grants[0]

    assert grant.reserved == 200
    assert accounts.check() == []


def test_a_lease_that_is_renewed(accounts: Accounts, clock: Hand) -> None:
    """
    Leases last as long as they are renewed, and a holder learns which are gone.
    """
    budget_id = accounts.register(terms())
    mine = take(accounts, claim(budget_id, 900), ttl_s=30).grants[0].lease_id
    clock.now += timedelta(seconds=29)
    assert accounts.renew("h", ttl_s=30) == {mine}
    clock.now += timedelta(seconds=29)
    with pytest.raises(Exhausted):
        take(accounts, claim(budget_id, 200), holder="i")
    clock.now += timedelta(seconds=2)

    take(accounts, claim(budget_id, 200), holder="i")

    assert accounts.renew("h", ttl_s=30) == frozenset()
    assert reserved(accounts, budget_id) == 200


def test_a_new_period(accounts: Accounts, clock: Hand) -> None:
    """
    The leftover of the last period goes back there, not into the new one.
    """
    budget_id = accounts.register(terms())
    old = take(accounts, claim(budget_id, 900)).grants[0]
    clock.now += timedelta(days=1)

    new = take(
        accounts,
        claim(budget_id, 950, period="2026-03-05", returned=900, lease_id=old.lease_id),
    ).grants[0]

    assert (new.period, new.reserved) == ("2026-03-05", 950)
    assert new.lease_id != old.lease_id
    assert reserved(accounts, budget_id) == 0
    assert accounts.check() == []


@pytest.mark.parametrize(
    ("now", "period"),
    [
        ("2026-03-04T23:59:59.999999", "2026-03-05"),
        ("2026-03-04T23:55:00", "2026-03-05"),
        ("2026-03-05T00:00:00", "2026-03-04"),
        ("2026-03-05T00:04:59", "2026-03-04"),
    ],
)
def test_an_account_is_that_of_the_call(
    accounts: Accounts, clock: Hand, sql_url: str, now: str, period: str
) -> None:
    """
    At the edge of a period a call reserves where its row is charged, whatever the time here.
    """
    budget_id = accounts.register(terms())
    clock.now = datetime.fromisoformat(f"{now}+00:00")
    grant = take(accounts, claim(budget_id, 900, period=period)).grants[0]
    started_at = datetime.fromisoformat(f"{period}T00:00:00+00:00")
    sink = SQLSink(sql_url)
    sink.holds = Pocket("a", grant.lease_id, 900)
    sink.write([CallRecord(id="a", started_at=started_at, input_tokens=900)])
    sink.close()

    with pytest.raises(Exhausted) as refused:
        take(accounts, claim(budget_id, 101, period=period))

    assert (grant.period, refused.value.period) == (period, period)
    assert (refused.value.used, refused.value.reserved) == (900, 0)
    assert accounts.check() == []


@pytest.mark.parametrize(
    ("now", "period"),
    [
        ("2026-03-04T23:54:59", "2026-03-05"),
        ("2026-03-05T00:05:00", "2026-03-04"),
        ("2026-03-09T12:00:00", "2026-03-04"),
        ("2026-03-05T12:00:00", "1850-01-01"),
    ],
)
def test_a_clock_that_is_far_off(accounts: Accounts, clock: Hand, now: str, period: str) -> None:
    """
    Nothing is reserved in a period that is over, or not to come soon, by the database's clock.
    """
    budget_id = accounts.register(terms())
    mine = take(accounts, claim(budget_id, 900)).grants[0]
    clock.now = datetime.fromisoformat(f"{now}+00:00")

    with pytest.raises(NotInForce) as refused:
        take(
            accounts,
            claim(budget_id, 1, period=period, returned=900, lease_id=mine.lease_id),
        )

    assert ("clock" in (refused.value.reason or "")) is (period != "1850-01-01")
    assert reserved(accounts, budget_id) == 900
    assert [each.period for each in accounts.history(budget_id)] == ["2026-03-04"]
    assert accounts.check() == []


def test_a_clock_that_is_stepped_back(accounts: Accounts, clock: Hand) -> None:
    """
    Yesterday's account stays closed when the database's own clock is set back to yesterday.
    """
    budget_id = accounts.register(terms())
    take(accounts, claim(budget_id, 100))
    clock.now += timedelta(days=1)
    take(accounts, claim(budget_id, 900, period="2026-03-05"))
    clock.now -= timedelta(days=1)

    with pytest.raises(NotInForce, match="a later period had begun"):
        take(accounts, claim(budget_id, 100))
    assert take(accounts, claim(budget_id, 100, whose="other")).grants[0].amount == 100


def test_a_small_step_back_closes_nothing(accounts: Accounts, clock: Hand) -> None:
    """
    Processes on both sides of midnight go on, each in the account of its calls.
    """
    budget_id = accounts.register(terms())
    clock.now = datetime(2026, 3, 5, 0, 4, tzinfo=UTC)
    take(accounts, claim(budget_id, 900, period="2026-03-05"))
    clock.now = datetime(2026, 3, 4, 23, 59, tzinfo=UTC)

    assert take(accounts, claim(budget_id, 700)).grants[0].reserved == 700
    with pytest.raises(Exhausted):
        take(accounts, claim(budget_id, 200, period="2026-03-05"))


def test_a_call_from_the_future_closes_nothing(
    accounts: Accounts, clock: Hand, sql_url: str
) -> None:
    """
    A call that some wrong clock dates ahead does not shut the period of today.
    """
    budget_id = accounts.register(terms())
    sink = SQLSink(sql_url)
    sink.write([CallRecord(id="a", started_at=NOON + timedelta(days=9), input_tokens=5)])
    sink.close()

    assert take(accounts, claim(budget_id, 50)).grants[0].period == "2026-03-04"


def test_not_in_force(accounts: Accounts, clock: Hand) -> None:
    """
    Nothing is lent of a budget that is gone, replaced, dropped, or outside its window.
    """
    first = accounts.register(terms())
    second = accounts.register(terms(each="user_id"))
    window = accounts.register(
        terms(name="w", per="window", since=NOON, until=NOON + timedelta(hours=1))
    )
    take(accounts, claim(window, 1, period="window"))
    clock.now += timedelta(hours=2)
    accounts.deactivate("b")

    for budget_id, period in (
        (first, "2026-03-04"),
        (second, "2026-03-04"),
        (window, "window"),
        (window, "2026-03-04"),
        (12_345, "total"),
    ):
        with pytest.raises(NotInForce):
            take(accounts, claim(budget_id, 1, period=period))


def test_what_is_leased_counts_when_a_budget_is_back_in_force(accounts: Accounts) -> None:
    """
    Who has leased something may use it meanwhile, so nobody else is given it.
    """
    budget_id = accounts.register(terms())
    lease_id = take(accounts, claim(budget_id, 600)).grants[0].lease_id
    accounts.deactivate("b")
    accounts.reactivate("b")

    with pytest.raises(Exhausted) as refused:
        take(accounts, claim(budget_id, 600), holder="i")

    assert refused.value.reserved == 600
    assert accounts.renew("h", ttl_s=60) == {lease_id}
    accounts.give_back([(lease_id, 600)])
    take(accounts, claim(budget_id, 600), holder="i")
    assert accounts.check() == []


def test_the_server_has_the_clock(sql_url: str) -> None:
    """
    Without a clock of a test the database's is asked, and it is aware and about right.
    """
    accounts = Accounts(shared_database(sql_url))
    budget_id = accounts.register(terms(per="total"))

    granted = take(accounts, claim(budget_id, 1, period="total"))

    assert abs(granted.now - datetime.now(UTC)) < timedelta(minutes=5)
    assert abs(accounts.now() - datetime.now(UTC)) < timedelta(minutes=5)


@cache
def empty_ledger() -> str:
    """A file with all tables: making them takes longer than an example does."""
    path = f"{tempfile.mkdtemp()}/empty.db"
    database = Database(f"sqlite:///{path}")
    make_ready(database)
    database.close()
    return path


class Ledger(RuleBasedStateMachine):
    """Processes that reserve, spend, give back and die, and a clock that goes on and back."""

    limit = 2_000
    tz = "UTC"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        url = f"sqlite:///{self.folder}/ledger.db"
        shutil.copyfile(empty_ledger(), f"{self.folder}/ledger.db")
        self.clock = Hand(NOON)
        self.database = Database(url)
        self.accounts = Accounts(self.database, self.clock)
        self.sink = SQLSink(url)
        self.mode: Any = "hard"
        self.ids = [self._register("a"), self._register("b")]
        self.held: list[tuple[str, Grant]] = []

    def _register(self, name: str) -> int:
        each = "user_id" if name == "b" else None
        return self.accounts.register(
            terms(name=name, limit=self.limit, each=each, mode=self.mode, tz=self.tz)
        )

    def teardown(self) -> None:
        self.sink.close()
        self.database.close()
        shutil.rmtree(self.folder)

    @rule(
        needed=st.integers(0, 900),
        wanted=st.integers(0, 2_500),
        user=st.sampled_from(["", "x"]),
        holder=st.sampled_from("pqr"),
        both=st.booleans(),
        again=st.booleans(),
        returned=st.integers(0, 900),
        skew=st.sampled_from([0, 0, 0, -290, 290, -90_000]),
    )
    def reserve(
        self, needed: int, wanted: int, user: str, holder: str, both: bool, again: bool,
        returned: int, skew: int,
    ) -> None:  # fmt: skip
        period = terms(tz=self.tz).period_of(self.clock.now + timedelta(seconds=skew))
        assert period is not None
        claims = [claim(self.ids[0], needed, period=period, wanted=wanted)]
        if again and (own := [grant for who, grant in self.held if who == holder]):
            lease = own[-1].lease_id
            claims = [claim(self.ids[0], needed, period=period, lease_id=lease, returned=returned)]
        if both:
            claims.append(claim(self.ids[1], needed, period=period, whose=user, wanted=wanted))
        try:
            granted = self.accounts.reserve(claims, holder=holder, ttl_s=30)
        except (Exhausted, NotInForce):
            return
        self.held += [(holder, grant) for grant in granted.grants]
        for grant in granted.grants:
            assert grant.amount >= grant.claim.needed
            assert grant.period == period
            if self.mode == "hard":
                assert grant.used + grant.reserved <= self.limit

    @rule(data=st.data(), part=st.integers(0, 1_000))
    def give_back(self, data: st.DataObject, part: int) -> None:
        if self.held:
            _, grant = data.draw(st.sampled_from(self.held))
            self.accounts.give_back([(grant.lease_id, part)])

    @rule(data=st.data(), tokens=st.integers(0, 900), twice=st.booleans(), unfinished=st.booleans())
    def spend(self, data: st.DataObject, tokens: int, twice: bool, unfinished: bool) -> None:
        amount, lease, user = tokens, None, None
        if self.held:
            _, grant = data.draw(st.sampled_from(self.held))
            lease, user = grant.lease_id, data.draw(st.sampled_from([None, "x"]))
        call_id = new_id()
        record = CallRecord(
            id=call_id, started_at=self.clock.now, input_tokens=tokens, user_id=user
        )
        holds = Pocket(call_id, lease, amount)
        self.sink.holds = holds
        if unfinished:
            self.sink.write([record.replace(status="unfinished", input_tokens=None)])
        self.sink.write([record])
        if twice:
            self.sink.write([record])

    @rule(seconds=st.sampled_from([1, 20, 40, 90_000, -20, -90_000]))
    def wait(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @rule(holder=st.sampled_from("pqr"))
    def renew(self, holder: str) -> None:
        self.accounts.renew(holder, ttl_s=30)

    @rule(holder=st.sampled_from("pqr"))
    def crash(self, holder: str) -> None:
        self.held = [one for one in self.held if one[0] != holder]

    @rule(limit=st.sampled_from([1_000, 2_000]), mode=st.sampled_from(["hard", "soft"]))
    def register_again(self, limit: int, mode: str) -> None:
        self.limit, self.mode = limit, mode
        assert [self._register("a"), self._register("b")] == self.ids

    @rule(tz=st.sampled_from(["UTC", "Asia/Kolkata"]))
    def start_anew(self, tz: str) -> None:
        self.tz = tz
        self.ids = [self._register("a"), self._register("b")]

    @rule()
    def drop(self) -> None:
        self.accounts.deactivate("a")
        self.ids[0] = self._register("a")

    @rule()
    def pause(self) -> None:
        self.accounts.deactivate("b")

    @rule()
    def resume(self) -> None:
        self.accounts.reactivate("b")

    @rule()
    def forget(self) -> None:
        self.sink.forget(Query.build(scope=None, where={"user_id": "x"}))

    @invariant()
    def nothing_differs(self) -> None:
        assert self.accounts.check() == []
        for budget_id in self.ids:
            for account in self.accounts.history(budget_id):
                assert account.reserved >= 0


class Pocket:
    """The hold of one call."""

    def __init__(self, call_id: str, lease_id: int | None, amount: int) -> None:
        self._holds = {} if lease_id is None else {call_id: Consumed(lease_id, amount)}

    def consumed(self, call_ids: Any) -> list[Consumed]:
        return [self._holds[call_id] for call_id in call_ids if call_id in self._holds]

    def charged(self, call_ids: Any) -> None:
        for call_id in call_ids:
            self._holds.pop(call_id, None)

    def closed(self) -> None:
        """Nothing is kept that would have to go back."""


TestInterleavings = Ledger.TestCase
TestInterleavings.settings = settings(
    max_examples=int(os.environ.get("AI_LEDGER_TEST_EXAMPLES", "10")),
    stateful_step_count=20,
    deadline=None,
    # What explains a failure traces every line, which takes longer than a test may.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)


_RACE = """
import json, sys, threading
from datetime import UTC, datetime
from ai_ledger.errors import SinkUnavailable
from ai_ledger.policies.budgets.account import Claim, Exhausted
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.holds import Consumed
from ai_ledger.sinks.sql.shared import shared_database

url, part, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
wide, narrow = int(sys.argv[4]), int(sys.argv[5])
accounts = Accounts(shared_database(url))
lock = threading.Lock()
counts = {"sent": 0, "refused": 0, "broken": []}


class Holds:
    def __init__(self):
        self.known = {}

    def consumed(self, call_ids):
        return [one for call_id in call_ids for one in self.known[call_id]]

    def charged(self, call_ids):
        for call_id in call_ids:
            self.known.pop(call_id)

    def closed(self):
        pass


sink = SQLSink(url)
sink.holds = Holds()


def work(number):
    claims = [
        Claim(budget_id=wide, whose="", period="total", needed=10),
        Claim(budget_id=narrow, whose="", period="total", needed=10),
    ]
    for turn in range(50):
        try:
            granted = accounts.reserve(
                claims if number % 2 else claims[::-1], holder=part, ttl_s=600
            )
        except Exhausted:
            with lock:
                counts["refused"] += 1
            return
        except SinkUnavailable as error:
            with lock:
                counts["broken"].append(str(error))
            continue
        if number % 8 == 0 and turn == 0:  # never sent: all of it comes back
            accounts.give_back([(one.lease_id, one.amount) for one in granted.grants])
            continue
        call_id = f"{part}-{number}-{turn}"
        with lock:
            counts["sent"] += 1
            sink.holds.known[call_id] = [Consumed(one.lease_id, 10) for one in granted.grants]
            sink.write([CallRecord(
                id=call_id, started_at=datetime.now(UTC), input_tokens=7, output_tokens=3,
                user_id="u",
            )])


pool = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
print("ready", flush=True)
sys.stdin.readline()
for thread in pool:
    thread.start()
for thread in pool:
    thread.join()
sink.close()
print(json.dumps(counts))
"""


@pytest.mark.parametrize(
    ("threads", "calls"),
    [
        pytest.param(8, 60, id="8 threads"),
        pytest.param(64, 400, id="64 threads", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_processes_that_race(sql_url: str, threads: int, calls: int) -> None:
    """
    Four processes of many threads send exactly what a budget is worth, and it all adds up.
    """
    accounts = Accounts(shared_database(sql_url))
    wide = accounts.register(terms(name="wide", limit=10 * calls + 1_000, per="total"))
    narrow = accounts.register(terms(name="narrow", limit=10 * calls + 9, per="total"))
    arguments = [str(threads), str(wide), str(narrow)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE, sql_url, str(part), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    counts = [json.loads(racer.communicate(timeout=500)[0]) for racer in racers]

    assert [text for count in counts for text in count["broken"]] == []
    assert sum(count["sent"] for count in counts) == calls
    state = accounts.state(narrow, "", "total")
    assert (state.used, state.reserved, state.calls) == (10 * calls, 0, calls)
    assert accounts.check() == []
