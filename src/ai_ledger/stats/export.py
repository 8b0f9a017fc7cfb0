"""Reports as files: JSON, and CSV that no spreadsheet takes for a program."""

from __future__ import annotations

import csv
import io
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import Field

from ai_ledger.errors import InvalidValue
from ai_ledger.stats.results import Figures, Group, Point, Result

if TYPE_CHECKING:
    from ai_ledger.stats.stats import Stats

Cell: TypeAlias = str | int | float | Decimal | None

SECTIONS: Final = (
    "request_model",
    "provider",
    "function",
    "business_type",
    "operation",
    "org_id",
    "user_id",
    "device_id",
)
"""What a report groups by."""


class Report(Result):
    """Everything that a report file holds."""

    made_at: datetime
    since: datetime
    until: datetime
    tz: str
    scope: str | None
    total: Figures
    daily: tuple[Point, ...]
    groups: dict[str, tuple[Group, ...]]
    """By field, most calls first."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """How many groups of a field are not listed, being the ones with fewest calls."""


def report_of(stats: Stats, first: date, last: date, *, made_at: datetime, most: int) -> Report:
    """
    The report of the days from *first* to *last*, both included.

    Args:
        stats: Whose calls, and in which time zone.
        first: The first day.
        last: The last day.
        made_at: Aware.
        most: So many groups of each field are listed; the total counts all of them.

    Raises:
        InvalidValue: The days end before they begin, or are too many.
        SinkUnavailable: The store is away, or takes too long.
    """
    daily = stats.days(first, last)
    since, until = daily.points[0].start, daily.points[-1].end
    groups: dict[str, tuple[Group, ...]] = {}
    left_out: dict[str, int] = {}
    for field in SECTIONS:
        found = stats.summary(since, until, by=field).groups
        groups[field] = found[:most]
        if len(found) > most:
            left_out[field] = len(found) - most
    return Report(
        made_at=made_at,
        since=since,
        until=until,
        tz=stats.tz,
        scope=stats.scope,
        total=daily.total,
        daily=daily.points,
        groups=groups,
        left_out=left_out,
    )


def report_csv(report: Report) -> bytes:
    """*report* as CSV, a line for each day and group; see `to_csv`."""
    return to_csv(_rows(report))


def write_report(path: Path, report: Report) -> Path:
    """
    Write *report* to *path*, as its ending says: ``.json`` or ``.csv``.

    Raises:
        InvalidValue: Another ending, or *path* is a symbolic link or no file.
        OSError: The file cannot be written.
    """
    if path.suffix == ".json":
        write_private(path, (report.model_dump_json(indent=2) + "\n").encode())
    elif path.suffix == ".csv":
        write_private(path, report_csv(report))
    else:
        raise InvalidValue("path", str(path), "a file that ends in .json or .csv")
    return path


def to_csv(rows: Iterator[Sequence[Cell]]) -> bytes:
    """*rows* as CSV (RFC 4180, UTF-8); texts are made harmless, numbers stay numbers."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [harmless(cell) if isinstance(cell, str) else _number(cell) for cell in row] for row in rows
    )
    return text.getvalue().encode(errors="backslashreplace")


def harmless(text: str) -> str:
    """
    *text* with a leading ``'`` where a spreadsheet would take it for a formula.

    That is when it begins with ``= + - @``, their full-width forms, a control
    character or NUL, also behind quotes and spaces (OWASP ASVS 1.2.10).
    """
    start = text.lstrip(" \"'\u00a0\u3000\ufeff")[:1] or text[:1]
    if start and (start in "=+-@＝＋－＠" or start < " "):  # noqa: RUF001
        return f"'{text}"
    return text


def write_private(path: Path, data: bytes) -> None:
    """
    Put *data* at *path* as a file of 0600, whole or not at all.

    Raises:
        InvalidValue: *path* is a symbolic link, or no regular file.
        OSError: The file cannot be written.
    """
    try:
        regular = stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        regular = True
    if not regular:
        raise InvalidValue("path", str(path), "a new file or an old one, and no symbolic link")
    # Whoever plants a link after this look has it replaced: a rename follows none.
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:  # which names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _rows(report: Report) -> Iterator[Sequence[Cell]]:
    currencies = sorted(
        {
            *report.total.cost,
            *(code for groups in report.groups.values() for each in groups for code in each.cost),
        }
    )
    statuses = sorted(report.total.by_status)
    yield [
        *("section", "key", "calls"),
        *(f"{status}_calls" for status in statuses),
        *("success_rate", "input_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("output_tokens", "reasoning_tokens", "total_tokens"),
        *(f"cost_{code}" for code in currencies),
        *("unpriced_calls", "average_duration_ms", "p50_duration_ms", "p95_duration_ms"),
        *("p99_duration_ms", "average_time_to_first_token_ms", "estimated_calls"),
        "unattributed_calls",
    ]
    named: list[tuple[str, str | None, Figures]] = [("total", report.tz, report.total)]
    named += [("day", point.start.date().isoformat(), point) for point in report.daily]
    for field, groups in report.groups.items():
        named += [(field, group.key[field], group) for group in groups]
    for section, key, figures in named:
        tokens = figures.tokens
        yield [
            *(section, key, figures.calls),
            *(figures.by_status.get(status, 0) for status in statuses),
            *(figures.success_rate, tokens.input, tokens.cache_read, tokens.cache_write),
            *(tokens.output, tokens.reasoning, tokens.total),
            *(figures.cost.get(code) for code in currencies),
            *(figures.unpriced_calls, figures.average_duration_ms, figures.p50_duration_ms),
            *(figures.p95_duration_ms, figures.p99_duration_ms),
            *(figures.average_time_to_first_token_ms, figures.estimated_calls),
            figures.unattributed_calls,
        ]


def _number(value: int | float | Decimal | None) -> str | int | float:
    if value is None:
        return ""
    return f"{value:f}" if isinstance(value, Decimal) else value
