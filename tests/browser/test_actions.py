"""Calls, costs and alerts: each form and button, clicked in a browser, and the way back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.clicks import Open, confirm, expect, undo
from tests.browser.conftest import copy_of
from tests.browser.console import Console

from ai_ledger import Ledger

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def console(books: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console over books of their own, which these tests write in."""
    console = Console(copy_of(books, tmp_path_factory.mktemp("actions"))).start()
    yield console
    console.stop()


def matching(page: Any) -> int:
    """How many calls the totals of the list say there are."""
    totals = page.locator("#totals, .totals").first
    expect(totals).to_contain_text(re.compile(r"\d"))
    found = re.search(r"Calls\s+([\d,]+)", totals.inner_text())
    assert found, totals.inner_text()
    return int(found[1].replace(",", ""))


# Calls


def test_a_call_is_deleted_and_comes_back(console: Console, open_page: Open) -> None:
    """
    Deleting asks first; the row goes, and the undo brings it back.
    """
    page = open_page(console, "/calls?user_id=u-chen&status=success")
    first = page.locator("#rows input[name=ids]").first
    id_ = first.get_attribute("value")
    box = page.locator(f"#rows input[value='{id_}']")

    first.check()
    page.locator("#batch-button").click()
    confirm(page)
    expect(box).to_have_count(0)

    undo(page)
    expect(box).to_have_count(1)


def test_several_calls_are_deleted_and_come_back(console: Console, open_page: Open) -> None:
    """
    All of a page go together, the totals follow, and the undo brings all of them back.
    """
    page = open_page(console, "/calls?function=search&limit=25")
    before = matching(page)
    page.locator("#all").check()
    page.locator("#batch-button").click()
    confirm(page)
    expect(page.locator("#totals, .totals").first).to_contain_text(f"{before - 25:,}")

    undo(page)
    expect(page.locator("#totals, .totals").first).to_contain_text(f"{before:,}")


def test_filters_stand_in_the_address(console: Console, open_page: Open) -> None:
    """
    What is filled in is in the address, alone; opened again it shows the same calls.
    """
    page = open_page(console, "/calls")
    page.locator("#filter input[name=request_model]").first.fill("qwen-max")
    page.locator("#filter button", has_text="Filter").click()
    page.wait_for_url("**/calls?*request_model=qwen-max*")
    assert page.url == f"{console.base}/calls?request_model=qwen-max"
    models = page.locator("#rows tr").all_inner_texts()
    assert models
    assert all("qwen-max" in text for text in models)
    count = matching(page)

    page.goto(page.url)
    assert matching(page) == count


def test_the_pages_go_to_the_last_and_back(console: Console, open_page: Open) -> None:
    """
    From the first page over the next to the last, and back to the same first one.
    """
    page = open_page(console, "/calls?limit=25")
    ids = "#rows input[name=ids]"
    value = "boxes => boxes.map(box => box.value)"
    first = page.locator(ids).evaluate_all(value)
    pages = page.locator("nav.pages")

    pages.get_by_role("link", name="Next").click()
    expect(page.locator(f"#rows input[value='{first[0]}']")).to_have_count(0)
    second = page.locator(ids).evaluate_all(value)
    assert not set(first) & set(second)
    pages.get_by_role("link", name="Last").click()
    expect(page.locator(f"#rows input[value='{second[0]}']")).to_have_count(0)
    assert pages.get_by_role("link", name="Next").count() == 0
    pages.get_by_role("link", name="Previous").click()
    pages.get_by_role("link", name="First").click()
    expect(page.locator(f"#rows input[value='{first[0]}']")).to_have_count(1)
    assert page.locator(ids).evaluate_all(value) == first


def test_a_call_opens_beside_the_list(console: Console, open_page: Open) -> None:
    """
    A click shows the call without leaving the list; Escape goes back to it.
    """
    page = open_page(console, "/calls?function=analyze_resume&status=success")
    page.locator("#rows a").first.click()
    panel = page.locator("dialog#panel")
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("qwen-plus")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()


