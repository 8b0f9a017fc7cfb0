"""``init``, ``forget`` and ``db``."""

from __future__ import annotations

import json
import sqlite3
import tomllib

import pytest
from tests.cli.conftest import CALLS, fill

from ai_ledger.pricing import PriceTable


def test_init(command, tmp_path):
    """
    A ledger and a price file that can be used, and left alone the second time.
    """
    first = command("init")
    (tmp_path / "ai_ledger_prices.toml").write_text("per = 1\n")
    second = command("init")

    assert (first.code, second.code) == (0, 0)
    assert "TrackedClient" in first.out
    assert command("db", "check").code == 0
    assert (tmp_path / "ai_ledger_prices.toml").read_text() == "per = 1\n"
    assert second.out.count("which was there") == 2


def test_the_starter_of_the_price_file(command, tmp_path):
    """
    It is a valid price file as it is, and with its comments taken away.
    """
    command("init")
    path = tmp_path / "ai_ledger_prices.toml"
    text = path.read_text()

    bare = text.replace("\n# cache", "\ncache").replace("\n# valid", "\nvalid")
    (price,) = PriceTable.load(path, defaults=False)
    (full,) = PriceTable.load(tomllib.loads(bare), defaults=False)
    assert full.cache_read_per_mtok == price.input_per_mtok / 4
    assert price.currency == "CNY"


def test_forget_asks_first(command, url):
    """
    No answer, or no, changes nothing.
    """
    for answer in ("", "n\n"):
        result = command("forget", "--user", "u-2", "--url", url, answer=answer)
        assert result.code == 130
        assert "1 calls (user_id=u-2) for good" in result.err

    assert json.loads(command("show", CALLS[1].id, "--url", url, "--json").out)["call"]["user_id"]


def test_forget(command, url):
    """
    Identity and content go, counts and costs stay.
    """
    before = json.loads(command("report", "--url", url, "--json").out)["summary"]

    result = command("forget", "--user", "u-2", "--url", url, "--yes", "--json")

    assert (result.code, json.loads(result.out)) == (0, {"forgotten": 1})
    shown = json.loads(command("show", CALLS[1].id, "--url", url, "--json").out)["call"]
    assert (shown["user_id"], shown["tags"]) == (None, {})
    after = json.loads(command("report", "--url", url, "--json").out)["summary"]
    assert (after["tokens"], after["cost"]) == (before["tokens"], before["cost"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--yes"], 2, id="of nobody"),
        pytest.param(["--yes", "--org", "acme"], 2, id="of a whole organisation"),
        pytest.param(["--yes", "--user", "u-1", "--where", "user_id=u-2"], 2, id="of two"),
        pytest.param(["--yes", "--user", "nobody"], 1, id="of someone unknown"),
        pytest.param(["--yes", "--user", "u-2", "--org", "acme"], 1, id="of another organisation"),
    ],
)
def test_forgetting_nothing(command, url, arguments, code):
    """
    Nothing is erased by a question that does not say whose, or that nothing answers.
    """
    assert command("forget", "--url", url, *arguments).code == code
    shown = json.loads(command("show", CALLS[1].id, "--url", url, "--json").out)
    assert shown["call"]["user_id"] == "u-2"


def test_db_upgrade_and_check(command, tmp_path):
    """
    Tables that are missing, made, right, and of a newer version.
    """
    url = "sqlite:///new.db"
    assert command("db", "check", "--url", url).code == 3
    assert command("db", "upgrade", "--url", url).code == 0
    assert command("db", "upgrade", "--url", url).code == 0
    fill(url, CALLS)
    good = command("db", "check", "--url", url, "--totals", "--json")
    assert (good.code, json.loads(good.out)) == (0, {"tables": "current", "wrong_totals": []})

    with sqlite3.connect(tmp_path / "new.db") as connection:
        (table,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'ai_%version%' AND type = 'table'"
        ).fetchone()
        connection.execute(f"UPDATE {table} SET version_num = '9999'")
    connection.close()
    newer = command("db", "check", "--url", url)
    assert newer.code == 1
    assert "upgrade the package" in newer.err
    assert command("report", "--url", url).code == 3


def test_totals_that_do_not_equal_the_calls(command, tmp_path):
    """
    db check --totals finds a row that somebody changed behind the ledger's back.
    """
    fill("sqlite:///ai_ledger.db", CALLS)
    with sqlite3.connect(tmp_path / "ai_ledger.db") as connection:
        connection.execute("UPDATE ai_call_records SET input_tokens = 5 WHERE input_tokens = 1000")
    connection.close()

    assert command("db", "check").code == 0
    result = command("db", "check", "--totals")
    assert result.code == 1
    assert "request_model" in result.err


def test_the_command_that_makes_the_tables(command):
    """
    It can be pasted, once the password is filled in.
    """
    shown = command("init", "--url", "postgresql+psycopg://ledger:hunter22@db/ai?sslmode=require")

    assert "ai-ledger db upgrade --url 'postgresql://ledger:***@db/ai?sslmode=require'" in shown.out
    assert "hunter22" not in shown.out


def test_tables_of_a_newer_version(command):
    """
    The file is named as its owner would write it.
    """
    command("init")
    with sqlite3.connect("ai_ledger.db") as connection:
        connection.execute("UPDATE ai_ledger_version SET version_num = '9999'")

    shown = command("db", "upgrade")

    assert (shown.code, shown.out) == (3, "")
    assert shown.err.startswith("ai-ledger: sqlite:///ai_ledger.db was made by a newer version")
