"""How much is used of the budgets in force, and who may see which."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.errors import SinkUnavailable
from ai_ledger.policies.budgets import Budget
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.sql import reader
from ai_ledger.web import recent
from ai_ledger.web.budgets import uses
from ai_ledger.web.budgets.standing import standings
from ai_ledger.web.house import Desk, House


@pytest.fixture
def house(ledger: Ledger) -> House:
    """What stands behind a console whose clock says `sample.NOW`."""
    return House(ledger, clock=lambda: sample.NOW)


def desk(house: House, org_id: str | None = None) -> Desk:
    """The desk of a reader of *house*."""
    return Desk(house, Access(name="tester", role="admin", org_id=org_id))


def register(house: House, *args: Any, **terms: Any) -> None:
    """Put a budget into force, as the first call of a program does."""
    accounts = Accounts(house.database, clock=lambda: sample.NOW)
    accounts.register(Budget(*args, **terms).terms, by="program")


def spent(number: int, cny: str, **fields: Any) -> Any:
    """A call of qwen-plus that cost so much."""
    return sample.call(
        number,
        **{"cost": Decimal(cny), "currency": "CNY", "price_id": "p", "started_at": sample.NOW}
        | fields,
    )


def test_a_budget_tells_what_the_rows_say(house: House, ledger: Ledger) -> None:
    """
    Used, left, share and period of a budget are those of the calls that are stored.
    """
    register(house, "5 CNY", per="month", name="all")
    ledger.store.write([spent(0, "1.5"), spent(1, "2.5")])

    found = standings(desk(house))

    assert [each.model_dump(exclude={"starts_at", "resets_at", "id"}) for each in found] == [
        {
            "name": "all",
            "each": None,
            "whose": None,
            "unit": "CNY",
            "used": Decimal(4),
            "reserved": Decimal(0),
            "limit": Decimal(5),
            "remaining": Decimal(1),
            "share": 0.8,
            "reserved_share": 0.0,
            "calls": 2,
            "uncounted": 0,
            "overrun": Decimal(0),
            "period": "2026-05",
            "per": "month",
            "tz": "UTC",
            "renews": True,
            "runs_out": None,
            "earliest": None,
            "latest": None,
            "not_enough": found[0].not_enough,
            "forecast": "told",
            "mode": "hard",
            "active": True,
            "where": {},
        }
    ]
    assert found[0].not_enough
    assert found[0].starts_at is not None
    assert found[0].resets_at is not None
    assert (found[0].starts_at.isoformat(), found[0].resets_at.isoformat()) == (
        "2026-05-01T00:00:00+00:00",
        "2026-06-01T00:00:00+00:00",
    )


def test_the_fullest_come_first(house: House, ledger: Ledger) -> None:
    """
    Of all accounts of all budgets the fullest are told, and no more than were asked for.
    """
    register(house, "10 CNY", name="each user", each="user_id")
    register(house, "100 CNY", name="all")
    ledger.store.write(
        [spent(number, f"{number + 1}", user_id=f"user-{number}") for number in range(6)]
    )

    found = standings(desk(house), limit=3)

    assert [(each.name, each.whose, each.share) for each in found] == [
        ("each user", "user-5", 0.6),
        ("each user", "user-4", 0.5),
        ("each user", "user-3", 0.4),
    ]
    assert [(each.name, each.whose) for each in standings(desk(house))][-1] == (
        "each user",
        "user-0",
    )


def test_the_day_on_which_it_runs_out_is_that_of_the_budget(house: House, ledger: Ledger) -> None:
    """
    A steady use of 1 CNY a day reaches 25 CNY a month five days after the twentieth.
    """
    register(house, "25 CNY", name="all")
    ledger.store.write(
        [spent(number, "1", started_at=sample.NOW - timedelta(days=number)) for number in range(50)]
    )

    (found,) = standings(desk(house))

    assert found.used == 20
    assert found.runs_out is not None
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest <= found.runs_out <= found.latest
    assert (found.runs_out - sample.NOW.date()).days in (4, 5)


def daily_call(number: int, **fields: Any) -> Any:
    """A call of 1 CNY, so many days ago."""
    return spent(number, "1", started_at=sample.NOW - timedelta(days=number), **fields)


def test_a_budget_of_an_organisation_is_forecast_at_once(
    house: House, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    From totals, also where it counts one function alone: nobody waits, and no row is read.
    """
    register(house, "25 CNY", name="acme", where={"org_id": "acme"})
    register(house, "26 CNY", name="chat", where={"org_id": "acme", "function": "chat"})
    ledger.store.write(
        [daily_call(number, org_id="acme", function="chat") for number in range(50)]
        + [daily_call(100 + number, org_id="globex") for number in range(20)]
    )
    monkeypatch.setattr(reader, "sums_of_rows", None)

    found = standings(desk(house))

    assert [(each.name, each.used, each.forecast) for each in found] == [
        ("acme", Decimal(20), "told"),
        ("chat", Decimal(20), "told"),
    ]
    assert [each.runs_out is not None for each in found] == [True, True]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Rows are not read before this is set."""
    gate = threading.Event()
    sums_of_rows = reader.sums_of_rows

    def hold(*args: Any, **options: Any) -> None:
        assert gate.wait(60)
        sums_of_rows(*args, **options)

    monkeypatch.setattr(reader, "sums_of_rows", hold)
    return gate


def test_nobody_waits_for_what_only_rows_can_tell(
    house: House, ledger: Ledger, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is said that it is being counted, and the day is there when somebody looks again.
    """
    where = {"function": "chat", "business_type": "job"}
    register(house, "25 CNY", name="two conditions", where=where)
    ledger.store.write([daily_call(number, **where) for number in range(50)])

    (first,) = standings(desk(house))
    assert (first.used, first.forecast, first.runs_out) == (Decimal(20), "counting", None)

    held.set()
    monkeypatch.setattr(uses, "PATIENCE_S", 60.0)
    (second,) = standings(desk(house))
    assert (second.used, second.forecast) == (Decimal(20), "told")
    assert second.runs_out is not None


