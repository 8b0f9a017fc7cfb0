"""Tokens and sessions, in a browser: made, used to sign in, and revoked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.conftest import copy_of
from tests.browser.console import Console

from ai_ledger import Ledger
from ai_ledger.access import AccessTokens

pytestmark = pytest.mark.timeout(300)


def expect(target: Any) -> Any:
    from playwright.sync_api import expect

    return expect(target)


@pytest.fixture(scope="module")
def locked(
    books: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Console, dict[str, str]]]:
    """A console that wants a token, and the tokens of two who may come in."""
    folder = tmp_path_factory.mktemp("locked")
    url = copy_of(books, folder)
    with Ledger(url, journal=folder / "journal") as ledger:
        tokens = AccessTokens(ledger)
        texts = {
            "admin": tokens.add("grace", role="admin", prompts=True)[0],
            "viewer": tokens.add("vera", role="viewer", org_id="globex")[0],
        }
    console = Console(url, "locked").start()
    yield console, texts
    console.stop()


def sign_in(page: Any, token: str) -> None:
    page.locator("#token").fill(token)
    page.locator("form[action$='/sign-in'] button").click()


def test_somebody_signs_in_and_out(
    locked: tuple[Console, dict[str, str]], open_page: Callable[..., Any]
) -> None:
    """
    A wrong token is said to be wrong; the right one leads to the page that was asked for.
    """
    console, tokens = locked
    page = open_page(console, "/costs")
    sign_in(page, "ail_nobody_knows_this")
    expect(page.locator("#wrong")).to_be_visible()
    page.watched.faults.clear()  # the browser's own words about 401

    sign_in(page, tokens["admin"])
    expect(page.locator(".who")).to_contain_text("grace")
    page.goto("/calls")
    expect(page.locator("#rows tr").first).to_be_visible()

    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#token")).to_be_visible()
    page.goto("/calls")
    expect(page.locator("#token")).to_be_visible()
    page.watched.faults[:] = [fault for fault in page.watched.faults if "401" not in fault]


def test_a_confined_viewer_sees_one_organisation_and_changes_nothing(
    locked: tuple[Console, dict[str, str]], open_page: Callable[..., Any]
) -> None:
    """
    Nothing of another organisation is on any page, and no form but those of the frame.
    """
    console, tokens = locked
    page = open_page(console, "/")
    page.watched.faults.clear()
    sign_in(page, tokens["viewer"])
    expect(page.locator(".who")).to_contain_text("globex")
    for place in ("/", "/calls", "/costs", "/budgets", "/alerts", "/words"):
        page.goto(place)
        page.wait_for_load_state("networkidle" if place != "/calls" else "load")
        text = page.locator("main").inner_text()
        assert "acme" not in text, place
        assert "analyze_resume" not in text, place
        assert page.locator("main form[method=post]:visible").count() == 0, place
    page.watched.faults[:] = [fault for fault in page.watched.faults if "401" not in fault]


def test_a_token_is_made_used_and_revoked(
    locked: tuple[Console, dict[str, str]], open_page: Callable[..., Any]
) -> None:
    """
    Its text is shown once; it lets somebody in; revoked, it lets nobody in, from that moment.
    """
    console, tokens = locked
    page = open_page(console, "/settings/tokens")
    sign_in(page, tokens["admin"])
    page.goto("/settings/tokens")
    page.locator("#name").fill("new colleague")
    page.locator("#role").select_option("operator")
    page.get_by_role("button", name="Make it").click()
    made = page.locator("#made").inner_text()
    page.goto("/settings/tokens")
    assert page.locator("#made").count() == 0

    other = open_page(console, "/")
    sign_in(other, made)
    expect(other.locator(".who")).to_contain_text("new colleague")
    row = page.locator("#tokens tr", has_text="new colleague")
    row.get_by_role("button", name="Revoke").click()
    page.locator("dialog#confirm button[value=yes]").click()
    expect(row).to_contain_text("revoked")
    other.goto("/calls")
    expect(other.locator("#token")).to_be_visible()
    for each in page, other:
        each.watched.faults[:] = [fault for fault in each.watched.faults if "401" not in fault]
