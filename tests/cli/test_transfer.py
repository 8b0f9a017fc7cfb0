"""``export`` and ``import``."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import CALLS


@pytest.mark.parametrize("target", ["jsonl:///copy", "sqlite:///copy.db"])
def test_there_and_back(command, url, target):
    """
    Every field survives, and twice is once.
    """
    for _ in range(2):
        result = command("export", target, "--url", url)
        assert (result.code, result.out) == (0, "5 of 5 calls copied\n")

    copied = command("import", target, "--url", "sqlite:///third.db", "--json")

    assert json.loads(copied.out)["written"] == 5
    wanted = json.loads(command("calls", "--url", url, "--json").out)
    for each in (target, "sqlite:///third.db"):
        assert json.loads(command("calls", "--url", each, "--json").out) == wanted
    assert len(wanted) == len(CALLS)


@pytest.mark.parametrize("target", ["memory:", "stdout:"])
def test_exporting_to_where_nothing_stays(command, url, target):
    """
    A target that keeps nothing once the command has ended is refused.
    """
    for ledger in (url, "sqlite:///not_there.db"):
        result = command("export", target, "--url", ledger)

        assert (result.code, result.out) == (2, "")
        assert target in result.err


def test_exporting_some(command, url):
    """
    Only the organisation asked for leaves the ledger.
    """
    command("export", "jsonl:///copy", "--url", url, "--org", "globex")

    (only,) = json.loads(command("calls", "--url", "jsonl:///copy", "--json").out)
    assert only["org_id"] == "globex"


def test_importing_a_file(command, tmp_path):
    """
    Another system's words are understood; bad lines are told, and harm nobody.
    """
    lines = [
        {"create_time": "2026-03-01 08:00:00", "model_name": "m", "sn_code": 7, "colour": "red"},
        {"create_time": "2026-03-01 08:00:01", "prompt_tokens": -1},
    ]
    (tmp_path / "old.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\nnonsense\n")

    result = command("import", "old.jsonl", "--tz", "Asia/Shanghai")

    assert (result.code, result.out) == (1, "1 of 1 calls copied\n")
    assert "line 2: " in result.err
    assert "line 3: " in result.err
    (one,) = json.loads(command("calls", "--json").out)
    assert one["started_at"] == "2026-03-01T00:00:00Z"
    assert (one["device_id"], one["tags"]) == ("7", {"colour": "red"})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["export", "stdout:"], 2),
        (["export", "redis://x"], 2),
        (["import", "none.jsonl"], 2),
        (["import", "jsonl:///none"], 3),
        (["import", "old.jsonl", "--org", "acme"], 2),
    ],
)
def test_what_cannot_be_copied(command, url, arguments, code):
    """
    One line, the documented exit code, and nothing written.
    """
    result = command(*arguments, "--url", url)

    assert (result.code, result.out) == (code, "")
    assert result.err.count("\n") == 1


def test_not_onto_itself(command, url):
    """
    A ledger is not copied onto itself.
    """
    assert command("export", url, "--url", url).code == 2
    assert command("import", url, "--url", url).code == 2
