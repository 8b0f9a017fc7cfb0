"""``prices`` and ``reprice``."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

PRICES = """
[[prices]]
model = "house"
currency = "CNY"
per = 1000
input = 0.001
output = 0.002
"""


@pytest.fixture
def prices(tmp_path) -> str:
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    return str(path)


def test_the_table(command, prices):
    """
    Own entries first, then the shipped ones, per million tokens.
    """
    listed = json.loads(command("prices", "--prices", prices, "--json").out)
    text = command("prices").out

    assert (listed[0]["model"], Decimal(listed[0]["input_per_mtok"])) == ("house", Decimal(1))
    assert "qwen-plus" in text


def test_one_model(command, prices):
    """
    The entry that a call would be charged by, at a time, and exit code 1 for none.
    """
    found = json.loads(command("prices", "qwen-plus", "--json").out)
    text = command("prices", "house", "--prices", prices).out
    listed = command("prices", "gpt-4o", "--provider", "openai", "--json")
    none = command("prices", "no-such-model")

    assert found["currency"] == "CNY"
    assert "1 CNY per million tokens" in text
    assert json.loads(listed.out)["currency"] == "USD"
    assert (none.code, none.out) == (1, "")


def test_reprice(command, url, prices):
    """
    A dry run unless --apply; then the unpriced call has its price, once.
    """
    arguments = ("reprice", "--url", url, "--prices", prices, "--where", "model=house")

    dry = command(*arguments)
    first = json.loads(command(*arguments, "--apply", "--json").out)
    second = json.loads(command(*arguments, "--apply", "--json").out)

    assert dry.code == 0
    assert "would change" in dry.out
    assert "--apply" in dry.out
    assert (first["changed"], first["newly_priced"]) == (1, 1)
    assert {code: Decimal(each) for code, each in first["after"].items()} == {
        "CNY": Decimal("0.0012")
    }
    assert second["changed"] == 0
    shown = command("show", "000000000004", "--url", url).out
    assert "corrected" in shown
    assert "0.0012 CNY" in shown


@pytest.mark.parametrize("text", ["nonsense", '[[prices]]\nmodel = "x"\ninput = -1\n'])
def test_bad_price_files(command, tmp_path, text):
    """
    One line that names the file, exit code 2.
    """
    (tmp_path / "bad.toml").write_text(text)

    result = command("prices", "--prices", "bad.toml")

    assert (result.code, result.out) == (2, "")
    assert "bad.toml" in result.err
    assert result.err.count("\n") == 1