@pytest.mark.parametrize("kind", ["CSV", "JSONL"])
def test_the_filtered_calls_are_exported(console: Console, open_page: Open, kind: str) -> None:
    """
    The file holds exactly the calls that the totals count, and the bar was filled.
    """
    page = open_page(console, "/calls?function=search", accept_downloads=True)
    count = matching(page)
    with page.expect_download() as waiting:
        page.get_by_role("link", name=kind).click()
    text = Path(waiting.value.path()).read_text("utf-8-sig")
    lines = text.splitlines()

    assert waiting.value.suggested_filename.endswith(f".{kind.lower()}")
    assert len(lines) == count + (1 if kind == "CSV" else 0)
    assert all("search" in line for line in lines[1:])


def test_a_call_recorded_meanwhile_shows_in_the_live_tail(
    console: Console, open_page: Open, tmp_path: Path
) -> None:
    """
    Who follows live sees a call that another process records, without loading again.
    """
    page = open_page(console, "/calls")
    page.locator("#live").click()
    row = page.locator("#rows tr", has_text="u-live-tail")
    expect(row).to_have_count(0)
    expect(page.locator("#live")).to_have_attribute("aria-pressed", "true")
    with Ledger(console.url, journal=tmp_path / "journal") as ledger:
        ledger.record("qwen-plus", input_tokens=5, output_tokens=2, user_id="u-live-tail")
        ledger.flush(30)

    expect(row).to_have_count(1)


def test_the_live_tail_says_when_the_console_is_gone(
    console: Console, open_page: Open, tmp_path: Path
) -> None:
    """
    Who follows live is told that nothing comes any more, until it does again, by itself.
    """
    page = open_page(console, "/calls")
    note = page.locator("#offline")
    # Nothing but the tail asks the console.
    page.evaluate("for (const each of document.querySelectorAll('[data-poll]')) each.remove()")
    page.locator("#live").click()
    row = page.locator("#rows tr", has_text="u-back-again")
    expect(page.locator("#live")).to_have_attribute("aria-pressed", "true")
    expect(note).to_be_hidden()

    console.kill()
    try:
        expect(note).to_contain_text("cannot be reached")
        expect(page.locator("#live")).to_have_attribute("aria-pressed", "true")
    finally:
        console.start()
    expect(note).to_be_hidden()
    with Ledger(console.url, journal=tmp_path / "journal") as ledger:
        ledger.record("qwen-plus", input_tokens=5, output_tokens=2, user_id="u-back-again")
        ledger.flush(30)

    expect(row).to_have_count(1)
    # The browser says in the console what could not be loaded, which is what this is about.
    page.watched.faults[:] = [each for each in page.watched.faults if "ERR_" not in each]


# Costs and reports


def test_repricing_is_shown_before_it_is_done(console: Console, open_page: Open) -> None:
    """
    A price, a dry run that changes nothing, the change, and fewer calls without a price.
    """
    page = open_page(console, "/models/entry?kind=model&name=house-7b")
    if not page.locator("#price-input").is_visible():
        page.locator("summary", has_text="Add a price").click()
    page.locator("#price-input").fill("1.5")
    page.locator("#price-output").fill("3")
    page.locator("#price-from").fill("2020-01-01")
    page.get_by_role("button", name="Add the price").click()
    expect(page.locator(".toast").last).to_be_visible()

    page.goto("/costs/unpriced")
    row = page.locator("main tr", has_text="house-7b").first
    expect(row).to_be_visible()
    before = row.inner_text()
    page.locator("#r-model").fill("house-7b")
    page.get_by_role("button", name="Show what would change").click()
    change = page.locator("form[action$='/costs/reprice'] input[name=apply]").locator("xpath=..")
    expect(change).to_be_visible()
    change.locator("button").click()
    confirm(page)
    # Those whose tokens nobody knows stay; the others have their price.
    expect(row).not_to_have_text(before, use_inner_text=True)


def test_a_report_is_made_read_and_downloaded(console: Console, open_page: Open) -> None:
    """
    It stands in the list, has a page for the printer, and comes as JSON and CSV.
    """
    page = open_page(console, "/costs/reports", accept_downloads=True)
    page.get_by_role("button", name="Make the report").click()
    link = page.locator("main a[href*='/reports/']").first
    expect(link).to_be_visible()
    links = page.locator("main a[href*='/reports/']").evaluate_all("as => as.map(a => a.href)")
    for address in links:
        answer = page.request.get(address)
        assert answer.ok, address
        assert len(answer.body()) > 100
    page.goto(next(each for each in links if "format" not in each))
    page.emulate_media(media="print")
    assert not page.locator("aside.side").is_visible()
    expect(page.locator("main")).to_contain_text("qwen-max")


