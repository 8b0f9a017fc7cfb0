"""The options that commands share, their errors and exit codes."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pytest

from ai_ledger.cli.app import _COMMANDS, app
from ai_ledger.cli.options import Period

NOW = datetime(2026, 3, 8, 18, 30, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("days", "since", "until", "expected"),
    [
        pytest.param(None, None, None, (None, None), id="all time"),
        pytest.param(
            1, None, None, ("2026-03-08T16:00:00+00:00", None), id="today in Shanghai is tomorrow"
        ),
        pytest.param(2, None, None, ("2026-03-07T16:00:00+00:00", None), id="two days"),
        pytest.param(
            None, "2026-03-01", "2026-03-02",
            ("2026-02-28T16:00:00+00:00", "2026-03-01T16:00:00+00:00"), id="a day",
        ),
        pytest.param(None, "90m", None, ("2026-03-08T17:00:00+00:00", None), id="ago"),
        pytest.param(
            None, "2026-03-01T09:30", None, ("2026-03-01T01:30:00+00:00", None), id="a local time"
        ),
        pytest.param(
            None, "2026-03-01T09:30Z", None, ("2026-03-01T09:30:00+00:00", None), id="a zone given"
        ),
        pytest.param(
            2, None, "2026-03-03",
            ("2026-02-28T16:00:00+00:00", "2026-03-02T16:00:00+00:00"), id="days before an end",
        ),
    ],
)  # fmt: skip
def test_periods(days, since, until, expected):
    """
    Days and times are those of the zone asked for.
    """
    period = Period.of(days, since, until, SHANGHAI, now=NOW)

    assert (
        tuple(
            moment and moment.astimezone(UTC).isoformat() for moment in (period.since, period.until)
        )
        == expected
    )


@pytest.mark.parametrize(
    ("days", "since", "until"),
    [(1, "7d", None), (None, "yesterday", None), (None, "7d", "9d"), (None, None, "2026-13-01")],
)
def test_bad_periods(days, since, until):
    """
    Contradictions and what is no time are refused.
    """
    with pytest.raises(click.UsageError):
        Period.of(days, since, until, SHANGHAI, now=NOW)


@pytest.mark.parametrize("name", [*_COMMANDS, "db upgrade", "db check"])
def test_help_stands_alone(command, name):
    """
    Each command explains itself and each of its options, with an example.
    """
    result = command(*name.split(), "--help")

    assert (result.code, result.err) == (0, "")
    assert "Example" in result.out or name.startswith("db ")
    for line in result.out.partition("Options:")[2].splitlines():
        if line.startswith("  -"):
            assert len(line.split("  ")) > 2, line


def test_the_help_of_all(command):
    """
    Every command with a line of its own, and what the exit codes mean.
    """
    out = command("--help").out

    for name in _COMMANDS:
        assert f"\n  {name} " in out
    assert "Exit codes" in out


@pytest.mark.parametrize("arguments", [[], ["db"]])
def test_no_command(command, arguments):
    """
    Without a command its help is shown as it is, with the code for what cannot be as it is given.
    """
    shown = command(*arguments)

    assert shown == dataclasses.replace(command(*arguments, "--help"), code=2)


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        pytest.param(["report"], 3, "ai-ledger init", id="no ledger here"),
        pytest.param(["report", "--url", "jsonl:///none"], 3, "none", id="no such folder"),
        pytest.param(["report", "--url", "redis://x"], 2, "sqlite:", id="unknown scheme"),
        pytest.param(["report", "--url", "stdout:"], 2, "not asked", id="not a store"),
        pytest.param(["report", "--tz", "Mars"], 2, "time zone", id="unknown zone"),
        pytest.param(["report", "--days", "0"], 2, "--days", id="no days"),
        pytest.param(["report", "--currency", "CNY"], 2, "--rates", id="half an option"),
        pytest.param(["nonsense"], 2, "nonsense", id="no such command"),
        pytest.param(["db", "check", "--url", "jsonl:///x"], 2, "database", id="no tables"),
        pytest.param(
            ["db", "check", "--url", "jsonl://u:hunter22@x/y"], 2, "database", id="a password"
        ),
        pytest.param(
            ["calls", "--url", "postgresql://u:hunter22@127.0.0.1:1/x"], 3, "127.0.0.1", id="away"
        ),
    ],
)
def test_errors(command, arguments, code, hint):
    """
    One line on stderr that says what to do, the documented code, and no password.
    """
    result = command(*arguments)

    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("ai-ledger: ")
    assert result.err.count("\n") == 1
    assert hint in result.err
    assert "hunter22" not in result.err


def test_asking_makes_nothing(command, tmp_path):
    """
    A report on a ledger that is not there leaves no file behind.
    """
    for arguments in (("report",), ("calls",), ("tail", "--no-follow"), ("db", "check")):
        assert command(*arguments).code == 3

    assert list(tmp_path.iterdir()) == []


def test_the_variable_names_the_ledger(command, url, monkeypatch):
    """
    AI_LEDGER_URL stands for --url; the first of several that can be asked is.
    """
    monkeypatch.setenv("AI_LEDGER_URL", f"stdout: {url}")

    assert json.loads(command("calls", "--json", "--limit", "1").out)


def test_the_reference_names_every_option():
    """
    docs/reference/command.md has a section for each command, with each of its options.
    """
    page = Path(__file__).parents[2] / "docs" / "reference" / "command.md"
    sections = dict(
        re.findall(
            r"^### `ai-ledger ([a-z -]+?)(?: [A-Z\[].*?)?`\n(.*?)(?=^##|\Z)",
            page.read_text(),
            re.M | re.S,
        )
    )
    context = click.Context(app)
    commands = {name: app.get_command(context, name) for name in app.list_commands(context)}
    while groups := [name for name, each in commands.items() if isinstance(each, click.Group)]:
        for name in groups:
            group = commands.pop(name)
            commands |= {f"{name} {each}": group.commands[each] for each in group.commands}

    assert sections.keys() == commands.keys()
    missing = [
        (name, option)
        for name, each in commands.items()
        for parameter in each.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if not re.search(rf"`{re.escape(option)}\b", sections[name])
    ]
    # import says that it takes the options of export.
    assert [each for each in missing if each[0] != "import"] == []


def test_the_list_of_commands_is_not_cut(command):
    """
    What each command does fits its line.
    """
    lines = command("--help").out.partition("Commands:")[2].splitlines()

    assert [line for line in lines if line.endswith("...")] == []


@pytest.mark.parametrize("group", ["providers", "models", "words", "quotas", "alerts", "tokens"])
def test_a_ledger_that_is_no_database(command, tmp_path, group):
    """
    What is kept in a database is looked for in none but a database that is there.
    """
    refused = command(group, "list", "--url", f"stdout: jsonl:///{tmp_path}/calls")
    assert (refused.code, refused.out) == (2, "")
    assert "--url: this needs sqlite:, postgresql: or mysql:" in refused.err

    away = command(group, "list", "--url", f"stdout: sqlite:///{tmp_path}/typo.db")
    assert (away.code, away.out) == (3, "")
    assert "no ledger at" in away.err
