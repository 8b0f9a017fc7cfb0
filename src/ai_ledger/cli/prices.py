"""``prices`` and ``reprice``: what calls cost, and what they should have cost."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    F,
    NothingFound,
    Period,
    Selection,
    close,
    json_option,
    open_store,
    selection_options,
    tz_option,
    where_of,
)

if TYPE_CHECKING:
    from ai_ledger.pricing import Price, PriceTable, RepriceReport


def prices_option(command: F) -> F:
    """``--prices``."""
    return click.option(
        "--prices",
        "prices_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="AI_LEDGER_PRICES",
        show_envvar=True,
        help="A TOML or JSON file of your own prices, which come before the shipped ones.",
    )(command)


def table_of(prices_file: Path | None) -> PriceTable:
    """The prices of the file, before the shipped ones."""
    from ai_ledger.pricing import PriceTable

    return PriceTable.default() if prices_file is None else PriceTable.load(prices_file)


@click.command("prices")
@click.argument("model", required=False)
@prices_option
@click.option("--provider", help="Who answers: openai, azure, dashscope, deepseek, …")
@click.option("--at", metavar="WHEN", help="For a call that started then; now, when left out.")
@click.option("--tier", help="The service tier that serves the call: flex, priority, batch, …")
@tz_option
@json_option
def prices_command(
    model: str | None,
    prices_file: Path | None,
    provider: str | None,
    at: str | None,
    tier: str | None,
    zone: tzinfo,
    as_json: bool,
) -> None:
    """
    List prices, or the one that a call is charged by.

    Your own prices come first, then the shipped ones, then the list prices of
    genai-prices, which are too many to be listed here but are found for a MODEL.

    \b
    Examples:
      ai-ledger prices
      ai-ledger prices gpt-4o --provider openai
      ai-ledger prices qwen-plus --at 2025-12-01 --prices prices.toml

    Rates are per million tokens. Exit code 1 when MODEL has no price.
    """
    table = table_of(prices_file)
    if model is None:
        _list(list(table), as_json=as_json)
        return
    moment = Period.of(None, at, None, zone).since or datetime.now(UTC)
    price = table.find(provider, model, moment, service_tier=tier)
    if price is None:
        raise NothingFound(
            f"no price for {model} at {provider or 'any provider'}: its calls are unpriced. "
            "Add one to a price file, or in code with PriceTable.add"
        )
    if as_json:
        render.print_json(_plain(price))
        return
    _explain(price, zone)


def _plain(price: Price) -> dict[str, Any]:
    import msgspec

    return {"id": price.id, **msgspec.structs.asdict(price)}


def _list(prices: list[Price], *, as_json: bool) -> None:
    if as_json:
        render.print_json([_plain(price) for price in prices])
        return
    render.table(
        ("model", "provider", "input", "cached", "output", "currency", "from", "price id"),
        (
            [
                price.model,
                price.provider or "any",
                _rate(price.input_per_mtok),
                _rate(price.cache_read_per_mtok),
                _rate(price.output_per_mtok),
                price.currency,
                price.valid_from.date().isoformat() if price.valid_from else "always",
                price.id,
            ]
            for price in prices
        ),
        numbers=("input", "cached", "output"),
    )
    click.echo()
    click.echo("Per million tokens. What is not here is looked up in genai-prices (USD):")
    click.echo("  ai-ledger prices MODEL --provider NAME")


def _rate(rate: Decimal | None) -> str:
    return render.MISSING if rate is None else f"{rate:f}"


def _explain(price: Price, zone: tzinfo) -> None:
    from ai_ledger.pricing.price import RATE_FIELDS

    rows = [("price id", price.id), ("model", price.name or price.model)]
    rows.append(("provider", price.provider or "any"))
    if price.not_providers:
        rows.append(("not for", ", ".join(price.not_providers)))
    unit = f"{price.currency} per million tokens"
    for field in RATE_FIELDS:
        rate = getattr(price, field)
        if rate is not None:
            rows.append((field.removesuffix("_per_mtok").replace("_", " "), f"{rate:f} {unit}"))
    if price.per_call is not None:
        rows.append(("per call", f"{price.per_call:f} {price.currency}"))
    for tier in price.tiers:
        rates = ", ".join(
            f"{field.removesuffix('_per_mtok').replace('_', ' ')} {getattr(tier, field):f}"
            for field in RATE_FIELDS
            if getattr(tier, field) is not None
        )
        condition = f"above {tier.above_input_tokens:,} input tokens"
        named = f"service tier {tier.service_tier}" if tier.service_tier else ""
        when = condition if tier.above_input_tokens else named
        rows.append((when, rates))
    for name, moment in (("from", price.valid_from), ("until", price.valid_to)):
        if moment is not None:
            rows.append((name, render.moment(moment, zone)))
    rows += [
        (name, text)
        for name, text in (("source", price.source), ("checked", price.checked))
        if text
    ]
    render.pairs(rows)


@click.command("reprice")
@selection_options
@prices_option
@click.option("--apply", is_flag=True, help="Change the costs; without it, only say what would.")
@json_option
def reprice_command(
    selection: Selection,
    prices_file: Path | None,
    apply: bool,
    as_json: bool,
) -> None:
    """
    Price stored calls again, by the prices of now.

    Unpriced ones included; the catalogue's prices come first. Only shows what would
    change, unless --apply is given.
    The old cost is kept as a correction that `ai-ledger show` lists; costs that the
    provider stated stay. Applying it twice changes nothing the second time.

    \b
    Examples:
      ai-ledger reprice --days 30 --prices prices.toml
      ai-ledger reprice --since 2026-01-01 --apply
    """
    from ai_ledger.pricing import reprice
    from ai_ledger.pricing.stored import ledger_prices

    period = selection.period()
    store = open_store(selection.url)
    try:
        table = ledger_prices(table_of(prices_file), [store])
        report = reprice(
            store,
            table,
            scope=selection.org,
            since=period.since,
            until=period.until,
            where=where_of(selection.conditions),
            dry_run=not apply,
            now=datetime.now(UTC),
        )
    finally:
        close(store)
    if as_json:
        render.print_json(report)
        return
    _show(report, period)


def _show(report: RepriceReport, period: Period) -> None:
    click.echo(f"{report.checked:,} calls looked at, {period}")
    render.pairs(
        [
            ("changed" if not report.dry_run else "would change", render.count(report.changed)),
            ("of these without a price before", render.count(report.newly_priced)),
            ("still unpriced", render.count(report.unpriced)),
            ("stated by the provider, kept", render.count(report.kept_stated)),
            ("no price any more, kept", render.count(report.kept_without_price)),
            ("cost before", render.amounts(report.before)),
            ("cost after", render.amounts(report.after)),
        ]
    )
    if report.prices:
        click.echo()
        render.table(
            ("price id", "calls", "before", "after"),
            (
                [
                    change.price_id,
                    render.count(change.calls),
                    render.amounts(change.before),
                    render.amounts(change.after),
                ]
                for change in report.prices
            ),
            numbers=("calls", "before", "after"),
        )
    if report.dry_run and report.changed:
        click.echo("\nNothing was changed. To change it, give the same command with --apply.")