# Alerts


def test_an_alert_is_acknowledged_and_opened_again(console: Console, open_page: Open) -> None:
    """
    The answer shows on the page at once; the undo opens the alert again.
    """
    page = open_page(console, "/alerts")
    form = page.locator("form", has=page.locator("button[formaction$='/ack']")).last
    action = form.locator("button[formaction$='/ack']").get_attribute("formaction")
    button = page.locator(f"button[formaction='{action}']")

    button.click()
    expect(button).to_have_count(0)
    undo(page)
    expect(button).to_have_count(1)


def test_an_alert_is_ignored_on_the_overview(console: Console, open_page: Open) -> None:
    """
    The overview takes answers as well, and no longer shows what is ignored.
    """
    page = open_page(console, "/")
    address = page.locator("[hx-post$='/ignore']").first.get_attribute("hx-post")
    button = page.locator(f"[hx-post='{address}']")
    button.click()
    expect(button).to_have_count(0)
    undo(page)
    expect(button).to_have_count(1)


@pytest.mark.parametrize("path", ["/alerts", "/alerts/failures?days=30"])
def test_answers_to_those_ticked_rest_while_none_is(
    console: Console, open_page: Open, path: str
) -> None:
    """
    The buttons of the bar can be pressed once a box is ticked, and no more when none is.
    """
    page = open_page(console, path)
    bar = page.locator(".answer-bar")
    boxes = page.locator("tbody input[type=checkbox]:not([disabled])")
    expect(boxes.first).to_be_visible()
    expect(bar.locator("button:not([disabled])")).to_have_count(0)

    boxes.first.check()
    expect(bar.locator("button[disabled]")).to_have_count(0)
    boxes.first.uncheck()
    expect(bar.locator("button:not([disabled])")).to_have_count(0)
    bar.locator("[data-check-all]").check()
    expect(bar.locator("button[disabled]")).to_have_count(0)


def test_an_error_takes_the_place_of_the_one_before(console: Console, open_page: Open) -> None:
    """
    However often something goes wrong, the last error is told, and no pile of them.
    """
    page = open_page(console, "/alerts")
    wrong = page.locator(".toast-bad")

    page.evaluate("toast('first', { bad: true })")
    expect(wrong).to_contain_text("first")
    page.evaluate("toast('second', { bad: true })")

    expect(wrong).to_have_count(1)
    expect(wrong).to_contain_text("second")


def test_the_question_names_the_deed_and_the_number(console: Console, open_page: Open) -> None:
    """
    Whoever deletes two calls reads that they are two, and presses what says delete.
    """
    page = open_page(console, "/calls?user_id=u-chen&status=success")
    boxes = page.locator("#rows input[name=ids]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.locator("#batch-button").click()

    dialog = page.locator("dialog#confirm")
    expect(dialog.locator("#confirm-text")).to_contain_text("(2)")
    expect(dialog.locator("button[value=yes]")).to_have_text("Delete (2)")
    dialog.locator("button[value=no]").click()
    expect(dialog).to_be_hidden()


@pytest.mark.parametrize("path", ["/calls", "/alerts", "/alerts/failures?days=30"])
@pytest.mark.parametrize("width", [390, 768])
def test_rows_fit_where_there_is_no_room_for_columns(
    console: Console, open_page: Open, path: str, width: int
) -> None:
    """
    No cell of a row, and none of its buttons, lies outside the table's view.
    """
    page = open_page(console, path, width=width)
    row = page.locator(".scroll tbody tr").first
    expect(row).to_be_visible()

    room = page.locator(".scroll:has(tbody)").first.evaluate("e => e.scrollWidth - e.clientWidth")
    ends = row.locator("td, th, button").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect().right)"
    )

    assert room <= 1  # what is rounded
    assert ends
    assert max(ends) <= width


def test_a_short_page_does_not_stretch_its_header(console: Console, open_page: Open) -> None:
    """
    On a narrow screen the bar with the name is as high as what is in it.
    """
    page = open_page(console, "/settings/changes?by=nobody", width=390)
    bar = page.locator("aside.side")
    expect(bar).to_be_visible()

    assert bar.bounding_box()["height"] < 80
