"""``models``: what answers calls and at what price, read, edited and tested from a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ai_ledger.catalog.entries import API_TYPES, ENTRY_STATUSES
from ai_ledger.cli import render
from ai_ledger.cli.catalog import add_common, catalog_of, done, given, paired, tell
from ai_ledger.cli.options import (
    F,
    NothingFound,
    by_option,
    database_of,
    json_option,
    url_option,
    version_option,
)

if TYPE_CHECKING:
    from ai_ledger.catalog import ModelEntry


def _fields(command: F) -> F:
    for option in (
        click.option("--status", type=click.Choice(ENTRY_STATUSES), help="Enabled, if left out."),
        click.option(
            "--price",
            "prices",
            multiple=True,
            metavar="KEY=VALUE,…",
            help="A price, such as currency=CNY,per=1000,input=0.002,output=0.008,"
            "valid_from=2026-01-01; repeat for more. The keys are those of a price file.",
        ),
        click.option("--context-size", type=int, metavar="TOKENS", help="What it can attend to."),
        click.option(
            "--timeout", "timeout_s", type=float, metavar="SECONDS", help="How long calls may take."
        ),
        click.option(
            "--parameter",
            "parameters",
            multiple=True,
            metavar="NAME=VALUE",
            help="What requests say when the caller does not, such as temperature=0.7; repeat for "
            "more. VALUE is JSON or a text; NAME= takes it away.",
        ),
        click.option("--api-type", type=click.Choice(API_TYPES), help="Which client calls it."),
        click.option("--api-url", metavar="URL", help="Where it is called."),
        click.option("--display-name", metavar="TEXT", help="How people call it."),
    ):
        command = option(command)
    return command


def _price(text: str) -> dict[str, Any]:
    price: dict[str, Any] = {}
    for part in text.replace(",", " ").split():
        key, sign, value = part.partition("=")
        if not key or not sign or key in price:
            raise click.UsageError("--price: expected KEY=VALUE,… with each key once")
        price[key] = int(value) if key == "per" and value.isdecimal() else value
    return price


@click.group("models")
def models_command() -> None:
    """
    List, edit and test the catalogue's models.

    \b
    Examples:
      ai-ledger models add deepseek-chat --provider deepseek --api-url https://api.deepseek.com
      ai-ledger models test deepseek-chat
      ai-ledger models disable deepseek-chat
    """


@models_command.command("list")
@click.option("--provider", metavar="NAME", help="Only this provider's.")
@click.option("--all", "deleted", is_flag=True, help="Those that were removed, too.")
@url_option
@json_option
def list_models(provider: str | None, deleted: bool, url: str, as_json: bool) -> None:
    """
    List models by provider and name, with the prices of now.

    Exit code 1 when there are none.
    """
    found = catalog_of(url).models(provider=provider, deleted=deleted)
    if as_json:
        render.print_json([each.to_dict() for each in found])
    elif found:
        now = datetime.now(UTC)
        render.table(
            (
                "model",
                "provider",
                "status",
                "context",
                "timeout",
                "input",
                "output",
                "currency",
                "version",
            ),
            (
                [
                    each.name,
                    each.provider,
                    each.status,
                    render.count(each.context_size),
                    render.MISSING if each.timeout_s is None else f"{each.timeout_s:g} s",
                    *_rates(each, now),
                    str(each.version),
                ]
                for each in found
            ),
            numbers=("context", "timeout", "input", "output", "version"),
            spare=("version", "timeout", "context"),
        )
    if not found:
        raise NothingFound("there are no models: add one with `ai-ledger models add`")


def _rates(model: ModelEntry, now: datetime) -> list[str]:
    from ai_ledger.pricing.match import Series

    price = Series(model.prices).at(now)
    if price is None:
        return [render.MISSING] * 3
    rates = (price.input_per_mtok, price.output_per_mtok)
    return [*(render.MISSING if rate is None else f"{rate:f}" for rate in rates), price.currency]


@models_command.command("add")
@click.argument("name")
@click.option("--provider", required=True, metavar="NAME", help="Who answers.")
@_fields
@by_option
@url_option
@json_option
def add_model(
    name: str, provider: str, by: str | None, url: str, as_json: bool, **said: Any
) -> None:
    """
    Add a model of a provider.

    \b
    Example:
      ai-ledger models add deepseek-chat --provider deepseek --api-url https://api.deepseek.com \\
        --timeout 60 --price currency=CNY,per=1000,input=0.002,output=0.008
    """
    fields = {
        **given(said),
        "parameters": paired("--parameter", said["parameters"], {}),
        "prices": [_price(each) for each in said["prices"]],
    }
    entry = catalog_of(url).add_model(name, provider=provider, by=by, **fields)
    done("model", entry, as_json=as_json)


@models_command.command("edit")
@click.argument("name")
@click.option("--provider", metavar="NAME", help="Who answers.")
@_fields
@click.option("--no-prices", is_flag=True, help="Without the prices that it had.")
@version_option
@by_option
@url_option
@json_option
def edit_model(
    name: str,
    no_prices: bool,
    version: int | None,
    by: str | None,
    url: str,
    as_json: bool,
    **said: Any,
) -> None:
    """
    Change what is named, and leave the rest. A --price is one more.

    \b
    Example:
      ai-ledger models edit deepseek-chat --timeout 120 \\
        --price currency=CNY,per=1000,input=0.001,output=0.004,valid_from=2026-01-01

    Exit code 1 when there is none, 2 when somebody else was quicker.
    """
    catalog = catalog_of(url)
    seen = catalog.model(name)
    fields = given(said)
    if "parameters" in fields:
        fields["parameters"] = paired("--parameter", fields["parameters"], seen.parameters)
    if "prices" in fields or no_prices:
        kept = () if no_prices else seen.prices
        fields["prices"] = [*kept, *(_price(each) for each in said["prices"])]
    at = seen.version if version is None else version
    done("model", catalog.edit_model(name, version=at, by=by, **fields), as_json=as_json)


@models_command.command("test")
@click.argument("name")
@click.option(
    "--operation",
    type=click.Choice(("chat", "embeddings")),
    default="chat",
    show_default=True,
    help="What to ask it for.",
)
@url_option
@json_option
def try_model(name: str, operation: str, url: str, as_json: bool) -> int:
    """
    Make one small real call to a model. It goes on the books.

    \b
    Example:
      ai-ledger models test deepseek-chat

    Exit code 1 when it does not answer.
    """
    from ai_ledger.ledger import Ledger

    catalog = catalog_of(url)
    with Ledger(database_of(url)) as ledger:
        result = catalog.test(name, operation=operation, ledger=ledger)
    return tell([result], result if as_json else None)


add_common(models_command, "model")
