"""``calls``, ``show`` and ``tail``: single calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

import click
import msgspec

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    Period,
    Selection,
    close,
    json_option,
    open_store,
    org_option,
    query_of,
    selection_options,
    tz_option,
    url_option,
    where_option,
)
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks import Store
from ai_ledger.sinks.scan import SORT_FIELDS

_COLUMNS = ("started", "status", "model", "user", "function", "in", "out", "cost", "time", "id")
_NUMBERS = ("in", "out", "cost", "time")
_SPARE = ("function", "time", "in", "out", "user")


@click.command("calls")
@selection_options
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--sort",
    type=click.Choice(SORT_FIELDS),
    default="started_at",
    show_default=True,
    metavar="FIELD",
    help="cost, duration_ms, output_tokens or another number: the largest come first.",
)
@json_option
def calls_command(
    selection: Selection,
    limit: int,
    page: int,
    sort: str,
    as_json: bool,
) -> None:
    """
    List calls, newest first.

    \b
    Examples:
      ai-ledger calls --where user_id=u-42 --days 7
      ai-ledger calls --where status=failed --where status=timeout
      ai-ledger calls --sort cost --where duration_ms>=1000 --json

    With --json: an array of call records. Exit code 1 when there are none.
    """
    query = selection.query()
    store = open_store(selection.url)
    try:
        found = store.calls(
            query, limit=limit, offset=(page - 1) * limit, order=sort, content=as_json
        )
    finally:
        close(store)
    if as_json:
        render.print_json([render.plain_call(record) for record in found])
    if not found:
        raise NothingFound("no calls fit; try a longer --days, or fewer --where")
    if not as_json:
        rows = (_row(record, selection.zone) for record in found)
        render.table(_COLUMNS, rows, numbers=_NUMBERS, spare=_SPARE)
        if len(found) == limit:
            click.echo(f"(page {page}; more with --page {page + 1})", err=True)


def _row(record: CallRecord, zone: tzinfo) -> list[str]:
    return [
        render.moment(record.started_at, zone),
        record.status,
        render.shown(record.request_model or record.response_model),
        render.shown(record.user_id),
        render.shown(record.function),
        render.count(record.input_tokens),
        render.count(record.output_tokens),
        render.amount(record.cost, record.currency),
        render.milliseconds(record.duration_ms),
        record.id,
    ]


@click.command("show")
@click.argument("call_id", metavar="ID")
@url_option
@org_option
@tz_option
@json_option
def show_command(call_id: str, url: str, org: str | None, zone: tzinfo, as_json: bool) -> None:
    """
    Show everything about one call.

    ID is as `ai-ledger calls` lists it. The first or last letters of an ID are
    enough when only one call of the newest thousand has them.

    \b
    Example:
      ai-ledger show 019a9c3e-7d5c-7b9e-8f4e-1f2d3c4b5a69

    With --json: an object with "call" and "corrections". Exit code 1 when there
    is no such call.
    """
    store = open_store(url)
    try:
        record = store.call(org, call_id) or _by_part(store, org, call_id)
        corrections = store.corrections(org, record.id)
    finally:
        close(store)
    if as_json:
        render.print_json({"call": render.plain_call(record), "corrections": corrections})
        return
    rows: list[tuple[str, str]] = []
    contents: list[tuple[str, str]] = []
    for field in CallRecord.__struct_fields__:
        value = getattr(record, field)
        if value is None or field == "tags":
            continue
        if field in ("request_content", "response_content"):
            contents.append((field, value))
        elif isinstance(value, datetime):
            rows.append((field, f"{render.moment(value, zone)} {zone}"))
        elif field == "cost":
            rows.append((field, f"{value:f} {record.currency}"))
        elif field != "currency":
            rows.append((field, str(value)))
    rows += [(f"tags.{key}", value) for key, value in record.tags.items()]
    rows += [
        (
            f"corrected {render.moment(change.corrected_at, zone)}",
            f"{render.amount(change.old_cost, change.old_currency)} "
            f"({render.shown(change.old_price_id)}) became "
            f"{render.amount(change.cost, change.currency)} ({render.shown(change.price_id)})",
        )
        for change in corrections
    ]
    render.pairs(rows)
    for name, text in contents:
        render.heading(name)
        click.echo(render.clean(text, lines=True))


def _by_part(store: Store, org: str | None, part: str) -> CallRecord:
    found: list[CallRecord] = []
    if len(part) >= 4:
        newest = store.calls(Query.build(scope=org), limit=1000, content=False)
        found = [each for each in newest if each.id.startswith(part) or each.id.endswith(part)]
    if len(found) > 1:
        raise click.UsageError(f"{part!r} fits {len(found)} calls: give more of the ID")
    if not found:
        raise NothingFound(f"no call {part}; `ai-ledger calls` lists them")
    return store.call(org, found[0].id) or found[0]


@click.command("tail")
@url_option
@org_option
@tz_option
@where_option
@click.option(
    "-n", "--lines", type=click.IntRange(0, 1000), default=10, show_default=True,
    help="Begin with this many of the newest calls.",
)  # fmt: skip
@click.option("--no-follow", is_flag=True, help="Stop after them.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True,
    help="Seconds between two looks.",
)  # fmt: skip
@json_option
def tail_command(
    url: str,
    org: str | None,
    zone: tzinfo,
    conditions: tuple[str, ...],
    lines: int,
    no_follow: bool,
    interval: float,
    as_json: bool,
) -> None:
    """
    Print calls as they reach the store, until Ctrl-C.

    A call reaches it when it has ended. What began more than 15 minutes before
    it arrived is left out; `ai-ledger calls` has it.

    \b
    Examples:
      ai-ledger tail
      ai-ledger tail --where status=failed --json | jq .error_message

    With --json: one object a line.
    """
    query = query_of(org, Period(None, None), conditions)
    store = open_store(url)
    try:
        follow(
            store,
            query,
            lines=lines,
            show=lambda record: _show_line(record, zone, as_json=as_json),
            wait=lambda: not no_follow and _slept(interval),
        )
    finally:
        close(store)


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def _show_line(record: CallRecord, zone: tzinfo, *, as_json: bool) -> None:
    if as_json:
        render.print_json(render.plain_call(record), indent=None)
        return
    row = dict(zip(_COLUMNS, _row(record, zone), strict=True))
    details = [
        f"{name}={row[name]}"
        for name in ("user", "function", "in", "out", "cost", "time")
        if row[name] != render.MISSING
    ]
    words = [row["started"], row["status"], row["model"], *details]
    if record.error_type:
        words.append(f"error={record.error_type}")
    line = render.clean("  ".join(words))
    click.secho(line, fg=None if record.status == "success" else "red")


# A call is in the store when it has ended and was delivered, so one that took
# long comes after others that began later. How far back to look for those:
_LATE = timedelta(minutes=15)


def follow(
    store: Store,
    query: Query,
    *,
    lines: int,
    show: Callable[[CallRecord], None],
    wait: Callable[[], bool],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """
    Show the newest *lines* calls, then each new one once, while *wait* says to go on.

    A call that is shown as ``unfinished`` is shown again when it has ended.
    """
    seen: dict[str, tuple[str, datetime]] = {}
    for record in reversed(store.calls(query, limit=lines) if lines else []):
        show(record)
        seen[record.id] = (record.status, record.started_at)
    first = True
    while True:
        since = now() - _LATE
        recent = msgspec.structs.replace(query, since=since)
        for batch in store.scan(recent):
            for record in batch:
                if record.id in seen and seen[record.id][0] == record.status:
                    continue
                seen[record.id] = (record.status, record.started_at)
                if not first:
                    show(record)
        seen = {key: value for key, value in seen.items() if value[1] >= since}
        first = False
        if not wait():
            return
