"""``alerts``: what needs a person, the rules that say so, and failed calls."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final, cast

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    F,
    NothingFound,
    by_option,
    database_of,
    json_option,
    org_option,
    tz_option,
    url_option,
    version_option,
    where_of,
    where_option,
)

if TYPE_CHECKING:
    from ai_ledger.alerts import Alert, Alerts, Channel, Rule
    from ai_ledger.alerts.alert import State

_STATES: Final = ("open", "acknowledged", "ignored", "resolved")
_KINDS: Final = (
    *("budget_threshold", "failure_rate", "timeouts", "breaker_open", "latency"),
    *("cost_spike", "unpriced", "undelivered", "silence"),
)


def alerts_of(url: str, org: str | None, channels: tuple[Channel, ...] = ()) -> Alerts:
    """The alerts of *url*, which must exist, within the organisation."""
    from ai_ledger.alerts import Alerts

    return Alerts(database_of(url), scope=org, channels=channels)


def _note_option(command: F) -> F:
    return click.option("--note", metavar="TEXT", help="What there is to say about it.")(command)


@click.group("alerts")
def alerts_command() -> None:
    """
    Look for what needs a person, and answer it.

    \b
    Examples:
      ai-ledger alerts rules add --defaults
      ai-ledger alerts evaluate --log
      ai-ledger alerts list
      ai-ledger alerts ack 7 --note "asked the provider"
    """


@alerts_command.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice([*_STATES, "all"]),
    multiple=True,
    help="Open and acknowledged ones, if left out; may be repeated.",
)
@click.option("--rule", metavar="NAME", help="Only those of this rule.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@url_option
@org_option
@tz_option
@json_option
def list_alerts(
    states: tuple[str, ...],
    rule: str | None,
    limit: int,
    url: str,
    org: str | None,
    zone: tzinfo,
    as_json: bool,
) -> None:
    """
    List alerts, newest first.

    Exit code 1 when there are none.
    """
    wanted = () if "all" in states else states or ("open", "acknowledged")
    found = alerts_of(url, org).list(
        states=cast("tuple[State, ...]", wanted), rule=rule, limit=limit
    )
    if as_json:
        render.print_json(found)
    if not found:
        raise NothingFound("no alerts")
    if not as_json:
        _show_list(found, zone)


def _show_list(found: list[Alert], zone: tzinfo) -> None:
    render.table(
        ("alert", "raised", "severity", "state", "times", "rule", "what"),
        [
            [
                str(each.id),
                render.moment(each.raised_at, zone),
                each.severity,
                each.state,
                str(each.occurrences),
                each.rule,
                each.text,
            ]
            for each in found
        ],
        numbers=("alert", "times"),
        spare=("times", "rule"),
    )


@alerts_command.command("show")
@click.argument("alert", type=int)
@url_option
@org_option
@tz_option
@json_option
def show_alert(alert: int, url: str, org: str | None, zone: tzinfo, as_json: bool) -> None:
    """Show everything about one alert: its calls, and who was told."""
    alerts = alerts_of(url, org)
    found = alerts.get(alert)
    deliveries = alerts.deliveries(alert)
    if as_json:
        render.print_json({"alert": found, "deliveries": deliveries})
        return
    whose = f"{found.field} {render.shown(found.whose)}" if found.field else "all together"
    rows = [
        ("alert", f"{found.id}, {found.severity}, version {found.version}"),
        ("what", found.text),
        ("rule", f"{found.rule} ({found.kind})"),
        ("about", f"{whose} {found.subject}".rstrip()),
        ("organisation", render.shown(found.org_id)),
        ("state", f"{found.state}{' by itself' if found.resolved_itself else ''}"),
        ("changed", f"{render.moment(found.changed_at, zone)} by {found.changed_by or 'itself'}"),
        ("note", render.shown(found.note)),
        ("value", f"{found.value:g}, last {found.last_value:g}; from {found.threshold:g} on"),
        ("raised", f"{render.moment(found.raised_at, zone)}, {_times(found.occurrences)}"),
        ("last seen", render.moment(found.last_seen_at, zone)),
        *(("call", each) for each in found.calls.ids),
    ]
    for each in deliveries:
        when = each.sent_at or each.next_at
        said = f": {each.last_error}" if each.last_error else ""
        told = f"{each.channel} {each.state} {render.moment(when, zone)}{said}"
        rows.append(("channel", told))
    render.pairs(rows)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _answer(word: str, state: str, said: str) -> None:
    """The command *word*, which gives an alert this state."""

    @alerts_command.command(
        word, help=f"{said}\n\nFails when it has changed since --version.", short_help=said
    )
    @click.argument("alert", type=int)
    @_note_option
    @by_option
    @version_option
    @url_option
    @org_option
    def answer(
        alert: int, note: str | None, by: str | None, version: int | None, url: str, org: str | None
    ) -> None:
        alerts = alerts_of(url, org)
        done = {
            "acknowledged": alerts.ack,
            "ignored": alerts.ignore,
            "resolved": alerts.resolve,
            "open": alerts.reopen,
        }
        found = done[state](alert, by=by, note=note, version=version)
        click.echo(f"alert {found.id} is {found.state}, by {found.changed_by or 'nobody named'}")

    del answer


_answer("ack", "acknowledged", "Take an alert up: somebody is about it.")
_answer("ignore", "ignored", "Say that an alert needs nobody.")
_answer("resolve", "resolved", "Say that an alert is over; it does not come back in its period.")
_answer("reopen", "open", "Open an alert again that somebody took up, ignored or resolved.")


@alerts_command.command("forget")
@click.argument("who", metavar="FIELD=VALUE", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask first.")
@by_option
@url_option
@org_option
def forget_command(
    who: tuple[str, ...], yes: bool, by: str | None, url: str, org: str | None
) -> None:
    """
    Erase somebody from alerts, rules and their history, for good.

    `ai-ledger forget` does it for calls, and comes first.

    \b
    Example:
      ai-ledger alerts forget user_id=u-42
    """
    named: dict[str, Any] = {}
    for text in who:
        field, _, named[field] = text.partition("=")
    if len(named) < len(who) or not all(named.values()):
        raise click.UsageError("say whose, each field once: user_id=u-42")
    alerts = alerts_of(url, org)
    if not yes:
        click.confirm(
            render.clean(f"Erase {', '.join(who)} from all alerts and rules?"), abort=True
        )
    count = alerts.forget(by=by, **named)
    number = "1 alert or rule was" if count == 1 else f"{count:,} alerts and rules were"
    click.echo(f"{number} changed")


@alerts_command.command("evaluate")
@click.option("--log", "to_log", is_flag=True, help="Print what nobody was told yet.")
@click.option("--webhook", "webhooks", multiple=True, metavar="URL", help="Post it there, signed.")
@click.option(
    "--secret",
    metavar="env:NAME",
    default="env:AI_LEDGER_WEBHOOK_SECRET",
    show_default=True,
    help="The variable with the secret that --webhook is signed with.",
)
@click.option(
    "--allow-private", is_flag=True, help="Let --webhook reach this machine and its network."
)
@url_option
@org_option
@tz_option
@json_option
def evaluate_command(
    to_log: bool,
    webhooks: tuple[str, ...],
    secret: str,
    allow_private: bool,
    url: str,
    org: str | None,
    zone: tzinfo,
    as_json: bool,
) -> None:
    """
    Look at all rules once, and tell who has to know; for cron.

    What waits in the journal of a running program only that program can tell.

    \b
    Examples:
      ai-ledger alerts evaluate --log
      ai-ledger alerts evaluate --webhook https://example.com/alerts --secret env:HOOK_SECRET
    """
    from ai_ledger.alerts import Callback, Webhook

    channels: list[Channel] = []
    channels += [Webhook(each, secret=secret, allow_private=allow_private) for each in webhooks]
    if to_log:

        def tell(alert: Alert) -> None:
            text = render.clean(f"alert {alert.id} {alert.severity} {alert.rule}: {alert.text}")
            click.echo(text, err=as_json)

        channels.append(Callback(tell, name="command"))
    raised = alerts_of(url, org, tuple(channels)).evaluate()
    if as_json:
        render.print_json(raised)
        return
    click.echo(f"{len(raised)} new alerts" if len(raised) != 1 else "1 new alert")
    if raised and not to_log:
        _show_list(raised, zone)


@alerts_command.group("rules")
def rules_group() -> None:
    """
    List and edit the rules that raise alerts.

    \b
    Examples:
      ai-ledger alerts rules add --defaults
      ai-ledger alerts rules add --name slow --kind latency --threshold 3 --where model=qwen-plus
      ai-ledger alerts rules edit slow --quiet 22:00-08:00 --tz Asia/Shanghai
    """


@rules_group.command("list")
@url_option
@org_option
@json_option
def list_rules(url: str, org: str | None, as_json: bool) -> None:
    """
    List rules, by name.

    Exit code 1 when there are none.
    """
    found = alerts_of(url, org).rules()
    if as_json:
        render.print_json(found)
    if not found:
        raise NothingFound("no rules: ai-ledger alerts rules add --defaults")
    if as_json:
        return
    render.table(
        ("rule", "name", "kind", "each", "from", "window", "severity", "on", "org", "version"),
        [
            [
                str(rule.id),
                rule.name,
                rule.kind,
                rule.each or "",
                f"{rule.threshold:g}",
                f"{rule.window_s} s",
                rule.severity,
                "yes" if rule.enabled else "no",
                render.shown(rule.org_id),
                str(rule.version),
            ]
            for rule in found
        ],
        numbers=("rule", "from", "window", "version"),
    )


def _rule_options(command: F) -> F:
    for option in reversed(
        (
            click.option("--threshold", type=float, metavar="X", help="From which value on."),
            click.option("--window", "window_s", type=int, metavar="SECONDS", help="How far back."),
            click.option("--each", metavar="FIELD", help="For each of its values; '': together."),
            click.option("--min-calls", type=int, metavar="N", help="Fewer calls say nothing."),
            click.option("--past-days", type=int, metavar="N", help="Days it is compared with."),
            click.option("--at-least", metavar="AMOUNT", help="cost_spike: less is nothing."),
            click.option("--budget", metavar="NAME", help="budget_threshold: only this one."),
            click.option(
                "--per",
                type=click.Choice(["hour", "day", "week", "month"]),
                help="At most one alert in this time for each value of --each; day, if never said.",
            ),
            click.option(
                "--severity",
                type=click.Choice(["info", "warning", "critical"]),
                help="How bad it is; warning, if never said.",
            ),
            click.option("--quiet", metavar="HOURS", help="Tell nobody in 22:00-08:00; '': never."),
            click.option("--tz", metavar="ZONE", help="Time zone of --quiet and --per; UTC."),
        )
    ):
        command = option(command)
    return command


def _given(options: dict[str, Any], conditions: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a rule that were named."""
    from ai_ledger.alerts.rule import plain_of

    given = {name: value for name, value in options.items() if value is not None}
    if conditions:
        given["where"] = {
            field: plain_of(condition) for field, condition in where_of(conditions).items()
        }
    if given.get("quiet") == "":
        given["quiet"] = None
    return given


