"""What is edited in the console, clicked in a browser: its result, and the way back."""

# Chinese has marks of its own.
# ruff: noqa: RUF001

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.clicks import Open, confirm, expect, undo
from tests.browser.conftest import copy_of
from tests.browser.console import KEY_NAME, Console

from ai_ledger.catalog import Catalog
from ai_ledger.testing import Provider

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def console(books: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console over books of their own, which these tests write in."""
    console = Console(copy_of(books, tmp_path_factory.mktemp("edits"))).start()
    yield console
    console.stop()


# Budgets and quotas


def test_a_quota_is_added_changed_and_removed(console: Console, open_page: Open) -> None:
    """
    Each step shows in the table; what is removed comes back with the undo.
    """
    page = open_page(console, "/budgets")
    rows = page.locator("main tr", has_text="initech")
    page.locator("summary", has_text="Add a quota").click()
    page.locator("#quota-org").fill("initech")
    page.locator("#quota-model").fill("qwen-plus")
    page.locator("#quota-tokens").fill("1234")
    page.get_by_role("button", name="Add the quota").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("1,234")

    rows.get_by_role("button", name="Disable").click()
    expect(rows.get_by_role("button", name="Enable")).to_have_count(1)
    rows.get_by_role("button", name="Remove").click()
    confirm(page)
    expect(rows).to_have_count(0)
    undo(page)
    expect(rows).to_have_count(1)


def test_a_model_is_switched_off_for_everybody(console: Console, open_page: Open) -> None:
    """
    What will happen is said first; the row says that it is off, and the undo switches it on.
    """
    page = open_page(console, "/budgets")
    row = page.locator("section[aria-labelledby=switches-title] tr", has_text="gpt-4o")
    row.get_by_role("button", name="Switch off").click()
    confirm(page)
    expect(row).to_contain_text("switched off")
    undo(page)
    expect(row).to_contain_text("switched on")


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "Rates 'many': expected windows"), ("zh", "“速率”的值 'many' 无效，应为：速率")],
)
def test_what_cannot_be_is_said(
    console: Console, open_page: Open, language: str, said: str
) -> None:
    """
    A form that cannot be so is answered with what was wrong, and keeps what was typed.
    """
    page = open_page(console, "/budgets", language=language)
    page.locator("details:has(#quota-org) > summary").click()
    page.locator("#quota-org").fill("initrode")
    page.locator("#quota-model").fill("qwen-plus")
    page.locator("#quota-rates").fill("many")
    page.locator("form:has(#quota-org) .button-main").click()

    expect(page.locator(".toast-bad").last).to_contain_text(said)
    expect(page.locator("#quota-org")).to_have_value("initrode")
    # The browser itself says in its console that something was answered with 422.
    page.watched.faults[:] = [fault for fault in page.watched.faults if "422" not in fault]


# Words


def test_a_word_is_added_tried_and_removed(console: Console, open_page: Open) -> None:
    """
    It is in the list and found in a text; removed, it comes back with the undo.
    """
    page = open_page(console, "/words")
    page.locator("summary").first.click()
    page.locator("#word").fill("unicornword")
    page.locator("#action").select_option("block")
    page.get_by_role("button", name="Add it").click()
    rows = page.locator("main tr", has_text="unicornword")
    expect(rows).to_have_count(1)

    rows.locator("form[action$='/words/remove'] button").click()
    confirm(page)
    expect(rows).to_have_count(0)
    undo(page)
    expect(rows).to_have_count(1)


def test_a_text_is_tried(console: Console, open_page: Open) -> None:
    """
    What would become of it is said, and the word is marked in the text.
    """
    page = open_page(console, "/words?view=try")
    page.locator("#text").fill("Give me the 身份证号 of <b>Ada</b>.")
    page.get_by_role("button", name="Try it").click()
    outcome = page.locator("#outcome")

    expect(outcome.locator("h2")).to_contain_text("sent with other words")
    expect(outcome.locator("mark")).to_have_text("身份证号")
    expect(outcome).to_contain_text("Give me the [证件] of <b>Ada</b>.")


def test_words_are_imported_after_a_rehearsal(
    console: Console, open_page: Open, tmp_path: Path
) -> None:
    """
    First it is said what would change, and nothing is written; then the same file is applied.
    """
    file = tmp_path / "words.csv"
    file.write_text("敏感词,替换词\n暗号甲,甲\n暗号乙,乙\n", encoding="utf-8")
    page = open_page(console, "/words?view=file")
    page.locator("#file").set_input_files(file)
    page.get_by_role("button", name="Show what would change").click()
    report = page.locator("#report")
    expect(report).to_contain_text("2 added")
    before = open_page(console, "/words?q=暗号")
    expect(before.locator("#list tbody tr")).to_have_count(0)

    report.get_by_role("button", name="Apply it").click()
    expect(report).to_contain_text("This was changed")
    before.reload()
    expect(before.locator("#list tbody tr")).to_have_count(2)


# Models


def test_a_model_is_disabled_and_enabled_again(console: Console, open_page: Open) -> None:
    """
    What will happen is said first; the page shows the new state, and the undo the old one.
    """
    page = open_page(console, "/models/entry?kind=model&name=gpt-4o")
    page.locator("button[value=disable]").click()
    confirm(page)
    expect(page.locator("button[value=enable]")).to_be_visible()
    undo(page)
    expect(page.locator("button[value=disable]")).to_be_visible()


def test_a_model_is_edited(console: Console, open_page: Open) -> None:
    """
    What was saved stands in the form and in the history, and the undo brings the old back.
    """
    page = open_page(console, "/models/entry?kind=model&name=qwen-max")
    context = page.locator("#context")
    page.locator("summary", has_text="Edit").click()
    old = context.input_value()
    context.fill("54321")
    page.locator("form[action$='/models/save'] button", has_text="Save").click()
    expect(page.locator("#entry")).to_contain_text("54,321")

    undo(page)
    expect(page.locator("#context")).to_have_value(old)


def test_a_connection_is_tested(console: Console, open_page: Open) -> None:
    """
    The result of one real call shows in its place: what answered, and then that nothing did.
    """
    with Provider() as provider:
        catalog = Catalog(console.url)
        catalog.add_provider(
            "loopback", settings={"base_url": provider.base_url, "api_key": f"env:{KEY_NAME}"}
        )
        catalog.add_model("echo-1", provider="loopback")
        page = open_page(console, "/models/entry?kind=model&name=echo-1")
        page.get_by_role("button", name="Test it").click()
        expect(page.locator("#trial")).to_contain_text("answered in")
    page.get_by_role("button", name="Test it").click()
    expect(page.locator("#trial")).to_contain_text("did not answer")


# Settings


def test_old_content_is_erased_after_a_typed_confirmation(
    console: Console, open_page: Open
) -> None:
    """
    They are counted first, and nothing goes before the number of days was typed again.
    """
    page = open_page(console, "/calls?descending=false")
    oldest = page.locator("#rows tr").first.inner_text()
    page.goto("/settings")
    page.locator("#days").fill("20")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("main .note[role=status]:not(#offline)")).to_contain_text(
        re.compile(r"[\d,]+ calls began")
    )
    page.locator("#confirmed").fill("21")
    page.get_by_role("button", name="Erase for good").click()
    assert page.locator("#confirmed").evaluate("each => !each.validity.valid")

    page.locator("#confirmed").fill("20")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.locator("#days")).to_be_visible()
    expect(page.locator("#confirmed")).to_have_count(0)
    page.goto("/calls?descending=false")
    expect(page.locator("#rows tr").first).not_to_have_text(oldest, use_inner_text=True)
