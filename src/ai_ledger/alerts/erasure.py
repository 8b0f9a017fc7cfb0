"""Erasing somebody from alerts, from rules, and from the history of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ai_ledger.alerts.alert import CallsBehind
from ai_ledger.bounds import key_of, label
from ai_ledger.database.changes import erase_notes, note_change
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.alerts import alerts, deliveries, rules
from ai_ledger.database.tables.changes import changes
from ai_ledger.errors import InvalidValue
from ai_ledger.query import GROUP_FIELDS, field_name

ERASED: Final = "what this alert said was erased"


class Erasure:
    """
    Forgets one value of one field, such as a user's id.

    Args:
        database: Where alerts and rules are.
        clock: Says what time it is.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def forget(self, who: Mapping[str, Any], scope: str | None, *, by: str | None) -> int:
        """
        Erase what names *who*, all or nothing; how many alerts and rules that was.

        Raises:
            InvalidValue: Nobody was named, or by a field that no rule is about.
        """
        named = [
            (field_name(name, GROUP_FIELDS), _value(name, value)) for name, value in who.items()
        ]
        if not named:
            raise InvalidValue("who", who, "at least one field with a value, such as user_id=…")

        def work(connection: Connection) -> int:
            now = self._clock()
            return sum(
                self._alerts(connection, field, value, scope, by, now)
                + self._rules(connection, field, value, scope, by, now)
                for field, value in named
            )

        count = self._database.writing(work)
        if count:
            self._database.sweep()
        return count

    def _alerts(
        self,
        connection: Connection,
        field: str,
        value: str,
        scope: str | None,
        by: str | None,
        now: datetime,
    ) -> int:
        about = sa.and_(alerts.c.field == field, alerts.c.scope_key == key_of(value))
        statement = sa.select(alerts).where(sa.or_(about, _mentions(alerts.c.calls, value)))
        if scope is not None:
            statement = statement.where(alerts.c.org_id == scope)
        count = 0
        for row in connection.execute(statement.order_by(alerts.c.id).with_for_update()).all():
            behind = msgspec.json.decode(row.calls, type=CallsBehind)
            is_about = row.field == field and row.scope_key == key_of(value)
            if is_about or _names(behind.where, field, value):
                self._erase(connection, row, is_about=is_about, by=by, now=now)
                count += 1
        return count

    def _erase(
        self,
        connection: Connection,
        row: Row[Any],
        *,
        is_about: bool,
        by: str | None,
        now: datetime,
    ) -> None:
        values: dict[str, Any] = {
            "text": ERASED,
            "calls": msgspec.json.encode(CallsBehind()).decode(),
            "note": None,
            "state": "resolved",
            "resumes_as": None,
            "changed_at": now,
            "changed_by": None if by is None else label(by),
            "version": row.version + 1,
        }
        if is_about:
            # Unique within its rule and period, as the row has to be.
            values["scope_key"] = f"forgotten-{row.id}"
        connection.execute(sa.update(alerts).where(alerts.c.id == row.id).values(**values))
        connection.execute(
            sa.update(deliveries).where(deliveries.c.alert_id == row.id).values(last_error=None)
        )
        erase_notes(connection, "alert", [str(row.id)])
        note_change(
            connection, "alert", str(row.id),
            before={"state": row.state, "note": None}, after={"state": "resolved", "note": None},
            by=by, at=now,
        )  # fmt: skip

    def _rules(
        self,
        connection: Connection,
        field: str,
        value: str,
        scope: str | None,
        by: str | None,
        now: datetime,
    ) -> int:
        statement = sa.select(rules).where(_mentions(rules.c.terms, value))
        if scope is not None:
            statement = statement.where(rules.c.org_key == key_of(scope))
        count = 0
        for row in connection.execute(statement.order_by(rules.c.id).with_for_update()).all():
            terms = msgspec.json.decode(row.terms)
            if not _names(terms.get("where"), field, value):
                continue
            count += 1
            left = _without(terms, field, value)
            shown = {"name": row.name, "kind": row.kind, "where": left["where"]}
            if field in left["where"]:
                text = msgspec.json.encode(left, order="sorted").decode()
                edited = sa.update(rules).values(
                    terms=text,
                    version=row.version + 1,
                    updated_at=now,
                    updated_by=None if by is None else label(by),
                )
                connection.execute(edited.where(rules.c.id == row.id))
                after: dict[str, Any] | None = shown
            else:
                # Without its condition it would be about everybody.
                connection.execute(sa.delete(rules).where(rules.c.id == row.id))
                after = None
            note_change(
                connection, "alert_rule", str(row.id), before=shown, after=after, by=by, at=now
            )
        named = sa.or_(_mentions(changes.c.before, value), _mentions(changes.c.after, value))
        edits = sa.select(changes).where(changes.c.kind == "alert_rule", named)
        for edit in connection.execute(edits).all():
            before, after = _decoded(edit.before), _decoded(edit.after)
            parts = [part for part in (before, after) if part]
            ours = scope is None or all(part.get("org_id") == scope for part in parts)
            if ours and any(_names(part.get("where"), field, value) for part in parts):
                cleaned = [part and _without(part, field, value) for part in (before, after)]
                _rewrite(connection, edit.id, *cleaned)
        return count


def _value(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValue(name, value, "a text that is not empty")
    return label(value)


def _mentions(column: sa.Column[Any], value: str) -> sa.ColumnElement[bool]:
    """Whether a column of JSON has the text somewhere; what is found is looked at closely."""
    return column.contains(msgspec.json.encode(value).decode()[1:-1], autoescape=True)


def _names(where: Any, field: str, value: str) -> bool:
    if not isinstance(where, dict):
        return False
    values: Any = cast("dict[str, Any]", where).get(field)
    if not isinstance(values, list):
        return False
    return any(each is not None and label(str(each)) == value for each in cast("list[Any]", values))


def _without(terms: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    """*terms* with one value less, and without the field when that was its last one."""
    where = dict(terms.get("where") or {})
    if _names(where, field, value):
        left = [each for each in where.pop(field) if each is None or label(str(each)) != value]
        if left:
            where[field] = left
    return {**terms, "where": where}


def _decoded(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text)


def _rewrite(
    connection: Connection,
    edit_id: int,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    texts = [
        None if part is None else msgspec.json.encode(part, order="sorted").decode()
        for part in (before, after)
    ]
    connection.execute(
        sa.update(changes).where(changes.c.id == edit_id).values(before=texts[0], after=texts[1])
    )
