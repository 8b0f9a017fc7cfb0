"""The alerts as rows: raised once, seen again, ended, and taken up by people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ai_ledger.alerts.alert import STATES, UNRESOLVED, Alert, CallsBehind, Finding, State
from ai_ledger.alerts.erasure import ERASED
from ai_ledger.alerts.rule import SEVERITIES, Rule
from ai_ledger.alerts.rulebook import insert_new
from ai_ledger.bounds import key_of, label, storable, value_of_key
from ai_ledger.database.changes import Change, changes_of, note_change
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.alerts import alerts, rules
from ai_ledger.database.versions import require_version
from ai_ledger.errors import EditConflict, InvalidValue, NotFound
from ai_ledger.validation import checked_limit, is_id

MAX_ALERTS: Final = 1_000
MAX_NOTE_CHARS: Final = 4_000
# What one process sees of itself, another does not: only time tells that it ended.
_LINGERS: Final = {"undelivered": timedelta(minutes=5), "breaker_open": timedelta(minutes=5)}
# In the words of the statement, so that what is left out by a limit is the least urgent.
_URGENCY: Final = (
    sa.case({state: place for place, state in enumerate(STATES)}, value=alerts.c.state),
    sa.case(
        {severity: place for place, severity in enumerate(reversed(SEVERITIES))},
        value=alerts.c.severity,
        else_=len(SEVERITIES),
    ),
)


class Register:
    """
    The alerts of one ledger.

    Args:
        database: Where they are.
        clock: Says what time it is.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    # What evaluation does

    def take(self, rule: Rule, findings: Sequence[Finding], now: datetime) -> list[Alert]:
        """
        Enter what was found for *rule*, and end what was not found any more.

        Returns:
            The alerts that were raised by this very call.
        """
        if not findings and not self._has_unresolved(rule):
            return []

        def work(connection: Connection) -> list[Alert]:
            # One process at a time for each rule; and none by a rule that was changed.
            version = connection.execute(
                sa.select(rules.c.version)
                .where(rules.c.id == rule.id, rules.c.enabled.is_(True))
                .with_for_update()
            ).scalar()
            if version != rule.version:
                return []
            unresolved = self._unresolved(connection, rule)
            seen: set[int] = set()
            raised = [
                alert
                for finding in findings
                if (alert := self._entered(connection, rule, finding, now, unresolved, seen))
            ]
            gone = [row for row in unresolved if row.id not in seen]
            self._end(connection, rule, gone, now)
            return raised

        return self._database.writing(work)

    def end_orphans(self, now: datetime) -> None:
        """End the alerts of rules that were removed or disabled."""
        left = sa.select(rules.c.id).where(rules.c.enabled.is_(True))
        orphans = sa.select(alerts).where(
            alerts.c.state.in_(UNRESOLVED), alerts.c.rule_id.not_in(left)
        )
        with self._database.reading() as connection:
            rows = list(connection.execute(orphans))
        if rows:
            self._database.writing(lambda connection: self._resolve(connection, rows, now))

    def _has_unresolved(self, rule: Rule) -> bool:
        with self._database.reading() as connection:
            return bool(self._unresolved(connection, rule))

    def _unresolved(self, connection: Connection, rule: Rule) -> list[Row[Any]]:
        statement = sa.select(alerts).where(
            alerts.c.rule_id == rule.id, alerts.c.state.in_(UNRESOLVED)
        )
        return list(connection.execute(statement))

    def _entered(
        self,
        connection: Connection,
        rule: Rule,
        finding: Finding,
        now: datetime,
        unresolved: list[Row[Any]],
        seen: set[int],
    ) -> Alert | None:
        """The alert that *finding* raises; none when there is one of it in this period."""
        period = finding.period or rule.period(now)
        key, subject = key_of(_short(finding.whose)), label(finding.subject)
        for row in unresolved:
            if (row.scope_key, row.subject) != (key, subject):
                continue
            # What goes on past midnight is no news until it has gone on for a period.
            goes_on = finding.period is None and now - row.raised_at < timedelta(seconds=rule.per_s)
            if row.period == period or goes_on:
                self._see(connection, row.id, finding, now)
                seen.add(row.id)
                return None
        if insert_new(connection, alerts, _values(rule, finding, key, subject, period, now)):
            return alert_of(connection.execute(_one(rule, key, subject, period)).one())
        row = connection.execute(_one(rule, key, subject, period)).one()
        if row.resumes_as is None:
            # Somebody has resolved it: it stays that way for this period.
            self._see(connection, row.id, finding, now)
            return None
        # It ended by itself and has come back.
        connection.execute(
            sa.update(alerts)
            .where(alerts.c.id == row.id)
            .values(
                state=row.resumes_as,
                resumes_as=None,
                occurrences=row.occurrences + 1,
                last_value=finding.value,
                last_seen_at=now,
                changed_at=now,
                changed_by=None,
                version=row.version + 1,
            )
        )
        return None

    def _see(self, connection: Connection, alert_id: int, finding: Finding, now: datetime) -> None:
        connection.execute(
            sa.update(alerts)
            .where(alerts.c.id == alert_id, alerts.c.last_seen_at < now)
            .values(last_value=finding.value, last_seen_at=now)
        )

    def _end(self, connection: Connection, rule: Rule, gone: list[Row[Any]], now: datetime) -> None:
        linger = _LINGERS.get(rule.kind, timedelta(0))
        # Whoever looked earlier knows less than whoever has seen it since.
        self._resolve(connection, [row for row in gone if row.last_seen_at + linger < now], now)

    def _resolve(self, connection: Connection, rows: Sequence[Row[Any]], now: datetime) -> None:
        for row in rows:
            connection.execute(
                sa.update(alerts)
                .where(alerts.c.id == row.id, alerts.c.version == row.version)
                .values(
                    state="resolved",
                    resumes_as=row.state,
                    changed_at=now,
                    changed_by=None,
                    version=row.version + 1,
                )
            )

    # What people do

    def alerts(
        self,
        scope: str | None,
        *,
        states: Sequence[State] = (),
        rule: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        by_urgency: bool = False,
    ) -> list[Alert]:
        """Alerts, newest first; see `Alerts.list`."""
        limit = checked_limit(limit, MAX_ALERTS)
        for state in states:
            if state not in STATES:
                raise InvalidValue("states", state, f"some of {', '.join(STATES)}")
        statement = sa.select(alerts).where(*_within(scope))
        if states:
            statement = statement.where(alerts.c.state.in_(states))
        if rule is not None:
            statement = statement.where(alerts.c.rule == label(rule))
        if since is not None:
            statement = statement.where(alerts.c.raised_at >= since)
        newest = statement.order_by(
            *(_URGENCY if by_urgency else ()), alerts.c.raised_at.desc(), alerts.c.id.desc()
        ).limit(limit)
        with self._database.reading() as connection:
            return [alert_of(row) for row in connection.execute(newest)]

    def alert(self, alert_id: int, scope: str | None) -> Alert:
        """One alert."""
        with self._database.reading() as connection:
            return alert_of(_found(connection, alert_id, scope, lock=False))

    def history(self, alert_id: int | str, scope: str | None, *, limit: int) -> list[Change]:
        """What people did with an alert, newest first."""
        with self._database.reading() as connection:
            row = _found(connection, alert_id, scope, lock=False)
            return changes_of(connection, "alert", str(row.id), limit=limit)

    def change(
        self,
        alert_id: int,
        state: State,
        scope: str | None,
        *,
        by: str | None,
        note: str | None,
        version: int | None,
        reopening: bool = False,
    ) -> Alert:
        """
        Give an alert another state; what is resolved is opened, or with *reopening* any other.

        Raises:
            NotFound: There is none, within *scope*.
            EditConflict: It is not at *version* any more, or resolved and not to be opened.
            InvalidValue: A note that is too long.
        """
        if state not in STATES:
            raise InvalidValue("state", state, f"one of {', '.join(STATES)}")
        kept = note_of(note)

        def work(connection: Connection) -> Alert:
            row = _found(connection, alert_id, scope, lock=True)
            require_version(
                f"alert {alert_id} ({row.state})",
                version,
                row.version,
                row.changed_by,
                row.changed_at,
            )
            if row.state == "resolved" and state != "resolved":
                if state != "open" and not reopening:
                    raise EditConflict(f"alert {row.id} is resolved already; open it again first")
                _require_reopening(connection, row)
            now = self._clock()
            values = {
                "state": state,
                "resumes_as": None,
                "changed_at": now,
                "changed_by": None if by is None else label(by),
                "note": row.note if kept is None else kept,
                "version": row.version + 1,
            }
            connection.execute(sa.update(alerts).where(alerts.c.id == row.id).values(**values))
            note_change(
                connection,
                "alert",
                str(row.id),
                before={"state": row.state, "note": row.note},
                after={"state": state, "note": values["note"]},
                by=by,
                at=now,
            )
            return alert_of(_found(connection, alert_id, scope, lock=False))

        return self._database.writing(work)


