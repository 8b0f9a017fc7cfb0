"""Which groups come first."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Literal, TypeAlias

from ai_ledger.errors import InvalidValue
from ai_ledger.totals import Totals

Ranking: TypeAlias = Literal["cost", "calls", "tokens"]
_Key: TypeAlias = tuple[str | None, ...]
_Row: TypeAlias = tuple[_Key, Totals]


def ranked(totals: Mapping[_Key, Totals], by: Ranking) -> list[_Row]:
    """
    The rows of *totals*, highest first; among equals the one with more calls.

    Amounts of different currencies cannot be compared. By cost, each currency
    has a ranking of its own and the rows are taken from these in turn; rows
    without any cost come last.
    """
    rows = sorted(totals.items(), key=lambda row: (-row[1].calls, _alphabetical(row[0])))
    if by == "calls":
        return rows
    if by == "tokens":
        return sorted(rows, key=lambda row: -(row[1].input_tokens + row[1].output_tokens))
    if by != "cost":
        raise InvalidValue("by", by, "cost, calls or tokens")
    currencies = sorted({code for _, each in rows for code in each.cost_nano})
    rankings = [
        sorted(
            (row for row in rows if code in row[1].cost_nano),
            key=lambda row, code=code: -row[1].cost_nano[code],
        )
        for code in currencies
    ]
    in_turn = chain.from_iterable(zip_longest(*rankings))
    found = {row[0]: row for row in chain(in_turn, rows) if row is not None}
    return list(found.values())


def _alphabetical(key: _Key) -> tuple[tuple[bool, str], ...]:
    return tuple((value is None, value or "") for value in key)
