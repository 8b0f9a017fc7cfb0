"""Errors as problem details: RFC 9457, https://www.rfc-editor.org/rfc/rfc9457."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ai_ledger.errors import (
    AccessDenied,
    AILedgerError,
    AlreadyThere,
    ConfigurationError,
    EditConflict,
    EditError,
    InvalidValue,
    MissingExtra,
    NotFound,
    SchemaError,
    SinkError,
)
from ai_ledger.secrets import scrub

MEDIA_TYPE: Final = "application/problem+json"

# The first that fits counts.
_STATUS: Final[tuple[tuple[type[AILedgerError], HTTPStatus], ...]] = (
    (AccessDenied, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (AlreadyThere, HTTPStatus.CONFLICT),
    (EditConflict, HTTPStatus.CONFLICT),
    (EditError, HTTPStatus.CONFLICT),
    (InvalidValue, HTTPStatus.UNPROCESSABLE_ENTITY),
    (MissingExtra, HTTPStatus.NOT_IMPLEMENTED),
    (ConfigurationError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (SinkError, HTTPStatus.SERVICE_UNAVAILABLE),
    (SchemaError, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field("about:blank", description="Always about:blank: the status says it.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What was wrong, what was expected, what to do.")
    errors: list[dict[str, Any]] | None = Field(
        None, description="Of some with 422: each value that cannot be so, by `place` and `reason`."
    )


def problem(
    status: int,
    detail: str,
    *,
    title: str | None = None,
    errors: list[dict[str, Any]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A response that says what went wrong; without secrets."""
    body = Problem(
        type="about:blank",
        title=title or HTTPStatus(status).phrase,
        status=status,
        detail=scrub(detail),
        errors=errors,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE
    )


def status_of(error: Exception) -> HTTPStatus:
    """The status that tells of *error*."""
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code)
    if isinstance(error, RequestValidationError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def detail_of(error: Exception) -> str:
    """What people are told of *error*; of one that nobody foresaw, nothing."""
    if isinstance(error, HTTPException):
        return str(error.detail)
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{each['place']}: {each['reason']}" for each in _errors(error))
    if isinstance(error, AILedgerError):
        return str(error)
    return "something broke; the log of the console says what"


def problem_of(
    error: Exception, *, title: str | None = None, detail: str | None = None
) -> Response:
    """
    The answer to all errors of the API.

    Args:
        error: What went wrong.
        title: What went wrong in the words of who reads it; the status in words if left out.
        detail: The same of the details; what the error says itself if left out.
    """
    headers = dict(getattr(error, "headers", None) or {})
    status = status_of(error)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    errors = _errors(error) if isinstance(error, RequestValidationError) else None
    said = detail_of(error) if detail is None else detail
    return problem(status, said, title=title, errors=errors, headers=headers or None)


def _errors(error: RequestValidationError) -> list[dict[str, Any]]:
    return [
        {
            "place": ".".join(str(part) for part in cast("tuple[Any, ...]", each["loc"])),
            "reason": str(each["msg"]),
        }
        for each in error.errors()
    ]


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "model": Problem,
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 401, 403, 404, 409, 413, 414, 415, 421, 422, 501, 503)
}
"""What any route may answer instead, for the OpenAPI document."""
