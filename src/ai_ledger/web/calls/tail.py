"""The live tail: calls as they reach the store, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any, Final

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ai_ledger.errors import SinkUnavailable
from ai_ledger.records import CallRecord
from ai_ledger.web.calls.filter import CallFilter
from ai_ledger.web.house import Desk, House
from ai_ledger.web.seats import Seats, aside, who_is

INTERVAL_S: Final = 1.0
"""From one look into the store to the next."""
HEARTBEAT_LOOKS: Final = 15
MAX_TAILS: Final = 20
MAX_TAILS_EACH: Final = 4
"""Of one reader, so that nobody keeps the others from following."""
NEWEST: Final = 300
"""Of calls, that each look goes through."""
# A call is in the store when it has ended and was delivered, so one that took long comes
# after others that began later. How far back to look for those:
LATE: Final = timedelta(minutes=15)
DELIVERED: Final = timedelta(seconds=10)
"""Calls reach the store so long after they ended, and clocks of machines differ."""


class Tail:
    """
    What is new since the last look, within a filter.

    Args:
        desk: Whose.
        asked: Which calls; deleted ones are none of them.
        behind: Begin with what has ended since this look, as somebody does who was cut
            off; what ended within `DELIVERED` before it is told once more. Left out,
            with what comes from now on.

    Raises:
        InvalidValue: The days end before they begin, or lie too far apart.
    """

    def __init__(self, desk: Desk, asked: CallFilter, behind: datetime | None = None) -> None:
        self._desk: Final = desk
        self._stats: Final = desk.stats
        self._where: Final = asked.where(self._stats)
        self._asked: Final = asked
        self._behind: Final = behind
        self.looked_at: datetime | None = None
        """When the last look began that the store has answered."""
        asked.times(desk)
        self._seen: dict[str, tuple[str, datetime]] | None = None

    def look(self) -> list[CallRecord]:
        """Calls that were not there before, or have ended since; oldest first."""
        now = self._desk.house.clock()
        late = now - LATE
        # Each time: "today" is another day after midnight.
        since, until = self._asked.times(self._desk)
        found = self._stats.browse(
            self._where,
            limit=NEWEST,
            since=max(late, since) if since else late,
            until=until,
        ).calls
        seen = self._seen
        if seen is None:
            seen = {
                call.id: (call.status, call.started_at)
                for call in found
                if self._behind is None or _ended(call, self._behind)
            }
        new = [call for call in found if seen.get(call.id, ("",))[0] != call.status]
        seen.update((call.id, (call.status, call.started_at)) for call in new)
        self._seen = {key: value for key, value in seen.items() if value[1] >= late}
        self.looked_at = now
        return [self._desk.shown(call) for call in reversed(new)]


def _ended(call: CallRecord, look: datetime) -> bool:
    """Whether *call* had ended long enough before a look to be in the store by then."""
    # Of two moments a difference can always be told, whatever somebody sends.
    known_ms = (look - call.started_at - DELIVERED) / timedelta(milliseconds=1)
    return known_ms >= (call.duration_ms or 0)


def seats_of(house: House) -> Seats:
    """Those of one console."""
    return house.kept("seats of tails", lambda: Seats(MAX_TAILS, MAX_TAILS_EACH))


class Events(StreamingResponse):
    """
    Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

    No thread is held between two looks.

    Raises:
        HTTPException: 503, when there are `MAX_TAILS` already, or `MAX_TAILS_EACH` of
            this reader.
    """

    def __init__(
        self, request: Request, desk: Desk, tail: Tail, encode: Callable[[CallRecord], str]
    ) -> None:
        seats = seats_of(desk.house)
        self._who: Final = who_is(desk.access)
        if not seats.take(self._who):
            raise HTTPException(
                503,
                f"{MAX_TAILS_EACH} pages of yours, or {MAX_TAILS} of all, follow the calls "
                "already: close one, or try later",
            )
        self._seats: Final = seats
        super().__init__(
            _events(request, tail, encode),
            media_type="text/event-stream",
            # Proxies such as nginx would keep events back.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them until the reader goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._seats.leave(self._who)


async def _events(
    request: Request, tail: Tail, encode: Callable[[CallRecord], str]
) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    looks = 0
    while not await request.is_disconnected():
        try:
            for call in await aside("tails", tail.look):
                yield event("call", encode(call), _number(tail))
        except SinkUnavailable:
            # It is asked again in a moment; the page keeps what it has.
            yield event("away", "")
            looks = 0
        else:
            if looks % HEARTBEAT_LOOKS == 0:
                # With a number, too: who is cut off after a quiet hour misses nothing either.
                yield event("alive", "", _number(tail))
            looks += 1
        await anyio.sleep(INTERVAL_S)


def _number(tail: Tail) -> str | None:
    return None if tail.looked_at is None else tail.looked_at.isoformat()


def event(name: str, data: str, number: str | None = None) -> str:
    """One event. Only CR and LF end a line in it; other separators are text."""
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    place = f"id: {number}\n" if number else ""
    return f"event: {name}\n{place}" + "".join(f"data: {line}\n" for line in lines) + "\n"


def behind_of(request: Request) -> datetime | None:
    """Where somebody was cut off, as browsers say when they come back; ``None`` if not."""
    said: Any = request.headers.get("last-event-id", "")
    try:
        moment = datetime.fromisoformat(said[:40])
    except ValueError:
        return None
    return moment if moment.tzinfo else None
