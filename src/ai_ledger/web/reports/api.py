"""The API of reports."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from ai_ledger.stats.export import Report
from ai_ledger.stats.results import Result
from ai_ledger.web.periods import MAX_DAYS, Period, checked_day, checked_moment
from ai_ledger.web.reports.files import Format, as_html, download
from ai_ledger.web.reports.reports import MAX_LISTED, ReportEntry, Reports
from ai_ledger.web.visit import DeskOf

router = APIRouter(tags=["reports"])


class NewReport(BaseModel):
    """Of which days: the last so many, or from the first to the last."""

    model_config = ConfigDict(extra="forbid")

    days: int | None = Field(
        None, ge=1, le=MAX_DAYS, description="The last so many; 30 if left out."
    )
    first: date | None = Field(None, description="The first day, in place of days.")
    last: date | None = Field(None, description="The last day; today if left out.")


class ReportPage(Result):
    """Some reports, newest first."""

    reports: tuple[ReportEntry, ...]
    next_made_at: datetime | None
    """Ask with this and ``next_id`` for the following ones; ``None`` when these are the last."""
    next_id: str | None


@router.post(
    "/reports", operation_id="make_report", summary="Make and keep a report.", status_code=201
)
def make_report(desk: DeskOf, asked: NewReport) -> ReportEntry:
    """
    Sum up some days: the total, each day, and the groups of eight fields.

    Of each field 500 groups are listed. At most 50 reports are kept of each who makes them,
    their oldest go then; and at most 200 of each organisation, and as many over all
    organisations: 409 for whoever has none among them.
    """
    for name, day in (("first", asked.first), ("last", asked.last)):
        checked_day(name, day)
    period = Period.of(
        days=asked.days,
        first=asked.first,
        last=asked.last,
        now=desk.house.clock(),
        tz=desk.tz,
        default=30,
    )
    return Reports(desk).make(period)


@router.get("/reports", operation_id="list_reports", summary="The reports that are kept.")
def list_reports(
    desk: DeskOf,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
    before_made_at: Annotated[AwareDatetime | None, Query(description="next_made_at.")] = None,
    before_id: Annotated[str, Query(max_length=36, description="next_id.")] = "",
) -> ReportPage:
    """Newest first; the next page begins behind the last report of this one."""
    before = None
    if before_made_at is not None:
        checked_moment("before_made_at", before_made_at)
        before = (before_made_at, before_id)
    found = Reports(desk).list(limit=limit, before=before)
    last = found[-1] if len(found) == limit else None
    return ReportPage(
        reports=tuple(found),
        next_made_at=last.made_at if last else None,
        next_id=last.id if last else None,
    )


_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report as a file.",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Report"}},
            "text/csv": {"schema": {"type": "string"}},
            "text/html": {"schema": {"type": "string"}},
        },
    }
}

ReportId = Annotated[str, Path(max_length=100, description="As the list of reports tells it.")]


@router.get(
    "/reports/{report_id}",
    operation_id="get_report",
    summary="One report as a file.",
    response_model=Report,
    responses=_FILE,
)
def get_report(
    request: Request,
    desk: DeskOf,
    report_id: ReportId,
    format: Annotated[Format, Query(description="html is a page that can be printed.")] = "json",
) -> Response:
    """JSON is the faithful one; in CSV, cells that a spreadsheet would run get a leading '."""
    stored = Reports(desk).get(report_id)
    return as_html(request, stored) if format == "html" else download(stored, format)


@router.delete("/reports/{report_id}", operation_id="delete_report", summary="Delete a report.")
def delete_report(desk: DeskOf, report_id: ReportId) -> ReportEntry:
    """The last 20 deleted ones can be restored."""
    return Reports(desk).delete(report_id)


@router.post(
    "/reports/{report_id}/restore", operation_id="restore_report", summary="Restore a report."
)
def restore_report(desk: DeskOf, report_id: ReportId) -> ReportEntry:
    """Bring a deleted report back, if it is among the last 20."""
    return Reports(desk).restore(report_id)
