"""The options that commands share, and what they mean."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ai_ledger.errors import ConfigurationError, InvalidValue, SinkUnavailable
from ai_ledger.query import (
    BOOLEAN_FIELDS,
    NUMBER_FIELDS,
    AnyOf,
    Between,
    Condition,
    Contains,
    Query,
    field_name,
)
from ai_ledger.sinks import Sink, Store, open_sink

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL: Final = "sqlite:///ai_ledger.db"
_DATABASES: Final = ("sqlite", "postgres", "mysql", "mariadb")


class NothingFound(Exception):
    """The question was fine and nothing answers it: exit code 1."""


def url_option(command: F) -> F:
    """``--url``."""
    return click.option(
        "--url",
        envvar="AI_LEDGER_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        help="The ledger: sqlite:///file, postgresql://…, mysql://…, jsonl:///folder.",
    )(command)


def org_option(command: F) -> F:
    """``--org``."""
    return click.option(
        "--org", metavar="ID", help="Only this organisation's calls; nothing can widen it."
    )(command)


def tz_option(command: F) -> F:
    """``--tz``."""
    return click.option(
        "--tz",
        "zone",
        envvar="AI_LEDGER_TZ",
        show_envvar=True,
        default="UTC",
        show_default=True,
        callback=_zone,
        metavar="ZONE",
        help="Time zone of days and hours, such as Asia/Shanghai.",
    )(command)


def json_option(command: F) -> F:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, with exact amounts, for programs."
    )(command)


def by_option(command: F) -> F:
    """``--by``."""
    return click.option(
        "--by", metavar="NAME", help="Who makes this edit; the user of this terminal, if left out."
    )(command)


def version_option(command: F) -> F:
    """``--version`` of an edit."""
    return click.option(
        "--version",
        type=click.IntRange(1),
        metavar="N",
        help="Only if it is still at this version, which lists tell.",
    )(command)


def period_options(command: F) -> F:
    """``--days``, ``--since``, ``--until``."""
    for option in (
        click.option(
            "--until", metavar="WHEN", help="Calls that started before this; same forms as --since."
        ),
        click.option(
            "--since",
            metavar="WHEN",
            help="Calls from then on: 2026-01-31, 2026-01-31T09:30, or 90m, 12h, 7d ago.",
        ),
        click.option(
            "--days", type=click.IntRange(1), metavar="N", help="The last N days, today included."
        ),
    ):
        command = option(command)
    return command


def where_option(command: F) -> F:
    """``--where``."""
    return click.option(
        "--where",
        "conditions",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Only calls with this value; repeat for more. FIELD= means not set, FIELD~TEXT "
        "contains, FIELD>=N and FIELD<N compare. FIELD twice means either. Tags: tags.KEY=VALUE.",
    )(command)


def _zone(context: click.Context, parameter: click.Parameter, value: str) -> tzinfo:
    from ai_ledger.stats.calendar import time_zone

    return time_zone(value)


@dataclass(frozen=True)
class Period:
    """From *since*, inclusive, to *until*, exclusive; ``None`` is without end."""

    since: datetime | None
    until: datetime | None

    @classmethod
    def of(
        cls,
        days: int | None,
        since: str | None,
        until: str | None,
        zone: tzinfo,
        *,
        default_days: int | None = None,
        now: datetime | None = None,
    ) -> Period:
        """
        The period that the options mean.

        Raises:
            click.UsageError: They contradict each other, or are no times.
        """
        from ai_ledger.stats.calendar import last_days

        now = (now or datetime.now(UTC)).astimezone(zone)
        if days is not None and since is not None:
            raise click.UsageError("--days and --since: give one of them")
        if days is None and since is None:
            days = default_days
        begin = _moment("--since", since, zone, now) if since is not None else None
        end = _moment("--until", until, zone, now) if until is not None else None
        if days is not None:
            last = end - timedelta(microseconds=1) if end else now
            begin = last_days(last, days, zone)[0].astimezone(zone)
        if begin is not None and end is not None and begin >= end:
            raise click.UsageError("--until lies before the beginning: nothing can be in between")
        return cls(begin, end)

    def __str__(self) -> str:
        if self.since is None and self.until is None:
            return "all time"
        begin = f"from {self.since:%Y-%m-%d %H:%M}" if self.since else "from the beginning"
        return f"{begin} to {self.until:%Y-%m-%d %H:%M}" if self.until else f"{begin} to now"


_AGO: Final = re.compile(r"(\d{1,6})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _moment(option: str, text: str, zone: tzinfo, now: datetime) -> datetime:
    from ai_ledger.stats.calendar import day_start

    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if len(text.strip()) == 10:
            return day_start(date.fromisoformat(text.strip()), zone).astimezone(zone)
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"{option} {text!r}: expected 2026-01-31, 2026-01-31T09:30, or 90m, 12h, 7d ago"
        ) from None
    # Typed beside --tz, so a time without a zone has that one.
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment


_CONDITION: Final = re.compile(r"([\w.\-]+?)\s*(>=|<|=|~)(.*)", re.DOTALL)


def where_of(conditions: Sequence[str]) -> dict[str, Any]:
    """
    The ``where`` of a query, from ``FIELD=VALUE`` as typed.

    Raises:
        click.UsageError: No such operator, or a value that is no number.
        InvalidValue: No such field.
    """
    where: dict[str, Condition] = {}
    for text in conditions:
        match = _CONDITION.fullmatch(text.strip())
        if match is None:
            raise click.UsageError(
                f"--where {text!r}: expected FIELD=VALUE, FIELD~TEXT, FIELD>=N or FIELD<N"
            )
        field = field_name(match[1])
        where[field] = _and(field, where.get(field), _condition(field, match[2], match[3]))
    return dict(where)


def _condition(field: str, operator: str, text: str) -> Condition:
    if operator == "=":
        return AnyOf((_value(field, text) if text else None,))
    if operator == "~":
        if field in (*NUMBER_FIELDS, *BOOLEAN_FIELDS):
            raise click.UsageError(f"--where {field}~…: {field} is no text")
        return Contains(text)
    if field not in NUMBER_FIELDS:
        raise click.UsageError(f"--where {field}{operator}…: {field} is no number")
    number = _value(field, text)
    return Between(at_least=number) if operator == ">=" else Between(below=number)


def _and(field: str, known: Condition | None, new: Condition) -> Condition:
    if known is None:
        return new
    if isinstance(known, AnyOf) and isinstance(new, AnyOf):
        return AnyOf((*known.values, *new.values))
    if isinstance(known, Between) and isinstance(new, Between):
        return Between(
            at_least=new.at_least if known.at_least is None else known.at_least,
            below=new.below if known.below is None else known.below,
        )
    raise click.UsageError(f"--where {field}: these two conditions cannot be joined")


def _value(field: str, text: str) -> Any:
    if field in BOOLEAN_FIELDS:
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        raise click.UsageError(f"--where {field}={text}: expected true or false")
    if field not in NUMBER_FIELDS:
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise click.UsageError(f"--where {field}: {text!r} is no number")
    if field == "cost":
        return number
    return int(number) if number == number.to_integral_value() else float(number)


def query_of(org: str | None, period: Period, conditions: Sequence[str]) -> Query:
    """The query that the options mean."""
    return Query.build(
        scope=org, since=period.since, until=period.until, where=where_of(conditions)
    )


@dataclass(frozen=True)
class Selection:
    """
    The calls that a command is about, as they were asked for.

    Args:
        url: Of the ledger.
        org: ``--org``.
        days: ``--days``.
        since: ``--since``, as typed.
        until: ``--until``, as typed.
        zone: ``--tz``.
        conditions: Each ``--where``, as typed.
    """

    url: str
    org: str | None
    days: int | None
    since: str | None
    until: str | None
    zone: tzinfo
    conditions: tuple[str, ...]

    def period(self, *, default_days: int | None = None) -> Period:
        """When they started; raises as `Period.of` does."""
        return Period.of(self.days, self.since, self.until, self.zone, default_days=default_days)

    def query(self) -> Query:
        """The query that finds them."""
        return query_of(self.org, self.period(), self.conditions)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--url``, ``--org``, those of a period, ``--tz`` and ``--where``: one `Selection`."""

    @functools.wraps(command)
    def selected(
        *,
        url: str,
        org: str | None,
        days: int | None,
        since: str | None,
        until: str | None,
        zone: tzinfo,
        conditions: tuple[str, ...],
        **others: Any,
    ) -> Any:
        chosen = Selection(url, org, days, since, until, zone, conditions)
        return command(selection=chosen, **others)

    for option in (where_option, tz_option, period_options, org_option, url_option):
        selected = option(selected)
    return selected


