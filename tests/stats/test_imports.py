"""What reports need, and what sinks do not."""

from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_reports_without_pydantic():
    """
    Without pydantic, asking for reports names the extra that brings it.
    """
    program = """
import sys
sys.modules["pydantic"] = None
from ai_ledger.errors import MissingExtra
try:
    import ai_ledger.stats
except MissingExtra as error:
    print(error)
"""
    assert run(program) == "stats needs an extra: pip install 'ai-ledger[standard]'"


def test_light_sinks():
    """
    JSON Lines, standard output and transfers need nothing but the core.
    """
    program = """
import sys
import ai_ledger.sinks.jsonl, ai_ledger.sinks.stdout, ai_ledger.transfer
print(sorted({"pydantic", "sqlalchemy", "alembic", "openai", "rich", "click"} & set(sys.modules)))
"""
    assert run(program) == "[]"
