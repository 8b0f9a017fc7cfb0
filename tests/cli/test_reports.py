"""``report``, ``top`` and ``trend``, over known calls."""

from __future__ import annotations

import csv
import json
from decimal import Decimal

import pytest
from tests.cli.conftest import call, fill


def test_the_report_in_json(command, url):
    """
    Exact amounts by currency, never added, and the shares that a report owes.
    """
    result = command("report", "--url", url, "--days", "1", "--json")

    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    summary = report["summary"]
    assert summary["calls"] == 5
    assert summary["by_status"] == {"failed": 1, "success": 4}
    assert {code: Decimal(each) for code, each in summary["cost"].items()} == {
        "CNY": Decimal("0.0012"),
        "USD": Decimal("0.0125"),
    }
    assert summary["unpriced_calls"] == 1
    assert summary["unattributed_calls"] == 1
    assert summary["tokens"]["total"] == 4400
    models = {
        each["key"]["request_model"]: each["calls"] for each in report["groups"]["request_model"]
    }
    assert models == {"qwen-plus": 3, "gpt-4o": 1, "house": 1}
    assert set(report["groups"]) == {"request_model", "user_id", "function"}


def test_the_report_for_people(command, url):
    """
    Without a terminal: aligned text, no colour, and the commands to look further.
    """
    result = command("report", "--url", url, "--days", "1")

    assert result.code == 0
    assert "\x1b" not in result.out
    for expected in (
        "5 (1 failed, 4 success)",
        "0.0012 CNY + 0.0125 USD",
        "1 of 5 calls (20.0 %)",
        "by model",
        f"ai-ledger top user_id --url {url}" if "jsonl" in url else "ai-ledger top user_id\n",
    ):
        assert expected in result.out


def test_a_report_within_one_organisation(command, url):
    """
    --org confines, and no filter reaches beyond it.
    """
    own = command("report", "--url", url, "--org", "globex", "--json")
    others = command("report", "--url", url, "--org", "globex", "--where", "org_id=acme", "--json")

    assert json.loads(own.out)["summary"]["calls"] == 1
    assert others.code == 1
    assert json.loads(others.out)["summary"]["calls"] == 0


def test_a_report_in_one_currency(command, url, tmp_path):
    """
    Converted with the rates that were given, beside the amounts as they are.
    """
    rates = tmp_path / "rates.toml"
    rates.write_text('[[rates]]\ndate = 2020-01-01\nfrom = "USD"\nto = "CNY"\nrate = 7\n')

    result = command("report", "--url", url, "--currency", "CNY", "--rates", str(rates), "--json")

    summary = json.loads(result.out)["summary"]
    assert Decimal(summary["converted"]["amount"]) == Decimal("0.0887")
    assert set(summary["cost"]) == {"CNY", "USD"}


def test_writing_a_report(command, url, tmp_path):
    """
    A file for spreadsheets, with the total and its parts.
    """
    result = command("report", "--url", url, "--write", "report.csv")

    assert (result.code, result.err) == (0, "")
    with (tmp_path / "report.csv").open(newline="") as file:
        assert any("qwen-plus" in row for row in csv.reader(file))


def test_top(command, url):
    """
    The dearest first; the rest is counted.
    """
    result = command("top", "user", "--url", url)
    assert result.code == 2
    assert "field" in result.err

    result = command("top", "user_id", "--url", url, "--by", "calls", "--limit", "1", "--json")
    top = json.loads(result.out)
    assert [(row["key"]["user_id"], row["calls"]) for row in top["rows"]] == [("u-1", 3)]
    assert top["values"] == 3

    text = command("top", "tags.plan", "--url", url, "--by", "calls").out
    assert "pro" in text


def test_trend(command, url):
    """
    The points add up to the total; days before the first call are left out of the text.
    """
    points = json.loads(command("trend", "--url", url, "--days", "3", "--json").out)
    text = command("trend", "--url", url, "--days", "3", "--by", "request_model").out

    assert sum(point["calls"] for point in points["points"]) == points["total"]["calls"] == 5
    assert len(points["points"]) == 3
    assert [line.split()[1] for line in text.splitlines()[1:4]] == ["qwen-plus", "gpt-4o", "house"]
    assert text.splitlines()[-1].startswith("total")


@pytest.mark.parametrize("name", ["report", "top user_id", "trend"])
def test_nothing_found(command, url, name):
    """
    No calls: exit code 1, and a hint in one line.
    """
    result = command(*name.split(), "--url", url, "--where", "user_id=nobody")

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("ai-ledger: no calls")
    assert result.err.count("\n") == 1


def test_stored_texts_cannot_command_the_terminal(command):
    """
    Control characters, bidi marks and line breaks of stored texts are shown, not obeyed.
    """
    nasty = "\x1b]0;owned\x07\u202eabc\u2028\x9b31m\n[bold]x"
    fill("jsonl:///calls", [call(1, user_id=nasty, request_model=nasty, function=nasty)])

    for arguments in (
        ("report",),
        ("top", "user_id"),
        ("trend", "--by", "user_id"),
        ("calls",),
        ("show", call(1).id),
        ("tail", "--no-follow"),
    ):
        out = command(*arguments, "--url", "jsonl:///calls").out
        assert "owned" in out
        assert not set(out) & set("\x1b\x07\u202e\u2028\x9b"), arguments
        json_out = command(*arguments, "--url", "jsonl:///calls", "--json").out
        assert not set(json_out) & set("\x1b\x07\u202e\u2028\x9b"), arguments
        assert nasty in json.dumps(json.loads(json_out), ensure_ascii=False).encode().decode(
            "utf-8"
        ) or json.loads(json_out)
