"""``tokens``: who may come into the console, from a terminal."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final, cast

import click
import msgspec

from ai_ledger.access import ROLES, AccessTokens, Role
from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    by_option,
    database_of,
    json_option,
    tz_option,
    url_option,
)

if TYPE_CHECKING:
    from ai_ledger.access import AccessToken

_AHEAD: Final = re.compile(r"(\d{1,5})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


def _tokens_of(url: str) -> AccessTokens:
    return AccessTokens(database_of(url))


@click.group("tokens")
def tokens_command() -> None:
    """
    Make, list and revoke access tokens of the console.

    \b
    Examples:
      ai-ledger tokens add ada --role admin --prompts
      ai-ledger tokens add acme-dashboard --org acme --expires 90d
      ai-ledger tokens revoke 3
    """


@tokens_command.command("add")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(ROLES), default="viewer", show_default=True,
    help="viewer sees; operator also sees to calls and alerts; admin changes what is kept.",
)  # fmt: skip
@click.option("--org", metavar="ID", help="Only this organisation is seen; all, if left out.")
@click.option("--prompts", is_flag=True, help="Prompts and answers are shown, too.")
@click.option(
    "--expires", metavar="WHEN", help="In 12h, 90d or 8w, or on 2026-12-31; never, if left out."
)
@tz_option
@by_option
@url_option
@json_option
def add_command(
    name: str,
    role: str,
    org: str | None,
    prompts: bool,
    expires: str | None,
    zone: tzinfo,
    by: str | None,
    url: str,
    as_json: bool,
) -> None:
    """
    Make a token for NAME, and print it: it is shown this once.

    NAME signs the edits that are made with it. Whoever has the token can do what
    it may do; keep it as a password. It is good at once, also for a console that runs.

    \b
    Examples:
      ai-ledger tokens add ada --role admin --prompts
      ai-ledger tokens add acme-dashboard --org acme --expires 90d

    With --json: {"text": …, "token": {…}}.
    """
    text, token = _tokens_of(url).add(
        name,
        role=cast("Role", role),
        org_id=org,
        prompts=prompts,
        expires_at=None if expires is None else _moment(expires, zone),
        by=by,
    )
    if as_json:
        render.print_json({"text": text, "token": _plain(token, datetime.now(UTC))})
        return
    # The text alone on standard output, so that it can be piped to where it is kept.
    click.echo(text)
    click.echo(f"token {token.id} of {render.clean(token.name)}, shown this once", err=True)


@tokens_command.command("list")
@click.option("--all", "all_", is_flag=True, help="Those that were revoked or have expired, too.")
@url_option
@tz_option
@json_option
def list_command(all_: bool, url: str, zone: tzinfo, as_json: bool) -> None:
    """
    List tokens, the newest first: whose, what they may, and when they were last used.

    \b
    Example:
      ai-ledger tokens list --all

    Exit code 1 when there are none.
    """
    now = datetime.now(UTC)
    found = [each for each in _tokens_of(url).list() if all_ or each.state(now) == "active"]
    if not found:
        raise NothingFound("there are no access tokens: make one with `ai-ledger tokens add`")
    if as_json:
        render.print_json([_plain(each, now) for each in found])
        return
    render.table(
        ("id", "name", "text", "role", "organisation", "prompts", "state", "until", "last used"),
        [
            [
                str(each.id),
                render.clean(each.name),
                f"…{each.hint}",
                each.role,
                "all" if each.org_id is None else render.shown(each.org_id),
                "yes" if each.prompts else "no",
                each.state(now),
                render.moment(each.expires_at, zone) if each.expires_at else "",
                render.moment(each.last_used_at, zone) if each.last_used_at else "never",
            ]
            for each in found
        ],
        numbers=("id",),
        spare=("until", "text"),
    )


@tokens_command.command("revoke")
@click.argument("id", type=click.IntRange(1))
@by_option
@url_option
@json_option
def revoke_command(id: int, by: str | None, url: str, as_json: bool) -> None:
    """
    Make a token worth nothing, for good, and end the sessions begun with it.

    \b
    Example:
      ai-ledger tokens revoke 3

    Exit code 1 when there is no such token.
    """
    token = _tokens_of(url).revoke(id, by=by)
    if as_json:
        render.print_json(_plain(token, datetime.now(UTC)))
    else:
        click.echo(f"token {token.id} of {render.clean(token.name)} is revoked")


def _plain(token: AccessToken, now: datetime) -> dict[str, Any]:
    return {**msgspec.structs.asdict(token), "state": token.state(now)}


def _moment(text: str, zone: tzinfo) -> datetime:
    from ai_ledger.stats.calendar import day_start

    ahead = _AHEAD.fullmatch(text.strip())
    try:
        if ahead:
            return datetime.now(UTC) + timedelta(**{_UNITS[ahead[2]]: int(ahead[1])})
        return day_start(date.fromisoformat(text.strip()), zone)
    except (ValueError, OverflowError):
        raise click.UsageError(f"--expires {text!r}: expected 12h, 90d, 8w or 2026-12-31") from None
