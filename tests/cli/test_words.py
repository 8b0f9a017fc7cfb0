"""``words``."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def url(command) -> str:
    """A ledger without calls."""
    url = "sqlite:///words.db"
    assert command("init", "--url", url).code == 0
    return url


def test_the_life_of_a_word(command, url):
    """
    Added, listed, edited, switched off and on, removed; its history stays.
    """
    added = json.loads(
        command(
            "words",
            "add",
            "内部代号",
            "--replacement",
            "某项目",
            "--by",
            "ann",
            "--url",
            url,
            "--json",
        ).out
    )
    key = str(added["id"])
    assert (added["action"], added["replacement"], added["created_by"]) == (
        "replace",
        "某项目",
        "ann",
    )
    assert "内部代号" in command("words", "list", "--url", url).out
    edited = command("words", "edit", key, "--action", "warn", "--version", "1", "--url", url)
    assert (edited.code, "version 2" in edited.out) == (0, True)
    stale = command("words", "edit", key, "--action", "block", "--version", "1", "--url", url)
    assert stale.code != 0
    assert "version 2" in stale.err
    late = command("words", "disable", key, "--version", "1", "--url", url)
    assert (late.code != 0, "version 2" in late.err) == (True, True)
    both = command("words", "disable", key, key, "--version", "2", "--url", url)
    assert (both.code, "--version" in both.err) == (2, True)
    assert command("words", "disable", key, "--version", "2", "--url", url).code == 0
    assert json.loads(command("words", "list", "--inactive", "--json", "--url", url).out)
    assert command("words", "enable", key, "--url", url).code == 0
    assert command("words", "remove", key, "--url", url).code == 0
    assert command("words", "list", "--url", url).code == 1
    history = command("words", "history", key, "--url", url).out
    assert "removed" in history
    assert "action: replace → warn" in history
    assert len(json.loads(command("words", "history", key, "--json", "--url", url).out)) == 5


def test_trying(command, url):
    """
    Says what would be found and sent; refused when a word blocks; 1 for nothing.
    """
    command("words", "add", "idiot", "--url", url)
    command("words", "add", "falcon", "--replacement", "x", "--org", "acme", "--url", url)

    replaced = command("words", "try", "the f-a-l-c-o-n", "--org", "acme", "--url", url)
    blocked = json.loads(command("words", "try", "--json", "--url", url, answer="i d i o t").out)
    nothing = command("words", "try", "the falcon", "--url", url)

    assert "sent: the x" in replaced.out
    assert (len(blocked["findings"]), blocked["sent"]) == (1, None)
    assert nothing.code == 1


def test_files(command, url, tmp_path):
    """
    A report, exit code 1 for bad lines, and nothing written unless the good are kept.
    """
    (tmp_path / "w.csv").write_text("敏感词,替换词\n甲乙,丙\n.*x,\n", "gb18030")
    arguments = ("words", "import", "w.csv", "--encoding", "gb18030", "--url", url)

    first = command(*arguments)
    second = command(*arguments, "--keep-good")
    wrong = command("words", "import", "w.csv", "--url", url)
    (tmp_path / "u.csv").write_text("word\n甲乙\n", "utf-16")
    wide = command("words", "import", "u.csv", "--url", url)
    said = command("words", "import", "u.csv", "--encoding", "utf-16", "--url", url)
    out = command("words", "export", "out.csv", "--all", "--url", url)

    assert first.code == second.code == 1
    assert "nothing was written" in first.err
    assert "line 3" in first.err
    assert "甲乙" in command("words", "list", "--url", url).out
    assert (wrong.code, "gb18030" in wrong.err) == (2, True)
    assert (wide.code, "give --encoding utf-16" in wide.err) == (2, True)
    assert said.code == 0
    assert "1 words" in out.out
    assert "甲乙" in (tmp_path / "out.csv").read_text("utf-8-sig")


def test_settings(command, url):
    """
    The switch is shown and set, with who and when.
    """
    assert "on" in command("words", "settings", "--url", url).out
    off = json.loads(
        command("words", "settings", "--no-fuzzy", "--by", "ann", "--json", "--url", url).out
    )
    assert (off["fuzzy"], off["updated_by"], off["version"]) == (False, "ann", 1)
    assert command("words", "settings", "--fuzzy", "--version", "0", "--url", url).code != 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(("add", ".*x"), 2, id="an expression"),
        pytest.param(("edit", "99", "--note", "x"), 1, id="no such word"),
        pytest.param(("edit", "1"), 2, id="nothing to change"),
        pytest.param(("list", "--org", "a", "--all"), 2, id="two scopes"),
        pytest.param(("history", "99"), 1, id="no history"),
    ],
)
def test_mistakes(command, url, arguments, code):
    """
    One line on stderr and the code that was promised.
    """
    result = command("words", *arguments, "--url", url)

    assert (result.code, result.out) == (code, "")
    assert result.err.count("\n") == 1


def test_words_need_a_database(command):
    """
    A folder of JSON Lines has no tables.
    """
    assert command("words", "list", "--url", "jsonl:///x").code == 2
