"""``quotas``: which organisation may use which model, read and edited from a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    F,
    NothingFound,
    Period,
    by_option,
    database_of,
    json_option,
    tz_option,
    url_option,
)

if TYPE_CHECKING:
    from ai_ledger.policies.quotas import ModelSwitch, Quota, Quotas


def quotas_of(url: str) -> Quotas:
    """The quotas in the first database among the URLs in *url*."""
    from ai_ledger.policies.quotas import Quotas

    return Quotas(database_of(url))


def _version_option(command: F) -> F:
    return click.option(
        "--version",
        type=int,
        metavar="N",
        help="Only if it is still at this version, which `list` tells; 0: only if it is new.",
    )(command)


@click.group("quotas")
def quotas_command() -> None:
    """
    List and edit which organisation may use which model.

    ORG is letter for letter, MODEL may be so but for capitals; '*' is each one
    without a row of its own.

    \b
    Examples:
      ai-ledger quotas set acme gpt-4o --tokens 2000000 --from 2026-01-01 --until 2026-04-01
      ai-ledger quotas set '*' gpt-4o --interval 0.5 --max-concurrent 4
      ai-ledger quotas switch-off gpt-4o
    """


@quotas_command.command("list")
@click.option("--org", metavar="ID", help="Only the rows of this organisation.")
@click.option("--use/--no-use", default=True, help="Tokens used and active users, or neither.")
@url_option
@tz_option
@json_option
def list_quotas(org: str | None, use: bool, url: str, zone: tzinfo, as_json: bool) -> None:
    """
    List quotas, with tokens used and active users, and what holds for models.

    Exit code 1 when there are none.
    """
    quotas = quotas_of(url)
    rows = [each for each in quotas.rows() if org in (None, each.org_id)]
    switches = quotas.switches() if org is None else []
    uses = [quotas.used(each.org_id, each.model) if use else None for each in rows]
    if as_json:
        render.print_json(
            {
                "quotas": [
                    {**msgspec.structs.asdict(row), **(msgspec.structs.asdict(of) if of else {})}
                    for row, of in zip(rows, uses, strict=True)
                ],
                "models": switches,
            }
        )
    elif rows:
        render.table(
            (
                "organisation",
                "model",
                "allowed",
                "tokens used",
                "of",
                "users",
                "from",
                "until",
                "interval",
                "rates",
                "in flight",
                "version",
            ),
            [
                [
                    row.org_id,
                    row.model,
                    "yes" if row.enabled else "no",
                    render.count(of.tokens_used if of else None),
                    render.count(row.tokens or None),
                    render.count(of.active_users if of else None),
                    _moment(row.valid_from, zone),
                    _moment(row.valid_until, zone),
                    f"{row.min_interval_s:g} s" if row.min_interval_s else render.MISSING,
                    row.rates or render.MISSING,
                    render.count(row.max_concurrent or None),
                    str(row.version),
                ]
                for row, of in zip(rows, uses, strict=True)
            ],
            numbers=("tokens used", "of", "users", "in flight", "version"),
            spare=("version", "rates", "interval", "in flight"),
        )
    if switches and not as_json:
        render.heading("Models, for everybody")
        render.table(
            ("model", "switched", "in flight", "version"),
            [
                [
                    each.model,
                    _switched(each),
                    render.count(each.max_concurrent or None),
                    str(each.version),
                ]
                for each in switches
            ],
            numbers=("in flight", "version"),
        )
    if not rows and not switches:
        raise NothingFound("there are no quotas")


@quotas_command.command("set")
@click.argument("org")
@click.argument("model")
@click.option("--tokens", type=int, metavar="N", help="From start to end; 0 for no limit.")
@click.option("--from", "start", metavar="WHEN", help="The first moment; `none`: always.")
@click.option("--until", "end", metavar="WHEN", help="The first moment after; `none`: for ever.")
@click.option(
    "--interval", type=float, metavar="SECONDS", help="From one call to the next; 0 for none."
)
@click.option("--rates", metavar="TEXT", help="Such as '60/minute; 1000 per day'; '' for none.")
@click.option("--max-concurrent", type=int, metavar="N", help="Calls in flight; 0 for no bound.")
@click.option(
    "--shared/--not-shared",
    default=None,
    help="Interval and calls in flight are those of all processes together, or of each.",
)
@click.option("--enabled/--disabled", default=None, help="Whether calls are allowed at all.")
@_version_option
@by_option
@url_option
@tz_option
@json_option
def set_quota(
    org: str,
    model: str,
    tokens: int | None,
    start: str | None,
    end: str | None,
    interval: float | None,
    rates: str | None,
    max_concurrent: int | None,
    shared: bool | None,
    enabled: bool | None,
    version: int | None,
    by: str | None,
    url: str,
    zone: tzinfo,
    as_json: bool,
) -> None:
    """
    Make a quota, or change what is said of it; the rest stays as it is.

    Exit code 2 when somebody else has changed it since --version.
    """
    given: dict[str, Any] = {
        "tokens": tokens,
        "min_interval_s": interval,
        "rates": rates,
        "max_concurrent": max_concurrent,
        "shared": shared,
        "enabled": enabled,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    for name, text in (("valid_from", start), ("valid_until", end)):
        if text is not None:
            fields[name] = None if text == "none" else Period.of(None, text, None, zone).since
    _done(quotas_of(url).set(org, model, version=version, by=by, **fields), as_json=as_json)


def _switch(name: str, effect: str) -> None:
    @quotas_command.command(name, help=effect)
    @click.argument("org")
    @click.argument("model")
    @_version_option
    @by_option
    @url_option
    @json_option
    def switch(
        org: str, model: str, version: int | None, by: str | None, url: str, as_json: bool
    ) -> None:
        edit: Callable[..., Quota] = getattr(quotas_of(url), name)
        _done(edit(org, model, version=version, by=by), as_json=as_json)


_switch("enable", "Allow the calls of a quota again.")
_switch("disable", "Refuse the calls of a quota from now on.")


@quotas_command.command("remove")
@click.argument("org")
@click.argument("model")
@_version_option
@by_option
@url_option
def remove_quota(org: str, model: str, version: int | None, by: str | None, url: str) -> None:
    """Take a quota away; its history stays."""
    quotas_of(url).remove(org, model, version=version, by=by)
    click.echo(render.clean(f"quota {org} / {model}: removed"))


@quotas_command.command("history")
@click.argument("org")
@click.argument("model", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How many edits at the most.",
)
@url_option
@tz_option
@json_option
def history(org: str, model: str | None, limit: int, url: str, zone: tzinfo, as_json: bool) -> None:
    """
    Who changed a quota, when, and from what to what; newest first.

    With one name alone: that of a model, and the history of its switch.
    """
    quotas = quotas_of(url)
    changes = quotas.history(*((None, org) if model is None else (org, model)), limit=limit)
    if as_json:
        render.print_json(changes)
    elif changes:
        rows: list[list[str]] = []
        for change in changes:
            before, after = change.before or {}, change.after or {}
            what = [
                f"{field}: {json.dumps(before.get(field))} -> {json.dumps(after.get(field))}"
                for field in after or before
                if before.get(field) != after.get(field)
            ]
            word = "made" if not before else "removed" if not after else "; ".join(what)
            rows.append(
                [render.moment(change.changed_at, zone), render.shown(change.changed_by), word]
            )
        render.table(("when", "who", "what"), rows)
    if not changes:
        raise NothingFound("nobody ever changed it")


@quotas_command.command("switch-off")
@click.argument("model")
@_version_option
@by_option
@url_option
@json_option
def switch_off(model: str, version: int | None, by: str | None, url: str, as_json: bool) -> None:
    """Refuse all calls of a model, whoever makes them, within two seconds everywhere."""
    _switched_now(quotas_of(url).switch_off(model, version=version, by=by), as_json=as_json)


@quotas_command.command("switch-on")
@click.argument("model")
@_version_option
@by_option
@url_option
@json_option
def switch_on(model: str, version: int | None, by: str | None, url: str, as_json: bool) -> None:
    """Allow a model again, to those whose quotas do."""
    _switched_now(quotas_of(url).switch_on(model, version=version, by=by), as_json=as_json)


@quotas_command.command("cap")
@click.argument("model")
@click.argument("number", type=click.IntRange(0))
@_version_option
@by_option
@url_option
@json_option
def cap(
    model: str, number: int, version: int | None, by: str | None, url: str, as_json: bool
) -> None:
    """Let at most NUMBER calls of a model be in flight, of everybody together; 0: any number."""
    _switched_now(quotas_of(url).cap(model, number, version=version, by=by), as_json=as_json)


def _done(quota: Quota, *, as_json: bool) -> None:
    if as_json:
        render.print_json(quota)
    else:
        allowed = "allowed" if quota.enabled else "not allowed"
        click.echo(render.clean(f"quota {quota.name}: {allowed}, version {quota.version}"))


def _switched_now(switch: ModelSwitch, *, as_json: bool) -> None:
    if as_json:
        render.print_json(switch)
        return
    bound = f", at most {switch.max_concurrent:,} in flight" if switch.max_concurrent else ""
    click.echo(render.clean(f"model {switch.model}: {_switched(switch)}{bound}"))


def _switched(switch: ModelSwitch) -> str:
    return "off" if switch.off else "on"


def _moment(value: datetime | None, zone: tzinfo) -> str:
    return render.MISSING if value is None else render.moment(value, zone)