def test_a_count_that_fails_is_said_to_have_failed(
    house: House, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    All else that is known of the budget is told.
    """

    def fail(*_: Any, **__: Any) -> None:
        raise SinkUnavailable("too slow")

    register(house, "25 CNY", name="of a tag", where={"tags.team": "red"})
    ledger.store.write([daily_call(number, tags={"team": "red"}) for number in range(50)])
    monkeypatch.setattr(reader, "sums_of_rows", fail)
    monkeypatch.setattr(uses, "PATIENCE_S", 60.0)

    (found,) = standings(desk(house))

    assert (found.used, found.forecast, found.runs_out) == (Decimal(20), "failed", None)


def test_too_many_questions_wait_in_line(
    house: House, ledger: Ledger, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Budgets have a line of their own, which is bounded; whoever finds it full comes back.
    """
    monkeypatch.setattr(recent, "_MAX_WAITING", 1)
    for number in range(2):
        where = {"function": f"f{number}", "business_type": "job"}
        register(house, "25 CNY", name=f"budget {number}", where=where)
        ledger.store.write([spent(number, "1", **where)])

    assert {each.forecast for each in standings(desk(house))} == {"counting"}
    other = recent.recent_of(house).ask("other", sample.NOW, lambda: 1)
    assert other.wait(60)

    held.set()


def test_a_confined_reader_sees_only_its_own_accounts(house: House, ledger: Ledger) -> None:
    """
    Budgets over all, of others, and of people are not for a reader of one organisation.
    """
    register(house, "10 CNY", name="over all")
    register(house, "20 CNY", name="each org", each="org_id")
    register(house, "30 CNY", name="of acme", where={"org_id": "acme"}, each="user_id")
    register(house, "40 CNY", name="of globex", where={"org_id": "globex"})
    register(house, "50 CNY", name="of both", where={"org_id": ["acme", "globex"]})
    register(
        house, "60 CNY", name="both, each", where={"org_id": ["acme", "globex"]}, each="org_id"
    )
    register(house, "70 CNY", name="each user", each="user_id")
    register(house, "80 CNY", name="people", where={"user_id": "globex-bob"}, each="org_id")
    ledger.store.write(
        [spent(0, "1", org_id="acme", user_id="u"), spent(1, "2", org_id="globex", user_id="v")]
    )

    found = standings(desk(house, "acme"))

    assert [(each.name, each.whose, each.used) for each in found] == [
        ("each org", "acme", Decimal(1)),
        ("of acme", "u", Decimal(1)),
    ]


def test_what_is_not_in_force_is_not_told(house: House) -> None:
    """
    A budget that was ended, and a window that is over, have no standing.
    """
    register(house, "10 CNY", name="ended")
    house.accounts.deactivate("ended")
    before = sample.NOW - timedelta(days=2)
    register(house, "10 CNY", name="over", per=(before - timedelta(days=1), before))

    assert standings(desk(house)) == []
