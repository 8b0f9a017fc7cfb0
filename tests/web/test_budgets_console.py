"""Budgets in the console: pages, history, the check, ending one and taking that back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.policies.budgets import Budget
from ai_ledger.policies.budgets.account import Claim
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.records import utc_now
from ai_ledger.sinks.sql.shared import shared_database

HOSTILE = '<img src=x onerror="alert(1)"> a/b ?#%'
PARTIAL = {"HX-Request": "true"}


def accounts_of(ledger: Ledger) -> Accounts:
    """The accounts of *ledger*, by a clock that says `sample.NOW`."""
    return Accounts(shared_database(ledger), clock=lambda: sample.NOW)


def register(ledger: Ledger, *args: Any, **terms: Any) -> int:
    """Put a budget into force, as the first call of a program does."""
    return accounts_of(ledger).register(Budget(*args, **terms).terms, by="program")


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Budgets of several kinds, and the calls of `sample` charged to them."""
    register(ledger, "10 CNY", name="over all")
    register(ledger, "1 CNY", name=HOSTILE, each="user_id")
    register(ledger, tokens=5_000, per="day", each="org_id", name="each org")
    register(ledger, "10 USD", where={"org_id": "globex"}, name="of globex")
    ledger.store.write(sample.calls())
    return ledger


def test_the_api_tells_exact_amounts_as_text(filled: Ledger, visitor: Visitor) -> None:
    """
    What the API says of a budget is what its account says, to the last digit.
    """
    (found,) = [
        each
        for each in visitor().get("/api/v1/budgets", params={"limit": 200}).json()
        if each["name"] == "over all"
    ]
    account = accounts_of(filled).state(found["id"], "", "2026-05")

    assert (found["used"], found["limit"], found["unit"]) == (
        f"{account.used / 10**9:.3f}",
        "10",
        "CNY",
    )
    assert found["calls"] == account.calls == 120
    assert found["period"] == "2026-05"


def test_periods_are_told_newest_first_and_of_one_user(filled: Ledger, visitor: Visitor) -> None:
    """
    The history of a budget has a row for each account and period, or those of one user.
    """
    client = visitor()
    budgets = {each["name"]: each["id"] for each in client.get("/api/v1/budgets").json()}

    found = client.get(f"/api/v1/budgets/{budgets['each org']}/periods").json()
    of_one = client.get(
        f"/api/v1/budgets/{budgets['each org']}/periods", params={"whose": "acme", "limit": 2}
    ).json()

    assert [each["period"] for each in found] == sorted(
        (each["period"] for each in found), reverse=True
    )
    assert {each["whose"] for each in found} == {"acme", "globex"}
    assert [(each["period"], each["whose"]) for each in of_one] == [("2026-05-20", "acme")]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_show_budgets_with_names_as_text(
    filled: Ledger, visitor: Visitor, language: str
) -> None:
    """
    A budget whose name is markup is shown as what it is, on the list and on its own page.
    """
    client = visitor()
    client.cookies.set("ai_ledger_language", language)
    budget = next(b for b in accounts_of(filled).budgets() if b.terms.name == HOSTILE)

    pages = [
        client.get("/budgets"),
        client.get("/budgets/standings"),
        client.get(f"/budgets/{budget.id}"),
        client.get(f"/budgets/{budget.id}", params={"whose": "user-1"}),
        client.get("/budgets/check"),
    ]

    assert [page.status_code for page in pages] == [200] * 5
    for page in pages[:4]:
        assert "<img src=x" not in page.text
        assert "&lt;img src=x onerror=" in page.text
    words = {"en": "The limit stands in the program", "zh": "上限写在程序的"}
    assert words[language] in pages[2].text


def test_a_ledger_without_budgets_teaches(visitor: Visitor) -> None:
    """
    Where there is no budget the page shows the lines that make one.
    """
    page = visitor().get("/budgets").text

    assert "No budget is in force" in page
    assert "from ai_ledger.policies import Budget" in page


