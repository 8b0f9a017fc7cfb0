"""The forecast of the month, found in the background: many hours are summed for it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

from ai_ledger.query import Query
from ai_ledger.sinks import Store
from ai_ledger.stats import Stats
from ai_ledger.totals import Group
from ai_ledger.web.recent import Found, recent_of

if TYPE_CHECKING:
    from ai_ledger.sinks.sql.sink import SQLSink
    from ai_ledger.web.costs.question import Question
    from ai_ledger.web.house import Desk


def found_forecast(desk: Desk, by: str | None, question: Question) -> Found:
    """
    The forecast of the calls that *question* is about, being found; a `Forecast`.

    It is kept for a minute, and says when it was made.

    Args:
        desk: Whose organisation it is confined to.
        by: The field whose values have a forecast of their own.
        question: Its filters count, not its days.

    Raises:
        SinkUnavailable: Too many long questions are being answered.
    """
    now = desk.house.clock()
    reader = cast("Store", _Costs(desk.house.reader))
    stats = Stats(reader, scope=desk.scope, tz=desk.tz, clock=lambda: now)

    def find() -> object:
        return stats.forecast(by or (), question.filters or None)

    key = ("forecast", desk.scope, str(desk.tz), by, question.asked)
    return recent_of(desk.house).ask(key, now, find, whose=(desk.scope,))


class _Costs:
    """A store as far as a forecast asks it: for calls and costs alone, which are read sooner."""

    def __init__(self, sink: SQLSink) -> None:
        self._sink = sink

    def aggregate(
        self, query: Query, by: tuple[str, ...] = (), edges: tuple[datetime, ...] = ()
    ) -> list[Group]:
        return self._sink.costs(query, by, edges)