def _require_reopening(connection: Connection, row: Row[Any]) -> None:
    """Refuse to change what is resolved, unless somebody takes back that a person resolved it."""
    if row.resumes_as is not None:
        raise EditConflict(
            f"alert {row.id} is resolved by itself, since its cause is gone; should that come "
            "back within the period, the alert opens by itself"
        )
    if row.text == ERASED:
        raise EditConflict(f"alert {row.id} stays resolved: what it said was erased")
    # Two that are open for the same thing would take turns in ending each other.
    later = connection.execute(
        sa.select(sa.func.max(alerts.c.id)).where(
            alerts.c.rule_id == row.rule_id,
            alerts.c.scope_key == row.scope_key,
            alerts.c.subject == row.subject,
            alerts.c.id > row.id,
        )
    ).scalar()
    if later is not None:
        raise EditConflict(f"alert {row.id} stays resolved: alert {later} is about the same since")


def note_of(note: str | None) -> str | None:
    """
    A note as it is stored.

    Raises:
        InvalidValue: It is too long, or no text.
    """
    if note is None:
        return None
    if not isinstance(note, str) or len(note) > MAX_NOTE_CHARS:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidValue("note", note, f"a text of at most {MAX_NOTE_CHARS:,} letters")
    return storable(note)


def alert_of(row: Row[Any]) -> Alert:
    """The alert that *row* holds."""
    return Alert(
        id=row.id,
        rule_id=row.rule_id,
        rule=row.rule,
        kind=row.kind,
        severity=row.severity,
        org_id=row.org_id,
        field=row.field,
        whose=value_of_key(row.scope_key),
        subject=row.subject,
        period=row.period,
        state=row.state,
        resolved_itself=row.resumes_as is not None,
        value=row.value,
        last_value=row.last_value,
        threshold=row.threshold,
        text=row.text,
        calls=msgspec.json.decode(row.calls, type=CallsBehind),
        occurrences=row.occurrences,
        raised_at=row.raised_at,
        last_seen_at=row.last_seen_at,
        send_after=row.send_after,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        note=row.note,
        version=row.version,
    )