def test_reserved_money_is_part_of_the_bar(filled: Ledger, visitor: Visitor) -> None:
    """
    What processes have set aside is told beside what is used.
    """
    accounts = accounts_of(filled)
    budget = accounts.budget("over all")
    assert budget is not None
    claim = Claim(budget_id=budget.id, whose="", period="2026-05", needed=2 * 10**9)
    accounts.reserve([claim], holder="a program", ttl_s=60)

    (found,) = [
        each for each in visitor().get("/api/v1/budgets").json() if each["name"] == "over all"
    ]

    assert (found["reserved"], found["reserved_share"]) == ("2", 0.2)


def test_the_check_finds_an_account_that_is_wrong(filled: Ledger, visitor: Visitor) -> None:
    """
    The check says that everything adds up, and names the account when it does not.
    """
    import sqlalchemy as sa

    from ai_ledger.database.tables.budgets import accounts

    client = visitor(role="operator")
    good = client.get("/api/v1/budgets/check").json()
    budget = accounts_of(filled).budget("over all")
    assert budget is not None
    shared_database(filled).writing(
        lambda connection: connection.execute(
            sa.update(accounts)
            .where(accounts.c.budget_id == budget.id)
            .values(used=accounts.c.used + 10**9)
        )
    )
    bad = client.get("/api/v1/budgets/check").json()

    assert good == {"budgets": 4, "differences": []}
    assert [(each["budget"], each["period"]) for each in bad["differences"]] == [
        ("over all", "2026-05")
    ]
    assert float(bad["differences"][0]["used"]) - float(
        bad["differences"][0]["calls_say"]
    ) == pytest.approx(1)
    assert "over all" in client.get("/budgets/check", headers=PARTIAL).text


def test_a_budget_is_ended_and_put_back(filled: Ledger, visitor: Visitor) -> None:
    """
    A budget that is put out of force counts no more; undone, it counts all calls again.
    """
    client = visitor()
    budget = accounts_of(filled).budget("over all")
    assert budget is not None
    # Putting it back goes by the database's clock, which is that of the machine.
    now = utc_now()
    period = budget.terms.period_of(now) or ""

    ended = client.post(
        f"/budgets/{budget.id}/deactivate", data={"version": budget.version}, headers=PARTIAL
    )
    undo = ended.headers["HX-Trigger"]
    gone = [each["name"] for each in client.get("/api/v1/budgets").json()]
    late = {"cost": Decimal(1), "currency": "CNY", "price_id": "p", "started_at": now}
    filled.store.write([sample.call(500, **late)])
    unseen = accounts_of(filled).state(budget.id, "", period).used
    back = client.post(
        f"/budgets/{budget.id}/reactivate", data={"version": budget.version + 1}, headers=PARTIAL
    )

    assert ended.status_code == back.status_code == 204
    assert f"/budgets/{budget.id}/reactivate" in undo
    assert "over all" not in gone
    stored = accounts_of(filled).budget("over all")
    assert stored is not None
    assert (stored.active, stored.updated_by) == (True, "tester")
    assert unseen == 0
    assert accounts_of(filled).state(budget.id, "", period).used == 10**9


def test_each_switch_of_a_budget_is_confirmed_and_undone(filled: Ledger, visitor: Visitor) -> None:
    """
    The buttons of its page ask first; putting back is undone as well as ending.
    """
    client = visitor()
    budget = accounts_of(filled).budget("over all")
    assert budget is not None
    said: dict[str, Any] = {}
    pages: list[str] = []

    def active() -> bool:
        stored = accounts_of(filled).budget("over all")
        return stored is not None and stored.active

    path, fields = f"/budgets/{budget.id}/deactivate", {"version": str(budget.version)}
    found = [active()]
    for _ in range(3):
        pages.append(client.get(f"/budgets/{budget.id}").text)
        answer = client.post(path, data=fields, headers=PARTIAL)
        assert answer.status_code == 204
        said = json.loads(answer.headers["HX-Trigger"])["done"]
        path, fields = said["undo"]["path"], said["undo"]["fields"]
        found.append(active())

    assert found == [True, False, True, False]
    assert "End it?" in pages[0]
    assert "Put it into force again?" in pages[1]
    assert all("data-confirm" in page for page in pages)
    assert "one that was made here would be asked by nobody" in client.get("/budgets").text


