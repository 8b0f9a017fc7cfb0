"""``serve``: the console, on this machine or for others."""

from __future__ import annotations

from datetime import tzinfo

import click

from ai_ledger.cli.options import database_of, tz_option, url_option


@click.command("serve")
@url_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
    help="Address to listen at. Any but loopback needs an access token first.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8700, show_default=True, metavar="N",
    help="Port to listen at; 0 for one that is free.",
)  # fmt: skip
@tz_option
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME",
    help="A name under which it is reached, such as ledger.example; repeat for more. "
    "*.example is what is below it, * is any.",
)  # fmt: skip
@click.option(
    "--root-path", default="", metavar="PATH",
    help="Where a proxy shows it, such as /ai-ledger, if it takes this away from requests.",
)  # fmt: skip
@click.option(
    "--evaluate-alerts", "evaluate_alerts_s", type=click.FloatRange(min=1), metavar="SECONDS",
    help="Look at the rules of alerts this often; left out, only when somebody asks.",
)  # fmt: skip
@click.option("--open/--no-open", "browser", default=False, help="Open it in the browser.")
def serve_command(
    url: str,
    host: str,
    port: int,
    zone: tzinfo,
    hosts: tuple[str, ...],
    root_path: str,
    evaluate_alerts_s: float | None,
    browser: bool,
) -> None:
    """
    Serve the console: pages and a JSON API, until Ctrl-C.

    On loopback, whoever uses this machine is an administrator, until the first
    access token is made; see `ai-ledger tokens`.

    \b
    Examples:
      ai-ledger serve --open
      ai-ledger serve --host 0.0.0.0 --allow-host ledger.example

    Exit code 2 when the address is not to be had, or a token is missing.
    """
    from ai_ledger.web.serve import run

    database_of(url)
    run(
        url,
        host=host,
        port=port,
        tz=zone,
        hosts=hosts,
        root_path=root_path,
        browser=browser,
        evaluate_alerts_s=evaluate_alerts_s,
        say=lambda line: click.echo(line, err=True),
    )
