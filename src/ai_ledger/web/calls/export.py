"""Calls as files, written while they are read, so that no number of them is too many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Final, Literal, TypeAlias

import msgspec
from starlette.responses import StreamingResponse

from ai_ledger.errors import AccessDenied
from ai_ledger.records import CallRecord
from ai_ledger.stats.export import Cell, to_csv
from ai_ledger.web.calls.filter import CallFilter
from ai_ledger.web.house import Desk
from ai_ledger.web.patience import patient
from ai_ledger.web.rendering import attachment
from ai_ledger.web.seats import aside

Format: TypeAlias = Literal["csv", "jsonl"]

BATCH: Final = 1_000
TOTAL: Final = "X-Total-Count"
"""How many calls there were when it began; for the bar of progress."""
_TYPES: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
}
_TEXTS: Final = ("request_content", "response_content")
_FIELDS: Final = tuple(name for name in CallRecord.__struct_fields__ if name not in _TEXTS)


def exported(desk: Desk, asked: CallFilter, form: Format, *, content: bool) -> StreamingResponse:
    """
    A file of the calls that are asked for, newest first.

    Each batch is a question of its own: nothing is held open in the database, however
    slowly the reader takes it.

    Raises:
        AccessDenied: Prompts are asked for by somebody who may not see them.
        SinkUnavailable: The store is away.
    """
    if content and not desk.access.prompts:
        raise AccessDenied(f"prompts and answers are not shown to {desk.access.name}")
    stats = desk.stats
    with patient():
        where = asked.where(stats)
        since, until = asked.times(desk)
        total = stats.summary(since, until, where, deleted=asked.deleted).calls

    def batch(cursor: str | None) -> tuple[tuple[CallRecord, ...], str | None]:
        with patient():
            found = stats.browse(
                where,
                cursor,
                BATCH,
                since=since,
                until=until,
                # What is deleted meanwhile is left out, and nothing is told twice.
                strict=True,
                deleted=asked.deleted,
                content=content,
            )
        return tuple(map(desk.shown, found.calls)), found.next

    # The first is read before anything is sent: what fails then is still told as an error.
    first, following = batch(None)
    encode = _jsonl if form == "jsonl" else _csv(content=content)
    name = f"calls-{desk.house.clock().astimezone(desk.tz):%Y-%m-%d}.{form}"
    head = [] if form == "jsonl" else [to_csv(iter([_columns(content=content)]))]
    return StreamingResponse(
        _aside(chain(head, map(encode, chain([first], _rest(batch, following))))),
        media_type=_TYPES[form],
        headers={**attachment(name), TOTAL: str(total)},
    )


async def _aside(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """*pieces*, each made in a thread that no page waits for."""
    while (piece := await aside("export", partial(next, pieces, None))) is not None:
        yield piece


def _rest(
    batch: Callable[[str | None], tuple[tuple[CallRecord, ...], str | None]], cursor: str | None
) -> Iterator[tuple[CallRecord, ...]]:
    while cursor is not None:
        found, cursor = batch(cursor)
        yield found


def _jsonl(calls: Sequence[CallRecord]) -> bytes:
    return b"".join(call.to_json() + b"\n" for call in calls)


def _csv(*, content: bool) -> Callable[[Sequence[CallRecord]], bytes]:
    columns = _columns(content=content)
    return lambda calls: to_csv([_cell(getattr(call, name)) for name in columns] for call in calls)


def _columns(*, content: bool) -> list[str]:
    return [*_FIELDS, "total_tokens", *(_TEXTS if content else ())]


def _cell(value: Any) -> Cell:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return msgspec.json.encode(value, order="sorted").decode() if value else None
    return value
