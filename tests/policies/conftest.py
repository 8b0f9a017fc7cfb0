"""What tests of policies leave behind is none of the next one's."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_of_quotas_is_left() -> Iterator[None]:
    """Neither rows that are remembered, though the database is the same, nor calls in flight."""
    yield
    places = sys.modules.get("ai_ledger.policies.quotas.places")
    if places is not None:
        for each in list(places._living):
            if isinstance(each, places.SharedPlaces):
                each.leave(list(each._held))
                # Before the connections are closed that its thread may be using.
                each.close(timeout=30)
        sys.modules["ai_ledger.policies.quotas.known"].forget_rows()
    holds = sys.modules.get("ai_ledger.policies.budgets.holds")
    if holds is not None:
        for each in list(holds._living):
            each.closed()
            with each.slow:  # its thread is not asking the store
                each.slabs.clear()
                each.retired.clear()
                each.held.clear()
