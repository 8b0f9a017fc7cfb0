"""What tests of actions share: waiting for something, saying yes, and taking it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Open: TypeAlias = Callable[..., Any]


def expect(target: Any) -> Any:
    from playwright.sync_api import expect

    return expect(target)


def confirm(page: Any) -> None:
    """Say yes to what will happen."""
    dialog = page.locator("dialog#confirm")
    expect(dialog).to_be_visible()
    assert len(dialog.locator("#confirm-text").inner_text()) > 20
    dialog.locator("button[value=yes]").click()
    expect(dialog).to_be_hidden()


def undo(page: Any) -> None:
    """Take back what was done last."""
    button = page.locator(".toast button", has_text="Undo").last
    button.click()
