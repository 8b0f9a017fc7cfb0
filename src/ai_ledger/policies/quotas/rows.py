"""The rows of quotas in the database: read, edited, and what the ledger says of them."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, RowMapping

from ai_ledger.database.changes import Change, changes_of, editor, note_change
from ai_ledger.database.engine import Again, Database
from ai_ledger.database.tables.calls import records
from ai_ledger.database.tables.quotas import edits, quotas, switches
from ai_ledger.database.versions import require_version
from ai_ledger.errors import AlreadyThere, NotFound
from ai_ledger.policies.quotas.quota import (
    ACTIVE,
    EVERY,
    NOT_SENT,
    ModelSwitch,
    Quota,
    QuotaUse,
    checked_concurrent,
    checked_name,
    checked_quota,
    folded,
    name_of,
)
from ai_ledger.policies.quotas.tokens import clock_of, count_tokens, stop_counting
from ai_ledger.records import utc_now

QUOTA: Final = "quota"
SWITCH: Final = "model_switch"
_ONE: Final = 1
_MICRO: Final = 1_000_000

R = TypeVar("R", Quota, ModelSwitch)


class Snapshot(msgspec.Struct, frozen=True):
    """
    All rows as they were at one moment.

    Args:
        stamp: That of the last edit.
        quotas: By organisation and `folded` model.
        switches: By `folded` model.
    """

    stamp: int
    quotas: dict[tuple[str, str], Quota]
    switches: dict[str, ModelSwitch]

    def quota_of(self, org_id: str | None, model: str | None) -> Quota | None:
        """The most specific row; ``None`` when there is none."""
        for org in (org_id, EVERY):
            for name in (None if model is None else folded(model), EVERY):
                if org is not None and name is not None:
                    found = self.quotas.get((org, name))
                    if found is not None:
                        return found
        return None


def snapshot(database: Database, known: Snapshot | None = None) -> Snapshot:
    """All rows; *known* itself, at the price of one look, when nothing was edited since."""
    with database.reading() as connection:
        stamp = connection.execute(sa.select(edits.c.stamp)).scalar() or 0
        if known is not None and known.stamp == stamp:
            return known
        rows = [_quota(row) for row in connection.execute(sa.select(quotas)).mappings()]
        models = [_switch(row) for row in connection.execute(sa.select(switches)).mappings()]
    return Snapshot(
        stamp,
        {(row.org_id, folded(row.model)): row for row in rows},
        {folded(row.model): row for row in models},
    )


def save_quota(
    database: Database,
    org_id: str,
    model: str,
    fields: dict[str, Any],
    *,
    version: int | None,
    by: str | None,
    must_exist: bool = False,
) -> Quota:
    """Make or change a row; what *fields* does not name stays. See `Quotas.set`."""
    org_id, model, by = checked_name("org_id", org_id), checked_name("model", model), editor(by)
    # What is wrong by itself is refused before anything is asked; what is wrong
    # together with what is stored, in the transaction.
    checked_quota(Quota(org_id=org_id, model=model, **fields))
    # Else a hundred rows that only allow or refuse would ask for budgets.
    tokens_matter = not fields.keys().isdisjoint(("tokens", "valid_from", "valid_until"))
    now = clock_of(database) if tokens_matter else utc_now()

    def work(connection: Connection) -> Quota:
        _begin_edit(connection)
        found = _found(connection, quotas, model, quotas.c.org_id == org_id)
        old = None if found is None else _quota(found)
        _check_version(f"quota {name_of(org_id, model)}", old, version, must_exist=must_exist)
        before = old or Quota(org_id=org_id, model=model)
        new = checked_quota(msgspec.structs.replace(before, **fields))
        if tokens_matter:
            count_tokens(connection, new, now, by)
        if old is not None and new == old:
            return old
        new = _edited(new, by)
        if old is None:
            connection.execute(sa.insert(quotas).values(**_columns(new)))
        else:
            connection.execute(
                sa.update(quotas)
                .where(quotas.c.org_id == org_id, quotas.c.model == new.model)
                .values(**_columns(new))
            )
        note_change(
            connection,
            QUOTA,
            _key(org_id, model),
            before=_plain(old),
            after=_plain(new),
            by=new.updated_by,
        )
        return new

    return database.writing(work)


def remove_quota(
    database: Database, org_id: str, model: str, *, version: int | None, by: str | None
) -> None:
    """Take a row away. See `Quotas.remove`."""
    org_id, model, by = checked_name("org_id", org_id), checked_name("model", model), editor(by)
    now = clock_of(database)

    def work(connection: Connection) -> None:
        _begin_edit(connection)
        found = _found(connection, quotas, model, quotas.c.org_id == org_id)
        old = None if found is None else _quota(found)
        _check_version(f"quota {name_of(org_id, model)}", old, version, must_exist=True)
        assert old is not None
        connection.execute(
            sa.delete(quotas).where(quotas.c.org_id == org_id, quotas.c.model == old.model)
        )
        stop_counting(connection, old, now, by)
        note_change(connection, QUOTA, _key(org_id, model), before=_plain(old), after=None, by=by)

    database.writing(work)


def save_switch(
    database: Database,
    model: str,
    *,
    off: bool | None = None,
    max_concurrent: int | None = None,
    version: int | None,
    by: str | None,
) -> ModelSwitch:
    """Switch a model off or on, or bound its calls in flight; ``None`` stays as it is."""
    model, by = checked_name("model", model), editor(by)
    if max_concurrent is not None:
        max_concurrent = checked_concurrent(max_concurrent)

    def work(connection: Connection) -> ModelSwitch:
        _begin_edit(connection)
        found = _found(connection, switches, model)
        old = None if found is None else _switch(found)
        _check_version(f"switch of model {model!r}", old, version, must_exist=False)
        new = old or ModelSwitch(model=model)
        new = msgspec.structs.replace(
            new,
            off=new.off if off is None else off,
            max_concurrent=new.max_concurrent if max_concurrent is None else max_concurrent,
        )
        if new == (old or ModelSwitch(model=model)):
            return new
        new = _edited(new, by)
        values = msgspec.structs.asdict(new)
        if old is None:
            connection.execute(sa.insert(switches).values(**values))
        else:
            connection.execute(
                sa.update(switches).where(switches.c.model == new.model).values(**values)
            )
        note_change(
            connection,
            SWITCH,
            folded(model),
            before=_plain(old),
            after=_plain(new),
            by=new.updated_by,
        )
        return new

    return database.writing(work)


def history_of(database: Database, org_id: str | None, model: str, limit: int) -> list[Change]:
    """The edits of a row; of a model's switch, without an organisation. Newest first."""
    model = checked_name("model", model)
    kind, key = SWITCH, folded(model)
    if org_id is not None:
        kind, key = QUOTA, _key(checked_name("org_id", org_id), model)
    with database.reading() as connection:
        return changes_of(connection, kind, key, limit=limit)


