"""The dashboard in the reader's language: figures with their changes, charts, words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ai_ledger.web.overview.answers import CostTrend, Dashboard, ModelCost, Shares, Slice

if TYPE_CHECKING:
    from ai_ledger.stats.results import Figures
    from ai_ledger.web.language import Language

_MILLIONS: Final = 10_000_000
"""Amounts from here on are shortened where they stand large; their title has every digit."""
_MOST: Final = 9.99
"""A larger change is not told as per cent."""
_TINY: Final = 10
"""Of so few calls a change is not told as per cent either."""
_UNREMARKABLE: Final = 0.01
"""A smaller change is no news, good or bad."""


class View:
    """
    What templates ask for about one dashboard.

    Args:
        board: What is shown.
        language: In whose words.
    """

    def __init__(self, board: Dashboard, language: Language) -> None:
        self.board: Final = board
        self.language: Final = language
        self._ = language.gettext

    # Today

    def figures(self) -> list[dict[str, Any]]:
        """The cards of today, but for cost."""
        today = self.board.today
        now, before, whole = today.so_far, today.yesterday_by_this_time, today.yesterday
        words, _ = self.language, self._
        return [
            {
                "id": "calls",
                "name": _("Calls"),
                "value": words.compact(now.calls),
                "exact": words.number(now.calls),
                "change": self._change(
                    now.calls, before.calls, words.compact(before.calls), counted=True
                ),
                "note": self._whole_day(words.compact(whole.calls), whole),
            },
            {
                "id": "success",
                "name": _("Success rate"),
                "value": words.percent(now.success_rate),
                "exact": None,
                "change": self._points(now.success_rate, before.success_rate),
                "note": self._whole_day(words.percent(whole.success_rate), whole),
            },
            {
                "id": "failed",
                "name": _("Failed calls"),
                "value": words.compact(today.failed),
                "exact": words.number(today.failed),
                "change": self._change(
                    today.failed,
                    today.yesterday_failed_by_this_time,
                    words.compact(today.yesterday_failed_by_this_time),
                    more_is_bad=True,
                    counted=True,
                ),
                "note": self._unsent(now),
            },
            {
                "id": "tokens",
                "name": _("Tokens"),
                "value": words.compact(now.tokens.total),
                "exact": words.number(now.tokens.total),
                "change": self._change(
                    now.tokens.total, before.tokens.total, words.compact(before.tokens.total)
                ),
                "note": self._whole_day(words.compact(whole.tokens.total), whole),
            },
            {
                "id": "latency",
                "name": _("Average latency"),
                "value": words.duration(now.average_duration_ms),
                "exact": None,
                "change": self._change(
                    now.average_duration_ms,
                    before.average_duration_ms,
                    words.duration(before.average_duration_ms),
                    more_is_bad=True,
                ),
                "note": self._whole_day(words.duration(whole.average_duration_ms), whole),
            },
        ]

    def costs(self) -> list[dict[str, Any]]:
        """Today's cost by currency, each beside yesterday's."""
        today = self.board.today
        before, whole = today.yesterday_by_this_time.cost, today.yesterday.cost
        codes = sorted({*today.so_far.cost, *whole})
        found: list[dict[str, Any]] = []
        for code in codes:
            now = today.so_far.cost.get(code, Decimal(0))
            then = before.get(code, Decimal(0))
            found.append(
                {
                    "code": code,
                    "amount": now,
                    "shown": self.language.amount(now)
                    if abs(now) < _MILLIONS
                    else self.language.compact(float(now)),
                    "change": self._change(
                        now, then, self.language.money(then, code), more_is_bad=True
                    ),
                    "whole": self.language.money(whole.get(code, Decimal(0)), code),
                }
            )
        return found

    def _change(
        self,
        now: float | Decimal | None,
        before: float | Decimal | None,
        shown: str,
        *,
        more_is_bad: bool | None = None,
        counted: bool = False,
    ) -> dict[str, Any]:
        text = self._("yesterday by this time: %(value)s") % {"value": shown}
        if now is None or not before:
            return {"shown": "", "good": None, "text": text}
        if now == before:
            return {"shown": self._("unchanged"), "good": None, "text": text}
        relative = float(now) / float(before) - 1
        if relative > _MOST or (counted and before < _TINY):
            # +1,200 % says less than the two numbers.
            return {
                "shown": "",
                "good": None if more_is_bad is None else (relative < 0) is more_is_bad,
                "text": text,
            }
        if round(relative, 2) == 0:
            return {
                "shown": self._("less than 1% more")
                if relative > 0
                else self._("less than 1% less"),
                "good": None,
                "text": text,
            }
        return {
            "value": relative,
            "good": None
            if more_is_bad is None or abs(relative) < _UNREMARKABLE
            else (relative < 0) is more_is_bad,
            "text": text,
        }

    def _points(self, now: float | None, before: float | None) -> dict[str, Any]:
        shown = self.language.percent(before)
        text = self._("yesterday by this time: %(value)s") % {"value": shown}
        if now is None or before is None:
            return {"shown": "", "good": None, "text": text}
        points = (now - before) * 100
        number = self.language.number(round(abs(points), 1), 1)
        sign = "+" if points > 0 else "\u2212"
        return {
            "shown": self._("%(number)s points") % {"number": f"{sign}{number}"}
            if round(points, 1)
            else self._("unchanged"),
            "good": points > 0 if abs(points) >= 100 * _UNREMARKABLE else None,
            "text": text,
        }

    def _unsent(self, now: Figures) -> str | None:
        """What else is missing from the success rate."""
        other = sum(now.by_status.get(each, 0) for each in ("blocked", "cancelled", "unfinished"))
        if not other:
            return None
        shown = {"count": self.language.compact(other)}
        return self._("blocked, cancelled or unfinished: %(count)s") % shown

    def _whole_day(self, shown: str, whole: Figures) -> str | None:
        if not whole.calls:
            return None
        return self._("all of yesterday: %(value)s") % {"value": shown}

    # Charts

    def trend(self) -> dict[str, Any]:
        """Calls as bars, and the success rate as a line."""
        points, words = self.board.trend, self.language
        rates = [
            None if each.success_rate is None else round(each.success_rate * 100, 2)
            for each in points
        ]
        known = [rate for rate in rates if rate is not None]
        return {
            "type": "bar",
            "whole": True,
            "labels": self._labels(),
            "right": {
                "unit": "%",
                "min": _lowest(known),
                "max": 100,
            },
            "series": [
                {
                    "label": self._("Calls"),
                    "values": [each.calls for each in points],
                    "shown": [words.number(each.calls) for each in points],
                },
                {
                    "label": self._("Success rate"),
                    "type": "line",
                    "colour": 3,
                    "axis": "right",
                    "values": rates,
                    "shown": [words.percent(each.success_rate) for each in points],
                },
            ],
        }

    def cost_chart(self, trend: CostTrend) -> dict[str, Any]:
        """The costs of one currency by model, on top of each other."""
        return {
            "type": "bar",
            "stacked": True,
            "unit": trend.currency,
            "labels": self._labels(),
            "series": [
                {
                    "label": self.name(model),
                    "values": [float(amount) for amount in model.cost],
                    "shown": [
                        self.language.exact(amount, trend.currency) if amount else "—"
                        for amount in model.cost
                    ],
                }
                for model in trend.models
            ],
        }

    def _labels(self) -> list[str]:
        if self.board.bucket == "hour":
            return [f"{each.start:%H:%M}" for each in self.board.trend]
        return [self.language.day(each.start.date(), short=True) for each in self.board.trend]

    def parts(self, shares: Shares) -> list[dict[str, Any]]:
        """Of calls, and of costs in each currency: a ring and its list."""
        return [
            self._part(f"{shares.field}-calls", self._("Calls"), shares.calls, None),
            *(
                self._part(f"{shares.field}-cost-{code}", code, slices, code)
                for code, slices in shares.cost.items()
            ),
        ]

    def _part(
        self, name: str, label: str, slices: Sequence[Slice], currency: str | None
    ) -> dict[str, Any]:
        words = self.language
        exact = [
            words.number(each.number) if currency is None else words.exact(each.number, currency)
            for each in slices
        ]
        brief = [
            words.money(each.number, currency) if currency else words.compact(int(each.number))
            for each in slices
        ]
        percents = [words.percent(each.share) for each in slices]
        names = [self.name(each) for each in slices]
        return {
            "id": name,
            "label": label,
            "slices": [
                {"name": each, "own": slices[n].value is not None, "shown": brief[n]}
                | {"share": percents[n]}
                for n, each in enumerate(names)
            ],
            "chart": {
                "type": "doughnut",
                "legend": False,
                "labels": names,
                "series": [
                    {
                        "label": label,
                        "values": [float(each.number) for each in slices],
                        "shown": [
                            f"{number} · {share}"
                            for number, share in zip(exact, percents, strict=True)
                        ],
                    }
                ],
            },
        }

    # Words

    def name(self, each: ModelCost | Slice) -> str:
        """What a value is called that may be not set, or all the others."""
        if each.others:
            return self._("Others")
        value = each.model if isinstance(each, ModelCost) else each.value
        return self._("(not set)") if value is None else value

    def short(self, name: str, most: int = 32) -> str:
        """*name* without its middle, if it is long: names of models differ at their ends."""
        if len(name) <= most:
            return name
        head = most * 2 // 5
        return f"{name[:head]}…{name[head + 1 - most :]}"

    def clock(self, moment: datetime) -> str:
        """The time of day."""
        return f"{moment:%H:%M:%S}"

    def bytes(self, count: int) -> str:
        """So many bytes, as people say it."""
        if count < 1_024:
            return f"{self.language.number(count)}\u00a0B"
        if count < 1_024**2:
            return f"{self.language.number(count / 1_024, 1)}\u00a0KB"
        return f"{self.language.number(count / 1_024**2, 1)}\u00a0MB"

    def period(self) -> str:
        """The days that are told of."""
        first, last = self.board.first, self.board.last
        if first == last:
            return self.language.day(first)
        return f"{self.language.day(first)} \u2013 {self.language.day(last)}"

    def amounts(self, costs: dict[str, Decimal]) -> Sequence[str]:
        """Costs, one for each currency."""
        return [self.language.money(amount, code) for code, amount in costs.items()]


def _lowest(rates: Sequence[float]) -> int:
    """Where the axis of success rates begins: at a step of 10 % that leaves all of them room."""
    least = min(rates, default=100.0)
    return 90 if least >= 95 else max(0, int(least // 10) * 10 - 10)
