"""``providers``: who answers calls, read and edited from a terminal."""

from __future__ import annotations

from typing import Any

import click

from ai_ledger.catalog.entries import ENTRY_STATUSES, PROVIDER_TYPES
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


def _fields(command: F) -> F:
    for option in (
        click.option("--default/--no-default", default=None, help="Whether it is the default."),
        click.option("--sort-order", type=int, metavar="N", help="In lists, the smallest first."),
        click.option("--status", type=click.Choice(ENTRY_STATUSES), help="Enabled, if left out."),
        click.option(
            "--setting",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="What its platform needs, such as api_key=env:DEEPSEEK_API_KEY; repeat for more. "
            "VALUE is JSON or a text; NAME= takes it away.",
        ),
        click.option("--type", type=click.Choice(PROVIDER_TYPES), help="Where it is."),
        click.option("--site", metavar="URL", help="Where people read about it."),
        click.option("--description", metavar="TEXT", help="For people."),
        click.option("--display-name", metavar="TEXT", help="How people call it."),
    ):
        command = option(command)
    return command


@click.group("providers")
def providers_command() -> None:
    """
    List and edit who answers calls: the catalogue's providers.

    \b
    Examples:
      ai-ledger providers add deepseek --setting api_key=env:DEEPSEEK_API_KEY
      ai-ledger providers disable deepseek
    """


@providers_command.command("list")
@click.option("--all", "deleted", is_flag=True, help="Those that were removed, too.")
@url_option
@json_option
def list_providers(deleted: bool, url: str, as_json: bool) -> None:
    """
    List providers in their order.

    Exit code 1 when there are none.
    """
    catalog = catalog_of(url)
    found = catalog.providers(deleted=deleted)
    if as_json:
        render.print_json([each.to_dict() for each in found])
    elif found:
        counts: dict[str, int] = {}
        for model in catalog.models():
            counts[model.provider] = counts.get(model.provider, 0) + 1
        render.table(
            ("provider", "called", "type", "status", "models", "default", "version"),
            (
                [
                    each.name,
                    render.shown(each.display_name),
                    each.type,
                    each.status,
                    str(counts.get(each.name, 0)),
                    "yes" if each.default else "",
                    str(each.version),
                ]
                for each in found
            ),
            numbers=("models", "version"),
            spare=("called", "version"),
        )
    if not found:
        raise NothingFound("there are no providers: add one with `ai-ledger providers add`")


@providers_command.command("add")
@click.argument("name")
@_fields
@by_option
@url_option
@json_option
def add_provider(name: str, by: str | None, url: str, as_json: bool, **said: Any) -> None:
    """
    Add a provider. Keys stay in environment variables.

    \b
    Example:
      ai-ledger providers add dashscope --type domestic --setting api_key=env:DASHSCOPE_API_KEY
    """
    fields = {**given(said), "settings": paired("--setting", said["settings"], {})}
    done("provider", catalog_of(url).add_provider(name, by=by, **fields), as_json=as_json)


@providers_command.command("edit")
@click.argument("name")
@_fields
@version_option
@by_option
@url_option
@json_option
def edit_provider(
    name: str, version: int | None, by: str | None, url: str, as_json: bool, **said: Any
) -> None:
    """
    Change what is named, and leave the rest. An empty text takes a field away.

    \b
    Example:
      ai-ledger providers edit dashscope --display-name 阿里云百炼 --version 3

    Exit code 1 when there is none, 2 when somebody else was quicker.
    """
    catalog = catalog_of(url)
    seen = catalog.provider(name)
    fields = given(said)
    if "settings" in fields:
        fields["settings"] = paired("--setting", fields["settings"], seen.settings)
    at = seen.version if version is None else version
    done("provider", catalog.edit_provider(name, version=at, by=by, **fields), as_json=as_json)


@providers_command.command("test")
@click.argument("name")
@url_option
@json_option
def try_provider(name: str, url: str, as_json: bool) -> int:
    """
    Make one small real call to each enabled model of a provider.

    Exit code 1 when one does not answer, or there is none.
    """
    from ai_ledger.ledger import Ledger

    catalog = catalog_of(url)
    catalog.provider(name)
    names = [each.name for each in catalog.models(provider=name) if each.status == "enabled"]
    if not names:
        raise NothingFound(f"provider {name} has no enabled models")
    with Ledger(database_of(url)) as ledger:
        results = [catalog.test(each, ledger=ledger) for each in names]
    return tell(results, results if as_json else None)


add_common(providers_command, "provider")