def use_of(database: Database, quota: Quota, now: datetime) -> QuotaUse:
    """What the ledger's rows say of *quota*; deleted ones do not count."""
    tokens = sa.func.coalesce(records.c.input_tokens, 0) + sa.func.coalesce(
        records.c.output_tokens, 0
    )
    where: list[Any] = [records.c.deleted_at.is_(None)]
    if quota.org_id != EVERY:
        where.append(records.c.org_id == quota.org_id)
    if quota.model != EVERY:
        where.append(records.c.request_model == quota.model)
    if quota.valid_until is not None:
        where.append(records.c.started_at < quota.valid_until)
    used, users = list(where), [*where, records.c.user_id.is_not(None)]
    if quota.valid_from is not None:
        used.append(records.c.started_at >= quota.valid_from)
    users.append(records.c.status.not_in(NOT_SENT))
    users.append(records.c.started_at >= (quota.valid_from or now - ACTIVE))
    people = sa.select(records.c.org_id, records.c.user_id).where(*users).distinct().subquery()
    with database.reading() as connection:
        total = connection.execute(sa.select(sa.func.sum(tokens)).where(*used)).scalar()
        active = connection.execute(sa.select(sa.func.count()).select_from(people)).scalar()
    return QuotaUse(tokens_used=int(total or 0), active_users=int(active or 0))


def _key(org_id: str, model: str) -> str:
    # Two names, and no doubt where the first one ends.
    return msgspec.json.encode((org_id, folded(model))).decode()


def _found(
    connection: Connection, table: sa.Table, model: str, *where: sa.ColumnElement[bool]
) -> RowMapping | None:
    """The row of *model*, however its capitals are written."""
    # Beside it the name itself: SQLite folds the letters of English alone.
    named = sa.or_(table.c.model == model, sa.func.lower(table.c.model) == folded(model))
    return connection.execute(sa.select(table).where(*where, named)).mappings().first()


def _begin_edit(connection: Connection) -> None:
    """Wait for other edits, and tell all processes that there is one."""
    # Not a counter, which would say the same again after a backup is put back.
    stamp = secrets.randbits(62) + 1
    stamped = connection.execute(sa.update(edits).where(edits.c.id == _ONE).values(stamp=stamp))
    if stamped.rowcount == 0:
        try:
            connection.execute(sa.insert(edits).values(id=_ONE, stamp=stamp))
        except exc.IntegrityError as error:
            raise Again from error  # another process was the first


def _check_version(
    name: str, old: Quota | ModelSwitch | None, version: int | None, *, must_exist: bool
) -> None:
    if old is None:
        if must_exist or version:
            raise NotFound(f"there is no {name}")
        return
    if version == 0:
        raise AlreadyThere(f"there is a {name} already, of version {old.version}")
    require_version(name, version, old.version, old.updated_by, old.updated_at)


def _edited(row: R, by: str | None) -> R:
    return msgspec.structs.replace(
        row, version=row.version + 1, updated_at=utc_now(), updated_by=by
    )


def _columns(quota: Quota) -> dict[str, Any]:
    values = msgspec.structs.asdict(quota)
    values["min_interval_us"] = round(values.pop("min_interval_s") * _MICRO)
    return values


def _quota(row: RowMapping) -> Quota:
    values = dict(row)
    values["min_interval_s"] = values.pop("min_interval_us") / _MICRO
    values["enabled"], values["shared"] = bool(row["enabled"]), bool(row["shared"])
    return Quota(**values)


def _switch(row: RowMapping) -> ModelSwitch:
    values = dict(row)
    values["off"] = bool(row["off"])
    return ModelSwitch(**values)


def _plain(row: Quota | ModelSwitch | None) -> dict[str, Any] | None:
    if row is None:
        return None
    kept = msgspec.structs.asdict(row)
    for name in ("version", "updated_at", "updated_by"):
        del kept[name]
    return kept
