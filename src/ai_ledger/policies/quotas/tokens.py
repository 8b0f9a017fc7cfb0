"""Token limits of quotas, kept by budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database
    from ai_ledger.ledger import Ledger
    from ai_ledger.policies.quotas.quota import Quota
    from ai_ledger.records import CallRecord


class TokenLimits:
    """The budgets of the rows that have a token limit."""

    def __init__(
        self, opened: Callable[[], Database], on_unavailable: Literal["allow", "refuse"]
    ) -> None:
        self._opened = opened
        self._on_unavailable = on_unavailable

    def bind(self, ledger: Ledger) -> None:
        """Note a ledger that calls come from."""

    def check(
        self, quota: Quota | None, call: CallRecord, request: Mapping[str, Any] | None
    ) -> None:
        """Set the worst case of *call* aside."""

    async def acheck(
        self, quota: Quota | None, call: CallRecord, request: Mapping[str, Any] | None
    ) -> None:
        """As `check`."""

    def undo(self, quota: Quota | None, call: CallRecord) -> None:
        """Give back what `check` has set aside: the call is not made."""

    def settle(self, record: CallRecord) -> None:
        """Give back what was not needed."""
