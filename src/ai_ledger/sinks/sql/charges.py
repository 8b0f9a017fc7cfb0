"""
Charges: what calls take of budgets, in the transaction that stores the calls.

What is used of a budget is one more total over the rows, so it is right whoever
stores them: another process that adopts a journal, or one that knows of no budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from ai_ledger.database.columns import moment_text
from ai_ledger.database.tables.budgets import accounts, budgets, state
from ai_ledger.database.tables.calls import records, tags
from ai_ledger.money import MAX_NANO
from ai_ledger.query import TAG_PREFIX
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.sinks.scan import IDENTITY_FIELDS
from ai_ledger.sinks.sql.holds import Consumed
from ai_ledger.sinks.sql.leases import (
    AccountKey,
    accounts_of,
    drop_blank,
    now_of,
    take_off,
    take_off_expired,
)
from ai_ledger.sinks.sql.matching import AllInForce, InForce
from ai_ledger.sinks.sql.rows import record_of
from ai_ledger.terms import Terms

SUMS: Final = ("used", "forgotten", "calls", "uncounted")
"""What the rows say of an account; the rest is of reservations."""

_ALL_PERIODS: Final = "\U0010ffff"
_KEY: Final = ("budget_id", "scope", "period")
_STATE: Final = sa.select(state.c.number).where(state.c.id == 1).with_for_update(read=True)
_BUDGETS: Final = sa.select(budgets.c.id, budgets.c.terms, budgets.c.counts_from).order_by(
    budgets.c.id
)
_BLANK: Final = (
    sa.update(accounts)
    .where(
        accounts.c.budget_id == sa.bindparam("budget"),
        accounts.c.scope == sa.bindparam("whose"),
        accounts.c.period == sa.bindparam("when"),
    )
    .values(dict.fromkeys(SUMS, 0) | {"reserved_at": None})
)
_DERIVED: Final = ("duration_us", "duration_bucket", "first_token_us")
_CALLS: Final = sa.select(*(each for each in records.columns if each.name not in _DERIVED))


class Charges:
    """Knows the budgets in force; reads them again when they have changed."""

    def __init__(self) -> None:
        self._known: tuple[int, AllInForce] = (0, AllInForce())

    def open_to_forget(self, connection: Connection) -> Bill | None:
        """`open`, with what is kept of budgets that are out of force as well."""
        bill = self.open(connection)
        rows = connection.execute(_BUDGETS.where(sa.not_(budgets.c.active))).all()
        over = [budget for row in rows if _names_somebody((budget := _in_force(row)).terms.each)]
        if not over:
            return bill
        return Bill(self._known[1] if bill else AllInForce(), over)

    def open(self, connection: Connection) -> Bill | None:
        """
        A bill for what this transaction stores; ``None`` when no budget is in force.

        Until its end no budget is put into force, or taken out of it.
        """
        number = connection.execute(_STATE).scalar()
        if not number:
            return None
        known, in_force = self._known
        if number != known:
            rows = connection.execute(_BUDGETS.where(budgets.c.active))
            in_force = AllInForce([_in_force(row) for row in rows])
            self._known = (number, in_force)
        return Bill(in_force) if in_force else None


class Bill:
    """
    What the calls of one transaction change about accounts, collected and applied once.

    Args:
        in_force: The budgets that calls are charged to.
        over: Others, of which history is kept that may name somebody.
    """

    def __init__(self, in_force: AllInForce | None = None, over: Sequence[InForce] = ()) -> None:
        self._in_force = in_force or AllInForce()
        self._over = over
        self._changes: dict[AccountKey, list[int]] = {}
        # Budget and whose → the first period whose account says what the rows do.
        self._left: dict[tuple[int, str], str] = {}

    def add(self, record: CallRecord, sign: int = 1) -> None:
        """Count *record*, or with -1 take it back."""
        for budget in self._in_force.about(record):
            key = _account(budget, record)
            if key is not None:
                self._count(key, budget.terms.amount_of(record), sign)

    def forget(self, old: CallRecord, new: CallRecord) -> None:
        """
        Keep counting a call that no longer says whose it was.

        What is spent stays spent. Only where an account is one person's, so that its
        name would say who that was, the call is counted where calls of nobody are, and
        so is all that this person has in accounts which are but history.
        """
        for budget in self._over:
            self._leave(budget, old, _ALL_PERIODS)
        # What it is looked up by is not forgotten.
        for budget in self._in_force.about(old):
            was, now = _account(budget, old), _account(budget, new)
            amount = budget.terms.amount_of(old)
            if _names_somebody(budget.terms.each):
                first = budget.counts_from and budget.terms.period_of(budget.counts_from)
                self._leave(budget, old, first or "")
                if was != now:
                    if was is not None:
                        self._count(was, amount, -1)
                    if now is not None:
                        self._count(now, amount, 1)
            elif was is not None and now is None:
                self._change(was)[1] += amount or 0
            elif now is not None and was is None:
                self._change(now)[1] -= amount or 0

    def _leave(self, budget: InForce, old: CallRecord, first: str) -> None:
        if budget.terms.matches(old) and (whose := budget.terms.whose(old)):
            self._left[budget.id, whose] = first

    def apply(self, connection: Connection, consumed: Sequence[Consumed] = ()) -> None:
        """Change the accounts, and take off the leases what is now counted."""
        amounts: dict[int, int] = {}
        for lease_id, amount in consumed:
            amounts[lease_id] = amounts.get(lease_id, 0) + amount
        # Everything that is changed below, so that it is locked in its turn.
        if amounts:
            for key in accounts_of(connection, amounts).values():
                self._change(key)
        names = [_key_of(row) for row in self._named(connection)] if self._left else []
        for key in names:
            self._change(key)
            if self._is_history(key):
                self._change((key[0], "", key[2]))
        if self._changes:
            add_to_accounts(connection, self._changes)
        if amounts:
            take_off(connection, amounts)
        if names:
            self._erase(connection, set(names))

    def _erase(self, connection: Connection, names: set[AccountKey]) -> None:
        """Take these names, as far as nothing is counted by them any more, out of accounts."""
        moved: dict[AccountKey, list[int]] = {}
        blank: list[AccountKey] = []
        for row in self._named(connection, locked=True):
            key = _key_of(row)
            history = self._is_history(key)
            if key not in names or (row["calls"] and not history):
                continue
            blank.append(key)
            if history:
                sums = moved.setdefault((key[0], "", key[2]), [0] * len(SUMS))
                for place, name in enumerate(SUMS):
                    sums[place] += row[name]
        if not blank:
            return
        if moved:
            add_to_accounts(connection, moved)
        connection.execute(
            _BLANK, [{"budget": key[0], "whose": key[1], "when": key[2]} for key in blank]
        )
        take_off_expired(connection, blank, now_of(connection))
        # Where a process still holds a lease, whoever ends it does the same.
        drop_blank(connection, blank)

    def _named(self, connection: Connection, *, locked: bool = False) -> list[Any]:
        """The accounts of those who are forgotten."""
        whose: dict[int, list[str]] = {}
        for budget_id, scope in sorted(self._left):
            whose.setdefault(budget_id, []).append(scope)
        found: list[Any] = []
        for budget_id, scopes in whose.items():
            statement = (
                sa.select(accounts)
                .where(accounts.c.budget_id == budget_id, accounts.c.scope.in_(scopes))
                .order_by(accounts.c.scope, accounts.c.period)
            )
            found += connection.execute(
                statement.with_for_update() if locked else statement
            ).mappings()
        return found

    def _is_history(self, key: AccountKey) -> bool:
        """Whether the account is not held against the rows any more."""
        return key[2] < self._left[key[:2]]

    def _count(self, key: AccountKey, amount: int | None, sign: int) -> None:
        change = self._change(key)
        change[0] += sign * (amount or 0)
        change[2] += sign
        change[3] += sign * (amount is None)

    def _change(self, key: AccountKey) -> list[int]:
        change = self._changes.get(key)
        if change is None:
            change = self._changes[key] = [0] * len(SUMS)
        return change


def _in_force(row: Any) -> InForce:
    return InForce(row.id, Terms.from_json(row.terms), row.counts_from)


def _key_of(row: Any) -> AccountKey:
    return row["budget_id"], row["scope"], row["period"]


def _account(budget: InForce, record: CallRecord) -> AccountKey | None:
    if budget.counts_from is not None and record.started_at < budget.counts_from:
        return None
    terms = budget.terms
    if not terms.matches(record):
        return None
    period = terms.period_of(record.started_at)
    return None if period is None else (budget.id, terms.whose(record), period)


def _names_somebody(each: str | None) -> bool:
    return each is not None and (each in IDENTITY_FIELDS or each.startswith(TAG_PREFIX))


def stored_calls(connection: Connection, ids: Iterable[str]) -> list[CallRecord]:
    """The calls with these ids as they are stored, deleted ones included, without content."""
    wanted = sorted(ids)
    labels: dict[str, dict[str, str]] = {call_id: {} for call_id in wanted}
    for row in connection.execute(sa.select(tags).where(tags.c.call_id.in_(wanted))):
        labels[row.call_id][row.key] = row.value
    rows = connection.execute(_CALLS.where(records.c.id.in_(wanted))).mappings()
    return [record_of(dict(row), labels[row["id"]]) for row in rows]


def add_to_accounts(
    connection: Connection, changes: dict[AccountKey, list[int]], *, replace: bool = False
) -> None:
    """
    Add to the sums of accounts, which are made where they are missing, in order of their keys.

    Args:
        connection: That of the transaction.
        changes: Account → `SUMS`.
        replace: Put the sums in the place of the old ones instead.
    """
    dialect = connection.dialect
    moment: Any = moment_text(utc_now()) if dialect.name == "sqlite" else utc_now()
    rows = [
        (*key, 0, moment, *(max(-MAX_NANO, min(MAX_NANO, change)) for change in sums))
        for key, sums in sorted(changes.items())
    ]
    connection.exec_driver_sql(_upsert(dialect, replace=replace), rows)


def _upsert(dialect: Dialect, *, replace: bool) -> str:
    quote, table = dialect.identifier_preparer.quote, accounts.name
    names = (*_KEY, "reserved", "updated_at", *SUMS)
    mark = "?" if dialect.name == "sqlite" else "%s"
    new = "VALUES({})" if dialect.name == "mysql" else "excluded.{}"
    sets = [f"updated_at = {new.format('updated_at')}"]
    for name in SUMS:
        old, change = f"{table}.{name}", new.format(name)
        # A sum that would pass 64 bits stays where it is full: no call is refused for
        # that, and every limit has been passed long before.
        added = (
            f"CASE WHEN {change} > 0 AND {old} > {MAX_NANO} - {change} THEN {MAX_NANO}"
            f" ELSE {old} + {change} END"
        )
        sets.append(f"{name} = {change if replace else added}")
    known = (
        "ON DUPLICATE KEY UPDATE"
        if dialect.name == "mysql"
        else f"ON CONFLICT ({', '.join(map(quote, _KEY))}) DO UPDATE SET"
    )
    return (
        f"INSERT INTO {table} ({', '.join(map(quote, names))})"  # noqa: S608 - our names
        f" VALUES ({', '.join([mark] * len(names))}) {known} {', '.join(sets)}"
    )
