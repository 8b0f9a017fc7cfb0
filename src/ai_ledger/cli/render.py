"""How the command shows things: tables and colour on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.cells import cell_len

from ai_ledger.money import tidy
from ai_ledger.records import CallRecord

if TYPE_CHECKING:
    from ai_ledger.database.changes import Change

MISSING: Final = "-"
"""Stands for what is not known or not set."""

# Control, format, surrogate and private-use characters, and the two separators
# that some terminals break lines at: none of them is something to read.
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def clean(text: str, *, lines: bool = False) -> str:
    """
    *text* with everything that could command a terminal or hide in it made visible.

    Args:
        text: As it was stored.
        lines: Leave newlines and tabs as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        character
        if character in kept or unicodedata.category(character) not in _UNSHOWN
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    code = ord(character)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """*value* as one JSON document; money as decimal strings, times in ISO 8601."""
    plain: Any = msgspec.to_builtins(value, enc_hook=_plain)
    text = json.dumps(plain, ensure_ascii=False, indent=indent)
    # What json leaves as it is and a terminal may obey: C1 controls, bidi marks.
    click.echo(
        "".join(
            character
            if character == "\n" or unicodedata.category(character) not in _UNSHOWN
            else "".join(f"\\u{unit:04x}" for unit in _utf16(character))
            for character in text
        )
    )


def plain_call(record: CallRecord) -> dict[str, Any]:
    """*record* for JSON: every field, unset ones as null, so that scripts can rely on the keys."""
    fields = {name: getattr(record, name) for name in CallRecord.__struct_fields__}
    return {**fields, "total_tokens": record.total_tokens}


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)  # a pydantic model
    if dump is not None:
        return msgspec.to_builtins(dump(), enc_hook=_plain)
    raise NotImplementedError(f"{type(value).__name__} has no JSON")


def heading(text: str) -> None:
    """A title above what follows."""
    click.echo()
    click.secho(clean(text), bold=True)


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line, values aligned."""
    known = [(name, clean(value)) for name, value in rows]
    width = max((cell_len(name) for name, _ in known), default=0)
    for name, value in known:
        click.echo(f"  {click.style(_padded(name, width), dim=True)}  {value}")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """
    Rows under column names.

    Args:
        columns: The names.
        rows: Texts as they were stored; they are made safe here.
        numbers: The columns that are aligned to the right.
        spare: The columns that a narrow terminal does without, the first one first.
            Elsewhere all are printed.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    if on_terminal():
        _rich_table(columns, cells, numbers, spare)
        return
    widths = _widths(columns, cells)
    for row in (columns, *cells):
        click.echo(
            "  ".join(
                _padded(cell, width, right=name in numbers)
                for name, cell, width in zip(columns, row, widths, strict=True)
            ).rstrip()
        )


def _rich_table(
    columns: Sequence[str], rows: list[list[str]], numbers: Sequence[str], spare: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = [[_shortened(cell) for cell in row] for row in rows]
    widths = dict(zip(columns, _widths(columns, rows), strict=True))
    left_out = list[str]()
    for name in spare:
        if name in widths and _total(widths) > console.width:
            left_out.append(name)
            del widths[name]
    # What still does not fit is wrapped by the terminal: half a name is worse.
    console.width = max(console.width, _total(widths))
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in widths:
        shown.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    for row in rows:
        # As Text, so that [brackets] in a name are no markup.
        kept = (cell for name, cell in zip(columns, row, strict=True) if name in widths)
        shown.add_row(*map(Text, kept))
    console.print(shown)
    if left_out:
        click.secho(f"(too narrow for {', '.join(left_out)})", dim=True)


_WIDEST: Final = 48


def _shortened(text: str) -> str:
    if cell_len(text) <= _WIDEST:
        return text
    while cell_len(text) >= _WIDEST:
        text = text[:-1]
    return f"{text}…"


def _widths(columns: Sequence[str], rows: list[list[str]]) -> list[int]:
    return [max(cell_len(text) for text in column) for column in zip(columns, *rows, strict=True)]


def _total(widths: Mapping[str, int]) -> int:
    return sum(width + 2 for width in widths.values())


def _padded(text: str, width: int, *, right: bool = False) -> str:
    # By columns of the terminal, not letters: Chinese ones take two.
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def shown(value: object) -> str:
    """*value* as a cell; `MISSING` for ``None``."""
    return MISSING if value is None else str(value)


def count(number: int | None) -> str:
    """A whole number with thousands separated."""
    return MISSING if number is None else f"{number:,}"


def share(part: int | float | None, whole: int | float = 1) -> str:
    """*part* of *whole* in per cent."""
    return MISSING if part is None or not whole else f"{100 * part / whole:.1f} %"


def milliseconds(duration: float | None) -> str:
    """A duration in the unit that reads best."""
    if duration is None:
        return MISSING
    if duration < 1000:
        return f"{duration:.0f} ms" if duration >= 10 else f"{duration:.1f} ms"
    return f"{duration / 1000:.1f} s"


def amount(value: Decimal | None, currency: str | None = None) -> str:
    """
    Money for reading: at most six decimals, and never 0 for something.

    The exact amount is what ``--json`` prints.
    """
    if value is None:
        return MISSING
    places = Decimal("0.000001") if abs(value) < 1 else Decimal("0.0001")
    rounded = value.quantize(places)
    text = f"{tidy(rounded):,f}" if rounded or not value else "<0.000001"
    return f"{text} {currency}" if currency else text


def amounts(cost: Mapping[str, Decimal]) -> str:
    """Costs in several currencies, which are never added up."""
    return " + ".join(amount(cost[code], code) for code in sorted(cost)) or MISSING


def moment(value: datetime, zone: tzinfo) -> str:
    """A time of day in *zone*, to the second."""
    return value.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def changes(found: Iterable[Change], zone: tzinfo) -> None:
    """A history: when, who, and each field from what to what."""
    rows: list[list[str]] = []
    for change in found:
        before, after = change.before or {}, change.after or {}
        what = [
            f"{field}: {_short(before.get(field))} -> {_short(after.get(field))}"
            for field in after or before
            if field != "version" and before.get(field) != after.get(field)
        ]
        word = "added" if not before else "removed" if not after else "; ".join(what)
        rows.append([moment(change.changed_at, zone), shown(change.changed_by), word])
    if rows:
        table(("when", "who", "what"), rows)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
