"""The accounts of budgets in the database: exact however many processes use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from ai_ledger.database.engine import Database
from ai_ledger.policies.budgets.account import (
    Account,
    Claim,
    Difference,
    Granted,
    StoredBudget,
)
from ai_ledger.terms import Terms


class Accounts:
    """
    Budgets, what is used of them and what is set aside.

    Threads may share one instance. Everything that changes more than one row is one
    transaction, which locks accounts in the order of their keys, and leases after them.

    Args:
        database: Whose tables are known to be there.
        clock: Stands in for the database's clock, in tests.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] | None = None) -> None:
        self._database = database
        self._clock = clock

    def register(self, terms: Terms, *, by: str | None = None) -> int:
        """
        Put a budget into force; what has its name and other terms is replaced.

        Returns:
            Its id: the same as long as ``where``, ``each``, ``per``, ``since``,
            ``until``, ``tz`` and ``unit`` are. Other ones start its accounts anew.
        """
        raise NotImplementedError

    def reserve(self, claims: Sequence[Claim], *, holder: str, ttl_s: float) -> Granted:
        """
        Set all *claims* aside, or none.

        Raises:
            Exhausted: A hard budget has not enough; what was returned came back.
            NotInForce: One of the budgets is not, or not now.
        """
        raise NotImplementedError

    def give_back(self, amounts: Sequence[tuple[int, int]]) -> None:
        """Take amounts off leases: (lease id, amount). What is not there any more is nothing."""
        raise NotImplementedError

    def renew(self, holder: str, *, ttl_s: float) -> frozenset[int]:
        """Give the leases of *holder* another *ttl_s* seconds; the ids of those still there."""
        raise NotImplementedError

    def state(self, budget_id: int, scope: str, period: str) -> Account:
        """One account; zeros if nothing has happened on it."""
        raise NotImplementedError

    def history(
        self, budget_id: int, scope: str | None = None, *, limit: int = 100
    ) -> list[Account]:
        """The accounts of a budget, newest period first; of one scope, or of all."""
        raise NotImplementedError

    def budget(self, name: str) -> StoredBudget | None:
        """The budget of this name, active or not."""
        raise NotImplementedError

    def budgets(self) -> list[StoredBudget]:
        """All budgets, by name, active or not."""
        raise NotImplementedError

    def deactivate(self, name: str, *, by: str | None = None) -> None:
        """
        Stop counting and refusing. Its accounts stay as history.

        Raises:
            NotFound: There is no budget of that name.
        """
        raise NotImplementedError

    def check(self) -> list[Difference]:
        """Accounts that do not say what the ledger's rows and the leases add up to."""
        raise NotImplementedError
