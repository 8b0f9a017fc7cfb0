"""What suggestions answer: where money could be saved, each with the calls it is based on."""

from __future__ import annotations

from datetime import datetime

from ai_ledger.stats.results import Money, Result
from ai_ledger.stats.text import money, percent, shown, table


class Basis(Result):
    """The calls that a suggestion is based on."""

    calls: int
    ids: tuple[str, ...]
    """Of the first ones, five at most."""
    where: dict[str, str | None]
    """Finds them, beside the filter that was given: ``stats.calls(where, since=…, until=…)``."""


class CheaperModel(Result):
    """
    What a function's calls to one model would cost on another one that is in use already.

    Tokens as they were, prices as of now. Whether its answers are good enough is
    for people to say.
    """

    function: str | None
    operation: str
    provider: str | None
    model: str | None
    currency: str
    paid: dict[str, Money]
    """What is on the books for these calls."""
    cost: Money
    """What the same calls cost at the prices of now."""
    other_provider: str | None
    other_model: str
    other_calls: int
    """Successful calls to the other model elsewhere, in these days."""
    other_cost: Money
    saves: Money
    basis: Basis


class RepeatedCalls(Result):
    """
    Calls that asked what had been asked before, which a cache of answers would have saved.

    Equal are organisation, function, provider, operation, model, prompt and input
    tokens. Other parameters of the request, such as the temperature, are not on the
    books and may have differed.
    """

    function: str | None
    operation: str
    provider: str | None
    model: str | None
    repeats: int
    """Calls that the cache would have answered."""
    prompts: int
    """Different prompts that were asked more than once."""
    saves: dict[str, Money]
    """What the repeats have cost, by currency."""
    basis: Basis
    """The repeats; ``where`` finds the group that they are in."""


class LowCaching(Result):
    """
    Long prompts of which the provider reads little from its cache, though that is cheaper.

    Providers cache what the beginnings of prompts have in common.
    """

    function: str | None
    operation: str
    provider: str | None
    model: str | None
    input_tokens: int
    cached_tokens: int
    cached_share: float
    currency: str
    saves_at_most: Money
    """If all of the input had been read from the cache, at the prices of now."""
    basis: Basis


class Suggestions(Result):
    """Where money could be saved. In each list the largest saving of each currency comes first."""

    made_at: datetime
    since: datetime
    """Begin of the days that were asked for."""
    looked_from: datetime
    """Begin of the days that were looked at; later than ``since`` where calls are too many."""
    until: datetime
    """Exclusive."""
    tz: str
    scope: str | None
    calls: int
    """Successful calls in the days that were asked for."""
    looked_at: int
    """How many of them were looked at."""
    with_content: int
    """How many of these have a stored prompt; repeats are told among them alone."""
    models: tuple[CheaperModel, ...]
    repeats: tuple[RepeatedCalls, ...]
    caching: tuple[LowCaching, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not looked at, and why."""
        found: list[str] = []
        if self.looked_at < self.calls:
            found.append(
                f"looked at {self.looked_at:,} of {self.calls:,} calls, "
                f"from {self.looked_from:%Y-%m-%d %H:%M} on"
            )
        if self.looked_at and not self.with_content:
            found.append("repeated calls are not known: prompts are not stored (content)")
        elif self.with_content < self.looked_at:
            found.append(
                f"repeated calls are known of {self.with_content:,} calls alone: "
                "the prompts of the others are not stored"
            )
        return tuple(found)

    def __str__(self) -> str:
        """A table for each kind of suggestion, and what was not looked at."""
        whose = "" if self.scope is None else f", organisation {shown(self.scope)}"
        blocks = [
            f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} ({self.tz}){whose}: "
            f"{self.calls:,} successful calls"
        ]
        for title, head, rows in self.tables():
            if rows:
                blocks.append(f"{title}\n{table(head, rows, texts=2)}")
        if len(blocks) == 1:
            blocks.append("nothing to suggest")
        return "\n\n".join([*blocks, *self.notes])

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, names of columns and rows, for each kind of suggestion."""
        return [
            (
                "a cheaper model that is in use already",
                ["function", "model", "other model", "calls", "cost", "there", "saves"],
                [
                    [
                        shown(each.function),
                        shown(each.model),
                        shown(each.other_model),
                        f"{each.basis.calls:,}",
                        money({each.currency: each.cost}),
                        money({each.currency: each.other_cost}),
                        money({each.currency: each.saves}),
                    ]
                    for each in self.models
                ],
            ),
            (
                "repeated calls that a cache of answers would save",
                ["function", "model", "repeats", "prompts", "saves"],
                [
                    [
                        shown(each.function),
                        shown(each.model),
                        f"{each.repeats:,}",
                        f"{each.prompts:,}",
                        money(each.saves),
                    ]
                    for each in self.repeats
                ],
            ),
            (
                "long prompts of which little is read from the provider's cache",
                ["function", "model", "calls", "input", "cached", "saves at most"],
                [
                    [
                        shown(each.function),
                        shown(each.model),
                        f"{each.basis.calls:,}",
                        f"{each.input_tokens:,}",
                        percent(each.cached_share),
                        money({each.currency: each.saves_at_most}),
                    ]
                    for each in self.caching
                ],
            ),
        ]
