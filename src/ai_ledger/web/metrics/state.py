"""State: budgets, alerts and delivery as they are when somebody looks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from prometheus_client.core import Metric
from sqlalchemy.engine import Connection

from ai_ledger.alerts.alert import UNRESOLVED
from ai_ledger.alerts.rule import SEVERITIES
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.alerts import alerts as alerts_table
from ai_ledger.database.tables.budgets import accounts, budgets
from ai_ledger.delivery import Health
from ai_ledger.money import from_nano
from ai_ledger.query import TAG_PREFIX
from ai_ledger.records import CONTEXT_FIELDS
from ai_ledger.sinks.labels import OTHER, Values
from ai_ledger.sinks.prometheus import LABELS
from ai_ledger.terms import TOKENS, Terms
from ai_ledger.web.metrics.families import Row, counter, gauge

USED: Final = ("ai_ledger_budget_used", "Used in this period, in the budget's unit.")
RESERVED: Final = ("ai_ledger_budget_reserved", "Set aside for calls in flight.")
LIMIT: Final = ("ai_ledger_budget_limit", "Of each account, in the budget's unit.")
ACCOUNTS: Final = ("ai_ledger_budget_accounts", "Accounts with calls in this period.")
FULL: Final = ("ai_ledger_budget_full_accounts", "Those of them with nothing left.")
ALERTS: Final = ("ai_ledger_alerts", "Alerts that are not resolved.")
PENDING: Final = ("ai_ledger_pending_records", "Records that the sink still has to take.")
FAILING: Final = ("ai_ledger_sink_failing", "1 while the sink takes nothing, else 0.")
OLDEST: Final = ("ai_ledger_oldest_pending_seconds", "Since the oldest of them began; 0 for none.")
DROPPED: Final = ("ai_ledger_dropped_records", "Records, or parts of them, that were given up.")
INCIDENTS: Final = ("ai_ledger_incidents", "What else went wrong inside the ledger.")
QUARANTINED: Final = ("ai_ledger_quarantined_records", "Records that a sink will never take.")
JOURNAL: Final = ("ai_ledger_journal_bytes", "In the journal's folder, of all processes.")
MEMORY: Final = ("ai_ledger_memory_bytes", "Of records that wait in memory.")

_NAMES: Final = 200
# Whoever names a budget for one of these names somebody with it.
_IDENTITY: Final = frozenset(CONTEXT_FIELDS) - frozenset(LABELS)


class Budgets:
    """What is used of the budgets; those of somebody in particular only together."""

    def __init__(self) -> None:
        self._names = Values(_NAMES)

    def read(self, database: Database, now: datetime) -> list[Metric]:
        """The budgets in force, in the period that *now* is in."""
        # Added up, since two names may be one label.
        used, reserved, limit, counted, full = (_rows() for _ in range(5))
        with database.reading() as connection:
            # Oldest first, so that the same ones have names of their own each time.
            wanted = sa.select(budgets.c.id, budgets.c.terms).where(budgets.c.active)
            for row in connection.execute(wanted.order_by(budgets.c.id)).all():
                terms = Terms.from_json(row.terms)
                period = terms.period_of(now)
                if period is None:
                    continue
                name = OTHER if _is_personal(terms) else self._names.of(terms.name)
                sums = _sums(connection, row.id, period, terms.limit)
                counted[name,] += sums.accounts
                full[name,] += int(sums.full or 0)
                if name == OTHER:
                    continue
                labels = (name, terms.unit)
                limit[labels] += _amount(terms.limit, terms)
                if terms.each is None:
                    used[labels] += _amount(sums.used, terms)
                    reserved[labels] += _amount(sums.reserved, terms)
        return [
            gauge(USED, ("budget", "unit"), used.items()),
            gauge(RESERVED, ("budget", "unit"), reserved.items()),
            gauge(LIMIT, ("budget", "unit"), limit.items()),
            gauge(ACCOUNTS, ("budget",), counted.items()),
            gauge(FULL, ("budget",), full.items()),
        ]


def _rows() -> dict[tuple[str, ...], float]:
    return defaultdict(float)


def _sums(connection: Connection, budget_id: int, period: str, limit: int) -> Any:
    taken = accounts.c.used + accounts.c.reserved
    return connection.execute(
        sa.select(
            sa.func.count().label("accounts"),
            sa.func.sum(sa.case((taken >= limit, 1), else_=0)).label("full"),
            sa.func.sum(accounts.c.used).label("used"),
            sa.func.sum(accounts.c.reserved).label("reserved"),
        ).where(accounts.c.budget_id == budget_id, accounts.c.period == period)
    ).one()


def _amount(kept: int | None, terms: Terms) -> float:
    whole = int(kept or 0)
    return float(whole if terms.unit == TOKENS else from_nano(whole))


def _is_personal(terms: Terms) -> bool:
    return any(field in _IDENTITY or field.startswith(TAG_PREFIX) for field in terms.where)


def alerts(database: Database) -> list[Metric]:
    """How many alerts there are of each severity, in each state but resolved."""
    table = alerts_table.c
    wanted = (
        sa.select(table.severity, table.state, sa.func.count())
        .where(table.state.in_(UNRESOLVED))
        .group_by(table.severity, table.state)
    )
    with database.reading() as connection:
        found = {(row[0], row[1]): int(row[2]) for row in connection.execute(wanted)}
    rows: list[Row] = [
        ((severity, state), found.get((severity, state), 0))
        for severity in SEVERITIES
        for state in UNRESOLVED
    ]
    return [gauge(ALERTS, ("severity", "state"), rows)]


class Deliveries:
    """What waits, and what was lost."""

    def __init__(self) -> None:
        self._sinks = Values(_NAMES)
        self._reasons = Values(_NAMES)

    def read(self, health: Health) -> Iterator[Metric]:
        """*health* as metrics."""
        pending, failing = _rows(), _rows()
        # Of an address only what kind it is: it tells of hosts, folders and users.
        kinds = {sink.name: sink.name.partition(":")[0] for sink in health.sinks}
        for sink in health.sinks:
            name = (self._sinks.of(kinds[sink.name]),)
            pending[name] += sink.pending
            failing[name] = max(failing[name], float(sink.last_error is not None))
        yield gauge(PENDING, ("sink",), pending.items())
        yield gauge(FAILING, ("sink",), failing.items())
        yield gauge(OLDEST, (), [((), health.oldest_seconds or 0.0)])
        yield counter(DROPPED, ("reason",), self._by_reason(health.dropped, kinds))
        yield counter(INCIDENTS, ("reason",), self._by_reason(health.incidents, kinds))
        yield gauge(QUARANTINED, (), [((), health.quarantined)])
        yield gauge(JOURNAL, (), [((), health.journal_bytes)])
        yield gauge(MEMORY, (), [((), health.memory_bytes)])

    def _by_reason(self, counts: dict[str, int], kinds: dict[str, str]) -> list[Row]:
        found = _rows()
        for reason, count in counts.items():
            for name, kind in kinds.items():
                reason = reason.replace(name, kind)
            found[self._reasons.of(reason),] += count
        return list(found.items())
