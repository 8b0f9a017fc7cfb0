"""``demo``: the whole thing at once, without a key and without a network."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import Period, json_option
from ai_ledger.errors import MissingExtra


@click.command("demo")
@click.option(
    "--db", "path", type=click.Path(dir_okay=False, path_type=Path),
    help="The SQLite file; ai_ledger_demo.db here when left out, or in a temporary folder "
    "if nothing can be written here.",
)  # fmt: skip
@click.option(
    "--serve", "serves", is_flag=True,
    help="Then add the month before, a catalogue, budgets, words and alerts, and open the "
    "console over all of it, until Ctrl-C.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8700, show_default=True, metavar="N",
    help="With --serve: port to listen at; 0 for one that is free.",
)  # fmt: skip
@json_option
def demo_command(path: Path | None, serves: bool, port: int, as_json: bool) -> None:
    """
    Put some eighty calls on the books and show the report.

    A provider runs on loopback, so no key and no network are needed. The real
    openai SDK calls it through tracked clients, as several users, functions and
    models: prices in CNY and USD, one model without a price, some calls that
    fail, one stream that is given up, one budget that refuses what it has no money
    for. Takes a few seconds. Running it again adds to the same file; the report is
    about this run.

    \b
    Examples:
      ai-ledger demo --db /tmp/demo.db
      ai-ledger demo --serve       (pip install 'ai-ledger[all]')

    Exit code 1 when not all calls were delivered in time.
    """
    from datetime import UTC, datetime

    if find_spec("openai") is None:
        raise MissingExtra("the demo", "demo")
    if serves:
        _require_console()
    from ai_ledger.cli.options import close, open_store
    from ai_ledger.cli.reports import further, gather, show_report
    from ai_ledger.demo import run_demo
    from ai_ledger.ledger import Ledger
    from ai_ledger.stats import Stats

    path = path or _default_path()
    url = f"sqlite:///{path}"
    began = datetime.now(UTC)
    with Ledger(url) as ledger:
        run = run_demo(ledger)
    store = open_store(url)
    try:
        summary, groups = gather(Stats(store), Period(began, None))
    finally:
        close(store)
    if as_json:
        render.print_json({"url": url, "run": run, "summary": summary, "groups": groups})
    else:
        click.echo(f"{run.calls} calls of the openai SDK in {run.seconds:.1f} s, kept in {path}")
        if run.refusals:
            click.echo(
                f"{len(run.refusals)} of them were refused, and never sent: {run.refusals[0]}"
            )
        show_report(summary, groups)
        further(url)
        if not serves:
            click.echo(f"\nlook at it in the browser\n  ai-ledger serve --url {url}")
    if not run.delivered or summary.calls != run.calls:
        click.echo(f"ai-ledger: {summary.calls} of {run.calls} calls were delivered", err=True)
        raise click.exceptions.Exit(1)
    if serves:
        _serve(url, port)


def _require_console() -> None:
    """Before anything is done, so that nobody waits for the report to read this."""
    from importlib import import_module

    try:
        import_module("uvicorn")
        import_module("ai_ledger.web")
        # The month has rate windows and a list of words.
        import_module("limits")
        for module in ("ahocorasick_rs", "opencc", "pypinyin"):
            import_module(module)
    except ImportError as error:
        raise MissingExtra("the demo with the console", "all") from error


def _serve(url: str, port: int) -> None:
    """The console over what the demonstration has made, with a month of history."""
    from ai_ledger.demo import furnish
    from ai_ledger.ledger import Ledger
    from ai_ledger.web.serve import run

    with Ledger(url) as ledger:
        furnish(ledger)
    run(url, port=port, say=lambda line: click.echo(f"\n{line}", err=True))


def _default_path() -> Path:
    if os.access(".", os.W_OK):
        return Path("ai_ledger_demo.db")
    return Path(tempfile.mkdtemp(prefix="ai-ledger-demo-")) / "ai_ledger_demo.db"
