"""The rules as rows that people edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ai_ledger.alerts.rule import Rule
from ai_ledger.bounds import key_of, label, value_of_key
from ai_ledger.database.changes import MAX_CHANGES, Change, changes_of, note_change
from ai_ledger.database.engine import Database
from ai_ledger.database.tables.alerts import rules
from ai_ledger.database.tables.budgets import budgets
from ai_ledger.database.tables.changes import changes
from ai_ledger.database.versions import require_version
from ai_ledger.errors import AlreadyThere, InvalidValue, NotFound
from ai_ledger.query import Query
from ai_ledger.sinks.sql.conditions import everything
from ai_ledger.validation import is_id

# What an edit may change; a rule of another kind is another rule.
EDITABLE: Final = (
    *("name", "where", "each", "threshold", "window_s", "min_calls", "past_days", "at_least"),
    *("budget", "per", "severity", "quiet", "tz", "enabled"),
)
_LOOKED_AT: Final = 1_000
_NEAR: Final = 5
"""Budgets that the error about an unknown one names, of so many that are looked at."""


class Rulebook:
    """
    The rules of one ledger.

    Args:
        database: Where they are.
        clock: Says what time it is.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def rules(self, scope: str | None) -> list[Rule]:
        """The rules of an organisation, or of all, by name."""
        statement = sa.select(rules).where(*_within(scope)).order_by(rules.c.name, rules.c.id)
        with self._database.reading() as connection:
            return [rule_of(row) for row in connection.execute(statement)]

    def enabled(self, scope: str | None) -> list[Unread]:
        """Those that are looked at, by name; each is to be read for itself."""
        statement = (
            sa.select(rules)
            .where(*_within(scope), rules.c.enabled.is_(True))
            .order_by(rules.c.name, rules.c.id)
        )
        with self._database.reading() as connection:
            return [Unread(row) for row in connection.execute(statement)]

    def reach(self) -> None:
        """
        Ask the store something simple.

        Raises:
            SinkError: It is away.
        """
        with self._database.reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

    def history(self, rule: int | str, scope: str | None, *, limit: int) -> list[Change]:
        """The edits of a rule, newest first, also after it was removed."""
        with self._database.reading() as connection:
            try:
                rule_id = _found(connection, rule, scope).id
            except NotFound:
                rule_id = _removed(connection, rule, scope)
                if rule_id is None:
                    raise
            return changes_of(connection, "alert_rule", str(rule_id), limit=limit)

    def rule(self, rule: int | str, scope: str | None) -> Rule:
        """One rule, by its id or name."""
        with self._database.reading() as connection:
            return _found(connection, rule, scope)

    def add(self, rule: Rule, by: str | None) -> Rule:
        """
        Add *rule*.

        Raises:
            AlreadyThere: The organisation has a rule of this name.
            InvalidValue: Something in it cannot be, or there is no budget of its name.
        """
        checked = _askable(rule)

        def work(connection: Connection) -> Rule:
            _require_budget(connection, checked.budget)
            return self._added(connection, checked, by)

        return self._database.writing(work)

    def _added(self, connection: Connection, rule: Rule, by: str | None) -> Rule:
        _refuse_twice(connection, rule.name, rule.org_id, None)
        now = self._clock()
        values = {
            "org_key": key_of(rule.org_id),
            "kind": rule.kind,
            **_columns(rule, now, by),
            "version": 1,
            "created_at": now,
        }
        if not insert_new(connection, rules, values):
            raise AlreadyThere(f"there is a rule {rule.name!r} already")
        stored = _found(connection, rule.name, rule.org_id, exactly=True)
        note_change(
            connection,
            "alert_rule",
            str(stored.id),
            before=None,
            after=_shown(stored),
            by=by,
            at=now,
        )
        return stored

    def edit(
        self,
        rule: int | str,
        changes: dict[str, Any],
        scope: str | None,
        by: str | None,
        version: int | None,
    ) -> Rule:
        """
        Change some of what a rule says.

        Raises:
            NotFound: There is none, within *scope*.
            EditConflict: It is not at *version* any more.
            AlreadyThere: Another one has the new name.
            InvalidValue: A value that cannot be, or nothing that can be edited.
        """
        for name in changes:
            if name not in EDITABLE:
                raise InvalidValue("field", name, f"one of {', '.join(EDITABLE)}")

        def work(connection: Connection) -> Rule:
            known = _found(connection, rule, scope, lock=True)
            _at_version(known, version)
            # A threshold and a window that were left out are left as they are.
            new = _askable(msgspec.structs.replace(known, **changes))
            if new.budget != known.budget:
                _require_budget(connection, new.budget)
            if new.name != known.name:
                _refuse_twice(connection, new.name, new.org_id, known.id)
            if new.says_the_same(known) and new.name == known.name:
                return known
            now = self._clock()
            connection.execute(
                sa.update(rules)
                .where(rules.c.id == known.id)
                .values(**_columns(new, now, by), version=known.version + 1)
            )
            stored = msgspec.structs.replace(
                new, version=known.version + 1, updated_at=now, updated_by=by
            )
            note_change(
                connection, "alert_rule", str(known.id),
                before=_shown(known), after=_shown(stored), by=by, at=now,
            )  # fmt: skip
            return stored

        return self._database.writing(work)

    def remove(
        self, rule: int | str, scope: str | None, by: str | None, version: int | None
    ) -> None:
        """Remove a rule; its alerts stay."""

        def work(connection: Connection) -> None:
            known = _found(connection, rule, scope, lock=True)
            _at_version(known, version)
            connection.execute(sa.delete(rules).where(rules.c.id == known.id))
            note_change(
                connection, "alert_rule", str(known.id),
                before=_shown(known), after=None, by=by, at=self._clock(),
            )  # fmt: skip

        self._database.writing(work)

    def put(self, wanted: Sequence[Rule], by: str | None) -> list[Rule]:
        """*wanted* as they are stored: added where missing, edited where they differ."""

        def work(connection: Connection) -> list[Rule]:
            stored: list[Rule] = []
            for rule in checked:
                try:
                    known = _found(connection, rule.name, rule.org_id, lock=True, exactly=True)
                except NotFound:
                    stored.append(self._added(connection, rule, by))
                    continue
                if not known.says_the_same(rule):
                    self._replaced(connection, known, rule, by)
                    known = _found(connection, rule.name, rule.org_id, exactly=True)
                stored.append(known)
            return stored

        checked = sorted(
            (_askable(rule) for rule in wanted), key=lambda rule: (rule.org_id or "", rule.name)
        )
        names = {(rule.org_id, rule.name) for rule in checked}
        if len(names) < len(checked):
            raise InvalidValue("rules", sorted(name for _, name in names), "names that differ")
        for _ in range(3):
            try:
                return self._database.writing(work)
            except AlreadyThere:
                continue  # another process adds the same rules at this moment
        return self._database.writing(work)

    def _replaced(self, connection: Connection, known: Rule, new: Rule, by: str | None) -> None:
        now = self._clock()
        connection.execute(
            sa.update(rules)
            .where(rules.c.id == known.id)
            .values(kind=new.kind, **_columns(new, now, by), version=known.version + 1)
        )
        note_change(
            connection, "alert_rule", str(known.id),
            before=_shown(known), after=_shown(new), by=by, at=now,
        )  # fmt: skip


