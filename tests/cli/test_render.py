"""How values are shown."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ai_ledger.cli import render


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.0012"), "0.0012"),
        (Decimal("1234.56789"), "1,234.5679"),
        (Decimal("0.000000001"), "<0.000001"),
        (Decimal(0), "0"),
        (None, "-"),
    ],
)
def test_amounts(value, text):
    """
    Something is never shown as nothing, nor nothing as zero.
    """
    assert render.amount(value) == text


def test_columns_line_up(capsys):
    """
    Chinese letters take two columns, and figures are aligned to the right.
    """
    render.table(("name", "calls"), [["聊天", "1"], ["chat", "1,000"]], numbers=("calls",))

    assert capsys.readouterr().out.splitlines() == [
        "name  calls",
        "聊天      1",
        "chat  1,000",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("聊天 😀", "聊天 😀"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b\u202e\u200b\u2028", "\\x9b\\u202e\\u200b\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_cleaning(text, shown):
    """
    What commands a terminal or hides becomes visible; everything else stays.
    """
    assert render.clean(text) == shown


def test_a_narrow_terminal(capsys, monkeypatch):
    """
    Spare columns go first, and the text that says what a row is about stays whole.
    """
    monkeypatch.setattr(render, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "24")

    render.table(
        ("name", "a", "b", "calls"),
        [["x" * 12, "11111", "22222", "3"]],
        numbers=("a", "b", "calls"),
        spare=("z", "a", "b", "name"),
    )

    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()] == [
        ["name", "calls"],
        ["x" * 12, "3"],
        ["(too", "narrow", "for", "a,", "b)"],
    ]


def test_a_table_on_a_terminal(capsys, monkeypatch):
    """
    Brackets in a name are no markup.
    """
    monkeypatch.setattr(render, "on_terminal", lambda: True)

    render.table(("name",), [["[bold]x[/bold]"]])

    assert "[bold]x[/bold]" in capsys.readouterr().out