def _values(
    rule: Rule, finding: Finding, key: str, subject: str, period: str, now: datetime
) -> dict[str, Any]:
    assert rule.threshold is not None
    return {
        "rule_id": rule.id,
        "scope_key": key,
        "subject": subject,
        "period": period,
        "rule": rule.name,
        "kind": rule.kind,
        "severity": rule.severity,
        "org_id": rule.org_id if rule.org_id is not None else _short(finding.org_id),
        "field": finding.field or rule.each or None,
        "state": "open",
        "resumes_as": None,
        "value": finding.value,
        "last_value": finding.value,
        "threshold": rule.threshold,
        "text": finding.text,
        "calls": msgspec.json.encode(finding.calls).decode(),
        "occurrences": 1,
        "raised_at": now,
        "last_seen_at": now,
        "send_after": rule.send_after(now),
        "changed_at": now,
        "changed_by": None,
        "note": None,
        "version": 1,
    }


def _short(value: str | None) -> str | None:
    return None if value is None else label(value)


def _one(rule: Rule, key: str, subject: str, period: str) -> sa.Select[Any]:
    return sa.select(alerts).where(
        alerts.c.rule_id == rule.id,
        alerts.c.scope_key == key,
        alerts.c.subject == subject,
        alerts.c.period == period,
    )


def _within(scope: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if scope is None else [alerts.c.org_id == label(scope)]


def _found(
    connection: Connection, alert_id: int | str, scope: str | None, *, lock: bool
) -> Row[Any]:
    if not is_id(alert_id):
        raise InvalidValue("alert", alert_id, "the number of an alert")
    statement = sa.select(alerts).where(alerts.c.id == alert_id, *_within(scope))
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    if row is None:
        raise NotFound(f"there is no alert {alert_id}")
    return row