@rules_group.command("add")
@click.option("--defaults", is_flag=True, help="The rules that a fresh ledger should have.")
@click.option("--name", metavar="NAME", help="How it is called.")
@click.option("--kind", type=click.Choice(_KINDS), help="What is looked at.")
@_rule_options
@where_option
@by_option
@url_option
@org_option
def add_rule(
    defaults: bool,
    name: str | None,
    kind: str | None,
    conditions: tuple[str, ...],
    by: str | None,
    url: str,
    org: str | None,
    **options: Any,
) -> None:
    """
    Add a rule, or the default ones.

    \b
    Example:
      ai-ledger alerts rules add --name "a day of A" --kind cost_spike --org acme
    """
    from ai_ledger.alerts import Rule

    given = _given(options, conditions)
    if defaults:
        if name or kind or given:
            raise click.UsageError("--defaults stands alone")
        added = alerts_of(url, org).add_default_rules(by=by)
        click.echo(f"added {len(added)} rules" if len(added) != 1 else "added 1 rule")
        return
    if name is None or kind is None:
        raise click.UsageError("a rule needs --name and --kind; or say --defaults")
    rule: Rule = Rule(name=name, kind=cast("Any", kind), **given)
    _done("added", alerts_of(url, org).add_rule(rule, by=by))


