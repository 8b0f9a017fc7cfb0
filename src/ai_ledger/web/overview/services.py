"""How functions and providers are doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ai_ledger.policies.breaker import living_breakers
from ai_ledger.query import Query
from ai_ledger.stats.results import Figures
from ai_ledger.totals import Totals
from ai_ledger.web.overview.answers import Service, Services

if TYPE_CHECKING:
    from ai_ledger.records import Status
    from ai_ledger.web.house import Desk
    from ai_ledger.web.periods import Period

State: TypeAlias = Literal["closed", "open", "half_open"]

FAILED: Final[tuple[Status, ...]] = ("failed", "timeout", "circuit_open")
"""What counts as a failure: what was refused or cancelled is nobody's fault."""
SHOWN: Final = 20
_WORST: Final[Mapping[State, int]] = {"closed": 0, "half_open": 1, "open": 2}


def failures(totals: Totals) -> int:
    """How many of the calls failed."""
    return sum(totals.statuses.get(status, 0) for status in FAILED)


def services(
    desk: Desk,
    period: Period,
    field: Literal["function", "provider"],
    totals: Mapping[str | None, Totals],
) -> Services:
    """
    The values of *field*: those with failures first, then by calls.

    Args:
        desk: Who is asking.
        period: When.
        field: What is told of.
        totals: Of the period, by value.
    """
    ordered = sorted(
        totals, key=lambda value: (-failures(totals[value]), -totals[value].calls, value or "")
    )[:SHOWN]
    query = Query.build(scope=desk.scope, since=period.since, until=period.until)
    latest = desk.house.reader.latest(query, field, ordered)
    circuits = _circuits(field)
    found: list[Service] = []
    for value in ordered:
        figures, last = Figures.of(totals[value]), latest.get(value)
        found.append(
            Service(
                value=value,
                calls=figures.calls,
                failed=failures(totals[value]),
                success_rate=figures.success_rate,
                p95_duration_ms=figures.p95_duration_ms,
                last_call_at=None if last is None else last.started_at.astimezone(desk.tz),
                last_call_id=None if last is None else last.call_id,
                last_status=None if last is None else last.status,
                breaker=circuits.get(value),
            )
        )
    return Services(field=field, values=len(totals), services=tuple(found))


def _circuits(field: str) -> dict[str | None, State]:
    """
    Value → the worst state of the circuits of this process that are for it alone.

    Those that also go by something else, such as an organisation, would tell a
    reader of others.
    """
    found: dict[str | None, State] = {}
    for breaker in living_breakers():
        if breaker.per != (field,):
            continue
        for circuit in breaker.states():
            value = circuit.fields.get(field)
            known = found.get(value, "closed")
            found[value] = circuit.state if _WORST[circuit.state] > _WORST[known] else known
    return found
