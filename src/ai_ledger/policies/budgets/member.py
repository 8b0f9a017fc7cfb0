"""One budget as it is asked before each call: what it applies to, and how much it needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from ai_ledger.bounds import value_of_key
from ai_ledger.money import from_nano
from ai_ledger.policies.budgets.rates import Pricing
from ai_ledger.policies.budgets.worst_case import Size
from ai_ledger.records import CallRecord
from ai_ledger.terms import TOKENS, Terms

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger

log: Final = logging.getLogger("ai_ledger.budgets")

Key: TypeAlias = tuple[str, str, str]
"""Name, whose, and period: which account."""

# Sums of a few of these still fit what databases count with.
LARGEST: Final = 2**60
_EVER: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_NEVER: Final = (_EVER[1], _EVER[0], "")
_OFF_S: Final = 60.0
_MAX_WARNED: Final = 10_000


class BudgetWarning(msgspec.Struct, frozen=True, kw_only=True):
    """
    A budget has come to one of its thresholds.

    Args:
        budget: Its name.
        whose: For whom, where there is one budget each; ``None`` for all together.
        period: Which one, such as ``2026-11``.
        threshold: The share of the limit that was reached, 1.0 for all of it.
        unit: ``tokens``, or the code of a currency.
        used: How much of it is spent.
        limit: How much there is.
        resets_at: When the next period begins, aware; ``None`` for never.
    """

    budget: str
    whose: str | None
    period: str
    threshold: float
    unit: str
    used: Decimal
    limit: Decimal
    resets_at: datetime | None


class Member:
    """
    A budget's terms, made quick to apply. Belongs to one `Budget`.

    Args:
        terms: Of the budget.
        refuses: Whether calls are refused when the store cannot be asked.
        output_tokens: Assumed for an answer without a stated limit.
        unseen_tokens: Assumed for each part of the input that cannot be seen.
        warn_at: Shares of the limit to warn at.
        on_warning: Told of each.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        refuses: bool,
        output_tokens: int,
        unseen_tokens: int,
        warn_at: tuple[float, ...],
        on_warning: Callable[[BudgetWarning], object] | None,
    ) -> None:
        self.terms = terms
        self.name = terms.name
        self.refuses = refuses
        self.is_hard = terms.mode == "hard"
        self.output_tokens = output_tokens
        self.unseen_tokens = unseen_tokens
        self.pricing: Pricing | None = None
        self.id: int | None = None
        """In the store, once it is registered there."""
        self.off_until = 0.0
        """Switched off in the store: not asked before this, by `time.monotonic`."""
        self._warn_at = warn_at
        self._on_warning = on_warning
        self._warned: set[tuple[str, str, float]] = set()
        self._now: tuple[datetime, datetime, str] = _NEVER

    def use(self, ledger: Ledger) -> None:
        """Price by the table of *ledger*."""
        if self.terms.unit != TOKENS:
            self.pricing = Pricing(ledger.prices, self.terms)

    @property
    def knows_prices(self) -> bool:
        """Whether it need not wait for the store to price a call."""
        return self.pricing is None or self.pricing.is_known

    def key(self, call: CallRecord) -> Key | None:
        """The account that *call* will be charged to; ``None`` when it is not counted."""
        terms = self.terms
        if terms.where and not terms.matches(call):
            return None
        if self.off_until and time.monotonic() < self.off_until:
            return None
        now = self._now
        if not now[0] <= call.started_at < now[1]:
            now = self._period_of(call.started_at)
            if now is None:
                return None
        return self.name, "" if terms.each is None else terms.whose(call), now[2]

    def _period_of(self, moment: datetime) -> tuple[datetime, datetime, str] | None:
        period = self.terms.period_of(moment)
        if period is None:
            return None
        start, end = self.terms.bounds_of(period) or _EVER
        self._now = found = (start, end, period)
        return found

    def needed(self, call: CallRecord, request: Mapping[str, Any] | None, size: Size) -> int | None:
        """The most that *call* can take; ``None`` when nobody knows its price."""
        input_tokens, output_tokens = size.worst(self.output_tokens, self.unseen_tokens)
        if self.pricing is None:
            return input_tokens + output_tokens
        rates = self.pricing.rates(call, request)
        amount = None if rates is None else rates.amount(input_tokens, output_tokens)
        return None if amount is None else min(LARGEST, amount)

    def spent(self, record: CallRecord) -> int | None:
        """
        At most what the row of *record* will be charged with.

        ``None`` when its tokens are still to be counted.
        """
        input_tokens, output_tokens = record.input_tokens, record.output_tokens
        if input_tokens is None and output_tokens is None:
            if record.usage_source == "estimated":
                return None
            if record.cost is None and record.status not in ("success", "cancelled", "timeout"):
                return 0
        if self.pricing is None:
            return (input_tokens or 0) + (output_tokens or 0)
        if record.cost is not None:
            return self.terms.amount_of(record) or 0
        rates = self.pricing.rates(record)
        if rates is None:
            return 0  # nobody knows; its row is not counted either
        amount = rates.amount(input_tokens or 0, output_tokens or 0)
        if amount is None:
            return self.pricing.charged(record)
        return min(LARGEST, amount)

    def charged(self, record: CallRecord) -> int:
        """Exactly what the row of *record* will be charged with, as far as is known now."""
        if self.pricing is None:
            return self.terms.amount_of(record) or 0
        return self.pricing.charged(record)

    def shown(self, amount: int) -> Decimal:
        """*amount* in units that people read."""
        return Decimal(amount) if self.terms.unit == TOKENS else from_nano(amount)

    def resets_at(self, period: str) -> datetime | None:
        """When *period* ends; ``None`` for never."""
        bounds = self.terms.bounds_of(period)
        return None if bounds is None else bounds[1]

    def forget(self) -> None:
        """Look it up in the store again."""
        self.id = None

    def switch_off(self) -> None:
        """Leave it alone for a minute, since the store says that it is switched off."""
        self.off_until = time.monotonic() + _OFF_S

    def reached(self, whose: str, period: str, used: int, limit: int) -> list[BudgetWarning]:
        """What is to be warned of, now that *used* has come there; each threshold once."""
        found: list[BudgetWarning] = []
        for threshold in self._warn_at:
            if used < limit * threshold or (whose, period, threshold) in self._warned:
                continue
            if len(self._warned) >= _MAX_WARNED:
                self._warned = {each for each in self._warned if each[1] == period}
            self._warned.add((whose, period, threshold))
            found.append(
                BudgetWarning(
                    budget=self.name,
                    whose=value_of_key(whose),
                    period=period,
                    threshold=threshold,
                    unit=self.terms.unit,
                    used=self.shown(used),
                    limit=self.shown(limit),
                    resets_at=self.resets_at(period),
                )
            )
        return found

    def warn(self, warning: BudgetWarning) -> None:
        """Say so. Never raises."""
        log.warning(
            "budget %r%s: %s of %s %s used in %s (%.3g %% reached)",
            self.name,
            "" if self.terms.each is None else f" for {warning.whose!r}",
            f"{warning.used:f}",
            f"{warning.limit:f}",
            warning.unit,
            warning.period,
            warning.threshold * 100,
        )
        if self._on_warning is not None:
            try:
                self._on_warning(warning)
            except Exception as error:  # the boundary around the user's function
                log.warning("on_warning of budget %r failed", self.name, exc_info=error)

    @property
    def has_warnings(self) -> bool:
        """Whether there is anything to watch for."""
        return bool(self._warn_at)

    def is_quiet(self, whose: str, period: str) -> bool:
        """Whether every threshold of this account was warned of already."""
        return all((whose, period, each) in self._warned for each in self._warn_at)
