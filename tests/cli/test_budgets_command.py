"""``ai-ledger budgets``: what is used and left, whether it adds up, and ending one."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from tests.cli.conftest import CALLS, call, fill

from ai_ledger.policies.budgets.account import Claim
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.terms import Terms

URL = "sqlite:///ai_ledger.db"


@pytest.fixture
def accounts(command) -> Accounts:
    """Two budgets over `CALLS`."""
    fill(URL, CALLS)
    accounts = Accounts(shared_database(URL))
    accounts.register(Terms(name="tokens", unit="tokens", limit=10_000, per="total"))
    each = accounts.register(
        Terms(name="CNY each", unit="CNY", limit=5 * 10**7, per="total", each="user_id")
    )
    accounts.reserve(
        [Claim(budget_id=each, whose="u-1", period="total", needed=10**7)], holder="h", ttl_s=600
    )
    return accounts


def test_list(command, accounts):
    """
    Each budget in force with what is used, reserved and left, money with its currency.
    """
    result = command("budgets", "list")

    assert (result.code, result.err) == (0, "")
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines == [
        "budget for period used reserved limit share mode resets at",
        "CNY each u-1 total 0.0006 0.01 0.05 CNY 1.2 % hard never",
        "CNY each u-2 total 0.0006 0 0.05 CNY 1.2 % hard never",
        "CNY each - total 0 0 0.05 CNY 0.0 % hard never",
        "tokens all total 4,400 0 10,000 tokens 44.0 % hard never",
        "2 calls are of unknown amount and not part of what is used",
    ]


def test_list_as_json(command, accounts):
    """
    Programs get exact amounts, and when the period ends.
    """
    accounts.deactivate("tokens")
    accounts.deactivate("CNY each")
    accounts.register(Terms(name="days", unit="CNY", limit=10**9, per="day", tz="Asia/Shanghai"))

    (budget,) = json.loads(command("budgets", "list", "--json").out)

    assert (budget["limit"], budget["reserved"], budget["mode"]) == ("1", "0", "hard")
    assert datetime.fromisoformat(budget["resets_at"]).astimezone(UTC).hour == 16


def test_no_budget(command):
    """
    Where there is none, that is said, with the exit code for nothing found.
    """
    fill(URL, [call(1)])

    assert command("budgets", "list").code == 1
    assert command("budgets", "history", "b").code == 1
    assert command("budgets", "deactivate", "b").code == 1
    assert command("budgets", "check").code == 0
    assert command("budgets", "list", "--url", "sqlite:///none.db").code == 3
    assert command("budgets", "list", "--url", "jsonl:///calls").code == 3


def test_history(command, accounts):
    """
    The accounts of a budget, or of one user.
    """
    everyone = json.loads(command("budgets", "history", "CNY each", "--json").out)
    one = json.loads(command("budgets", "history", "CNY each", "--whose", "u-2", "--json").out)

    assert [each["whose"] for each in everyone] == [None, "u-1", "u-2"]
    assert [(each["whose"], each["used"], each["calls"]) for each in one] == [("u-2", "0.0006", 1)]
    assert command("budgets", "history", "CNY each", "--whose", "nobody").code == 1


def test_check(command, accounts):
    """
    Exit code 0 when all adds up, 1 and both figures when something differs.
    """
    fine = command("budgets", "check")
    assert (fine.code, fine.out) == (
        0, "2 budgets: every account is what its calls and leases say\n",
    )  # fmt: skip
    assert json.loads(command("budgets", "check", "--json").out) == []
    with shared_database(URL).writer.begin() as connection:
        connection.execute(
            sa.text("UPDATE ai_budget_accounts SET used = 7000000 WHERE scope = 'u-2'")
        )

    result = command("budgets", "check")

    assert result.code == 1
    assert " ".join(result.out.splitlines()[1].split()) == "CNY each u-2 total 0.007 0.0006 0 0"
    assert "1 accounts differ" in result.err
    (difference,) = json.loads(command("budgets", "check", "--json").out)
    assert (difference["used"], difference["rows"]) == ("0.007", "0.0006")


def test_deactivate(command, accounts):
    """
    A budget out of force is listed no more, and its history says what it used.
    """
    result = command("budgets", "deactivate", "tokens", "--by", "ada")

    assert (result.code, result.out) == (0, "budget tokens is out of force\n")
    assert "tokens" not in command("budgets", "list").out
    known = accounts.budget("tokens")
    assert known is not None
    assert (known.active, known.updated_by) == (False, "ada")
    assert command("budgets", "history", "tokens").code == 0
