"""Reports: what a store's calls add up to, as typed results."""

from __future__ import annotations

from ai_ledger.errors import MissingExtra

try:
    import pydantic as _  # noqa: F401
except ImportError as error:
    raise MissingExtra("stats", "standard") from error

from ai_ledger.stats.advice import Basis, CheaperModel, LowCaching, RepeatedCalls, Suggestions
from ai_ledger.stats.forecast import Forecast, ForecastGroup, Outlook, RunsOut, runs_out
from ai_ledger.stats.results import (
    CallDetail,
    CallPage,
    CallSlice,
    Converted,
    Current,
    Figures,
    Group,
    Point,
    Profile,
    Result,
    Summary,
    Tokens,
    Top,
    Trend,
)
from ai_ledger.stats.stats import Stats

__all__ = [
    "Basis",
    "CallDetail",
    "CallPage",
    "CallSlice",
    "CheaperModel",
    "Converted",
    "Current",
    "Figures",
    "Forecast",
    "ForecastGroup",
    "Group",
    "LowCaching",
    "Outlook",
    "Point",
    "Profile",
    "RepeatedCalls",
    "Result",
    "RunsOut",
    "Stats",
    "Suggestions",
    "Summary",
    "Tokens",
    "Top",
    "Trend",
    "runs_out",
]
