"""Who has been told of which alert, so that each channel is told once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.alerts.alert import Alert, Delivery
from ai_ledger.alerts.channel import Channel, name_of
from ai_ledger.alerts.register import alert_of
from ai_ledger.alerts.rulebook import insert_new
from ai_ledger.bounds import storable
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.alerts import alerts, deliveries
from ai_ledger.secrets import scrub

log: Final = logging.getLogger("ai_ledger.alerts")

KEPT_DAYS: Final = 7
"""What could not be told in so many days is no news any more."""
KEPT_ENDED_DAYS: Final = 1
"""The same, of what has ended by itself meanwhile."""
AT_ONCE: Final = 200
# While one process tells a channel, no other does; if it dies over it, another one
# does after this long. Longer than a webhook takes with all its attempts.
_TAKEN: Final = timedelta(minutes=5)
_PAUSES_S: Final = (60, 300, 900, 3_600, 3_600 * 3, 3_600 * 6)
MAX_ATTEMPTS: Final = len(_PAUSES_S) + 1


class Outbox:
    """
    The deliveries of one ledger.

    Args:
        database: Where they are remembered.
        clock: Says what time it is.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def deliver(self, channels: Sequence[Channel], *, scope: str | None) -> int:
        """Tell each channel what it was not told yet and nobody has taken up; how many went."""
        sent = 0
        for channel in channels:
            for alert in self._waiting(name_of(channel), scope):
                if self._take(alert.id, name_of(channel)):
                    sent += self._send(channel, alert)
        return sent

    def deliveries(self, alert_id: int) -> list[Delivery]:
        """Who was told of an alert, or will be."""
        statement = (
            sa.select(deliveries)
            .where(deliveries.c.alert_id == alert_id)
            .order_by(deliveries.c.channel)
        )
        with self._database.reading() as connection:
            return [
                Delivery(
                    channel=row.channel,
                    state=row.state,
                    attempts=row.attempts,
                    next_at=row.next_at,
                    sent_at=row.sent_at,
                    last_error=row.last_error,
                )
                for row in connection.execute(statement)
            ]

    def _waiting(self, channel: str, scope: str | None) -> list[Alert]:
        now = self._clock()
        told = sa.and_(deliveries.c.alert_id == alerts.c.id, deliveries.c.channel == channel)
        statement = (
            sa.select(alerts)
            .select_from(alerts.outerjoin(deliveries, told))
            .where(
                alerts.c.raised_at > now - timedelta(days=KEPT_DAYS),
                alerts.c.send_after <= now,
                # Taken up by nobody. What ended by itself is told as well, but not for long.
                sa.or_(
                    alerts.c.state == "open",
                    sa.and_(
                        alerts.c.resumes_as == "open",
                        alerts.c.send_after > now - timedelta(days=KEPT_ENDED_DAYS),
                    ),
                ),
                sa.or_(
                    deliveries.c.alert_id.is_(None),
                    sa.and_(deliveries.c.state == "waiting", deliveries.c.next_at <= now),
                ),
            )
            .order_by(alerts.c.raised_at, alerts.c.id)
            .limit(AT_ONCE)
        )
        if scope is not None:
            statement = statement.where(alerts.c.org_id == scope)
        with self._database.reading() as connection:
            return [alert_of(row) for row in connection.execute(statement)]

    def _take(self, alert_id: int, channel: str) -> bool:
        """Make this delivery ours; false when it is somebody else's or done."""
        now = self._clock()

        def work(connection: Connection) -> bool:
            taken = {"attempts": 1, "next_at": now + _TAKEN}
            if insert_new(
                connection,
                deliveries,
                {"alert_id": alert_id, "channel": channel, "state": "waiting", **taken},
            ):
                return True
            claimed = connection.execute(
                sa.update(deliveries)
                .where(
                    deliveries.c.alert_id == alert_id,
                    deliveries.c.channel == channel,
                    deliveries.c.state == "waiting",
                    deliveries.c.next_at <= now,
                )
                .values(attempts=deliveries.c.attempts + 1, next_at=now + _TAKEN)
            )
            return claimed.rowcount == 1

        return self._database.writing(work)

    def _send(self, channel: Channel, alert: Alert) -> bool:
        name = name_of(channel)
        try:
            channel.send(alert)
        except Exception as error:  # noqa: BLE001  # the boundary around channels
            said = storable(scrub(f"{type(error).__name__}: {error}")[:500])
            log.warning("alert %d was not told to %s: %s", alert.id, name, said)
            self._note(alert.id, name, error=said)
            return False
        self._note(alert.id, name, error=None)
        return True

    def _note(self, alert_id: int, channel: str, *, error: str | None) -> None:
        one = sa.and_(deliveries.c.alert_id == alert_id, deliveries.c.channel == channel)
        now = self._clock()

        def work(connection: Connection) -> None:
            values: dict[str, Any] = {"state": "sent", "sent_at": now, "last_error": None}
            if error is not None:
                attempts: int = connection.execute(
                    sa.select(deliveries.c.attempts).where(one)
                ).scalar_one()
                given_up = attempts >= MAX_ATTEMPTS
                pause = _PAUSES_S[min(attempts, len(_PAUSES_S)) - 1]
                values = {
                    "state": "failed" if given_up else "waiting",
                    "next_at": now + timedelta(seconds=pause),
                    "last_error": error,
                }
            connection.execute(sa.update(deliveries).where(one).values(**values))

        self._database.writing(work)