class Unread:
    """A row of a rule, which may be one that this version cannot read."""

    def __init__(self, row: Row[Any]) -> None:
        self._row = row
        self.id: int = row.id
        self.name: str = row.name

    def read(self) -> Rule:
        """The rule."""
        return rule_of(self._row)


def _removed(connection: Connection, rule: int | str, scope: str | None) -> int | None:
    """The id of a rule that was removed; of several of one name the last."""
    statement = (
        sa.select(changes.c.key, changes.c.before)
        .where(changes.c.kind == "alert_rule", changes.c.after.is_(None))
        .order_by(changes.c.id.desc())
        .limit(MAX_CHANGES)
    )
    if isinstance(rule, int):
        statement = statement.where(changes.c.key == str(rule))
    for row in connection.execute(statement):
        before = msgspec.json.decode(row.before or "{}")
        if scope is not None and before.get("org_id") != label(scope):
            continue
        if isinstance(rule, int) or before.get("name") == label(rule):
            return int(row.key)
    return None


def insert_new(connection: Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert a row unless one with its unique key is there; whether it was inserted."""
    if connection.dialect.name in ("mysql", "mariadb"):
        statement: Any = sa.insert(table).prefix_with("IGNORE").values(**values)
    elif connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        statement = postgresql.insert(table).values(**values).on_conflict_do_nothing()
    else:
        from sqlalchemy.dialects import sqlite

        statement = sqlite.insert(table).values(**values).on_conflict_do_nothing()
    # Without the option, what an INSERT has counted is not kept by every driver.
    counted = connection.execute(statement, execution_options={"preserve_rowcount": True})
    return counted.rowcount == 1


def rule_of(row: Row[Any]) -> Rule:
    """The rule that *row* holds."""
    return msgspec.convert(
        {
            **msgspec.json.decode(row.terms),
            "name": row.name,
            "kind": row.kind,
            "enabled": bool(row.enabled),
            "org_id": value_of_key(row.org_key),
            "id": row.id,
            "version": row.version,
            "updated_at": row.updated_at,
            "updated_by": row.updated_by,
        },
        Rule,
    )


def _askable(rule: Rule) -> Rule:
    """
    *rule* with everything filled in.

    Raises:
        InvalidValue: Something in it cannot be, or no store could be asked for its calls.
    """
    checked = rule.checked()
    # Compiled, so that what would fail at each look is refused now.
    everything(Query.build(scope=None, where=checked.conditions()), "sqlite")
    return checked


def _columns(rule: Rule, now: datetime, by: str | None) -> dict[str, Any]:
    return {
        "name": rule.name,
        "enabled": rule.enabled,
        "terms": msgspec.json.encode(rule.terms(), order="sorted").decode(),
        "updated_at": now,
        "updated_by": None if by is None else label(by),
    }


def _shown(rule: Rule) -> dict[str, Any]:
    """*rule* as the history keeps it."""
    return {
        "name": rule.name,
        "kind": rule.kind,
        "enabled": rule.enabled,
        "org_id": rule.org_id,
        **rule.terms(),
    }


def _within(scope: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if scope is None else [rules.c.org_key == key_of(label(scope))]


def _found(
    connection: Connection,
    rule: int | str,
    scope: str | None,
    *,
    lock: bool = False,
    exactly: bool = False,
) -> Rule:
    """
    One rule.

    Args:
        connection: Of a transaction.
        rule: Its id or name.
        scope: Whose; ``None``: anybody's, or with *exactly* nobody's.
        lock: Whether it is going to be changed.
        exactly: Not anybody's rule of this name, but *scope*'s.
    """
    statement = sa.select(rules)
    if type(rule) is not str and not is_id(rule):
        raise InvalidValue("rule", rule, "the number or the name of a rule")
    if isinstance(rule, int):
        statement = statement.where(rules.c.id == rule, *_within(scope))
    else:
        whose = [rules.c.org_key == key_of(scope)] if exactly else _within(scope)
        # Those of nobody in particular come before an organisation's of the same name.
        statement = statement.where(rules.c.name == label(rule), *whose).order_by(rules.c.org_key)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    if row is None:
        raise NotFound(f"there is no rule {rule!r}")
    return rule_of(row)


def _require_budget(connection: Connection, name: str | None) -> None:
    """
    Refuse a rule that would never find anything.

    Raises:
        InvalidValue: There is no budget *name*.
    """
    if name is None:
        return
    named = sa.select(budgets.c.name)
    if name in connection.execute(named.where(budgets.c.name == name)).scalars().all():
        return
    others = connection.execute(named.order_by(budgets.c.name).limit(_LOOKED_AT)).scalars().all()
    near = get_close_matches(name, others, _NEAR) or others[:_NEAR]
    listed = ", ".join(near) or "none yet"
    raise InvalidValue(
        "budget", name, f"a budget of this ledger, known from its first call on ({listed})"
    )


def _at_version(rule: Rule, version: int | None) -> None:
    require_version(f"rule {rule.name!r}", version, rule.version, rule.updated_by, rule.updated_at)


def _refuse_twice(connection: Connection, name: str, org_id: str | None, but: int | None) -> None:
    statement = sa.select(rules.c.id).where(rules.c.name == name, rules.c.org_key == key_of(org_id))
    if but is not None:
        statement = statement.where(rules.c.id != but)
    if connection.execute(statement).first() is not None:
        raise AlreadyThere(f"there is a rule {name!r} already")
