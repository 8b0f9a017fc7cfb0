"""``export`` and ``import``: calls from one store to another, and from files of other systems."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    Selection,
    close,
    json_option,
    open_store,
    selection_options,
)
from ai_ledger.errors import ConfigurationError
from ai_ledger.sinks import Sink, Store, open_sink
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.sinks.url import SCHEMES

if TYPE_CHECKING:
    from ai_ledger.query import Query
    from ai_ledger.transfer import TransferReport

_SHOWN = 10


@click.command("export")
@click.argument("target", metavar="TARGET_URL")
@selection_options
@json_option
def export_command(
    target: str,
    selection: Selection,
    as_json: bool,
) -> None:
    """
    Copy calls from the ledger to another store.

    Ids are kept, so doing it twice, or again after it was broken off, counts
    every call once. Prompts and answers go along; the target belongs to you.
    Deleted calls stay behind.

    \b
    Examples:
      ai-ledger export jsonl:///backup
      ai-ledger export postgresql://ledger@db/ai --since 2026-01-01
      ai-ledger export sqlite:///acme.db --org acme

    A spreadsheet is made by `ai-ledger report --write report.csv`. With --json:
    what became of the calls. Exit code 1 when there were none, or some were refused.
    """
    if target.split() == selection.url.split():
        raise click.UsageError("TARGET_URL is the ledger itself")
    _copy(selection.url, target, selection.query(), as_json)


@click.command("import")
@click.argument("source", metavar="SOURCE")
@selection_options
@json_option
def import_command(
    source: str,
    selection: Selection,
    as_json: bool,
) -> None:
    """
    Copy calls into the ledger.

    SOURCE is another store, or a JSON Lines file. A file may come from another
    system: names such as prompt_tokens or sn_code are understood, unknown ones
    become tags, times without a zone are those of --tz. Doing it twice counts every
    call once.

    \b
    Examples:
      ai-ledger import jsonl:///backup
      ai-ledger import old_calls.jsonl --tz Asia/Shanghai
      ai-ledger import sqlite:///laptop.db --url postgresql://ledger@db/ai

    The filters are for stores; a file is read whole. Exit code 1 when there was
    nothing, or lines were no calls or were refused: the others are in.
    """
    period = selection.period()
    if source.partition(":")[0].partition("+")[0].lower() in (*SCHEMES, "postgres"):
        if source.split() == selection.url.split():
            raise click.UsageError("SOURCE is the ledger itself")
        _copy(source, selection.url, selection.query(), as_json)
        return
    if selection.org or selection.conditions or period.since or period.until:
        raise click.UsageError("--org, --where and times are for stores; a file is read whole")
    from ai_ledger.transfer import import_jsonl

    target = _target(selection.url)
    try:
        with _progress(None) as told:
            report = import_jsonl(Path(source), target, tz=selection.zone, progress=told)
    finally:
        close(target)
    _show(report, as_json=as_json)


def _copy(source_url: str, target_url: str, query: Query, as_json: bool) -> None:
    from ai_ledger.transfer import transfer

    target = _target(target_url)
    source = open_store(source_url)
    try:
        try:
            with _progress(source, query) as told:
                report = transfer(source, target, query, progress=told)
        finally:
            close(target)
    finally:
        close(source)
    _show(report, as_json=as_json)


def _target(url: str) -> Sink:
    if len(url.split()) != 1:
        raise click.UsageError(f"name one store to write to, not {len(url.split())}")
    sink = open_sink(url)
    if isinstance(sink, MemorySink):
        raise ConfigurationError(f"{url}: nothing of it is left when this command has ended")
    if not isinstance(sink, Store):
        raise ConfigurationError(f"{url}: calls are copied between stores; this is none")
    return sink


@contextmanager
def _progress(
    source: Store | None, query: Query | None = None
) -> Generator[Callable[[int], None] | None]:
    """What to tell how many calls were read: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    total = None
    if source is not None and query is not None:
        total = sum(group.totals.calls for group in source.aggregate(query))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("calls", total=total)
        yield lambda read: progress.update(task, completed=read)


def _show(report: TransferReport, *, as_json: bool) -> None:
    if as_json:
        render.print_json(report)
    elif report.read or report.bad_lines:
        click.echo(f"{report.written:,} of {report.read:,} calls copied")
    problems = [
        *(f"line {line.number}: {line.reason}" for line in report.bad_lines),
        *(f"call {refusal.call_id}: {refusal.reason}" for refusal in report.refused),
    ]
    for problem in problems[:_SHOWN]:
        click.echo(f"  {render.clean(problem)}", err=True)
    if problems:
        raise NothingFound(f"{len(problems):,} were left out; the others are in the ledger")
    if not report.read:
        raise NothingFound("there was nothing to copy")
