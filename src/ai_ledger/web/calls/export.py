"""Calls as files, written while they are read, so that no number of them is too many."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Final, Literal, TypeAlias

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ai_ledger.errors import AccessDenied
from ai_ledger.records import CallRecord
from ai_ledger.stats import CallSlice
from ai_ledger.stats.export import Cell, to_csv
from ai_ledger.web.calls.filter import CallFilter
from ai_ledger.web.house import Desk, House
from ai_ledger.web.patience import patient
from ai_ledger.web.rendering import attachment
from ai_ledger.web.seats import Seats, aside, who_is

Format: TypeAlias = Literal["csv", "jsonl"]

BATCH: Final = 1_000
"""So many calls are read at a time."""
BATCH_WITH_TEXTS: Final = (10, 50)
"""The same with prompts and answers, at least and at most: all of them are held in memory."""
BATCH_CHARS: Final = 8 * 1024 * 1024
"""Of prompts and answers, that a batch may have if its calls are as long as those before."""
MAX_EXPORTS: Final = 8
MAX_EXPORTS_EACH: Final = 2
"""Of one reader, until all of a file was sent."""
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
        HTTPException: 503, when `MAX_EXPORTS` are being sent already, or
            `MAX_EXPORTS_EACH` to this reader.
        SinkUnavailable: The store is away.
    """
    if content and not desk.access.prompts:
        raise AccessDenied(f"prompts and answers are not shown to {desk.access.name}")
    seats, who = seats_of(desk.house), who_is(desk.access)
    if not seats.take(who):
        raise HTTPException(
            503,
            f"{MAX_EXPORTS_EACH} files of yours, or {MAX_EXPORTS} of all, are being sent "
            "already: try again when one is there",
        )
    try:
        return _file(desk, asked, form, content, partial(seats.leave, who))
    except BaseException:
        seats.leave(who)
        raise


def seats_of(house: House) -> Seats:
    """Those of one console."""
    return house.kept("seats of exports", lambda: Seats(MAX_EXPORTS, MAX_EXPORTS_EACH))


def _file(
    desk: Desk, asked: CallFilter, form: Format, content: bool, leave: Callable[[], None]
) -> StreamingResponse:
    stats = desk.stats
    with patient():
        where = asked.where(stats)
        since, until = asked.times(desk)
        total = stats.summary(since, until, where, deleted=asked.deleted).calls

    def batch(cursor: str | None, limit: int) -> CallSlice:
        with patient():
            found = stats.browse(
                where,
                cursor,
                limit,
                since=since,
                until=until,
                # What is deleted meanwhile is left out, and nothing is told twice.
                strict=True,
                deleted=asked.deleted,
                content=content,
            )
        return found.model_copy(update={"calls": tuple(map(desk.shown, found.calls))})

    # The first is read before anything is sent: what fails then is still told as an error.
    first = batch(None, BATCH_WITH_TEXTS[0] if content else BATCH)
    encode = _jsonl if form == "jsonl" else _csv(content=content)
    name = f"calls-{desk.house.clock().astimezone(desk.tz):%Y-%m-%d}.{form}"
    # With a byte order mark, without which spreadsheets take Chinese for something else.
    head = [] if form == "jsonl" else [BOM_UTF8 + to_csv(iter([_columns(content=content)]))]
    return _Sent(
        _aside(chain(head, map(encode, _batches(first, batch, content=content)))),
        media_type=_TYPES[form],
        headers={**attachment(name), TOTAL: str(total)},
        leave=leave,
    )


class _Sent(StreamingResponse):
    """A file that has a seat until all of it was sent, or its reader went."""

    def __init__(
        self, pieces: AsyncIterator[bytes], leave: Callable[[], None], **head: Any
    ) -> None:
        super().__init__(pieces, **head)
        self._leave: Final = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


async def _aside(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """*pieces*, each made in a thread that no page waits for."""
    while (piece := await aside("export", partial(next, pieces, None))) is not None:
        yield piece


def _batches(
    found: CallSlice, batch: Callable[[str | None, int], CallSlice], *, content: bool
) -> Iterator[Sequence[CallRecord]]:
    limit = BATCH
    while True:
        if content:
            longest = max(map(_chars, found.calls), default=0)
            least, most = BATCH_WITH_TEXTS
            limit = max(least, min(most, BATCH_CHARS // max(1, longest)))
        following = found.next
        yield found.calls
        if following is None:
            return
        found = batch(following, limit)


def _chars(call: CallRecord) -> int:
    return sum(len(getattr(call, name) or "") for name in _TEXTS)


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
