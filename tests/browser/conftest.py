"""A browser, and consoles over a ledger with everything in it, and over one with nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.browser import hostile
from tests.browser.console import Console, Watched

from ai_ledger import Ledger

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 20_000


def chromium() -> str | None:
    """Where the browser is: named by the environment, or one of the usual."""
    named = os.environ.get("AI_LEDGER_TEST_CHROMIUM")
    found = [named] if named else ["/usr/bin/chromium", "chromium", "google-chrome"]
    return next((path for each in found if (path := shutil.which(each))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a screen; skipped where there is none, unless it is required."""
    path = chromium()
    if path is None:
        reason = "no Chromium; AI_LEDGER_TEST_CHROMIUM names one"
        if os.environ.get("AI_LEDGER_TEST_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    # Of each module: where this is open, no other test can run an event loop.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a month of calls, everything that is edited, and hostile texts."""
    from ai_ledger.demo import furnish, run_demo

    path = tmp_path_factory.mktemp("books") / "books.db"
    url = f"sqlite:///{path}"
    with Ledger(url) as ledger:
        run_demo(ledger)
        furnish(ledger)
        hostile.fill(ledger, url)
    return path


def copy_of(books: Path, folder: Path) -> str:
    """The URL of a copy of *books* in *folder*, without what still lies in its log."""
    path = folder / "ledger.db"
    with closing(sqlite3.connect(books)) as old, closing(sqlite3.connect(path)) as new:
        old.backup(new)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def console(books: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console over a copy of the books; tests of a module share it."""
    console = Console(copy_of(books, tmp_path_factory.mktemp("console"))).start()
    yield console
    console.stop()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console over a ledger that nothing was recorded in."""
    console = Console(f"sqlite:///{tmp_path_factory.mktemp('fresh') / 'new.db'}").start()
    yield console
    console.stop()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """
    ``open_page(console, "/calls", language="zh", theme="dark", width=390)``: a watched page.

    At the end of the test none of them may have done what no page of the console does.
    """
    opened: list[tuple[Any, Watched]] = []

    def open_(
        console: Console,
        path: str = "/",
        *,
        language: str = "en",
        theme: str = "light",
        width: int = 1280,
        **more: Any,
    ) -> Any:
        context = browser.new_context(
            base_url=console.base,
            locale="zh-CN" if language == "zh" else "en-GB",
            color_scheme=theme,
            viewport={"width": width, "height": 900},
            reduced_motion="reduce",
            **more,
        )
        context.set_default_timeout(WAIT_MS)
        opened.append((context, Watched(context, console.base)))
        page = context.new_page()
        page.watched = opened[-1][1]
        page.goto(path)
        return page

    yield open_
    faults = [fault for _, watched in opened for fault in watched.faults]
    for context, _ in opened:
        context.close()
    assert faults == []
