"""The boundary around bookkeeping: what goes wrong there is told, and the call goes on."""

from __future__ import annotations

from typing import Final

from ai_ledger.incidents import Incidents
from ai_ledger.ledger import Ledger

# For what goes wrong before there is a ledger to count it.
_homeless: Final = Incidents()


def note(ledger: Ledger | None, reason: str, problem: BaseException) -> None:
    """Count *reason* in *ledger*, or log it where there is none. Never raises."""
    if ledger is None:
        _homeless.note(reason, problem)
    else:
        ledger.note(reason, problem)
