"""``forecast`` and ``suggestions``, over known calls."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.cli.conftest import call, fill


@pytest.fixture(params=["jsonl:///long", "sqlite:///long.db"], ids=["jsonl", "sqlite"])
def long_url(request, command) -> str:
    """A ledger with a call to each of two models on each of the last 40 days, of one prompt."""
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    fill(
        request.param,
        [
            call(
                100 + 2 * day + number,
                started_at=begin - timedelta(days=day),
                function=function,
                request_model=model,
                cost=Decimal(2),
                request_content="the same",
            )
            for day in range(40)
            for number, (function, model) in enumerate((("match", "big"), ("chat", "small")))
        ],
    )
    return request.param


def test_the_forecast_in_json(command, long_url):
    """
    Spent, expected and the interval, exact and by currency.
    """
    result = command("forecast", "--url", long_url, "--by", "function", "--level", "0.9", "--json")

    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    (outlook,) = found["costs"]
    days = (datetime.fromisoformat(found["month_end"]) - timedelta(hours=1)).day
    assert found["level"] == 0.9
    assert outlook["currency"] == "CNY"
    # In the first hour of a day some of what it costs is thought to be still to come.
    assert 4 * days <= Decimal(outlook["expected"]) <= 4 * days + 4
    assert Decimal(outlook["spent"]) <= Decimal(outlook["expected"])
    assert {group["key"]["function"] for group in found["groups"]} == {"match", "chat"}


def test_the_forecast_for_people(command, long_url):
    """
    A line for the whole and for each group, and what the interval means.
    """
    result = command("forecast", "--url", long_url, "--by", "function")

    assert (result.code, result.err) == (0, "")
    for expected in ("all", "match", "chat", "CNY", "From and to hold with 80 % probability"):
        assert expected in result.out


def test_too_little_to_foretell(command, url):
    """
    A ledger of a day is not enough, and that is said in the table and in JSON.
    """
    text = command("forecast", "--url", url)
    plain = json.loads(command("forecast", "--url", url, "--json").out)

    assert (text.code, text.err) == (0, "")
    assert "not enough data: 0 complete days of history, 14 are needed" in text.out
    assert "1 unpriced calls" in text.out
    assert [each["expected"] for each in plain["costs"]] == [None, None]


def test_no_costs(command, url):
    """
    Nothing to foretell from is exit code 1.
    """
    result = command("forecast", "--url", url, "--where", "function=nobody")

    assert result.code == 1
    assert result.err.startswith("ai-ledger: no calls with a cost since ")


@pytest.mark.parametrize(
    "arguments", [("--level", "1.5"), ("--history-days", "3"), ("--by", "cost")]
)
def test_what_no_forecast_can_be_made_of(command, url, arguments):
    """
    A level that is none, too short a history and a field that cannot be grouped by are refused.
    """
    assert command("forecast", "--url", url, *arguments).code == 2


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(
        '[[prices]]\nmodel = "big"\ninput = 20\noutput = 20\ncurrency = "CNY"\n'
        '[[prices]]\nmodel = "small"\ninput = 1\noutput = 1\ncurrency = "CNY"\n'
    )
    return str(path)


def test_suggestions_in_json(command, long_url, prices):
    """
    Each with the amount it saves and the calls it is based on.
    """
    result = command("suggestions", "--url", long_url, "--prices", prices, "--json")

    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    (model,) = found["models"]
    assert (model["function"], model["other_model"]) == ("match", "small")
    assert Decimal(model["saves"]) == Decimal("0.6270")
    assert (model["basis"]["calls"], len(model["basis"]["ids"])) == (30, 5)
    assert {each["function"]: each["repeats"] for each in found["repeats"]} == {
        "match": 29,
        "chat": 29,
    }


def test_suggestions_for_people(command, long_url, prices):
    """
    A table for each kind.
    """
    result = command("suggestions", "--url", long_url, "--prices", prices, "--days", "20")

    assert (result.code, result.err) == (0, "")
    for expected in ("a cheaper model", "repeated calls", "0.418 CNY", "38 CNY"):
        assert expected in result.out


def test_nothing_to_suggest(command, url):
    """
    Exit code 1, and why repeated calls are not known.
    """
    result = command("suggestions", "--url", url)

    assert result.code == 1
    assert result.err == "ai-ledger: nothing to suggest from 4 successful calls\n"
    assert "prompts are not stored" in result.out


def test_suggestions_within_one_organisation(command, long_url, prices):
    """
    --org confines.
    """
    result = command("suggestions", "--url", long_url, "--prices", prices, "--org", "globex")

    assert result.code == 1
