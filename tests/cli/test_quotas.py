"""``quotas``."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def ledger(command):
    """An empty ledger in the present folder."""
    assert command("init").code == 0


def rows(command, *options):
    return json.loads(command("quotas", "list", "--json", *options).out)["quotas"]


def test_a_quota_from_first_to_last(command, ledger):
    """
    Made, listed, changed, refused, taken away; and who did it stays.
    """
    made = command(
        *("quotas", "set", "acme", "gpt-4o", "--tokens", "2000000", "--by", "ann"),
        *("--from", "2026-01-01", "--until", "2026-04-01", "--tz", "Asia/Shanghai"),
        *("--interval", "0.5", "--rates", "60/minute", "--max-concurrent", "4", "--not-shared"),
    )
    assert (made.code, made.out) == (0, "quota acme / gpt-4o: allowed, version 1\n")
    (row,) = rows(command)
    assert row["valid_from"] == "2025-12-31T16:00:00Z"
    assert (row["tokens"], row["min_interval_s"], row["rates"]) == (2_000_000, 0.5, "60/minute")
    assert (row["max_concurrent"], row["shared"], row["tokens_used"]) == (4, False, 0)
    assert rows(command, "--org", "globex") == []

    text = command("quotas", "list", "--tz", "Asia/Shanghai").out
    assert "2,000,000" in text
    assert "2026-01-01 00:00:00" in text
    assert command("quotas", "set", "acme", "gpt-4o", "--until", "none", "--by", "bob").code == 0
    assert rows(command)[0]["valid_until"] is None
    assert "not allowed" in command("quotas", "disable", "acme", "gpt-4o", "--by", "cleo").out
    assert command("quotas", "enable", "acme", "gpt-4o", "--by", "cleo").code == 0
    stale = command("quotas", "set", "acme", "gpt-4o", "--tokens", "5", "--version", "1")
    assert (stale.code, "cleo changed it" in stale.err) == (2, True)
    assert command("quotas", "remove", "acme", "gpt-4o", "--by", "dora").code == 0

    history = command("quotas", "history", "acme", "gpt-4o").out.splitlines()
    assert [line.split()[2] for line in history[1:]] == ["dora", "cleo", "cleo", "bob", "ann"]
    changes = json.loads(command("quotas", "history", "acme", "gpt-4o", "--json").out)
    assert len(changes) == 5


def test_models(command, ledger):
    """
    Switched off for everybody, on again, and bounded.
    """
    assert command("quotas", "switch-off", "gpt-4o", "--by", "ann").out == "model gpt-4o: off\n"
    assert command("quotas", "cap", "gpt-4o", "3").out == (
        "model gpt-4o: off, at most 3 in flight\n"
    )
    on = json.loads(command("quotas", "switch-on", "gpt-4o", "--json").out)
    assert (on["off"], on["max_concurrent"], on["version"]) == (False, 3, 3)
    assert "gpt-4o  on" in command("quotas", "list").out
    assert "ann" in command("quotas", "history", "gpt-4o").out


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["list"], 1, "no quotas"),
        (["history", "acme", "m"], 1, "nobody"),
        (["enable", "acme", "m"], 1, "no quota acme / m"),
        (["remove", "acme", "m"], 1, "no quota acme / m"),
        (["set", "acme", "m", "--tokens", "-1"], 2, "tokens"),
        (["set", "acme", "m", "--interval", "nan"], 2, "min_interval_s"),
        (["set", "acme", "m", "--rates", "often"], 2, "rates"),
        (["set", "acme", "m", "--from", "2026-02-01", "--until", "2026-01-01"], 2, "valid_until"),
        (["set", "acme", "m", "--from", "someday"], 2, "someday"),
        (["set", "*", "*", "--tokens", "1"], 2, "tokens"),
        (["cap", "m", "--", "-1"], 2, "NUMBER"),
        (["list", "--url", "jsonl:///x"], 2, "sqlite"),
    ],
)
def test_errors(command, ledger, arguments, code, hint):
    """
    One line that names what is wrong, and nothing is written.
    """
    result = command("quotas", *arguments)

    assert (result.code, result.out) == (code, "")
    assert hint in result.err
    assert command("quotas", "list").code == 1
