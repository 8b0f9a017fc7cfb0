"""Suggestions, found in the background: many calls are read for them."""

from __future__ import annotations

from typing import Final

from ai_ledger.stats import Suggestions
from ai_ledger.web.house import Desk
from ai_ledger.web.recent import Found, recent_of

KEPT_S: Final = 600.0
"""Suggestions look back on days, and are the same ten minutes later."""
READ_S: Final = 10.0
"""About how long calls are read for them; the API waits three times as long."""


def found_suggestions(desk: Desk, days: int) -> Found:
    """
    The suggestions for the last *days* days, being found; the value is a `Suggestions`.

    They tell counts, sums and ids, and no prompt, so that everybody may see them
    whose organisation the calls are of.

    Raises:
        SinkUnavailable: Too many long questions are being answered.
    """
    stats = desk.stats.in_zone(desk.tz)

    def find() -> Suggestions:
        return stats.suggestions(days, prices=desk.house.ledger.prices, within_s=READ_S)

    return recent_of(desk.house).ask(
        ("suggestions", desk.scope, str(desk.tz), days),
        desk.house.clock(),
        find,
        kept_s=KEPT_S,
        whose=(desk.scope,),
    )
