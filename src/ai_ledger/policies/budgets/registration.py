"""Putting budgets into force and out of it, so that no call slips in between."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import label
from ai_ledger.database.changes import note_change
from ai_ledger.database.tables.budgets import accounts, budgets, leases, state
from ai_ledger.database.versions import require_version
from ai_ledger.errors import NotFound
from ai_ledger.policies.budgets.rows import sums_of_rows
from ai_ledger.sinks.sql.charges import add_to_accounts
from ai_ledger.sinks.sql.leases import drop_all_blank
from ai_ledger.terms import Terms

KIND: Final = "budget"
"""Of its edits, in the history of changes."""

_COUNTING: Final = ("unpriced_as", "rates")


def register(connection: Connection, terms: Terms, now: datetime, by: str | None) -> int:
    """
    Put *terms* into force, and count the calls of the current period that are there.

    Args:
        connection: That of a transaction, which keeps all who store calls waiting.
        terms: Those of its name are replaced.
        now: The database's clock.
        by: Who does so.
    """
    _keep_writers_waiting(connection)
    old = _stored(connection, terms.name)
    text = terms.to_json()
    if old is not None and old.active and old.terms == text:
        return int(old.id)
    before = None if old is None else Terms.from_json(old.terms)
    if old is None or before is None or not terms.counts_as(before):
        if old is not None and before is not None:
            _set_aside(connection, old, before, now, by)
        budget_id = _insert(connection, terms, now, by)
        _count_anew(connection, budget_id, terms, now)
    else:
        budget_id = int(old.id)
        _update(connection, old, now, by, terms=text, active=True)
        if not old.active or _differ(before, terms, _COUNTING):
            _count_anew(connection, budget_id, terms, now)
    _bump(connection)
    note_change(
        connection, KIND, terms.name, before=_plain(before), after=_plain(terms), by=by, at=now
    )
    return budget_id


def deactivate(
    connection: Connection, name: str, now: datetime, by: str | None, version: int | None = None
) -> None:
    """
    Put the budget out of force. What is leased of it stays until it comes back or expires.

    Processes may go on taking from what they have leased, so that it has to count
    when the budget is soon in force again.

    Raises:
        NotFound: There is no budget of that name.
        EditConflict: It is not at *version* any more.
    """
    _keep_writers_waiting(connection)
    old = _at_version(_stored(connection, name), name, version)
    if not old.active:
        return
    _update(connection, old, now, by, active=False)
    _bump(connection)
    before = _plain(Terms.from_json(old.terms))
    note_change(connection, KIND, name, before=before, after=None, by=by, at=now)


def reactivate(
    connection: Connection, name: str, now: datetime, by: str | None, version: int | None = None
) -> None:
    """
    Put the budget into force again as it was, and count the calls of the current period.

    Raises:
        NotFound: There is no budget of that name.
        EditConflict: It is not at *version* any more.
    """
    _keep_writers_waiting(connection)
    old = _at_version(_stored(connection, name), name, version)
    if old.active:
        return
    terms = Terms.from_json(old.terms)
    _update(connection, old, now, by, active=True)
    _count_anew(connection, int(old.id), terms, now)
    _bump(connection)
    note_change(connection, KIND, name, before=None, after=_plain(terms), by=by, at=now)


def _at_version(old: Any, name: str, version: int | None) -> Any:
    if old is None:
        raise NotFound(f"there is no budget {name!r}: see `ai-ledger budgets list`")
    require_version(f"budget {name!r}", version, old.version, old.updated_by, old.updated_at)
    return old


def first_period(terms: Terms, counts_from: datetime | None) -> str:
    """The earliest period that is held against the ledger's rows."""
    if terms.per in ("total", "window") or counts_from is None:
        return terms.per
    return terms.period_of(counts_from) or ""


def _keep_writers_waiting(connection: Connection) -> None:
    found = connection.execute(sa.select(state.c.number).where(state.c.id == 1).with_for_update())
    if found.scalar() is None:
        connection.execute(sa.insert(state).values(id=1, number=0))


def _bump(connection: Connection) -> None:
    connection.execute(sa.update(state).where(state.c.id == 1).values(number=state.c.number + 1))


def _stored(connection: Connection, name: str) -> Any:
    statement = sa.select(budgets).where(budgets.c.name == label(name)).with_for_update()
    return connection.execute(statement).one_or_none()


def _insert(connection: Connection, terms: Terms, now: datetime, by: str | None) -> int:
    inserted = connection.execute(
        sa.insert(budgets).values(
            name=terms.name,
            terms=terms.to_json(),
            active=True,
            counts_from=None,
            version=1,
            created_at=now,
            updated_at=now,
            updated_by=None if by is None else label(by),
        )
    )
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def _update(
    connection: Connection, old: Any, now: datetime, by: str | None, **values: object
) -> None:
    connection.execute(
        sa.update(budgets)
        .where(budgets.c.id == old.id)
        .values(
            **values,
            version=old.version + 1,
            updated_at=now,
            updated_by=None if by is None else label(by),
        )
    )


def _set_aside(
    connection: Connection, old: Any, terms: Terms, now: datetime, by: str | None
) -> None:
    """Leave the budget as history, under a name that says until when it was in force."""
    name = label(f"{terms.name} until {now:%Y-%m-%dT%H:%M:%SZ} ({old.id})")
    kept = msgspec.structs.replace(terms, name=name)
    _update(connection, old, now, by, name=name, terms=kept.to_json(), active=False)
    _release(connection, old.id, now)


def _release(connection: Connection, budget_id: int, now: datetime) -> None:
    connection.execute(
        sa.update(accounts)
        .where(accounts.c.budget_id == budget_id)
        .values(reserved=0, updated_at=now)
    )
    connection.execute(sa.delete(leases).where(leases.c.budget_id == budget_id))
    drop_all_blank(connection, budget_id)


def _count_anew(connection: Connection, budget_id: int, terms: Terms, now: datetime) -> None:
    """Count from the beginning of the current period on; earlier accounts stay as they are."""
    counts_from = terms.since
    if (period := terms.period_of(now)) is not None and (bounds := terms.bounds_of(period)):
        counts_from = bounds[0]
    connection.execute(
        sa.update(budgets).where(budgets.c.id == budget_id).values(counts_from=counts_from)
    )
    here = (
        accounts.c.budget_id == budget_id,
        accounts.c.period >= first_period(terms, counts_from),
    )
    known = connection.execute(
        sa.select(accounts.c.scope, accounts.c.period)
        .where(*here)
        .order_by(accounts.c.scope, accounts.c.period)
        .with_for_update()
    )
    changes = {(budget_id, row.scope, row.period): [0, 0, 0, 0] for row in known}
    for (whose, at), sums in sums_of_rows(connection, terms, counts_from).items():
        changes[budget_id, whose, at] = sums
    if changes:
        add_to_accounts(connection, changes, replace=True)


def _differ(one: Terms, other: Terms, names: tuple[str, ...]) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in names)


def _plain(terms: Terms | None) -> Mapping[str, Any] | None:
    return None if terms is None else msgspec.to_builtins(terms)