@rules_group.command("edit")
@click.argument("rule")
@click.option("--name", metavar="NAME", help="How it is called from now on.")
@click.option("--enable", is_flag=True, help="Look at it again.")
@_rule_options
@where_option
@by_option
@version_option
@url_option
@org_option
def edit_rule(
    rule: str,
    enable: bool,
    conditions: tuple[str, ...],
    by: str | None,
    version: int | None,
    url: str,
    org: str | None,
    **options: Any,
) -> None:
    """
    Change what a rule says; RULE is its name or number.

    --where takes the place of the whole filter. What is not named stays.
    """
    given = _given(options, conditions)
    if enable:
        given["enabled"] = True
    if not given:
        raise click.UsageError("nothing to change: name an option")
    edited = alerts_of(url, org).edit_rule(_key(rule), by=by, version=version, **given)
    _done("changed", edited)


@rules_group.command("enable")
@click.argument("rule")
@by_option
@version_option
@url_option
@org_option
def enable_rule(rule: str, by: str | None, version: int | None, url: str, org: str | None) -> None:
    """Look at a rule again."""
    alerts = alerts_of(url, org)
    _done("enabled", alerts.edit_rule(_key(rule), by=by, version=version, enabled=True))


@rules_group.command("disable")
@click.argument("rule")
@by_option
@version_option
@url_option
@org_option
def disable_rule(rule: str, by: str | None, version: int | None, url: str, org: str | None) -> None:
    """Look at a rule no more; its alerts end."""
    alerts = alerts_of(url, org)
    _done("disabled", alerts.edit_rule(_key(rule), by=by, version=version, enabled=False))


