"""What ``providers`` and ``models`` have in common: the catalogue in a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ai_ledger.catalog.entries import Kind
from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    by_option,
    database_of,
    json_option,
    tz_option,
    url_option,
    version_option,
)

if TYPE_CHECKING:
    from ai_ledger.catalog import Catalog, ModelEntry, ProviderEntry, TestResult


def catalog_of(url: str) -> Catalog:
    """The catalogue in the first database among the URLs in *url*."""
    from ai_ledger.catalog import Catalog

    return Catalog(database_of(url))


def add_common(group: click.Group, kind: Kind) -> None:
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
        done(kind, entry, as_json=as_json)

    return switch


def done(kind: Kind, entry: ProviderEntry | ModelEntry, *, as_json: bool) -> None:
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


def given(said: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options of a command those that were given, by name."""
    return {name: value for name, value in said.items() if value not in (None, ())}


def paired(option: str, texts: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """
    *known* with the values of ``NAME=VALUE``; an empty one takes the name away.

    Raises:
        click.UsageError: One of *texts* is not of that form.
    """
    values = dict(known)
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            # Not quoted: it may be a key.
            raise click.UsageError(f"{option}: expected NAME=VALUE")
        try:
            values[name] = json.loads(value) if value else None
        except ValueError:
            values[name] = value
    return {name: value for name, value in values.items() if value is not None}


def tell(results: list[TestResult], as_json: object) -> int:
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