def open_store(url: str) -> Store:
    """
    The store of *url*, which must exist.

    Raises:
        ConfigurationError: None of the URL's sinks can be asked.
        SinkUnavailable: There is no such file or folder.
    """
    sinks = [open_sink(one) for one in url.split() or [DEFAULT_URL]]
    for one, sink in zip(url.split() or [DEFAULT_URL], sinks, strict=True):
        if isinstance(sink, Store):
            _must_exist(one)
            return sink
    raise ConfigurationError(
        f"--url {url}: this can be written to, not asked; name a sqlite:, postgresql:, mysql: "
        "or jsonl: ledger"
    )


def database_of(url: str) -> str:
    """
    The first database among the URLs in *url*; it must exist.

    Raises:
        click.UsageError: None of them is one.
        SinkUnavailable: There is no such file.
    """
    for one in url.split():
        if one.startswith(_DATABASES):
            close(open_store(one))
            return one
    raise click.UsageError("--url: this needs sqlite:, postgresql: or mysql:")


def local_path(url: str) -> Path | None:
    """The file or folder of *url*; ``None`` when it is on a server or in memory."""
    scheme, _, rest = url.partition(":")
    if scheme.partition("+")[0] not in ("sqlite", "jsonl"):
        return None
    path = rest.removeprefix("//").removeprefix("/").partition("?")[0]
    return Path(path) if path and path != ":memory:" else None


def _must_exist(url: str) -> None:
    path = local_path(url)
    # Asking must not make a new, empty ledger out of a typing error.
    if path is not None and not path.exists():
        raise SinkUnavailable(
            f"no ledger at {os.fspath(path)}: name yours with --url or AI_LEDGER_URL, "
            "or make one with `ai-ledger init`"
        )


def close(sink: Sink) -> None:
    """Close *sink*, if that is something it does."""
    done = getattr(sink, "close", None)
    if callable(done):
        done()


__all__ = [
    "DEFAULT_URL",
    "InvalidValue",
    "NothingFound",
    "Period",
    "Selection",
    "by_option",
    "close",
    "database_of",
    "json_option",
    "local_path",
    "open_store",
    "org_option",
    "period_options",
    "query_of",
    "selection_options",
    "tz_option",
    "url_option",
    "version_option",
    "where_of",
    "where_option",
]
