"""``providers`` and ``models``: the catalogue, read and edited from a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ai_ledger.catalog.entries import API_TYPES, ENTRY_STATUSES, PROVIDER_TYPES, Kind
from ai_ledger.cli import render
from ai_ledger.cli.options import (
    F,
    NothingFound,
    by_option,
    close,
    json_option,
    open_store,
    tz_option,
    url_option,
    version_option,
)

if TYPE_CHECKING:
    from ai_ledger.catalog import Catalog, ModelEntry, ProviderEntry, TestResult

_DATABASES: Final = ("sqlite", "postgres", "mysql", "mariadb")


def database_of(url: str) -> str:
    """
    The first database among the URLs in *url*; it must exist.

    Raises:
        click.UsageError: None of them is one.
    """
    for one in url.split():
        if one.startswith(_DATABASES):
            close(open_store(one))
            return one
    raise click.UsageError("--url: the catalogue needs sqlite:, postgresql: or mysql:")


def catalog_of(url: str) -> Catalog:
    """The catalogue in the first database among the URLs in *url*."""
    from ai_ledger.catalog import Catalog

    return Catalog(database_of(url))


def _provider_fields(command: F) -> F:
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
        click.option("--type", "type_", type=click.Choice(PROVIDER_TYPES), help="Where it is."),
        click.option("--site", metavar="URL", help="Where people read about it."),
        click.option("--description", metavar="TEXT", help="For people."),
        click.option("--display-name", metavar="TEXT", help="How people call it."),
    ):
        command = option(command)
    return command


def _model_fields(command: F) -> F:
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
        click.option("--timeout", type=float, metavar="SECONDS", help="How long calls may take."),
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


# What both have


def _common(group: click.Group, kind: Kind) -> None:
    """Give *group* the commands that providers and models have in common."""

    def add(name: str, text: str) -> Callable[[Callable[..., Any]], click.Command]:
        return group.command(name, help=text)

    @add("show", f"Everything about one {kind}.\n\nExit code 1 when there is none.")
    @click.argument("name")
    @url_option
    @tz_option
    @json_option
    def show(name: str, url: str, zone: tzinfo, as_json: bool) -> None:
        entry = getattr(catalog_of(url), kind)(name)
        if as_json:
            render.print_json(entry.to_dict())
        else:
            _show(entry, zone)

    for action, effect in (
        ("disable", f"Refuse calls to a {kind} from now on."),
        ("enable", f"Let calls to a {kind} through, also after it was removed."),
        ("remove", f"Mark a {kind} as deleted: no longer listed, its calls refused."),
    ):
        add(action, effect)(_switch(action, kind))

    @add("history", f"Who changed a {kind}, when, and from what to what; newest first.")
    @click.argument("name")
    @click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
    @url_option
    @tz_option
    @json_option
    def history(name: str, limit: int, url: str, zone: tzinfo, as_json: bool) -> None:
        _history(catalog_of(url), kind, name, limit, zone, as_json=as_json)

    @add(
        "import",
        "Make providers and models what a TOML file says, all or none.\n\n"
        "What is not in the file stays as it is.",
    )
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option("--dry-run", is_flag=True, help="Only say what would change.")
    @by_option
    @url_option
    @json_option
    def import_(file: Path, dry_run: bool, by: str | None, url: str, as_json: bool) -> None:
        _import(catalog_of(url), file, dry_run, by, as_json=as_json)

    @add(
        "export",
        f"Write the {'providers' if kind == 'provider' else 'providers and models'} as TOML, "
        "to FILE or the terminal.\n\nWithout what was removed; `import` reads it as the same.",
    )
    @click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
    @url_option
    def export(file: Path | None, url: str) -> None:
        text = catalog_of(url).export_toml(file, models=kind == "model")
        if file is None:
            click.echo(text, nl=False)


def _switch(action: str, kind: Kind) -> Callable[..., None]:
    @click.argument("name")
    @version_option
    @by_option
    @url_option
    @json_option
    def switch(name: str, version: int | None, by: str | None, url: str, as_json: bool) -> None:
        entry = getattr(catalog_of(url), f"{action}_{kind}")(name, by=by, version=version)
        _done(kind, entry, as_json=as_json)

    return switch


def _done(kind: Kind, entry: ProviderEntry | ModelEntry, *, as_json: bool) -> None:
    if as_json:
        render.print_json(entry.to_dict())
    else:
        click.echo(render.clean(f"{kind} {entry.name}: {entry.status}, version {entry.version}"))


def _show(entry: ProviderEntry | ModelEntry, zone: tzinfo) -> None:
    rows: list[tuple[str, str]] = []
    for name, value in entry.to_dict().items():
        if value in (None, {}, []):
            continue
        if name == "prices":
            rows += [
                ("price", " ".join(f"{key}={each}" for key, each in price.items()))
                for price in value
            ]
        elif name == "updated_at":
            assert entry.updated_at is not None
            rows.append(("updated at", render.moment(entry.updated_at, zone)))
        elif isinstance(value, (dict, bool)):
            rows.append((name.replace("_", " "), json.dumps(value, ensure_ascii=False)))
        else:
            rows.append((name.replace("_", " "), str(value)))
    render.pairs(rows)


def _history(
    catalog: Catalog, kind: Kind, name: str, limit: int, zone: tzinfo, *, as_json: bool
) -> None:
    changes = catalog.history(kind, name, limit=limit)
    if as_json:
        render.print_json(changes)
    else:
        render.changes(changes, zone)
    if not changes:
        raise NothingFound(f"nobody ever changed a {kind} {name}")


def _import(catalog: Catalog, file: Path, dry_run: bool, by: str | None, *, as_json: bool) -> None:
    report = catalog.import_toml(file, dry_run=dry_run, by=by)
    if as_json:
        render.print_json(report)
        return
    for change in report.added:
        click.echo(render.clean(f"+ {change.kind} {change.name}"))
    for change in report.changed:
        click.echo(render.clean(f"~ {change.kind} {change.name}: {', '.join(change.fields)}"))
    would = "would be " if dry_run else ""
    click.echo(
        f"{len(report.added)} {would}added, {len(report.changed)} {would}changed, "
        f"{report.unchanged} unchanged"
    )


def _assigned(option: str, texts: Iterable[str]) -> dict[str, Any]:
    """The values of ``NAME=VALUE`` by name; ``None`` for an empty one."""
    values: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            # Not quoted: it may be a key.
            raise click.UsageError(f"{option}: expected NAME=VALUE")
        try:
            values[name] = json.loads(value) if value else None
        except ValueError:
            values[name] = value
    return values


def _merged(known: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**known, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _price(text: str) -> dict[str, Any]:
    price: dict[str, Any] = {}
    for part in text.replace(",", " ").split():
        key, sign, value = part.partition("=")
        if not key or not sign or key in price:
            raise click.UsageError("--price: expected KEY=VALUE,… with each key once")
        price[key] = int(value) if key == "per" and value.isdecimal() else value
    return price


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# Providers


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
@_provider_fields
@by_option
@url_option
@json_option
def add_provider(
    name: str,
    display_name: str | None,
    description: str | None,
    site: str | None,
    type_: str | None,
    settings: tuple[str, ...],
    status: str | None,
    sort_order: int | None,
    default: bool | None,
    by: str | None,
    url: str,
    as_json: bool,
) -> None:
    """
    Add a provider. Keys stay in environment variables.

    \b
    Example:
      ai-ledger providers add dashscope --type domestic --setting api_key=env:DASHSCOPE_API_KEY
    """
    fields = _given(
        display_name=display_name,
        description=description,
        site=site,
        type=type_,
        status=status,
        sort_order=sort_order,
        default=default,
    )
    fields["settings"] = _merged({}, _assigned("--setting", settings))
    _done("provider", catalog_of(url).add_provider(name, by=by, **fields), as_json=as_json)


@providers_command.command("edit")
@click.argument("name")
@_provider_fields
@version_option
@by_option
@url_option
@json_option
def edit_provider(
    name: str,
    display_name: str | None,
    description: str | None,
    site: str | None,
    type_: str | None,
    settings: tuple[str, ...],
    status: str | None,
    sort_order: int | None,
    default: bool | None,
    version: int | None,
    by: str | None,
    url: str,
    as_json: bool,
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
    fields = _given(
        display_name=display_name,
        description=description,
        site=site,
        type=type_,
        status=status,
        sort_order=sort_order,
        default=default,
    )
    if settings:
        fields["settings"] = _merged(seen.settings, _assigned("--setting", settings))
    at = seen.version if version is None else version
    _done("provider", catalog.edit_provider(name, version=at, by=by, **fields), as_json=as_json)


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
    return _tell(results, results if as_json else None)


# Models


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
@_model_fields
@by_option
@url_option
@json_option
def add_model(
    name: str,
    provider: str,
    display_name: str | None,
    api_url: str | None,
    api_type: str | None,
    parameters: tuple[str, ...],
    timeout: float | None,
    context_size: int | None,
    prices: tuple[str, ...],
    status: str | None,
    by: str | None,
    url: str,
    as_json: bool,
) -> None:
    """
    Add a model of a provider.

    \b
    Example:
      ai-ledger models add deepseek-chat --provider deepseek --api-url https://api.deepseek.com \\
        --timeout 60 --price currency=CNY,per=1000,input=0.002,output=0.008
    """
    fields = _given(
        display_name=display_name,
        api_url=api_url,
        api_type=api_type,
        timeout_s=timeout,
        context_size=context_size,
        status=status,
    )
    fields["parameters"] = _merged({}, _assigned("--parameter", parameters))
    fields["prices"] = [_price(each) for each in prices]
    entry = catalog_of(url).add_model(name, provider=provider, by=by, **fields)
    _done("model", entry, as_json=as_json)


@models_command.command("edit")
@click.argument("name")
@click.option("--provider", metavar="NAME", help="Who answers.")
@_model_fields
@click.option("--no-prices", is_flag=True, help="Without the prices that it had.")
@version_option
@by_option
@url_option
@json_option
def edit_model(
    name: str,
    provider: str | None,
    display_name: str | None,
    api_url: str | None,
    api_type: str | None,
    parameters: tuple[str, ...],
    timeout: float | None,
    context_size: int | None,
    prices: tuple[str, ...],
    status: str | None,
    no_prices: bool,
    version: int | None,
    by: str | None,
    url: str,
    as_json: bool,
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
    fields = _given(
        provider=provider,
        display_name=display_name,
        api_url=api_url,
        api_type=api_type,
        timeout_s=timeout,
        context_size=context_size,
        status=status,
    )
    if parameters:
        fields["parameters"] = _merged(seen.parameters, _assigned("--parameter", parameters))
    if prices or no_prices:
        kept = () if no_prices else seen.prices
        fields["prices"] = [*kept, *(_price(each) for each in prices)]
    at = seen.version if version is None else version
    _done("model", catalog.edit_model(name, version=at, by=by, **fields), as_json=as_json)


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
    return _tell([result], result if as_json else None)


def _tell(results: list[TestResult], as_json: object) -> int:
    """Show *results*, or the JSON of *as_json* in their place; the exit code."""
    if as_json is not None:
        render.print_json(as_json)
    else:
        render.table(
            ("model", "result", "latency", "answered by", "tokens", "cost", "error"),
            (
                [
                    each.model,
                    "ok" if each.ok else each.status,
                    render.milliseconds(each.latency_ms),
                    render.shown(each.response_model),
                    render.count(_tokens(each)),
                    render.amount(each.cost, each.currency),
                    each.error or "",
                ]
                for each in results
            ),
            numbers=("latency", "tokens", "cost"),
            spare=("tokens", "answered by"),
        )
    return 0 if all(each.ok for each in results) else 1


def _tokens(result: TestResult) -> int | None:
    known = [each for each in (result.input_tokens, result.output_tokens) if each is not None]
    return sum(known) if known else None


_common(providers_command, "provider")
_common(models_command, "model")
