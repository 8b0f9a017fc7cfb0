"""The API of calls."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from ai_ledger.stats import CallDetail, CallSlice, Figures
from ai_ledger.stats.results import Result
from ai_ledger.web.calls import changes
from ai_ledger.web.calls.export import TOTAL, Format, exported
from ai_ledger.web.calls.filter import CallFilter, Order, SentFilter
from ai_ledger.web.calls.tail import Events, Tail, behind_of
from ai_ledger.web.parameters import Limit
from ai_ledger.web.patience import patient
from ai_ledger.web.visit import DeskOf

router = APIRouter(prefix="/calls", tags=["calls"])

Filter = Annotated[CallFilter, Query()]
CallId = Annotated[str, Path(min_length=1, max_length=1_000)]
AnyId = Annotated[str, Query(min_length=1, max_length=1_000, description="Whatever is in it.")]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class Ids(BaseModel):
    """Calls by their ids."""

    model_config = ConfigDict(extra="forbid")

    ids: list[_Id] = Field(min_length=1, max_length=changes.MAX_IDS)


class Filtered(BaseModel):
    """All calls that a filter means."""

    model_config = ConfigDict(extra="forbid")

    filter: SentFilter = Field(description="The same fields as those of `GET /calls`.")
    expected: int = Field(
        ge=1,
        le=changes.MAX_FILTERED,
        description="How many they are, as `GET /calls/totals` says: 409 when it is not so.",
    )


class Taken(BaseModel):
    """The calls that one deletion took."""

    model_config = ConfigDict(extra="forbid")

    deleted_at: AwareDatetime = Field(description="As the answer to the deletion says it.")


class Changed(Result):
    """How many calls were changed."""

    changed: int = Field(description="Without those that were so already.")


class Deleted(Changed):
    """How many calls were deleted, and what brings them back."""

    deleted_at: datetime = Field(description="For `POST /calls/restore`, which takes it all back.")


@router.get("", operation_id="list_calls", summary="Calls, by filters, in an order.")
def list_calls(
    desk: DeskOf,
    asked: Filter,
    order: Order = "started_at",
    descending: bool = True,
    limit: Limit = 50,
    cursor: Annotated[
        str | None,
        Query(max_length=2_000, description="`next` or `previous` of an answer before."),
    ] = None,
    end: Annotated[bool, Query(description="The last calls, instead of a cursor.")] = False,
) -> CallSlice:
    """Without prompts and answers: `/calls/{call_id}` has them."""
    stats = desk.stats
    with patient():
        since, until = asked.times(desk)
        found = stats.browse(
            asked.where(stats),
            cursor,
            limit,
            since=since,
            until=until,
            order=order,
            descending=descending,
            last=end,
            deleted=asked.deleted,
        )
    return found.model_copy(update={"calls": tuple(map(desk.shown, found.calls))})


@router.get("/totals", operation_id="get_call_totals", summary="What the filtered calls add up to.")
def get_call_totals(desk: DeskOf, asked: Filter) -> Figures:
    """Costs by currency; they are never added to each other."""
    return totals_of(desk, asked)


def totals_of(desk: DeskOf, asked: CallFilter) -> Figures:
    """What the calls that are asked for add up to."""
    stats = desk.stats
    with patient():
        since, until = asked.times(desk)
        found = stats.summary(since, until, asked.where(stats), deleted=asked.deleted)
    return Figures.model_validate(found.model_dump(include=set(Figures.model_fields)))


_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
        "headers": {TOTAL: {"description": "Calls, when it began.", "schema": {"type": "integer"}}},
    }
}


@router.get(
    "/export",
    operation_id="export_calls",
    summary="The filtered calls as a file, newest first.",
    response_class=Response,
    responses=_FILES,
)
def export_calls(
    desk: DeskOf,
    asked: Filter,
    format: Annotated[  # as people know it
        Format, Query(description="csv is safe in spreadsheets; jsonl is the faithful one.")
    ] = "csv",
    content: Annotated[
        bool, Query(description="With prompts and answers, for who may see them.")
    ] = False,
) -> Response:
    """Read in batches while it is sent, whatever its length."""
    return exported(desk, asked, format, content=content)


@router.get(
    "/live",
    operation_id="follow_calls",
    summary="Calls as they reach the store: server-sent events.",
    response_class=Response,
    responses={
        200: {
            "description": "Events named call, with a call as JSON; away when the store is.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
def follow_calls(request: Request, desk: DeskOf, asked: Filter) -> Response:
    """Without prompts and answers. Goes on until the connection is closed."""
    with patient():
        tail = Tail(desk, asked, behind_of(request))
    return Events(request, desk, tail, lambda call: call.to_json().decode())


@router.post("/delete", operation_id="delete_calls", summary="Delete calls; they can be restored.")
def delete_calls(desk: DeskOf, chosen: Ids | Filtered) -> Deleted:
    """
    By ids: all of them or, when one is not there, none: 404. By filter: at most 100,000,
    and none when they are not as many as expected: 409.
    """
    if isinstance(chosen, Filtered):
        done = changes.delete_all(desk, chosen.filter, chosen.expected)
    else:
        done = changes.delete(desk, chosen.ids)
    return Deleted(changed=done.count, deleted_at=done.at)


@router.post("/restore", operation_id="restore_calls", summary="Bring deleted calls back.")
def restore_calls(desk: DeskOf, chosen: Ids | Taken) -> Changed:
    """All of the ids or, when one is not there, none: 404. Or all that one deletion took."""
    if isinstance(chosen, Taken):
        return Changed(changed=changes.restore_deletion(desk, chosen.deleted_at).count)
    return Changed(changed=changes.restore(desk, chosen.ids).count)


# An id may be anything, also "..", "totals" or what programs on the way make another of.
# Those are parameters; plain ones may be written as a path.


@router.get("/one", operation_id="get_call_by_id", summary="One call of any id, deleted or not.")
def get_call_by_id(desk: DeskOf, id: AnyId) -> CallDetail:
    """With its prompt and answer, where they were stored and may be seen, and corrections."""
    return get_call(desk, id)


@router.delete(
    "/one", operation_id="delete_call_by_id", summary="Delete a call of any id; it can be restored."
)
def delete_call_by_id(desk: DeskOf, id: AnyId) -> Changed:
    """0 changed when it was deleted already."""
    return delete_call(desk, id)


@router.post(
    "/one/restore",
    operation_id="restore_call_by_id",
    summary="Bring a deleted call of any id back.",
)
def restore_call_by_id(desk: DeskOf, id: AnyId) -> Changed:
    """0 changed when it was not deleted."""
    return restore_call(desk, id)


@router.post(
    "/{call_id:path}/restore", operation_id="restore_call", summary="Bring a deleted call back."
)
def restore_call(desk: DeskOf, call_id: CallId) -> Changed:
    """0 changed when it was not deleted."""
    return Changed(changed=changes.restore(desk, [call_id]).count)


@router.get("/{call_id:path}", operation_id="get_call", summary="One call, deleted or not.")
def get_call(desk: DeskOf, call_id: CallId) -> CallDetail:
    """With its prompt and answer, where they were stored and may be seen, and corrections."""
    return desk.call(call_id)


@router.delete(
    "/{call_id:path}", operation_id="delete_call", summary="Delete a call; it can be restored."
)
def delete_call(desk: DeskOf, call_id: CallId) -> Changed:
    """0 changed when it was deleted already."""
    return Changed(changed=changes.delete(desk, [call_id]).count)
