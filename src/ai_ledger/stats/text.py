"""Figures as text for people: columns that line up, and nothing that commands a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

# Control, format (bidi, zero width), surrogate, private; line and paragraph separators.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_WIDEST: Final = 40


def shown(value: str | None) -> str:
    """*value* on one line: hidden characters escaped, long texts cut, unset as a dash."""
    if value is None:
        return "—"
    text = "".join(
        char if unicodedata.category(char) not in _HIDDEN else ascii(char)[1:-1]
        for char in value[: _WIDEST * 4]
    )
    while _width(text) > _WIDEST:
        text = text[: _WIDEST - 1 if text[-1:] != "…" else -2] + "…"
    return text


def money(cost: Mapping[str, Decimal]) -> str:
    """Amounts by currency, never added: ``1.5 CNY, 0.2 USD``."""
    return ", ".join(f"{amount:f} {shown(code)}" for code, amount in sorted(cost.items())) or "—"


def percent(share: float | None) -> str:
    """A share of one as ``98.3 %``."""
    return "—" if share is None else f"{share:.1%}".replace("%", " %")


def milliseconds(value: float | None) -> str:
    """A duration as ``812 ms``; with digits behind the point below ten."""
    if value is None:
        return "—"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2f} ms"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> str:
    """
    Lines of aligned columns.

    Args:
        head: Names of the columns.
        rows: Cells, as many as names.
        texts: How many of the first columns hold text; the others hold figures.
    """
    lines = [head, *rows]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            _padded(cell, width, left=column < texts)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _padded(cell: str, width: int, *, left: bool) -> str:
    space = " " * (width - _width(cell))
    return cell + space if left else space + cell


def _width(text: str) -> int:
    """Columns on a terminal: letters of Chinese, Japanese and Korean take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
