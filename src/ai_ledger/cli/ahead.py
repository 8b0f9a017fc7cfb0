"""``forecast`` and ``suggestions``: what the month will cost, and where money could be saved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    close,
    json_option,
    open_store,
    org_option,
    tz_option,
    url_option,
    where_of,
    where_option,
)
from ai_ledger.cli.prices import prices_option, table_of

if TYPE_CHECKING:
    from ai_ledger.stats import Forecast, Outlook, Suggestions

_NUMBERS = ("spent", "expected", "from", "to", "days")


@click.command("forecast")
@url_option
@org_option
@tz_option
@where_option
@click.option(
    "--by", "fields", multiple=True, metavar="FIELD",
    help="A forecast for each value of it too: org_id, request_model, function, tags.KEY.",
)  # fmt: skip
@click.option(
    "--level", type=click.FloatRange(0.5, 0.99), default=0.8, show_default=True,
    help="The probability that the cost lies from the one to the other.",
)  # fmt: skip
@click.option(
    "--history-days", type=click.IntRange(14, 366), default=56, show_default=True, metavar="N",
    help="So many complete days are looked back on.",
)  # fmt: skip
@json_option
def forecast_command(
    url: str,
    org: str | None,
    zone: tzinfo,
    conditions: tuple[str, ...],
    fields: tuple[str, ...],
    level: float,
    history_days: int,
    as_json: bool,
) -> None:
    """
    Foretell what this month will have cost at its end.

    Spent so far, and what the days to come add if usage goes on as it did, for
    each currency. With less than two weeks of calls there is not enough to judge
    by, which is said. From four weeks on, days of the week are told apart.

    \b
    Examples:
      ai-ledger forecast --tz Asia/Shanghai
      ai-ledger forecast --by function --level 0.95

    Exit code 1 when there are no costs.
    """
    from ai_ledger.stats import Stats

    store = open_store(url)
    try:
        stats = Stats(store, scope=org, tz=zone)
        found = stats.forecast(fields, where_of(conditions), level=level, history_days=history_days)
    finally:
        close(store)
    if as_json:
        render.print_json(found)
    if not found.costs:
        raise NothingFound(f"no calls with a cost since {found.history_start:%Y-%m-%d}")
    if not as_json:
        _show_forecast(found)


def _show_forecast(found: Forecast) -> None:
    whose = "" if found.scope is None else f", organisation {found.scope}"
    render.heading(
        f"{found.month_start:%Y-%m} as of {found.made_at:%Y-%m-%d %H:%M} ({found.tz}){whose}"
    )
    first: Mapping[str, str | None] = dict.fromkeys(found.by)
    rows = [_outlook("all", first, each) for each in found.costs]
    for group in found.groups:
        rows += [_outlook("", group.key, each) for each in group.costs]
    columns = ("", *found.by, "currency", *_NUMBERS, "judged by")
    render.table(columns, rows, numbers=_NUMBERS, spare=("days", "judged by"))
    if found.groups_left_out:
        click.echo(f"… and {found.groups_left_out:,} more")
    level = f"{100 * found.level:.4g}"
    click.echo(f"\nFrom and to hold with {level} % probability if usage goes on as it did.")
    if found.unpriced_calls:
        click.echo(f"{found.unpriced_calls:,} unpriced calls are in none of it.")


def _outlook(all_: str, key: Mapping[str, str | None], outlook: Outlook) -> list[str]:
    judged = ", ".join(
        word
        for word, is_so in (("weekdays", outlook.by_weekday), ("growth", outlook.growing))
        if is_so
    )
    return [
        all_,
        *("" if all_ else render.shown(value) for value in key.values()),
        outlook.currency,
        render.amount(outlook.spent),
        render.amount(outlook.expected),
        render.amount(outlook.low),
        render.amount(outlook.high),
        render.count(outlook.history_days),
        f"not enough data: {outlook.not_enough}" if outlook.not_enough else judged,
    ]


@click.command("suggestions")
@url_option
@org_option
@click.option(
    "--days", type=click.IntRange(1), default=30, show_default=True, help="Today included."
)
@tz_option
@where_option
@prices_option
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Of a kind.")
@json_option
def suggestions_command(
    url: str,
    org: str | None,
    days: int,
    zone: tzinfo,
    conditions: tuple[str, ...],
    prices_file: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """
    Say where money could be saved.

    Functions whose calls would cost less on a model that is in use elsewhere,
    repeated calls that a cache of answers would have saved (where prompts are
    stored), and long prompts of which the provider's cache has little. Judged by
    calls that succeeded, at the prices of now; --json names the calls.

    \b
    Examples:
      ai-ledger suggestions --days 7
      ai-ledger suggestions --where function=match --prices prices.toml

    Exit code 1 when there is nothing to suggest.
    """
    from ai_ledger.stats import Stats

    table = table_of(prices_file)
    store = open_store(url)
    try:
        stats = Stats(store, scope=org, tz=zone)
        found = stats.suggestions(days, where_of(conditions), prices=table, limit=limit)
    finally:
        close(store)
    if as_json:
        render.print_json(found)
    else:
        _show_suggestions(found)
    if not (found.models or found.repeats or found.caching):
        raise NothingFound(f"nothing to suggest from {found.looked_at:,} successful calls")


def _show_suggestions(found: Suggestions) -> None:
    models = [
        [
            render.shown(each.function),
            render.shown(each.model),
            each.other_model,
            render.count(each.basis.calls),
            render.amount(each.cost, each.currency),
            render.amount(each.other_cost, each.currency),
            render.amount(each.saves, each.currency),
        ]
        for each in found.models
    ]
    repeats = [
        [
            render.shown(each.function),
            render.shown(each.model),
            render.count(each.repeats),
            render.count(each.prompts),
            render.amounts(each.saves),
        ]
        for each in found.repeats
    ]
    caching = [
        [
            render.shown(each.function),
            render.shown(each.model),
            render.count(each.basis.calls),
            render.count(each.input_tokens),
            render.share(each.cached_share),
            render.amount(each.saves_at_most, each.currency),
        ]
        for each in found.caching
    ]
    numbers = (
        "calls", "cost", "there", "saves", "repeats", "prompts", "input", "cached", "saves at most",
    )  # fmt: skip
    for title, columns, rows in (
        (
            "a cheaper model that is in use elsewhere",
            ("function", "model", "other model", "calls", "cost", "there", "saves"),
            models,
        ),
        (
            "repeated calls that a cache of answers would have saved",
            ("function", "model", "repeats", "prompts", "saves"),
            repeats,
        ),
        (
            "long prompts of which the provider's cache has little",
            ("function", "model", "calls", "input", "cached", "saves at most"),
            caching,
        ),
    ):
        if rows:
            render.heading(title)
            render.table(columns, rows, numbers=numbers, spare=("calls", "input", "prompts"))
    for note in found.notes:
        click.echo(f"\n{note}")
