"""A stored report as something to download, or to print."""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import Any, Final, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from ai_ledger.stats.export import report_csv
from ai_ledger.web.language import Language
from ai_ledger.web.language.labels import Labels
from ai_ledger.web.rendering import attachment, render
from ai_ledger.web.reports.reports import StoredReport
from ai_ledger.web.visit import visit_of

Format: TypeAlias = Literal["json", "csv", "html"]

_TYPES: Final = {"json": "application/json", "csv": "text/csv; charset=utf-8"}


def download(stored: StoredReport, format: Literal["json", "csv"]) -> Response:
    """*stored* as a file of this format, under a name made of our own characters."""
    if format == "csv":
        # Without the mark some spreadsheets take it for another encoding.
        data = BOM_UTF8 + report_csv(stored.report)
    else:
        data = (stored.report.model_dump_json(indent=2) + "\n").encode()
    return Response(
        data,
        media_type=_TYPES[format],
        headers=attachment(f"{stored.file_stem}.{format}"),
    )


def as_html(request: Request, stored: StoredReport) -> Response:
    """*stored* as one file that needs no other, in the reader's language."""
    page = render(request, "reports/file.html", **printable(request, stored))
    page.headers.update(attachment(f"{stored.file_stem}.html"))
    return page


def printable(request: Request, stored: StoredReport) -> dict[str, Any]:
    """What the page of a report needs; its times are told in the zone of the report."""
    language = visit_of(request).language
    return {
        "stored": stored,
        "report": stored.report,
        "told": Language(language.code, stored.since.tzinfo or language.tz),
        "label": Labels(language).field,
    }
