"""Suggestions: where money could be saved, judged by the calls of some days."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from time import perf_counter
from typing import Any, Final

import msgspec

from ai_ledger.pricing.table import PriceTable
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import Store
from ai_ledger.stats.advice import Suggestions
from ai_ledger.stats.calendar import Edges
from ai_ledger.stats.tallies import USE_FIELDS, Caching, CheaperModels, Prices, Repeats

MAX_CALLS: Final = 100_000
"""At most so many calls are looked at, those of the newest days."""

# Prompts come with the calls, so a batch is small.
_BATCH: Final = 200
# So many are timed, where there is not as much time as anybody likes.
_TRIED: Final = 1_000


def suggestions_of(
    store: Store,
    asked: Query,
    edges: Edges,
    table: PriceTable,
    *,
    now: datetime,
    limit: int,
    tz: str,
    local: Callable[[datetime], datetime],
    max_calls: int = MAX_CALLS,
    within_s: float | None = None,
) -> Suggestions:
    """
    What the calls of some days suggest.

    Args:
        store: What is asked.
        asked: Which successful calls; from the first to the last of *edges*.
        edges: Of the days.
        table: The prices of now.
        now: Aware.
        limit: So many suggestions of each kind.
        tz: The name of the time zone.
        local: A moment told in it.
        max_calls: So many calls are looked at, at most.
        within_s: About how long, judged by some calls of the last day; at least
            `_TRIED` calls are looked at.
    """
    by_day: dict[int, int] = {}
    for group in store.aggregate(asked, (), edges):
        by_day[group.interval] = by_day.get(group.interval, 0) + group.totals.calls
    prices = Prices(table, now)
    days = len(edges) - 1

    def look(first: int, most: int) -> tuple[int, CheaperModels, Repeats, Caching, float]:
        looked = msgspec.structs.replace(asked, since=edges[first])
        models = CheaperModels(store.aggregate(looked, USE_FIELDS), prices)
        repeats, caching = Repeats(), Caching(prices)
        count, begun = 0, 0.0
        for record in _records(store, looked, most):
            count += 1
            models.look_at(record)
            repeats.look_at(record)
            caching.look_at(record)
            # What is done once, such as reading a list of prices, is over after a batch.
            if count == _BATCH:
                begun = perf_counter()
        took = perf_counter() - begun if count > _BATCH else 0.0
        return count, models, repeats, caching, took / max(1, count - _BATCH)

    if within_s is not None and sum(by_day.values()) > _TRIED:
        *_, each_s = look(_first_day(by_day, days, _TRIED), _TRIED)
        if each_s > 0:
            max_calls = min(max_calls, max(_TRIED, int(within_s / each_s)))
    first = _first_day(by_day, days, max_calls)
    count, models, repeats, caching, _ = look(first, max_calls)
    return Suggestions(
        made_at=local(now),
        since=local(edges[0]),
        looked_from=local(edges[first]),
        until=local(edges[-1]),
        tz=tz,
        scope=asked.scope,
        # Calls may come between the two looks.
        calls=max(sum(by_day.values()), count),
        looked_at=count,
        with_content=repeats.with_content,
        models=models.found(limit),
        repeats=repeats.found(limit),
        caching=caching.found(limit),
    )


def successful(where: Mapping[str, Any] | None) -> dict[str, Any]:
    """*where*, confined to calls that succeeded: others are not worth the same elsewhere."""
    return {"status": "success", **(where or {})}


def _first_day(by_day: Mapping[int, int], days: int, max_calls: int) -> int:
    """The first of the newest days that hold *max_calls* together; the last day at least."""
    first = days - 1
    room = max_calls - by_day.get(first, 0)
    while first > 0 and by_day.get(first - 1, 0) <= room:
        first -= 1
        room -= by_day.get(first, 0)
    return first


def _records(store: Store, query: Query, most: int) -> Iterator[CallRecord]:
    for batch in store.scan(query, batch_size=_BATCH):
        yield from batch[:most]
        most -= len(batch)
        if most <= 0:
            return
