"""`Leaders`: who and what drives costs, and the other figures of the pages of costs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import Field

from ai_ledger.money import EXACT, from_nano, rounded
from ai_ledger.query import Query
from ai_ledger.sinks.sql.totals import plan
from ai_ledger.stats.rank import Ranking, ranked
from ai_ledger.stats.results import Group, Money, Result
from ai_ledger.totals import Totals
from ai_ledger.web.costs.question import MAX_LIMIT, RANKINGS, Question
from ai_ledger.web.house import Desk
from ai_ledger.web.periods import Period
from ai_ledger.web.recent import Found, recent_of
from ai_ledger.web.unpriced import has_price, without_usage

_Key = tuple[str | None, ...]


class Sums(Result):
    """What some calls cost."""

    calls: int
    success_rate: float | None
    """``success`` of all calls, from 0 to 1."""
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: dict[str, Money]
    """By currency; currencies are never added."""
    unpriced_calls: int
    """Without a cost though they may have one; they are in no sum of costs."""


class Leader(Sums):
    """The calls that share one value."""

    value: str | None
    """``None``: not set."""
    share: dict[str, float]
    """Of the cost of all values, by currency; from 0 to 1."""


class Leaders(Result):
    """The values with the highest cost, most calls or most tokens."""

    by: str
    """The field."""
    ranked_by: Ranking
    since: datetime
    until: datetime
    """Exclusive."""
    as_of: datetime
    """When this was counted; at most a minute ago."""
    tz: str
    scope: str | None
    """The organisation that the answer is confined to; ``None`` for all."""
    values: int = Field(description="How many values there are in all.")
    rows: tuple[Leader, ...]
    total: Sums


def found_leaders(desk: Desk, question: Question) -> Found:
    """
    The leaders that *question* asks for, being counted; see `leaders_in` for the value.

    Everything is counted once for all rankings, and for all who ask within a minute.

    Raises:
        SinkUnavailable: Too many such questions are being answered.
    """
    field = question.by
    period = question.period
    query = Query.build(
        scope=desk.scope, since=period.since, until=period.until, where=question.filters
    )
    now = desk.house.clock()

    def count() -> dict[Ranking, Leaders]:
        return _count(desk, query, field, period, now)

    if is_kept(query, field):
        return Found.of(now, count())
    return recent_of(desk.house).ask((query, field, str(desk.tz)), now, count, whose=(desk.scope,))


def leaders_in(found: Found, question: Question) -> Leaders:
    """
    What was found, in the order and length that *question* asks for.

    Raises:
        SinkUnavailable: The store is away, or it took too long.
    """
    by_rank: Mapping[Ranking, Leaders] = found.value
    leaders = by_rank[question.ranked_by]
    return leaders.model_copy(update={"rows": leaders.rows[: question.limit]})


def total_of(desk: Desk, question: Question) -> Sums | None:
    """What all calls that *question* is about cost; ``None`` where that has to be counted."""
    period = question.period
    query = Query.build(
        scope=desk.scope, since=period.since, until=period.until, where=question.filters
    )
    if plan(query, (), ()) is None:
        return None
    return Sums(**_sums(Totals.of(group.totals for group in desk.house.reader.costs(query))))


def is_kept(query: Query, field: str) -> bool:
    """Whether totals answer at once; users have too many of them for that."""
    return field != "user_id" and plan(query, (field,), ()) is not None


def _count(
    desk: Desk, query: Query, field: str, period: Period, now: datetime
) -> dict[Ranking, Leaders]:
    found = desk.house.reader.leading(query, field, limit=MAX_LIMIT)
    totals: dict[_Key, Totals] = {group.key: group.totals for group in found.groups}
    whole = found.whole
    made: dict[_Key, Leader] = {}

    def leader(key: _Key, each: Totals) -> Leader:
        if key not in made:
            made[key] = Leader(
                value=key[0],
                share={
                    code: nano / whole.cost_nano[code] if whole.cost_nano[code] else 0.0
                    for code, nano in sorted(each.cost_nano.items())
                },
                **_sums(each),
            )
        return made[key]

    return {
        rank: Leaders(
            by=field,
            ranked_by=rank,
            since=period.since.astimezone(desk.tz),
            until=period.until.astimezone(desk.tz),
            as_of=now.astimezone(desk.tz),
            tz=str(desk.tz),
            scope=desk.scope,
            values=found.values,
            rows=tuple(leader(key, each) for key, each in ranked(totals, rank)[:MAX_LIMIT]),
            total=Sums(**_sums(whole)),
        )
        for rank in RANKINGS
    }


class ModelCosts(Result):
    """What one model costs and does, to be held beside others."""

    model: str | None
    calls: int
    cost: dict[str, Money]
    average_cost: Money | None
    """Of a call whose cost is known; ``None`` where there is none, or several currencies."""
    currency: str | None
    """Of ``average_cost``."""
    average_input_tokens: float | None
    average_output_tokens: float | None
    success_rate: float | None
    average_duration_ms: float | None
    p95_duration_ms: float | None
    unpriced_calls: int
    unpriced_share: float | None
    """Of all its calls."""


class ModelsSideBySide(Result):
    """All models that were used, those with most calls first."""

    since: datetime
    until: datetime
    tz: str
    scope: str | None
    models: tuple[ModelCosts, ...]
    more: int
    """Models behind the first `MAX_LIMIT`."""


def models_side_by_side(desk: Desk, question: Question) -> ModelsSideBySide:
    """What each model costs and does, in the days and by the filters of *question*."""
    period = question.period
    found = desk.stats.in_zone(desk.tz).summary(
        period.since, period.until, question.filters, "request_model"
    )
    return ModelsSideBySide(
        since=period.since.astimezone(desk.tz),
        until=period.until.astimezone(desk.tz),
        tz=str(desk.tz),
        scope=desk.scope,
        models=tuple(map(_model, found.groups[:MAX_LIMIT])),
        more=max(0, len(found.groups) - MAX_LIMIT),
    )


def _model(group: Group) -> ModelCosts:
    known = group.calls - group.unpriced_calls
    currency = next(iter(group.cost)) if len(group.cost) == 1 and known > 0 else None
    calls = group.calls
    return ModelCosts(
        model=group.key["request_model"],
        calls=calls,
        cost=group.cost,
        average_cost=None
        if currency is None
        else rounded(EXACT.divide(group.cost[currency], Decimal(known))),
        currency=currency,
        average_input_tokens=group.tokens.input / calls if calls else None,
        average_output_tokens=group.tokens.output / calls if calls else None,
        success_rate=group.success_rate,
        average_duration_ms=group.average_duration_ms,
        p95_duration_ms=group.p95_duration_ms,
        unpriced_calls=group.unpriced_calls,
        unpriced_share=group.unpriced_calls / calls if calls else None,
    )


class UnpricedModel(Result):
    """The calls to one model that no cost is known of."""

    model: str | None
    calls: int
    of_calls: int
    """All calls to this model in these days."""
    input_tokens: int
    output_tokens: int
    without_usage: int
    """Of ``calls``, at least so many have no token counts: no price helps these."""
    listed: bool
    """Whether the model is in the catalogue."""
    has_price: bool
    """Whether a price is found for a call of now."""


class Unpriced(Result):
    """Calls without a cost that may have one, by model, most of them first."""

    since: datetime
    until: datetime
    tz: str
    scope: str | None
    calls: int
    of_calls: int
    """All calls in these days."""
    models: tuple[UnpricedModel, ...]


def unpriced(desk: Desk, question: Question) -> Unpriced:
    """The models whose calls no price was found for, in the days of *question*."""
    period = question.period
    stats = desk.stats
    found = stats.summary(period.since, period.until, question.filters, "request_model")
    lacking = sorted(
        (group for group in found.groups if group.unpriced_calls),
        key=lambda group: -group.unpriced_calls,
    )[:MAX_LIMIT]
    listed = {each.name.lower() for each in desk.house.catalog.models()}
    now = desk.house.clock()
    return Unpriced(
        since=period.since.astimezone(desk.tz),
        until=period.until.astimezone(desk.tz),
        tz=str(desk.tz),
        scope=desk.scope,
        calls=found.unpriced_calls,
        of_calls=found.calls,
        models=tuple(
            UnpricedModel(
                model=group.key["request_model"],
                calls=group.unpriced_calls,
                of_calls=group.calls,
                input_tokens=group.tokens.input,
                output_tokens=group.tokens.output,
                without_usage=without_usage(
                    desk, group, period.since, period.until, question.filters
                ),
                listed=(name or "").lower() in listed,
                has_price=name is not None and has_price(desk, name, now),
            )
            for group in lacking
            for name in (group.key["request_model"],)
        ),
    )


def _sums(totals: Totals) -> dict[str, Any]:
    return {
        "calls": totals.calls,
        "success_rate": totals.statuses.get("success", 0) / totals.calls if totals.calls else None,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "total_tokens": totals.input_tokens + totals.output_tokens,
        "cost": {code: from_nano(nano) for code, nano in sorted(totals.cost_nano.items())},
        "unpriced_calls": totals.unpriced_calls,
    }
