"""Source: no code from data, no surprising dependencies, nothing that runs at every start."""

from __future__ import annotations

import ast
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import ai_ledger
from ai_ledger import Ledger
from ai_ledger.records import CallRecord

SOURCE = Path(ai_ledger.__file__).parent
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "yaml", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
SHELLS = {"system", "popen"}


def test_nothing_read_is_run() -> None:
    """
    No module imports what turns data into code, and none evaluates text or asks a shell.
    """
    found: list[str] = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module.partition(".")[0]]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = [node.func.id] if node.func.id in FORBIDDEN_CALLS else []
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                names = [node.func.attr] if node.func.attr in SHELLS else []
            elif isinstance(node, ast.keyword) and node.arg == "shell":
                names = ["shell="]
            forbidden = FORBIDDEN_MODULES | FORBIDDEN_CALLS | SHELLS | {"shell="}
            found += [f"{path.name}:{name}" for name in names if name in forbidden]

    assert found == []
    assert len(list(SOURCE.rglob("*.py"))) > 50


@pytest.mark.parametrize(
    "planted",
    [
        b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x94.\n",
        b"!!python/object/apply:os.system ['touch pwned']\n",
        b'{"__class__": "os.system", "id": ["touch pwned"]}\n',
    ],
    ids=["pickle", "yaml", "object"],
)
def test_planted_code_is_set_aside(
    planted: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A pickle or the like in the journal or a folder of lines is a line that cannot be read.
    """
    monkeypatch.chdir(tmp_path)
    lines, journal = tmp_path / "lines", tmp_path / "journal"
    for folder in (lines, journal):
        folder.mkdir(mode=0o700)
    (journal / "0123456789ab-1-01234567-000001.segment").write_bytes(planted)
    (lines / "usage_2026-01-01.jsonl").write_bytes(planted)
    with Ledger(f"jsonl:///{lines}", journal=journal) as ledger:
        record = ledger.record("m")
        assert ledger.flush(10)
        calls = ledger.stats.calls().calls

        assert [call.id for call in calls] == [record.id]
        assert ledger.health().quarantined == 1
    assert not (tmp_path / "pwned").exists()


def test_the_core_brings_two_packages() -> None:
    """
    What a plain install of ai-ledger pulls in, with what that pulls in, is at most three packages.
    """
    found: set[str] = set()
    waiting = ["ai-ledger"]
    while waiting:
        try:
            requirements = distribution(waiting.pop()).requires or []
        except PackageNotFoundError:  # not for this version of Python
            continue
        for requirement in requirements:
            if "extra ==" in requirement:
                continue
            name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower()
            if name not in found:
                found.add(name)
                waiting.append(name)

    assert {"msgspec"} <= found <= {"msgspec", "uuid-utils"}


def test_nothing_runs_at_every_start() -> None:
    """
    The wheel holds the package and nothing beside it: no .pth file and no build hook.
    """
    import tomllib

    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))

    assert project["build-system"] == {
        "requires": ["hatchling>=1.27"],
        "build-backend": "hatchling.build",
    }
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/ai_ledger"]}
    assert "hooks" not in project["tool"]["hatch"]["build"]
    assert project["tool"]["hatch"].get("metadata", {}).get("hooks") is None
    assert list(SOURCE.rglob("*.pth")) == []
    # And the package is read as data where it is data.
    assert CallRecord.from_json(b'{"id":"x","started_at":"2026-01-01T00:00:00Z"}').id == "x"