@rules_group.command("remove")
@click.argument("rule")
@by_option
@version_option
@url_option
@org_option
def remove_rule(rule: str, by: str | None, version: int | None, url: str, org: str | None) -> None:
    """Remove a rule; its alerts end, and stay to be read."""
    alerts_of(url, org).remove_rule(_key(rule), by=by, version=version)
    click.echo(f"removed {render.clean(rule)}")


@rules_group.command("history")
@click.argument("rule")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@url_option
@org_option
@tz_option
@json_option
def history_of_rule(
    rule: str, limit: int, url: str, org: str | None, zone: tzinfo, as_json: bool
) -> None:
    """
    Who changed a rule, when, and from what to what; newest first.

    Also of a rule that was removed. Exit code 1 when there never was one.
    """
    changes = alerts_of(url, org).history("rule", _key(rule), limit=limit)
    if as_json:
        render.print_json(changes)
    else:
        render.changes(changes, zone)


def _key(rule: str) -> int | str:
    """A number is an id: who names a rule 7 has to call it by its id."""
    return int(rule) if rule.isascii() and rule.isdigit() and len(rule) < 19 else rule


def _done(what: str, rule: Rule) -> None:
    click.echo(f"{what} rule {rule.id}, {render.clean(rule.name)}, version {rule.version}")


@alerts_command.group("failures")
def failures_group() -> None:
    """
    List and mark calls that failed, timed out or met an open circuit.

    \b
    Examples:
      ai-ledger alerts failures list --days 3
      ai-ledger alerts failures ack ID ID --note "the provider was down"
    """


@failures_group.command("list")
@click.option("--days", type=click.IntRange(1), default=7, show_default=True, help="The last N.")
@click.option(
    "--state",
    type=click.Choice(["open", "acknowledged", "ignored", "all"]),
    default="open",
    show_default=True,
    help="Open ones have no mark yet.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@where_option
@url_option
@org_option
@tz_option
@json_option
def list_failures(
    days: int,
    state: str,
    limit: int,
    conditions: tuple[str, ...],
    url: str,
    org: str | None,
    zone: tzinfo,
    as_json: bool,
) -> None:
    """
    List failed calls and their marks, newest first.

    Exit code 1 when there are none.
    """
    found = alerts_of(url, org).failures(
        days=days,
        state=None if state == "all" else cast("Any", state),
        where=where_of(conditions),
        limit=limit,
    )
    if as_json:
        render.print_json(
            [
                {
                    "call": render.plain_call(each.call),
                    "state": each.state,
                    "marked_at": each.marked_at,
                    "marked_by": each.marked_by,
                    "note": each.note,
                }
                for each in found
            ]
        )
    if not found:
        raise NothingFound("no failed calls")
    if as_json:
        return
    render.table(
        ("started", "status", "error", "model", "function", "state", "by", "note", "id"),
        [
            [
                render.moment(each.call.started_at, zone),
                each.call.status,
                render.shown(each.call.error_type),
                render.shown(each.call.request_model),
                render.shown(each.call.function),
                each.state,
                render.shown(each.marked_by),
                render.shown(each.note),
                each.call.id,
            ]
            for each in found
        ],
        spare=("note", "by", "function"),
    )


def _marking(word: str, said: str) -> None:
    """The command *word*, which marks calls."""

    @failures_group.command(
        word, help=f"{said}\n\nAll of the calls, or none when one cannot be.", short_help=said
    )
    @click.argument("ids", nargs=-1, required=True)
    @_note_option
    @by_option
    @url_option
    @org_option
    def mark(
        ids: tuple[str, ...], note: str | None, by: str | None, url: str, org: str | None
    ) -> None:
        alerts = alerts_of(url, org)
        action = alerts.ack_call if word == "ack" else alerts.ignore_call
        number = action(*ids, by=by, note=note)
        click.echo(f"marked {number} calls" if number != 1 else "marked 1 call")

    del mark


_marking("ack", "Mark failed calls as seen to.")
_marking("ignore", "Mark failed calls as nothing to see to.")
