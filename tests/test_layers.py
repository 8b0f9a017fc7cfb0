"""Layers: read from the top, a module imports those above it and never those below."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ai_ledger

ROOT = Path(ai_ledger.__file__).parent

# From the values that know nobody, over what records, to the faces that know everybody.
ORDER = (
    "_version",
    "errors",
    "forks",
    "interruptions",
    "loading",
    "refreshed",
    "money",
    "currencies",
    "records",
    "bounds",
    "query",
    "zones",
    "terms",
    "totals",
    "secrets",
    "references",
    "incidents",
    "policy",
    "context",
    "usage",
    "answers",
    "validation",
    "redaction",
    "tokens",
    "calls",
    "gatekeeper",
    "entries",
    "database",
    "sinks",
    "locations",
    "journal",
    "delivery",
    "pricing",
    "stats",
    "transfer",
    "options",
    "ledger",
    "defaults",
    "signals",
    "capture",
    "openai",
    "policies",
    "catalog",
    "alerts",
    "access",
    "testing",
    "demo",
    "doctor",
    "web",
    "cli",
    "__init__",
)
UNITS = sorted({path.relative_to(ROOT).with_suffix("").parts[0] for path in ROOT.rglob("*.py")})


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules and folders of the package that *tree* imports anywhere, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            package, _, rest = (node.module or "").partition(".")
            if package == "ai_ledger" and rest:
                yield rest.partition(".")[0]
            elif package == "ai_ledger":
                # A public name, which is looked up where it lives.
                for alias in node.names:
                    yield ai_ledger._MODULES.get(alias.name, alias.name).partition(".")[0]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, _, rest = alias.name.partition(".")
                if package == "ai_ledger":
                    yield rest.partition(".")[0] or "__init__"


def _imports_of(unit: str) -> set[str]:
    paths = [ROOT / f"{unit}.py"] if (ROOT / f"{unit}.py").exists() else (ROOT / unit).rglob("*.py")
    return {
        name
        for path in paths
        for name in _imports(ast.parse(path.read_text(), filename=str(path)))
        if name != unit
    }


def test_every_module_has_its_place() -> None:
    """
    The drawing shows what is there, and nothing that is not.
    """
    assert sorted(ORDER) == UNITS


@pytest.mark.parametrize("unit", UNITS)
def test_imports_point_upwards(unit: str) -> None:
    """
    Nothing imports what stands below it, not in a function and not for type checkers either.
    """
    below = set(ORDER[ORDER.index(unit) :])

    assert _imports_of(unit) & below == set()


def test_capture_and_stats_never_meet() -> None:
    """
    A slow report cannot touch a call in flight.
    """
    assert "stats" not in _imports_of("capture")
    assert "capture" not in _imports_of("stats")


def test_rooms_of_the_console_share_no_pages() -> None:
    """
    A room of the console imports what another one knows, never its pages or its API.
    """
    faces = re.compile(r"from ai_ledger\.web\.(\w+)\.(\w*(?:pages|api)) import")
    crossings = [
        f"{path.parent.name}/{path.name}: {found.group()}"
        for path in sorted((ROOT / "web").glob("*/*.py"))
        for found in faces.finditer(path.read_text())
        if found.group(1) != path.parent.name
    ]

    assert crossings == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import ai_ledger", {"__init__"}),
        ("import ai_ledger.cli.app as app, os", {"cli"}),
        ("from ai_ledger.sinks.base import Sink", {"sinks"}),
        ("from ai_ledger import TrackedClient, stats", {"capture", "stats"}),
        ("def f():\n    from ai_ledger.ledger import Ledger", {"ledger"}),
        ("if TYPE_CHECKING:\n    from ai_ledger.ledger import Ledger", {"ledger"}),
        ("import openai\nfrom collections import abc", set()),
    ],
)
def test_every_kind_of_import_is_seen(code: str, found: set[str]) -> None:
    """
    The reading of imports, which these tests rest on, misses none.
    """
    assert set(_imports(ast.parse(code))) == found
