"""What all pages of costs need: those of reports stand among them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from ai_ledger.web.costs.question import DIMENSIONS, Question
from ai_ledger.web.language.labels import Labels
from ai_ledger.web.periods import RANGES
from ai_ledger.web.visit import visit_of


def common(request: Request, question: Question, tab: str) -> dict[str, Any]:
    """The values of a page of costs, whichever *tab* it is."""
    visit = visit_of(request)
    scoped = visit.desk.scope is not None
    return {
        "question": question,
        "tab": tab,
        "ranges": RANGES,
        "dimensions": [field for field in DIMENSIONS if field != "org_id" or not scoped],
        "label": Labels(visit.language).field,
        "scoped": scoped,
        # What stands in the address of another tab: the days, and which calls.
        "kept": {**question.period.query, **question.conditions},
    }
