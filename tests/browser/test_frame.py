"""What is around every page, in a browser: menu, keyboard, language, theme, and being offline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.conftest import copy_of
from tests.browser.console import Console

pytestmark = pytest.mark.timeout(300)

PLACES = ("/", "/calls", "/costs", "/budgets", "/alerts", "/models", "/words", "/settings")


@pytest.fixture
def own(books: Path, tmp_path: Path) -> Iterator[Console]:
    """A console of one test alone, which may stop it."""
    console = Console(copy_of(books, tmp_path)).start()
    yield console
    console.stop()


def expect(target: Any) -> Any:
    from playwright.sync_api import expect

    return expect(target)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_menu_leads_to_every_page(
    console: Console, open_page: Callable[..., Any], width: int
) -> None:
    """
    Each place of the menu opens, and is the one that is marked; on a phone the menu opens first.
    """
    page = open_page(console, "/", width=width)
    for place in PLACES[1:] + PLACES[:1]:
        menu = page.locator("button.menu")
        if menu.is_visible():
            menu.click()
            expect(menu).to_have_attribute("aria-expanded", "true")
        page.locator(f"#places a[href='{place}']").click()
        page.wait_for_url(f"{console.base}{place}*")
        expect(page.locator("#places a[aria-current=page]")).to_have_attribute("href", place)


def test_the_keyboard_is_enough(console: Console, open_page: Callable[..., Any]) -> None:
    """
    The first key leads past the menu; every further one to something that shows it is reached.
    """
    page = open_page(console, "/calls")
    page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()

    page.goto("/calls")
    reached: list[str] = []
    for _ in range(30):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
               return [e.tagName, e.textContent.trim().slice(0, 20), s.outlineStyle,
                       parseFloat(s.outlineWidth), e.getBoundingClientRect().width] }"""
        )
        reached.append(f"{found[0]} {found[1]}")
        if found[0] != "BODY":
            assert found[2] != "none", f"{reached[-1]}: its focus is not seen"
            assert found[3] >= 1
    assert len(set(reached)) > 15, f"the focus goes in circles: {reached}"


def test_a_dialog_is_left_with_escape(console: Console, open_page: Callable[..., Any]) -> None:
    """
    Escape says no: nothing was done, and the focus is back where it was.
    """
    page = open_page(console, "/calls")
    page.locator("tbody input[type=checkbox]").first.check()
    rows = page.locator("#list tbody tr").count()
    asking = page.locator("#batch").get_by_role("button", name="Delete")
    asking.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#confirm")
    expect(dialog).to_be_visible()
    expect(dialog.locator("button[value=no]")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(asking).to_be_focused()
    assert page.locator("#list tbody tr").count() == rows


def test_language_and_theme_are_chosen_and_stay(
    console: Console, open_page: Callable[..., Any]
) -> None:
    """
    A click changes the page that one is on, and all that follow.
    """
    page = open_page(console, "/costs?days=3")
    page.locator("button[name=language][value=zh]").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    assert page.url == f"{console.base}/costs?days=3"
    page.locator("button[name=theme][value=dark]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.goto("/alerts")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.locator("button[name=theme][value=light]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.locator("button[name=language][value=en]").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_a_page_says_when_the_console_is_gone(own: Console, open_page: Callable[..., Any]) -> None:
    """
    The note comes by itself when the page cannot renew itself, and goes when it can again.
    """
    page = open_page(own, "/")
    note = page.locator("#offline")
    expect(page.locator("main h1")).to_be_visible()
    expect(note).to_be_hidden()

    own.kill()
    page.evaluate("htmx.trigger(document.body, 'changed')")
    expect(note).to_be_visible()
    assert re.search(r"cannot be reached", note.inner_text())

    own.start()
    page.evaluate("htmx.trigger(document.body, 'changed')")
    expect(note).to_be_hidden()
    # That the browser and htmx say in the console what could not be loaded is what this is about.
    page.watched.faults[:] = [
        fault for fault in page.watched.faults if not re.search(r"ERR_|console: htmx:", fault)
    ]
