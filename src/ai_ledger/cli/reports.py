"""``report``, ``top`` and ``trend``: what the calls add up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    Period,
    Selection,
    close,
    json_option,
    open_store,
    org_option,
    selection_options,
    tz_option,
    url_option,
    where_of,
    where_option,
)

if TYPE_CHECKING:
    from ai_ledger.stats import Figures, Group, Stats, Summary

_SECTIONS = ("request_model", "user_id", "function")
_WORDS = {
    "request_model": "model",
    "response_model": "answering model",
    "user_id": "user",
    "device_id": "device",
    "session_id": "session",
    "org_id": "organisation",
    "business_type": "business type",
    "reference_id": "reference",
    "error_type": "error",
    "usage_source": "source of usage",
    "server_address": "server",
}
_FIGURES = ("calls", "success", "in", "out", "cost", "unpriced", "p50", "p95")
_SPARE = ("of calls", "p50", "p95", "unpriced", "in", "out")


@click.command("report")
@selection_options
@click.option(
    "--by", "fields", multiple=True, metavar="FIELD",
    help="Group by this instead of model, user and function; repeat for more. Also tags.KEY.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Groups each.")
@click.option("--currency", metavar="CODE", help="Tell costs in this one too; needs --rates.")
@click.option(
    "--rates", "rates_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML or JSON file of exchange rates: date, from, to, rate.",
)  # fmt: skip
@click.option(
    "--write", "path", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the whole report of --days to this .csv or .json file instead.",
)  # fmt: skip
@json_option
def report_command(
    selection: Selection,
    fields: tuple[str, ...],
    limit: int,
    currency: str | None,
    rates_file: Path | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """
    Sum up calls: by model, by user, by function.

    Of the last 30 days, unless said otherwise. Currencies are never added to each
    other. A call is unpriced when no price is known for its model, and unattributed
    when no user was set.

    \b
    Examples:
      ai-ledger report --days 7 --tz Asia/Shanghai
      ai-ledger report --by business_type --by tags.plan --where org_id=acme
      ai-ledger report --days 90 --write report.csv

    With --json: {"summary": …, "groups": {field: […]}}. Exit code 1 when there
    are no calls.
    """
    from ai_ledger.stats import Stats

    if (currency is None) != (rates_file is None):
        raise click.UsageError("--currency and --rates go together")
    period = selection.period(default_days=30)
    store = open_store(selection.url)
    try:
        stats = Stats(store, scope=selection.org, tz=selection.zone)
        if path is not None:
            if selection.since or selection.until or selection.conditions or fields:
                raise click.UsageError("--write takes --days, --org and --tz, and nothing else")
            click.echo(f"wrote {stats.export_report(path, selection.days or 30)}")
            return
        summary, groups = gather(
            stats,
            period,
            selection.conditions,
            fields or _SECTIONS,
            currency=currency,
            rates=rates_file,
        )
    finally:
        close(store)
    if as_json:
        render.print_json({"summary": summary, "groups": groups})
    if not summary.calls:
        raise NothingFound(f"no calls {period}; try a longer --days, or fewer --where")
    if not as_json:
        show_report(summary, groups, limit=limit)
        further(selection.url)


def gather(
    stats: Stats,
    period: Period,
    conditions: Sequence[str] = (),
    fields: Sequence[str] = _SECTIONS,
    *,
    currency: str | None = None,
    rates: Path | None = None,
) -> tuple[Summary, dict[str, tuple[Group, ...]]]:
    """The summary of a period, and its groups by each of *fields*."""
    from ai_ledger.pricing import Rates

    where = where_of(conditions)
    known = None if rates is None else Rates.load(rates)
    since, until = period.since, period.until
    summary = stats.summary(since, until, where, currency=currency, rates=known)
    groups: dict[str, tuple[Group, ...]] = {}
    for field in fields:
        found = stats.summary(since, until, where, field, currency=currency, rates=known)
        groups[found.by[0]] = found.groups
    return summary, groups


def show_report(summary: Summary, groups: dict[str, tuple[Group, ...]], *, limit: int = 10) -> None:
    """Print the summary, then a table for each of *groups*."""
    whose = "" if summary.scope is None else f", organisation {summary.scope}"
    render.heading(f"{_period(summary)} ({summary.tz}){whose}")
    render.pairs(_lines(summary))
    for field, found in groups.items():
        render.heading(f"by {_word(field)}")
        rows = [[render.shown(each.key[field]), *_cells(each)] for each in found[:limit]]
        render.table((_word(field), *_FIGURES), rows, numbers=_FIGURES, spare=_SPARE)
        if len(found) > limit:
            click.echo(f"… and {len(found) - limit:,} more: --limit {len(found)}")


def further(url: str) -> None:
    """Print the commands to look further with."""
    from ai_ledger.cli.options import DEFAULT_URL
    from ai_ledger.secrets import scrub

    option = "" if url == DEFAULT_URL else f" --url {render.clean(scrub(url))}"
    render.heading("look further")
    for command in (
        "top user_id",
        "trend --bucket hour --days 1",
        "calls --where status=failed",
        "show ID",
        "tail",
    ):
        click.echo(f"  ai-ledger {command}{option}")


def _period(summary: Summary) -> str:
    return str(Period(summary.since, summary.until))


def _lines(summary: Summary) -> list[tuple[str, str]]:
    calls, tokens = summary.calls, summary.tokens
    statuses = ", ".join(f"{number:,} {status}" for status, number in summary.by_status.items())
    parts = [
        f"{number:,} {name}"
        for name, number in (
            ("cached", tokens.cache_read),
            ("written to the cache", tokens.cache_write),
            ("reasoning", tokens.reasoning),
            ("audio", tokens.audio_input + tokens.audio_output),
        )
        if number
    ]
    of_which = f", of which {', '.join(parts)}" if parts else ""
    cost = render.amounts(summary.cost)
    if summary.converted is not None:
        converted = summary.converted
        cost += f" = {render.amount(converted.amount, converted.currency)}"
        if converted.without_rate:
            cost += f" (no rate for {render.amounts(converted.without_rate)})"
    durations = (
        ("average", summary.average_duration_ms),
        ("p50", summary.p50_duration_ms),
        ("p95", summary.p95_duration_ms),
        ("p99", summary.p99_duration_ms),
    )
    lines = [
        ("calls", f"{calls:,} ({statuses})"),
        ("success", f"{render.share(summary.success_rate)}, {summary.retries:,} retries"),
        (
            "tokens",
            f"{tokens.total:,} = {tokens.input:,} in + {tokens.output:,} out{of_which}",
        ),
        ("cost", cost),
        ("unpriced", _of(summary.unpriced_calls, calls)),
        ("duration", ", ".join(f"{name} {render.milliseconds(ms)}" for name, ms in durations)),
        ("unattributed", f"{_of(summary.unattributed_calls, calls)} without a user"),
        ("estimated", f"{_of(summary.estimated_calls, calls)} whose usage nobody reported"),
    ]
    if summary.average_time_to_first_token_ms is not None:
        first = render.milliseconds(summary.average_time_to_first_token_ms)
        lines.insert(6, ("first token", f"{first} on average, of streams"))
    return lines


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} calls ({render.share(part, whole)})"


def _word(field: str) -> str:
    return _WORDS.get(field, field)


def _cells(figures: Figures) -> list[str]:
    return [
        render.count(figures.calls),
        render.share(figures.success_rate),
        render.count(figures.tokens.input),
        render.count(figures.tokens.output),
        render.amounts(figures.cost),
        render.count(figures.unpriced_calls) if figures.unpriced_calls else "",
        render.milliseconds(figures.p50_duration_ms),
        render.milliseconds(figures.p95_duration_ms),
    ]


@click.command("top")
@click.argument("field")
@url_option
@org_option
@click.option(
    "--days", type=click.IntRange(1), default=30, show_default=True, help="Today included."
)
@click.option("--all", "all_time", is_flag=True, help="All time instead of --days.")
@tz_option
@where_option
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True)
@click.option(
    "--by", type=click.Choice(["cost", "calls", "tokens"]), default="cost", show_default=True
)
@json_option
def top_command(
    field: str,
    url: str,
    org: str | None,
    days: int,
    all_time: bool,
    zone: tzinfo,
    conditions: tuple[str, ...],
    limit: int,
    by: Literal["cost", "calls", "tokens"],
    as_json: bool,
) -> None:
    """
    Rank the values of FIELD by cost, calls or tokens.

    FIELD is user_id, request_model, function, business_type, provider, org_id,
    session_id, device_id, operation, status, error_type, reference_id or
    tags.KEY. Currencies are not compared: with several, each is ranked for
    itself and the rows are taken in turn.

    \b
    Examples:
      ai-ledger top user_id
      ai-ledger top request_model --by tokens --days 7

    Exit code 1 when there are no calls.
    """
    from ai_ledger.stats import Stats

    store = open_store(url)
    try:
        stats = Stats(store, scope=org, tz=zone)
        top = stats.top(field, limit, None if all_time else days, by, where_of(conditions))
    finally:
        close(store)
    if as_json:
        render.print_json(top)
    if not top.rows:
        raise NothingFound("no calls; try --all, or fewer --where")
    if as_json:
        return
    rows = [
        [
            render.shown(each.key[top.field]),
            *_cells(each),
            render.share(each.calls, top.total.calls),
        ]
        for each in top.rows
    ]
    numbers = (*_FIGURES, "of calls")
    render.table((_word(top.field), *numbers), rows, numbers=numbers, spare=_SPARE)
    if top.values > len(top.rows):
        click.echo(f"… and {top.values - len(top.rows):,} more: --limit {top.values}")


@click.command("trend")
@url_option
@org_option
@click.option(
    "--days", type=click.IntRange(1), default=30, show_default=True, help="Today included."
)
@tz_option
@where_option
@click.option(
    "--bucket", type=click.Choice(["hour", "day", "month"]), default="day", show_default=True
)
@click.option(
    "--by", "fields", multiple=True, metavar="FIELD", help="A row for each value of this field."
)
@json_option
def trend_command(
    url: str,
    org: str | None,
    days: int,
    zone: tzinfo,
    conditions: tuple[str, ...],
    bucket: Literal["hour", "day", "month"],
    fields: tuple[str, ...],
    as_json: bool,
) -> None:
    """
    Show calls, tokens and cost by hour, day or month.

    Hours, days and months are those of --tz; they add up to the total.

    \b
    Examples:
      ai-ledger trend --days 7
      ai-ledger trend --days 1 --bucket hour --by request_model

    Exit code 1 when there are no calls.
    """
    from ai_ledger.stats import Stats

    store = open_store(url)
    try:
        stats = Stats(store, scope=org, tz=zone)
        trend = stats.trend(days, bucket, fields, where_of(conditions))
    finally:
        close(store)
    if as_json:
        render.print_json(trend)
    if not trend.total.calls:
        raise NothingFound("no calls; try a longer --days, or fewer --where")
    if as_json:
        return
    shape = {"hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m"}[bucket]
    rows: list[list[str]] = []
    for point in trend.points:
        start = point.start.strftime(shape)
        if not fields:
            rows.append([start, *_cells(point)])
        for group in point.groups:
            rows.append([start, *map(render.shown, group.key.values()), *_cells(group)])
    rows.append(["total", *("" for _ in trend.by), *_cells(trend.total)])
    columns = (f"{bucket} ({trend.tz})", *map(_word, trend.by), *_FIGURES)
    render.table(columns, _without_silence(rows), numbers=_FIGURES, spare=_SPARE)


def _without_silence(rows: Iterable[list[str]]) -> list[list[str]]:
    """*rows* from the first one with calls on: what was before the ledger is no news."""
    kept: list[list[str]] = []
    for row in rows:
        if kept or row[-8] != "0":
            kept.append(row)
    return kept
