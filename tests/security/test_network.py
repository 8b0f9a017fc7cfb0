"""Network: the library itself opens no connection, whatever it prices, counts or imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WATCHED = """
import sys, threading
OWN = ("MainThread", "ai-ledger-")
opened = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        opened.append((event, str(arguments[1:])))
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "urllib.Request"):
        opened.append((event, str(arguments)))
sys.addaudithook(watch)
"""
REPORT = """
print(opened, [each.name for each in threading.enumerate() if not each.name.startswith(OWN)])
"""
PROGRAMS = {
    "import": """
import pkgutil, importlib, ai_ledger
for module in pkgutil.walk_packages(ai_ledger.__path__, "ai_ledger."):
    if "migrations" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
""",
    "prices": """
from datetime import UTC, datetime
from ai_ledger.pricing import PriceTable
table = PriceTable.default()
at = datetime(2026, 1, 1, tzinfo=UTC)
for provider, model in (("openai", "gpt-4o"), (None, "qwen-plus"), ("anthropic", "claude-sonnet-4"),
                        (None, "no such model"), ("google", "gemini-2.5-pro")):
    table.find(provider, model, at)
assert "genai_prices" in sys.modules
""",
    "tokens": """
from ai_ledger.tokens import count_tokens
for model in ("gpt-4o", "gpt-4", "text-embedding-3-small", "qwen-plus", None):
    assert count_tokens("hello there, 你好", model)[0] > 0
    assert count_tokens([{"role": "user", "content": "hello"}], model)[0] > 0
""",
    "a ledger": """
from ai_ledger import Ledger
ledger = Ledger("sqlite:///ledger.db")
ledger.record("gpt-4o", provider="openai", input_tokens=1, output_tokens=1)
ledger.record("no such model", request_content="hello", response_content="hello")
assert ledger.flush(20)
assert ledger.stats.summary().calls == 2
ledger.stats.export_report("report.csv")
ledger.reprice(dry_run=False)
ledger.close()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_connected_to(name: str, tmp_path: Path) -> None:
    """
    No socket is opened or name looked up, no process started, and no updater left running.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED + PROGRAMS[name] + REPORT],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
        # An empty cache, so that a tokenizer would have to be downloaded.
        env={**os.environ, "HOME": str(tmp_path), "TIKTOKEN_CACHE_DIR": str(tmp_path)},
    )

    assert (done.stdout, done.stderr) == ("[] []\n", "")