def test_what_changed_nothing_is_not_taken_back(filled: Ledger, visitor: Visitor) -> None:
    """
    Ending what is ended already, or the other way round, offers no undo: that was somebody else.
    """
    client, accounts = visitor(), accounts_of(filled)

    def offers(path: str) -> bool:
        budget = accounts_of(filled).budget("over all")
        assert budget is not None
        form = {"version": str(budget.version)}
        answer = client.post(f"/budgets/{budget.id}/{path}", data=form, headers=PARTIAL)
        assert answer.status_code == 204
        return "undo" in json.loads(answer.headers["HX-Trigger"])["done"]

    idle = [offers("reactivate")]
    accounts.deactivate("over all", by="bob")
    idle.append(offers("deactivate"))

    assert idle == [False, False]
    assert offers("reactivate")


def test_whoever_is_late_ends_nothing(filled: Ledger, visitor: Visitor) -> None:
    """
    A version that is not the present one is a conflict, and the budget stays in force.
    """
    budget = accounts_of(filled).budget("over all")
    assert budget is not None

    answer = visitor().post(
        f"/api/v1/budgets/{budget.id}/deactivate", json={"version": budget.version + 7}
    )

    assert answer.status_code == 409
    stored = accounts_of(filled).budget("over all")
    assert stored is not None
    assert stored.active


@pytest.mark.parametrize(
    ("access", "check", "end"),
    [
        pytest.param({"role": "viewer"}, 403, 403, id="a viewer reads"),
        pytest.param({"role": "operator"}, 200, 403, id="an operator checks"),
        pytest.param({"role": "admin"}, 200, 200, id="an admin ends budgets"),
        pytest.param({"role": "admin", "org_id": "globex"}, 403, 403, id="not one of globex"),
    ],
)
def test_who_may_do_what(
    filled: Ledger, visitor: Visitor, access: dict[str, str], check: int, end: int
) -> None:
    """
    Checking takes an operator and ending an admin, of all organisations.
    """
    client = visitor(**access)
    budget = accounts_of(filled).budget("of globex")
    assert budget is not None

    assert client.get("/api/v1/budgets/check").status_code == check
    assert client.post(f"/api/v1/budgets/{budget.id}/deactivate").status_code == end


def test_a_confined_reader_sees_nothing_of_others(filled: Ledger, visitor: Visitor) -> None:
    """
    For a reader of acme no page and no answer has a sum, a name or a budget of globex.
    """
    register(filled, "10 USD", where={"org_id": "globex"}, name="ended of globex")
    accounts_of(filled).deactivate("ended of globex")
    client = visitor(org_id="acme")
    budgets = {each.terms.name: each.id for each in accounts_of(filled).budgets()}

    listed = client.get("/api/v1/budgets").json()
    own = client.get(f"/api/v1/budgets/{budgets['each org']}/periods").json()
    other = client.get(
        f"/api/v1/budgets/{budgets['each org']}/periods", params={"whose": "globex"}
    ).json()
    pages = [
        client.get("/budgets").text,
        client.get(f"/budgets/{budgets['each org']}").text,
        client.get(f"/budgets/{budgets['each org']}", params={"whose": "globex"}).text,
    ]

    assert [(each["name"], each["whose"]) for each in listed] == [("each org", "acme")]
    assert {each["whose"] for each in own} == {"acme"}
    assert other == []
    assert all("of globex" not in page for page in pages)
    for name in ("over all", HOSTILE, "of globex", "ended of globex"):
        assert client.get(f"/api/v1/budgets/{budgets[name]}/periods").status_code == 404
        assert client.get(f"/budgets/{budgets[name]}").status_code == 404


@pytest.mark.parametrize("budget_id", ["0", "-1", "99999", "9223372036854775808", "x"])
def test_unknown_budgets_are_not_found(filled: Ledger, visitor: Visitor, budget_id: str) -> None:
    """
    A number that no budget has is not found, or refused as no number.
    """
    answer = visitor().get(f"/api/v1/budgets/{budget_id}/periods")

    assert answer.status_code in (404, 422)
