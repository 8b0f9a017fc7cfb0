"""The demonstration offers the console, and opens it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.cli.test_demo import BASE, start

from ai_ledger.cli.options import close, open_store
from ai_ledger.stats import Stats

pytest.importorskip("fastapi")
pytestmark = pytest.mark.timeout(400)

PAGES = ("/", "/calls", "/costs", "/budgets", "/alerts", "/models", "/words", "/settings")


def test_the_demo_ends_by_offering_the_console(tmp_path: Path) -> None:
    """
    The last lines say how to look at it in the browser.
    """
    done = start("demo", folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(
        "\nlook at it in the browser\n  ai-ledger serve --url sqlite:///ai_ledger_demo.db\n"
    )


def test_the_demo_opens_the_console_on_a_month_of_calls(tmp_path: Path) -> None:
    """
    The report is that of the demonstration; the pages have a month before it, and all of them
    something to show. Ctrl-C stops it.
    """
    code = "import sys; from ai_ledger.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "demo", "--serve", "--port", "0", "--json"],
        cwd=tmp_path,
        env=BASE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address = None
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                address = found[0]
                break
        assert address is not None
        parts = urlsplit(address)
        with httpx.Client(base_url=f"{parts.scheme}://{parts.netloc}", timeout=60) as client:
            answers = {page: client.get(page) for page in PAGES}
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)

    assert {page: answer.status_code for page, answer in answers.items()} == dict.fromkeys(
        PAGES, 200
    )
    assert '"calls": 85' in output
    assert process.returncode == 130
    store = open_store(f"sqlite:///{tmp_path / 'ai_ledger_demo.db'}")
    try:
        trend = Stats(store).trend(days=30)
    finally:
        close(store)
    assert sum(1 for day in trend.points if day.calls) == 30
