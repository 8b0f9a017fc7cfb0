"""Turns and places that all processes share: one transaction says who is next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from ai_ledger.database.engine import Again, Database
from ai_ledger.database.tables.quotas import gates, places
from ai_ledger.policies.quotas.gate import MICRO, Gate, Refused, Wish

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
) -> list[str]:
    """
    Take all that *wishes* say, or nothing.

    Args:
        database: Whose clock counts.
        wishes: At most one of each gate.
        holder: The process that takes the places.
        ttl_s: Seconds after which a place is free that nobody renews.
        leaving: Places that are given back in the same transaction.

    Returns:
        The ids of the places.

    Raises:
        Refused: Something cannot be had now. *leaving* are given back all the same.
        SinkUnavailable: The database is away.
    """
    # One order for all, so that no two wait for each other.
    wishes = sorted(wishes, key=lambda each: each.gate)
    if len(wishes) == 1 and not wishes[0].places and not leaving:
        database.writing(lambda connection: _turn(connection, database.kind, wishes[0]))
        return []

    def work(connection: Connection) -> list[str] | Refused:
        if leaving:
            connection.execute(sa.delete(places).where(places.c.id.in_(leaving)))
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
        return [str(each["id"]) for each in new]

    # Not raised inside, where it would take back what is given back.
    result = database.writing(work)
    if isinstance(result, Refused):
        raise result
    return result


def leave(database: Database, ids: Sequence[str]) -> None:
    """Give places back."""
    database.writing(
        lambda connection: connection.execute(sa.delete(places).where(places.c.id.in_(ids)))
    )


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


def _turn(connection: Connection, kind: str, wish: Wish) -> None:
    """Take the next turn by one statement, the usual case."""
    now = _clock(kind)
    took = connection.execute(
        sa.update(gates)
        .where(
            *_is(gates, wish.gate),
            # A turn further away than the interval is one from before the clock was set back.
            sa.or_(gates.c.next_at_us <= now, gates.c.next_at_us > now + wish.interval_us),
        )
        .values(next_at_us=now + wish.interval_us)
    )
    if took.rowcount:
        return
    next_at = _opened(connection, wish.gate)
    now_us = _now(connection, kind)
    wait = _wait(wish, next_at, now_us)
    if wait:
        raise Refused(wish, wait)
    # The gate is new, or the turn has come meanwhile.
    connection.execute(
        sa.update(gates).where(*_is(gates, wish.gate)).values(next_at_us=now_us + wish.interval_us)
    )


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
