"""
The documentation: what README and docs show is run, and prints what they say it prints.

In each page the ``python`` blocks are one program, run from top to bottom against the
loopback provider. A ``text`` block right after a block is what that block must print;
figures that depend on the machine (times, ids, dates) may differ, and a line ``…``
stands for any lines. In ``sh`` blocks, lines that begin with ``ai-ledger`` are run. A
block after ``<!-- file: NAME -->`` is written to that file, and one after
``<!-- not run: reason -->`` is only read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name

import pytest

import ai_ledger
from ai_ledger.records import ALIASES, CallRecord
from ai_ledger.testing import Provider

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])

_FENCE = re.compile(
    r"(?P<skip><!-- not run: [^>]+ -->\n+)?"
    r"(?:<!-- file: (?P<file>\S+) -->\n+)?"
    r"^```(?P<language>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_RUNNER = Path(__file__).parent / "run_page.py"
_MARK = "--- block "  # as in the runner


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    body: str
    skipped: bool
    file: str | None
    """Where it is to be written."""


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of *page*, in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            line=text.count("\n", 0, found.start("body")) + 1,
            language=found["language"],
            body=found["body"],
            skipped=found["skip"] is not None,
            file=found["file"],
        )
        for found in _FENCE.finditer(text)
    ]


def is_run(block: Block) -> bool:
    """Whether *block* does something."""
    if block.skipped:
        return False
    if block.language == "sh":
        return any(line.startswith("ai-ledger ") for line in block.body.splitlines())
    return block.language == "python" or block.file is not None


PROGRAMS = [page for page in PAGES if any(map(is_run, blocks_of(page)))]


@pytest.fixture
def provider():
    """A provider that the pages' programs find by the SDK's own variables."""
    with Provider() as provider:
        yield provider


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, provider: Provider, tmp_path: Path) -> None:
    """
    Every block of the page runs, and prints what the page says.
    """
    blocks = blocks_of(page)
    run = [block for block in blocks if is_run(block)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AI_LEDGER_")}
    folder = str(Path(sys.executable).parent)

    done = subprocess.run(
        # Each page is a process of its own, so that pages cannot help each other.
        [sys.executable, _RUNNER],
        input=json.dumps(
            [page.name, [(each.line, each.file or each.language, each.body) for each in run]]
        ),
        cwd=tmp_path,
        env={
            **kept,
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": "sk-test",
            "PATH": f"{folder}{os.pathsep}{kept.get('PATH', '')}",
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
        },
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    printed = _printed(done.stdout)
    for block, following in pairwise(blocks):
        if is_run(block) and following.language == "text" and not following.skipped:
            actual = printed[block.line]
            if not re.fullmatch(_pattern(following.body), _steady(actual)):
                pytest.fail(f"{page.name}:{following.line}: printed\n{actual}", pytrace=False)


def _printed(output: str) -> dict[int, str]:
    """What each block printed, by its line."""
    parts = re.split(rf"^{_MARK}(\d+)\n", output, flags=re.MULTILINE)
    return {int(line): text for line, text in zip(parts[1::2], parts[2::2], strict=True)}


# What is another at every run: times, moments, ids; and with them the width of columns.
_UNSTEADY = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?( UTC|Z|\+00:00)?"), "WHEN"),
    (re.compile(r"\b[\d,]+(\.\d+)? (ms|s)\b"), "TIME"),
    (re.compile(r"[ \t]+"), " "),
)


def _steady(text: str) -> str:
    for pattern, word in _UNSTEADY:
        text = pattern.sub(word, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _pattern(expected: str) -> str:
    """The expression that *expected* stands for."""
    lines = [
        ".*" if line == "…" else re.escape(line).replace("…", "[^\n]*")
        for line in _steady(expected).splitlines()
    ]
    return "(?s:" + "\n".join(lines) + ")"


def test_a_page_that_prints_something_else_is_noticed() -> None:
    """
    Expected output is compared line by line, machine-dependent figures aside.
    """
    expected = "calls  2   p95 12 ms\n…\nlast line"

    assert re.fullmatch(_pattern(expected), _steady("calls 2 p95 1.5 s\nx\ny\nlast line"))
    assert not re.fullmatch(_pattern(expected), _steady("calls 3 p95 1.5 s\nx\nlast line"))
    assert not re.fullmatch(_pattern(expected), _steady("calls 2 p95 1.5 s\nx\nlast line\nmore"))


def test_the_readme_fits_two_screens() -> None:
    """
    A newcomer reads it in one go.
    """
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 130


def test_the_readme_shows_the_shortest_example() -> None:
    """
    The program in the README is the one in ``examples/``, but for what starts the provider.
    """
    shown = next(
        block.body for block in blocks_of(ROOT / "README.md") if "TrackedClient" in block.body
    )
    example = (ROOT / "examples" / "shortest.py").read_text("utf-8")

    assert [line for line in shown.splitlines() if line and line not in example] == []


def test_the_promise_is_in_the_readme() -> None:
    """
    The README gives the promise in the words that the fault tests check.
    """
    promise = (
        "Once a wrapped call has returned or raised to its caller, its record is stored "
        "exactly once in every durable sink, however the process ends, whatever it forks, "
        "while the sink is down, slow or restarting, as long as the machine keeps running "
        "and the journal has room. After power loss at most the last second may be missing "
        '(0 with `fsync="always"`). What cannot be kept is counted by reason, never '
        "silently. The caller's result, exception, timing and process exit are unchanged."
    )
    readme = " ".join(re.sub(r"^> ?", "", line) for line in _lines("README.md"))

    assert promise in " ".join(readme.split())


@pytest.mark.parametrize(
    ("page", "names"),
    [
        pytest.param("docs/reference/api.md", ai_ledger.__all__, id="public names"),
        pytest.param("docs/reference/records.md", CallRecord.__struct_fields__, id="fields"),
        pytest.param("docs/reference/records.md", ALIASES, id="aliases"),
    ],
)
def test_the_reference_is_complete(page: str, names: list[str]) -> None:
    """
    The reference leaves no public name, field or alias out.
    """
    text = "\n".join(_lines(page))

    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []


def test_names_in_the_changelog_are_there() -> None:
    """
    What the changelog calls by its full name can be imported by it.
    """
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    names = re.findall(r"`(ai_ledger(?:\.\w+)+)", text)

    assert len(names) > 40
    assert [name for name in names if not _is_there(name)] == []


def _is_there(name: str) -> bool:
    try:
        resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


def _lines(path: str) -> list[str]:
    return (ROOT / path).read_text("utf-8").splitlines()
