"""Turns and places that all processes share: one transaction says who is next."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from ai_ledger.database.engine import Again, Database
from ai_ledger.database.tables.quotas import gates, places
from ai_ledger.errors import AILedgerError
from ai_ledger.policies.quotas.gate import MICRO, Gate, Refused, Wish

_NO_TURNS: Final[Mapping[Gate, int]] = MappingProxyType({})
_SWEEP_SHARE: Final = 1 / 2000
"""Of the calls, that many sweep up after all."""
_SWEPT: Final = 5000
_KEPT_US: Final = 3600 * MICRO
_NOW: Final = {
    # Both are read when the row is looked at, which may be long after the statement began.
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mysql": "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
}


def enter(
    database: Database,
    wishes: Sequence[Wish],
    *,
    holder: str,
    ttl_s: float,
    leaving: Sequence[str] = (),
    unused: Mapping[Gate, int] = _NO_TURNS,
) -> tuple[list[str], dict[Gate, int]]:
    """
    Take all that *wishes* say, or nothing.

    Args:
        database: Whose clock counts.
        wishes: At most one of each gate.
        holder: The process that takes the places.
        ttl_s: Seconds after which a place is free that nobody renews.
        leaving: Places that are given back in the same transaction.
        unused: Turns that are given back in it, as they were taken.

    Returns:
        The ids of the places, and the turns, each as the moment of the next one.

    Raises:
        Refused: Something cannot be had now. What is given back is so all the same.
        SinkUnavailable: The database is away.
    """
    # One order for all, so that no two wait for each other.
    wishes = sorted(wishes, key=lambda each: each.gate)
    if len(wishes) == 1 and not wishes[0].places and not leaving and not unused:
        turn = database.writing(lambda connection: _turn(connection, database.kind, wishes[0]))
        _sweep_sometimes(database)
        return [], {wishes[0].gate: turn}

    def work(connection: Connection) -> tuple[list[str], dict[Gate, int]] | Refused:
        _give_back(connection, leaving, unused)
        waits = [_opened(connection, wish.gate) for wish in wishes]
        now = _now(connection, database.kind)
        for wish, next_at in zip(wishes, waits, strict=True):
            wait = _wait(wish, next_at, now)
            if wait:
                return Refused(wish, wait)
            if wish.places and _taken(connection, wish.gate, now) >= wish.places:
                return Refused(wish, None)
        for wish in wishes:
            if wish.interval_us:
                connection.execute(
                    sa.update(gates)
                    .where(*_is(gates, wish.gate))
                    .values(next_at_us=now + wish.interval_us)
                )
        new = [
            {
                "id": str(uuid4()),
                "org_id": wish.gate[0],
                "model": wish.gate[1],
                "holder": holder,
                "expires_at_us": now + round(ttl_s * MICRO),
            }
            for wish in wishes
            if wish.places
        ]
        if new:
            connection.execute(sa.insert(places), new)
        turns = {wish.gate: now + wish.interval_us for wish in wishes if wish.interval_us}
        return [str(each["id"]) for each in new], turns

    # Not raised inside, where it would take back what is given back.
    result = database.writing(work)
    if isinstance(result, Refused):
        raise result
    _sweep_sometimes(database)
    return result


def leave(database: Database, ids: Sequence[str], unused: Mapping[Gate, int] = _NO_TURNS) -> None:
    """Give places and turns back."""
    database.writing(lambda connection: _give_back(connection, ids, unused))


def sweep(database: Database) -> None:
    """
    Forget gates that nobody has come to for an hour, and what was left behind at them.

    Whoever comes again makes his gate anew: it says no more than that the turn is free.
    """
    with database.reading() as connection:
        old = _now(connection, database.kind) - _KEPT_US
        idle = (
            sa.select(gates.c.org_id, gates.c.model)
            .where(
                gates.c.next_at_us < old,
                ~sa.exists().where(
                    places.c.org_id == gates.c.org_id,
                    places.c.model == gates.c.model,
                    places.c.expires_at_us >= old,
                ),
            )
            .limit(_SWEPT)
        )
        found = sorted((str(row.org_id), str(row.model)) for row in connection.execute(idle))

    def work(connection: Connection) -> None:
        for gate in found:
            connection.execute(sa.delete(gates).where(*_is(gates, gate), gates.c.next_at_us < old))
            connection.execute(
                sa.delete(places).where(*_is(places, gate), places.c.expires_at_us < old)
            )

    if found:
        database.writing(work)


def renew(database: Database, ids: Sequence[str], *, ttl_s: float) -> None:
    """Keep places for as long again."""

    def work(connection: Connection) -> None:
        until = _now(connection, database.kind) + round(ttl_s * MICRO)
        connection.execute(
            sa.update(places).where(places.c.id.in_(sorted(ids))).values(expires_at_us=until)
        )

    database.writing(work)


def taken(database: Database, gate: Gate) -> int:
    """How many places are taken now."""
    with database.reading() as connection:
        now = _now(connection, database.kind)
        return connection.execute(
            sa.select(sa.func.count())
            .select_from(places)
            .where(*_is(places, gate), places.c.expires_at_us > now)
        ).scalar_one()


def _sweep_sometimes(database: Database) -> None:
    if random.random() < _SWEEP_SHARE:  # noqa: S311 - no secret
        with suppress(AILedgerError):
            sweep(database)


def _give_back(connection: Connection, ids: Sequence[str], unused: Mapping[Gate, int]) -> None:
    for gate, turn in sorted(unused.items()):
        # Unless somebody else has taken the next one meanwhile.
        connection.execute(
            sa.update(gates)
            .where(*_is(gates, gate), gates.c.next_at_us == turn)
            .values(next_at_us=0)
        )
    if ids:
        connection.execute(sa.delete(places).where(places.c.id.in_(ids)))


def _turn(connection: Connection, kind: str, wish: Wish) -> int:
    """Take the next turn by one statement, the usual case; the moment of the one after."""
    now = _clock(kind)
    until = now + wish.interval_us
    statement = sa.update(gates).where(
        *_is(gates, wish.gate),
        # A turn further away than the interval is one from before the clock was set back.
        sa.or_(gates.c.next_at_us <= now, gates.c.next_at_us > until),
    )
    if kind == "mysql":
        # What it is given there, the answer to the statement says.
        took = connection.execute(statement.values(next_at_us=sa.func.last_insert_id(until)))
        taken = took.lastrowid if took.rowcount else None
    else:
        taken = connection.execute(
            statement.values(next_at_us=until).returning(gates.c.next_at_us)
        ).scalar()
    if taken is not None:
        return int(taken)
    next_at = _opened(connection, wish.gate)
    now_us = _now(connection, kind)
    wait = _wait(wish, next_at, now_us)
    if wait:
        raise Refused(wish, wait)
    # The gate is new, or the turn has come meanwhile.
    turn = now_us + wish.interval_us
    connection.execute(sa.update(gates).where(*_is(gates, wish.gate)).values(next_at_us=turn))
    return turn


def _opened(connection: Connection, gate: Gate) -> int:
    """The next turn at the gate, which is locked from here on; made when there is none."""
    query = sa.select(gates.c.next_at_us).where(*_is(gates, gate)).with_for_update()
    found = connection.execute(query).scalar()
    if found is None:
        try:
            connection.execute(sa.insert(gates).values(org_id=gate[0], model=gate[1], next_at_us=0))
        except exc.IntegrityError as error:
            raise Again from error  # somebody else was quicker
        found = 0
    return found


def _wait(wish: Wish, next_at_us: int, now_us: int) -> int:
    wait = next_at_us - now_us
    return wait if wish.interval_us and 0 < wait <= wish.interval_us else 0


def _taken(connection: Connection, gate: Gate, now_us: int) -> int:
    expired = sa.delete(places).where(*_is(places, gate), places.c.expires_at_us <= now_us)
    count = sa.select(sa.func.count()).select_from(places).where(*_is(places, gate))
    number = connection.execute(count).scalar_one()
    if number and connection.execute(expired).rowcount:
        number = connection.execute(count).scalar_one()
    return number


def _is(table: sa.Table, gate: Gate) -> tuple[Any, Any]:
    return table.c.org_id == gate[0], table.c.model == gate[1]


def _clock(kind: str) -> Any:
    # SQLite's writers wait for each other before they look, and share this machine's clock.
    text = _NOW.get(kind)
    return (
        sa.literal(time.time_ns() // 1000)
        if text is None
        else sa.literal_column(text, sa.BigInteger)
    )


def _now(connection: Connection, kind: str) -> int:
    return int(connection.execute(sa.select(_clock(kind))).scalar_one())
