"""``init``, ``forget`` and ``db``: making a ledger, erasing people from it, keeping it sound."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    close,
    json_option,
    local_path,
    open_store,
    org_option,
    url_option,
    where_of,
)
from ai_ledger.errors import ConfigurationError
from ai_ledger.sinks import open_sink

_PRICES: Final = """\
# Your own prices. They come before the shipped ones and the public list prices:
#
#   from ai_ledger import Ledger, PriceTable
#   ledger = Ledger(prices=PriceTable.load("{name}"))
#
# and for the command: ai-ledger reprice --prices {name}

currency = "CNY"   # a code of ISO 4217; each entry may have its own
per = 1000         # rates below are for this many tokens: 1, 1000 or 1000000

[[prices]]
model = "my-model"            # or a pattern: "my-model-*"
# provider = "my-provider"    # left out: any
input = 0.0004
# cache_read = 0.0001
output = 0.002
# valid_from = 2026-01-01     # a new rate is a new entry; yesterday's call keeps yesterday's
source = "an example: put your own in its place"
"""


@click.command("init")
@url_option
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("ai_ledger_prices.toml"),
    show_default=True,
    help="Where the starter of your price file goes; never written over.",
)
def init_command(url: str, prices_file: Path) -> None:
    """
    Make an empty ledger and a commented price file.

    Says what to add to a program. What is there already is left as it is.

    \b
    Example:
      ai-ledger init --url sqlite:///ai_ledger.db
    """
    for one in url.split():
        _make(one)
    try:
        with prices_file.open("x", encoding="utf-8") as file:
            file.write(_PRICES.format(name=prices_file.name))
        click.echo(f"made {prices_file}: your own prices go there")
    except FileExistsError:
        click.echo(f"kept {prices_file}, which was there")
    click.echo("\nAdd to your program:\n")
    click.echo("    from openai import OpenAI")
    click.echo("    from ai_ledger import TrackedClient")
    click.echo(f"    client = TrackedClient(OpenAI())     # export AI_LEDGER_URL='{_safe(url)}'")
    click.echo("\nThen look with `ai-ledger report`; `ai-ledger demo` shows it all at once.")


def _make(url: str) -> None:
    path = local_path(url)
    if url.startswith("sqlite") and path is not None:
        from ai_ledger.database.upgrade import check, upgrade

        there = check(url) != "none"
        if not there:
            upgrade(url)
        click.echo(f"kept {path}, which was there" if there else f"made {path}")
        return
    open_sink(url)  # refuses a URL that cannot be
    if _is_database(url):
        click.echo(f"a server's tables are made with: ai-ledger db upgrade --url '{_safe(url)}'")
    else:
        click.echo(f"{_safe(url)} needs no preparation")


def _is_database(url: str) -> bool:
    family = url.partition(":")[0].partition("+")[0].lower()
    return family in ("sqlite", "postgresql", "postgres", "mysql", "mariadb")


def _safe(url: str) -> str:
    from ai_ledger.database.address import to_type
    from ai_ledger.secrets import scrub

    return render.clean(to_type(url) if _is_database(url) else scrub(url))


@click.command("forget")
@url_option
@org_option
@click.option("--user", "user_id", metavar="ID", help="Everything of this user.")
@click.option("--device", "device_id", metavar="ID", help="Everything of this device.")
@click.option("--session", "session_id", metavar="ID", help="Everything of this session.")
@click.option(
    "--where", "conditions", multiple=True, metavar="FIELD=VALUE", help="As in `ai-ledger calls`."
)
@click.option("--yes", is_flag=True, help="Do not ask first.")
@json_option
def forget_command(
    url: str,
    org: str | None,
    user_id: str | None,
    device_id: str | None,
    session_id: str | None,
    conditions: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """
    Erase content and identity of someone's calls, for good.

    Prompts, answers, ids, tags and error messages go, from the store and from
    what still waits in the journal. Counts, tokens and costs stay, so the totals
    do not change. There is no way back.

    \b
    Example:
      ai-ledger forget --user u-42

    With --json: {"forgotten": N}. Exit code 1 when no call fits.
    """
    from ai_ledger.ledger import Ledger
    from ai_ledger.query import Query

    who = where_of(conditions)
    named = {"user_id": user_id, "device_id": device_id, "session_id": session_id, "org_id": org}
    given = {name: value for name, value in named.items() if value is not None}
    if not given.keys() - {"org_id"} and not who:
        raise click.UsageError("say whose calls: --user, --device, --session or --where")
    if twice := given.keys() & who.keys():
        raise click.UsageError(f"{', '.join(sorted(twice))}: given twice")
    who |= given
    store = open_store(url)
    try:
        count = sum(
            group.totals.calls
            for deleted in (False, True)
            for group in store.aggregate(Query.build(scope=org, where=who, deleted=deleted))
        )
    finally:
        close(store)
    if not yes:
        whom = ", ".join(f"{name}={render.clean(str(value))}" for name, value in given.items())
        whose = f" ({whom})" if whom else ""
        click.echo(
            f"This erases content and identity of {count:,} calls{whose} for good.", err=True
        )
        click.confirm("Go on?", abort=True, err=True)
    # Through a ledger, because some of it may still wait in the journal.
    with Ledger(url.split() if " " in url else url) as ledger:
        forgotten = ledger.forget(**who)
    if as_json:
        render.print_json({"forgotten": forgotten})
    if not forgotten:
        raise NothingFound("no call fits")
    if not as_json:
        click.echo(f"{forgotten:,} calls forgotten")


@click.group("db")
def db_command() -> None:
    """
    Make, upgrade and check the tables of a database.

    \b
    Examples:
      ai-ledger db upgrade --url postgresql://ledger@db/ai
      ai-ledger db check
    """


@db_command.command("upgrade")
@url_option
def upgrade_command(url: str) -> None:
    """
    Make the tables, or bring them to this version. Harmless when repeated.

    Several processes may do it at once. Take a backup before upgrading a
    database that matters.

    \b
    Example:
      ai-ledger db upgrade --url postgresql://ledger@db/ai
    """
    from ai_ledger.database.upgrade import upgrade

    version = upgrade(_database(url))
    click.echo(f"the tables are those of this version ({version})")


@db_command.command("check")
@url_option
@click.option(
    "--totals", is_flag=True, help="Also sum up every call anew and compare; reads all of them."
)
@json_option
def check_command(url: str, totals: bool, as_json: bool) -> None:
    """
    Say whether the tables are those of this version. Changes nothing.

    \b
    Example:
      ai-ledger db check --totals

    With --json: {"tables": …, "wrong_totals": …}. Exit code 1 when the tables
    are older, newer or missing, or totals are wrong; 3 when the database is away.
    """
    from ai_ledger.database.upgrade import check

    state = check(_database(url))
    if state == "none":
        open_store(url)  # says so when there is not even a file
    wrong = _wrong_totals(url) if totals and state == "current" else []
    if as_json:
        render.print_json({"tables": state, "wrong_totals": wrong})
    if state != "current":
        remedy = {
            "newer": "they were made by a newer version of ai-ledger: upgrade the package",
            "older": "they are of an older version: run `ai-ledger db upgrade`",
            "none": "there are none: run `ai-ledger db upgrade`",
        }
        raise NothingFound(f"the tables: {remedy[state]}")
    if wrong:
        raise NothingFound(f"totals do not equal the calls: {', '.join(wrong)}")
    if not as_json:
        click.echo("the tables are those of this version" + (", the totals right" * totals))


_SUMMED: Final = ("request_model", "provider", "user_id", "function", "business_type", "org_id")


def _wrong_totals(url: str) -> list[str]:
    """The groupings whose totals differ from the sum of their calls."""
    from ai_ledger.query import Query
    from ai_ledger.totals import Totals, value_of

    query = Query.build(scope=None)
    store = open_store(url)
    try:
        summed: dict[str, dict[str | None, Totals]] = {field: {} for field in _SUMMED}
        for batch in store.scan(query):
            for record in batch:
                for field, sums in summed.items():
                    sums.setdefault(value_of(record, field), Totals()).add_record(record)
        return [
            field
            for field, sums in summed.items()
            if {group.key[0]: group.totals for group in store.aggregate(query, (field,))} != sums
        ]
    finally:
        close(store)


def _database(url: str) -> str:
    if len(url.split()) != 1 or not _is_database(url):
        raise ConfigurationError(f"--url {url}: name one database; others have no tables")
    return url
