"""`RepricingRun`: what one run of re-pricing is asked, how far it is, and what is known later."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

from ai_ledger.database.changes import changes_before
from ai_ledger.pricing.reprice import RepriceReport
from ai_ledger.stats.results import Money, Result
from ai_ledger.web.costs.corrections import corrections_at
from ai_ledger.web.house import House

State: TypeAlias = Literal["running", "done", "stopped", "failed", "cut_off"]

KIND: Final = "repricing"
"""What runs are called in the history."""
_COUNTS: Final = (
    *("checked", "newly_priced"),
    *("still_unpriced", "kept_stated", "kept_without_price"),
)


class PriceEntryChange(Result):
    """The calls that one price entry charges anew."""

    price_id: str
    calls: int
    before: dict[str, Money]
    """What they cost until now, by currency; unpriced ones are not in it."""
    after: dict[str, Money]


class RepricingRun(Result):
    """One run: what it looks at, how far it is, and what it changed or would change."""

    id: str
    state: State
    """``cut_off``: begun by a console that has not said how it ended."""
    dry_run: bool
    """Whether it only says what would change."""
    takes_back: datetime | None
    """The run whose changes this one takes back: its ``begun_at``."""
    since: datetime | None
    until: datetime | None
    model: str | None
    unpriced_only: bool
    by: str
    begun_at: datetime
    """All corrections of the run carry this moment."""
    ended_at: datetime | None
    calls: int | None
    """How many there are to be looked at; not known in the first moments."""
    checked: int
    changed: int
    """Calls that have another cost now; by one that was cut off, as found when this was asked."""
    newly_priced: int
    still_unpriced: int
    kept_stated: int
    """Calls whose cost the provider or the caller stated; it stays."""
    kept_without_price: int
    """Calls with a cost whose price is gone; it stays."""
    before: dict[str, Money]
    """The cost of all calls looked at, by currency; currencies are never added."""
    after: dict[str, Money]
    prices: tuple[PriceEntryChange, ...]
    """Known as long as the console that did it runs."""
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which calls are priced again, and whether that is for show; or which run is taken back."""

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    unpriced_only: bool = False
    dry_run: bool = True
    takes_back: datetime | None = None

    @property
    def where(self) -> dict[str, Any]:
        """As `Query.build` takes it."""
        found: dict[str, Any] = {}
        if self.model is not None:
            found["request_model"] = self.model
        if self.unpriced_only:
            found["cost"] = None
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """For the history."""
        if self.takes_back is not None:
            return {"takes_back": self.takes_back}
        return {
            "since": self.since,
            "until": self.until,
            "model": self.model,
            "unpriced_only": self.unpriced_only,
        }


@dataclass
class Run:
    """A run while this console knows of it. One thread writes, others read."""

    asked: Asked
    by: str
    begun_at: datetime
    id: str = field(default_factory=lambda: str(uuid4()))
    state: State = "running"
    ended_at: datetime | None = None
    calls: int | None = None
    checked: int = 0
    changed: int = 0
    report: RepriceReport | None = None
    error: str | None = None
    stop: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def told(self) -> RepricingRun:
        """It, as it is now."""
        report = self.report
        amounts: dict[str, Decimal] = {}
        return RepricingRun(
            id=self.id,
            state=self.state,
            dry_run=self.asked.dry_run,
            takes_back=self.asked.takes_back,
            since=self.asked.since,
            until=self.asked.until,
            model=self.asked.model,
            unpriced_only=self.asked.unpriced_only,
            by=self.by,
            begun_at=self.begun_at,
            ended_at=self.ended_at,
            calls=self.calls,
            checked=self.checked if report is None else report.checked,
            changed=self.changed if report is None else report.changed,
            newly_priced=report.newly_priced if report else 0,
            still_unpriced=report.unpriced if report else 0,
            kept_stated=report.kept_stated if report else 0,
            kept_without_price=report.kept_without_price if report else 0,
            before=report.before if report else amounts,
            after=report.after if report else amounts,
            prices=tuple(
                PriceEntryChange(
                    price_id=each.price_id, calls=each.calls, before=each.before, after=each.after
                )
                for each in (report.prices if report else ())
            ),
            error=self.error,
        )

    def noted(self, state: State | Literal["begun"], error: str | None = None) -> dict[str, Any]:
        """It, as it is put into the history, where `remembered` finds it."""
        facts = {**self.asked.facts, "state": state, "begun_at": self.begun_at}
        if state == "begun":
            return facts
        if state == "failed":
            return {**facts, "error": error}
        told = self.told()
        return {
            **facts,
            "calls": told.changed,
            "of_calls": told.calls,
            **{name: count for name in _COUNTS if (count := getattr(told, name))},
            "cost_before": told.before,
            "cost_after": told.after,
            "prices": [each.price_id for each in told.prices],
        }


def remembered(house: House) -> RepricingRun | None:
    """
    The last run that the history knows of, of this console or another one; none for show.

    One that was begun and of whose end nothing is known is ``cut_off``: what it changed is
    counted. It may still be going on, in another console.
    """
    with house.database.reading() as connection:
        found = changes_before(connection, kind=KIND, limit=1)
    noted: Mapping[str, Any] = (found[0].after or {}) if found else {}
    begun_at = _moment(noted.get("begun_at"))
    if begun_at is None:
        return None
    state, takes_back = noted["state"], _moment(noted.get("takes_back"))
    counts = {name: noted.get(name, 0) for name in _COUNTS}
    calls, changed = noted.get("of_calls"), noted.get("calls", 0)
    if state in ("begun", "failed"):
        counts["checked"] = changed = corrections_at(house, begun_at)
        calls = None if takes_back is None else corrections_at(house, takes_back)
    return RepricingRun(
        id=found[0].key,
        state="cut_off" if state == "begun" else state,
        dry_run=False,
        takes_back=takes_back,
        since=_moment(noted.get("since")),
        until=_moment(noted.get("until")),
        model=noted.get("model"),
        unpriced_only=noted.get("unpriced_only", False),
        by=found[0].changed_by or "",
        begun_at=begun_at,
        ended_at=None if state == "begun" else found[0].changed_at,
        calls=calls,
        changed=changed,
        **counts,
        before=noted.get("cost_before", {}),
        after=noted.get("cost_after", {}),
        prices=(),
        error=noted.get("error"),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
