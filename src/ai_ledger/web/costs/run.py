"""`RepricingRun`: what one run of re-pricing is asked, and how far it is."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

from ai_ledger.pricing.reprice import RepriceReport
from ai_ledger.stats.results import Money, Result

State: TypeAlias = Literal["running", "done", "stopped", "failed", "cut_off"]

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
    """``cut_off``: the console that was at it has given no sign of life for a minute."""
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
    """Calls with another cost; of one that failed or was cut off, as found when this was asked."""
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
    """A run in the console that is at it. One thread writes."""

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

    def noted(self) -> dict[str, Any]:
        """It, as it is put into the history when it begins and when it ends."""
        facts = {**self.asked.facts, "state": self.state, "begun_at": self.begun_at}
        if self.state == "running":
            return facts
        if self.state == "failed":
            return {**facts, "error": self.error}
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
