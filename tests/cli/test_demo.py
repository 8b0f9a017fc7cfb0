"""``demo`` and the installed command, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Two dozen starts of Python, each of which may take seconds where the cores are busy.
pytestmark = pytest.mark.timeout(400)

BASE = {name: value for name, value in os.environ.items() if not name.startswith("AI_LEDGER")}


def start(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    code = "import sys; from ai_ledger.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**BASE, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder in which the demo has run, what it printed and the processor's time it took."""
    folder = tmp_path_factory.mktemp("demo")
    before = os.times()
    done = start("demo", "--json", folder=folder)
    after = os.times()
    assert (done.returncode, done.stderr) == (0, "")
    busy = after.children_user + after.children_system
    busy -= before.children_user + before.children_system
    return folder, json.loads(done.stdout), busy


def test_the_demo_puts_every_call_on_the_books(demo):
    """
    What was called is what is reported: priced or not, failed, abandoned, refused, unattributed.
    """
    folder, printed, _ = demo
    summary = printed["summary"]

    assert printed["run"]["delivered"] is True
    assert summary["calls"] == printed["run"]["calls"] == 85
    assert summary["by_status"] == {
        "blocked": 2,
        "cancelled": 1,
        "failed": 4,
        "success": 77,
        "timeout": 1,
    }
    assert set(summary["cost"]) == {"CNY", "USD"}
    assert summary["unpriced_calls"] >= 6
    assert summary["unattributed_calls"] == 4
    assert summary["retries"] == 2
    assert {group["key"]["function"] for group in printed["groups"]["function"]} == {
        "analyze_resume",
        "analyze_sentiment",
        "classify",
        "detect_interview",
        "draft_letter",
        "generate_chat",
        "match_job",
        "search",
        "translate_letter",
    }
    assert (folder / "ai_ledger_demo.db").exists()


def test_the_demo_takes_seconds(demo):
    """
    A newcomer does not wait: ten seconds of a core at the most, the start of Python included.
    """
    # Of the processor, since a machine that is busy with something else proves nothing.
    assert demo[2] < 10


def test_the_demo_has_a_budget_that_refuses(demo):
    """
    Five letters, and money for three: the others cost nothing, and the report says why.
    """
    _, printed, _ = demo
    (letters,) = [
        group
        for group in printed["groups"]["function"]
        if group["key"]["function"] == "translate_letter"
    ]

    assert letters["calls"] == 5
    assert float(letters["cost"]["CNY"]) <= 0.006
    assert [text.split(":")[0] for text in printed["run"]["refusals"]] == [
        "budget 'translations'",
        "budget 'translations'",
    ]


def test_the_demo_again(demo):
    """
    Each run has a budget of its own, and reports about itself.
    """
    folder, _, _ = demo

    done = start("demo", folder=folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert "\n2 of them were refused, and never sent: budget 'translations': " in done.stdout
    assert " 85 (2 blocked, 1 cancelled, 4 failed, 77 success, 1 timeout)" in done.stdout


def test_the_commands_that_the_demo_names(demo):
    """
    Each of them works as it is printed, once an id is put in.
    """
    folder, printed, _ = demo
    url = printed["url"]

    report = start("report", "--url", url, folder=folder)
    named = [
        line.split()[1:] for line in report.stdout.splitlines() if line.startswith("  ai-ledger ")
    ]
    assert len(named) == 5
    calls = json.loads(start("calls", "--json", "--url", url, folder=folder).stdout)
    for arguments in named:
        extra = ["--no-follow"] if arguments[0] == "tail" else []
        words = [calls[0]["id"] if word == "ID" else word for word in arguments]
        done = start(*words, *extra, folder=folder)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout


def test_a_closed_pipe_is_no_error(demo):
    """
    ``ai-ledger calls | head`` ends quietly.
    """
    folder, printed, _ = demo
    command = f"{sys.executable} -c 'from ai_ledger.cli import main; main()' calls --json --url "

    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command}{printed['url']} --limit 80 | head -c 1"],
        cwd=folder,
        env=BASE,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")


def test_without_click(tmp_path):
    """
    The missing extra is named with the command that installs it.
    """
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'click' else find(name, *rest)\n"
    )

    done = start("report", folder=tmp_path, PYTHONPATH=str(tmp_path))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ai-ledger: the command needs an extra: pip install 'ai-ledger[standard]'\n"
    )


@pytest.mark.parametrize("module", ["uvicorn", "limits", "opencc"])
def test_serving_asks_for_all_it_shows_first(tmp_path, module):
    """
    Without a package that the month or its pages need, nothing is played and no file is made.
    """
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{module!r}] = None\n")

    done = start("demo", "--serve", folder=tmp_path, PYTHONPATH=str(tmp_path))

    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'ai-ledger[all]'" in done.stderr
    assert not list(tmp_path.glob("*.db"))


def test_help_is_quick(tmp_path):
    """
    Help loads neither an SDK nor a database.
    """
    code = (
        "import sys; from ai_ledger.cli.app import run; run(['report', '--help']);"
        "print([m for m in ('openai', 'sqlalchemy', 'genai_prices') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_tables_on_a_terminal(tmp_path):
    """
    With a terminal there is colour, and still nothing stored that commands it.
    """
    pty = pytest.importorskip("pty")
    (tmp_path / "run.py").write_text(
        "from ai_ledger.cli import main\n"
        "from ai_ledger.records import CallRecord, new_id, utc_now\n"
        "from ai_ledger.sinks import open_sink\n"
        "open_sink('jsonl:///c').write([CallRecord(id=new_id(), started_at=utc_now(),"
        " user_id='\\x1b]0;owned\\x07[bold]')])\n"
        "main(['report', '--url', 'jsonl:///c'])\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "run.py"], cwd=tmp_path, env={**BASE, "TERM": "xterm"}, stdout=theirs
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(ours)

    assert process.wait(200) == 0
    assert b"\x1b[1m" in text
    assert b"\\x1b]0;owned\\x07[bold]" in text
    assert b"\x1b]0;" not in text
