"""
The pictures of the console under ``docs/console``: ``python docs/screenshots.py``.

Needs ``ai-ledger[demo,web,words]``, Playwright, Pillow, and a Chromium: the one that
``AI_LEDGER_TEST_CHROMIUM`` names, or else the system's. With names as arguments it makes
only those pictures.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).with_name("console")
PAGES = {
    "overview": "/",
    "calls": "/calls",
    "call": "",  # the first one that the list links to
    "costs": "/costs",
    "budgets": "/budgets",
    "alerts": "/alerts",
    "models": "/models",
    "words": "/words",
    "settings": "/settings",
}
MAX_BYTES = 200_000
MAX_HEIGHT = 2_200
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def main(wanted: list[str]) -> None:
    """Serve the demonstration, and take a picture of each page."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from ai_ledger.cli import main; main()"]
        server = subprocess.Popen(
            [*command, "demo", "--db", f"{folder}/demo.db", "--serve", "--port", "8799"],
            stdout=subprocess.DEVNULL,
        )
        try:
            base = "http://127.0.0.1:8799"
            wait_for(base, server)
            take_all(base, wanted)
        finally:
            server.terminate()
            server.wait(60)


def wait_for(base: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("the demonstration ended before the console was there")
        try:
            urllib.request.urlopen(f"{base}/healthz", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the console does not answer")


def take_all(base: str, wanted: list[str]) -> None:
    """English and light for each page; the overview also in Chinese, dark, and on a phone."""
    chromium = os.environ.get("AI_LEDGER_TEST_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for name, path in PAGES.items():
            for language in ("en", "zh"):
                for theme in ("light", "dark") if name == "overview" else ("light",):
                    take(browser, base, path, f"{name}-{language}-{theme}", wanted)
        take(browser, base, "/", "overview-en-phone", wanted, width=390)
        browser.close()


def take(
    browser: Any, base: str, path: str, file: str, wanted: list[str], *, width: int = 1280
) -> None:
    """One picture, as small as a picture with 128 colours is."""
    if wanted and file not in wanted:
        return
    context = browser.new_context(
        locale="zh-CN" if "-zh-" in file else "en-GB",
        color_scheme="dark" if file.endswith("dark") else "light",
        viewport={"width": width, "height": 900},
        timezone_id="UTC",
    )
    page = context.new_page()
    if not path:
        page.goto(f"{base}/calls?status=success")
        path = page.locator("main tbody a").first.get_attribute("href")
    page.goto(f"{base}{path}")
    page.wait_for_load_state("load")
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": min(height, MAX_HEIGHT)})
    picture = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    target = FOLDER / f"{file}.png"
    for colours in (128, 64, 32):
        picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(
            target, optimize=True
        )
        if target.stat().st_size <= MAX_BYTES:
            break
    print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
