"""The newest call of each of some values, found without reading a month of rows."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ai_ledger.bounds import key_of, value_of_key
from ai_ledger.database.tables.calls import records, totals
from ai_ledger.errors import InvalidValue
from ai_ledger.query import AnyOf, Query
from ai_ledger.sinks.sql.cells import GRAINS, OVERALL
from ai_ledger.sinks.sql.conditions import conditions

MAX_VALUES: Final = 100
_AT_ONCE: Final = 500
_DAY: Final = "d"
_HOUR: Final = "h"
_MOMENT: Final = timedelta(microseconds=1)
_EARLIEST: Final = datetime(1, 2, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 1, tzinfo=UTC)
_LENGTH: Final = {_DAY: 10, _HOUR: 13}
_c = records.c
_t = totals.c


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest call that has a value."""

    call_id: str
    started_at: datetime
    status: str


def latest_of(
    connection: Connection, kind: str, query: Query, field: str, values: Collection[str | None]
) -> dict[str | None, Latest]:
    """
    Value of *field* → the newest call meant by *query* that has it.

    Most values are among the newest calls of all. Of the others the totals tell the
    day and the hour, in which an index finds the call.

    Args:
        connection: For reading.
        kind: The dialect's name.
        query: Which calls; without conditions beside its times and its scope.
        field: One that totals are kept by, hour by hour.
        values: At most `MAX_VALUES`; ``None``: not set.

    Raises:
        InvalidValue: Another field, conditions, or too many values.
    """
    if "h" not in GRAINS.get(field, "") or field == OVERALL:
        raise InvalidValue("field", field, "a field that hourly totals are kept by")
    if query.where or query.deleted:
        raise InvalidValue("query", query, "a query without conditions")
    if len(values) > MAX_VALUES:
        raise InvalidValue("values", len(values), f"at most {MAX_VALUES} values")
    newest = _newest(field).where(*conditions(query, kind))
    found: dict[str | None, Latest] = {}
    for row in connection.execute(newest.limit(_AT_ONCE)):
        if row[0] in values:
            found.setdefault(row[0], _latest(row))
    for value, hour in _hours(connection, query, field, set(values) - found.keys()).items():
        end = hour + timedelta(hours=1)
        alone = msgspec.structs.replace(
            query, until=min(end, query.until or end), where=((field, AnyOf((value,))),)
        )
        within = msgspec.structs.replace(alone, since=max(hour, query.since or hour))
        # Where a question ends within an hour, its calls may all lie behind that end.
        for each in (within, alone):
            row = connection.execute(
                _newest(field).where(*conditions(each, kind)).limit(1)
            ).one_or_none()
            if row is not None:
                found[value] = _latest(row)
                break
    return found


def _newest(field: str) -> sa.Select[Any, Any, Any, Any]:
    return sa.select(_c[field], _c.id, _c.started_at, _c.status).order_by(
        _c.started_at.desc(), _c.id.desc()
    )


def _latest(row: Any) -> Latest:
    return Latest(call_id=row[1], started_at=row[2], status=row[3])


def _hours(
    connection: Connection, query: Query, field: str, values: set[str | None]
) -> dict[str | None, datetime]:
    """The last hour in which each value had a call."""
    if not values:
        return {}
    low = _EARLIEST if query.since is None else query.since.astimezone(UTC)
    high = _LATEST if query.until is None else query.until.astimezone(UTC) - _MOMENT
    keys = {key_of(value) for value in values}
    # The last day may go on behind the end of the question, so its hours are looked at first.
    hours = _last_periods(connection, query, field, _HOUR, max(low, _midnight(high)), high, keys)
    days = _last_periods(
        connection, query, field, _DAY, low, _midnight(high) - _MOMENT, keys - hours.keys()
    )
    by_day: dict[str, set[str]] = {}
    for key, day in days.items():
        by_day.setdefault(day, set()).add(key)
    for day, some in by_day.items():
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        hours |= _last_periods(
            connection,
            query,
            field,
            _HOUR,
            max(low, start),
            start + timedelta(days=1) - _MOMENT,
            some,
        )
    return {
        value_of_key(key): datetime.fromisoformat(f"{hour}:00:00+00:00")
        for key, hour in hours.items()
    }


def _last_periods(
    connection: Connection,
    query: Query,
    field: str,
    grain: str,
    low: datetime,
    high: datetime,
    keys: set[str],
) -> dict[str, str]:
    """The last period from that of *low* to that of *high* in which each value had a call."""
    if not keys or low > high:
        return {}
    length = _LENGTH[grain]
    statement = (
        sa.select(_t.value, sa.func.max(_t.period))
        .where(
            _t.grain == grain,
            _t.dimension == field,
            _t.period >= low.isoformat()[:length],
            _t.period <= high.isoformat()[:length],
            _t.value.in_(sorted(keys)),
            _t.calls > 0,
        )
        .group_by(_t.value)
    )
    if query.scope is not None:
        statement = statement.where(_t.org_id == key_of(query.scope))
    return {row[0]: row[1] for row in connection.execute(statement)}


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
