"""Which budgets a call may count for, found without trying each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import product
from typing import Final, NamedTuple

from ai_ledger.bounds import label
from ai_ledger.records import CallRecord
from ai_ledger.terms import Terms

# What quotas are about; there may be thousands of those.
_INDEXED: Final = ("org_id", "request_model")
_MOST_KEYS: Final = 1_000


class InForce(NamedTuple):
    """A budget that calls are charged to."""

    id: int
    terms: Terms
    counts_from: datetime | None


class AllInForce:
    """
    The budgets in force, by the organisation and the model that they are about.

    Args:
        budgets: All of them.
    """

    def __init__(self, budgets: Sequence[InForce] = ()) -> None:
        self._number: Final = len(budgets)
        self._found: dict[tuple[str, ...], dict[tuple[str | None, ...], list[InForce]]] = {}
        for budget in budgets:
            where = budget.terms.where
            fields: tuple[str, ...] = ()
            keys = 1
            for field in _INDEXED:
                if field in where and keys * len(where[field]) <= _MOST_KEYS:
                    fields, keys = (*fields, field), keys * len(where[field])
            by_values = self._found.setdefault(fields, {})
            for values in product(*(where[field] for field in fields)):
                by_values.setdefault(values, []).append(budget)

    def __len__(self) -> int:
        return self._number

    def about(self, record: CallRecord) -> Iterator[InForce]:
        """Those that *record* may count for: all that it does, and some that it does not."""
        for fields, by_values in self._found.items():
            yield from by_values.get(tuple(_value(record, field) for field in fields), ())


def _value(record: CallRecord, field: str) -> str | None:
    value: str | None = getattr(record, field)
    return None if value is None else label(value)
