"""Labels of metrics: few values, few series, and nothing in them that does not belong there."""

from __future__ import annotations

from typing import Final

from ai_ledger.secrets import scrub

OTHER: Final = "other"
"""Stands for every value, and every series, for which there was no room."""
MAX_SERIES: Final = 2_000
"""Of one metric."""
MAX_CHARS: Final = 100


class Values:
    """
    The values of one label; those that come when there are *most* are `OTHER`.

    Args:
        most: How many different ones are told apart.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._known: dict[str, str] = {}

    def of(self, raw: str | None) -> str:
        """*raw* as a label's value; empty, which is no label at all, for none."""
        if raw is None:
            return ""
        known = self._known.get(raw)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        cleaned = self._known[raw] = clean(raw)
        return cleaned


class Series:
    """
    The combinations of labels of one metric.

    Args:
        samples: How many series one combination is: a histogram has one a bucket, and three.
        closed: How many combinations the labels have whose values are a fixed list.
    """

    def __init__(self, *, samples: int, closed: int) -> None:
        self._most: Final = MAX_SERIES // samples - closed
        self._known: set[tuple[str, ...]] = set()

    def of(self, values: tuple[str, ...], *closed: str) -> tuple[str, ...]:
        """*values* with those of the closed labels; all `OTHER` but those when there is no room."""
        whole = (*values, *closed)
        if whole in self._known:
            return whole
        if len(self._known) >= self._most:
            return (*([OTHER] * len(values)), *closed)
        self._known.add(whole)
        return whole


def clean(text: str) -> str:
    """*text* on one line, without invisible characters and credentials, of at most 100 letters."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * MAX_CHARS])
    return scrub(" ".join(shown.split()))[:MAX_CHARS]
