"""``budgets``: what is used, reserved and left, whether it adds up, and ending one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from ai_ledger.bounds import value_of_key
from ai_ledger.cli import render
from ai_ledger.cli.options import (
    NothingFound,
    close,
    json_option,
    open_store,
    tz_option,
    url_option,
)
from ai_ledger.money import from_nano
from ai_ledger.terms import TOKENS, Terms

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.account import Account, StoredBudget
    from ai_ledger.policies.budgets.accounts import Accounts


@contextmanager
def _accounts(url: str) -> Generator[Accounts]:
    from ai_ledger.policies.budgets.accounts import Accounts
    from ai_ledger.sinks.sql.shared import close_databases, shared_database

    store = open_store(url)
    try:
        yield Accounts(shared_database(store))
    finally:
        close_databases()
        close(store)


@click.group("budgets")
def budgets_command() -> None:
    """
    Show what budgets have used, check it, and end budgets.

    Budgets are made by the programs that use them, with Budget(…).

    \b
    Examples:
      ai-ledger budgets list
      ai-ledger budgets check
    """


@budgets_command.command("list")
@url_option
@tz_option
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N",
    help="At most N lines of each budget, those that have used most first.",
)  # fmt: skip
@json_option
def list_command(url: str, zone: tzinfo, limit: int, as_json: bool) -> None:
    """
    List the budgets in force: used, reserved, limit, share, and when each resets.

    \b
    Example:
      ai-ledger budgets list --tz Asia/Shanghai

    A budget for each user or organisation has a line for each that has used
    something in the present period. Exit code 1 when no budget is in force.
    """
    with _accounts(url) as accounts:
        now = accounts.now()
        found = [
            (budget, account)
            for budget in accounts.budgets()
            if budget.active
            for account in _present(accounts, budget, now)[:limit]
        ]
    if not found:
        raise NothingFound("no budget is in force")
    _show(found, zone, as_json=as_json)


def _present(accounts: Accounts, budget: StoredBudget, now: datetime) -> list[Account]:
    """The accounts of the present period; one without calls, where there is none yet."""
    period = budget.terms.period_of(now)
    if period is None:
        return []
    found = accounts.period(budget.id, period)
    if not found and budget.terms.each is None:
        found = [accounts.state(budget.id, "", period)]
    return found


@budgets_command.command("history")
@click.argument("name")
@url_option
@tz_option
@click.option("--whose", metavar="VALUE", help="Only of this user, organisation, …")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, metavar="N",
    help="At most N periods, newest first.",
)  # fmt: skip
@json_option
def history_command(
    name: str, url: str, zone: tzinfo, whose: str | None, limit: int, as_json: bool
) -> None:
    """
    Show what a budget has used in each period, newest first.

    \b
    Example:
      ai-ledger budgets history "CNY a month" --whose user-7

    The limit is the one of now. Exit code 1 when there is no such budget, or
    nothing has happened on it.
    """
    from ai_ledger.bounds import key_of, label

    with _accounts(url) as accounts:
        budget = accounts.budget(name)
        if budget is None:
            raise NothingFound(f"there is no budget {name!r}: see `ai-ledger budgets list`")
        key = None if whose is None else key_of(label(whose))
        found = accounts.history(budget.id, key, limit=limit)
    if not found:
        raise NothingFound(f"nothing has happened on budget {name!r}")
    _show([(budget, account) for account in found], zone, as_json=as_json)


@budgets_command.command("check")
@url_option
@json_option
def check_command(url: str, as_json: bool) -> None:
    """
    Compare every account with the calls of the ledger and the leases of processes.

    \b
    Example:
      ai-ledger budgets check

    Reads all calls that budgets count. Exit code 1 when something differs.
    """
    with _accounts(url) as accounts:
        units = {budget.terms.name: budget.terms for budget in accounts.budgets()}
        found = accounts.check()
    if as_json:
        render.print_json(
            [
                {
                    "budget": each.budget,
                    "whose": value_of_key(each.whose),
                    "period": each.period,
                    "unit": units[each.budget].unit,
                    "used": _exact(units[each.budget], each.used),
                    "rows": _exact(units[each.budget], each.rows),
                    "reserved": _exact(units[each.budget], each.reserved),
                    "leases": _exact(units[each.budget], each.leases),
                }
                for each in found
            ]
        )
    elif found:
        render.table(
            ("budget", "for", "period", "used", "calls say", "reserved", "leases say"),
            (
                [
                    each.budget,
                    _whose(units[each.budget], each.whose),
                    each.period,
                    *(
                        _amount(units[each.budget], number)
                        for number in (each.used, each.rows, each.reserved, each.leases)
                    ),
                ]
                for each in found
            ),
            numbers=("used", "calls say", "reserved", "leases say"),
        )
    if found:
        raise NothingFound(f"{len(found):,} accounts differ from the calls or leases")
    if not as_json:
        click.echo(f"{len(units):,} budgets: every account is what its calls and leases say")


@budgets_command.command("deactivate")
@click.argument("name")
@url_option
@click.option(
    "--by", metavar="NAME", help="Who makes this edit; the user of this terminal, if left out."
)
def deactivate_command(name: str, url: str, by: str | None) -> None:
    """
    Put a budget out of force, and keep its history.

    \b
    Example:
      ai-ledger budgets deactivate "CNY a month" --by ada

    A program that still has it puts it into force again when it next starts.
    Exit code 1 when there is no such budget.
    """
    from ai_ledger.database.changes import whoever
    from ai_ledger.errors import NotFound

    with _accounts(url) as accounts:
        try:
            accounts.deactivate(name, by=by or whoever())
        except NotFound as error:
            raise NothingFound(str(error)) from error
    click.echo(f"budget {render.clean(name)} is out of force")


def _show(found: Sequence[tuple[StoredBudget, Account]], zone: tzinfo, *, as_json: bool) -> None:
    if as_json:
        render.print_json([_plain(budget, account) for budget, account in found])
        return
    render.table(
        ("budget", "for", "period", "used", "reserved", "limit", "share", "mode", "resets at"),
        (
            [
                account.budget,
                _whose(budget.terms, account.whose),
                account.period,
                _amount(budget.terms, account.used),
                _amount(budget.terms, account.reserved),
                _amount(budget.terms, account.limit, unit=True),
                render.share(account.used, account.limit),
                budget.terms.mode,
                _moment(_resets_at(budget.terms, account.period), zone),
            ]
            for budget, account in found
        ),
        numbers=("used", "reserved", "limit", "share"),
        spare=("period", "mode", "reserved"),
    )
    unknown = sum(account.uncounted for _, account in found)
    if unknown:
        click.echo(f"{unknown:,} calls are of unknown amount and not part of what is used")


def _plain(budget: StoredBudget, account: Account) -> dict[str, Any]:
    terms = budget.terms
    return {
        "budget": account.budget,
        "each": terms.each,
        "whose": value_of_key(account.whose),
        "period": account.period,
        "unit": terms.unit,
        "used": _exact(terms, account.used),
        "reserved": _exact(terms, account.reserved),
        "limit": _exact(terms, account.limit),
        "share": account.used / account.limit if account.limit else None,
        "overrun": _exact(terms, account.overrun),
        "calls": account.calls,
        "uncounted": account.uncounted,
        "mode": terms.mode,
        "active": budget.active,
        "resets_at": _resets_at(terms, account.period),
    }


def _resets_at(terms: Terms, period: str) -> datetime | None:
    bounds = None if terms.per in ("total", "window") else terms.bounds_of(period)
    return None if bounds is None else bounds[1]


def _moment(moment: datetime | None, zone: tzinfo) -> str:
    return "never" if moment is None else render.moment(moment, zone)


def _whose(terms: Terms, whose: str) -> str:
    return "all" if terms.each is None else render.shown(value_of_key(whose))


def _exact(terms: Terms, number: int) -> int | Decimal:
    return number if terms.unit == TOKENS else from_nano(number)


def _amount(terms: Terms, number: int, *, unit: bool = False) -> str:
    if terms.unit == TOKENS:
        return f"{number:,} tokens" if unit else f"{number:,}"
    return render.amount(from_nano(number), terms.unit if unit else None)
