"""The live tail: calls as they come, to those who may see them, until they go."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.errors import SinkUnavailable
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql.reader import Reader
from ai_ledger.web.calls import tail
from ai_ledger.web.calls.tail import event, seats_of
from ai_ledger.web.house import House

LIVE = "/api/v1/calls/live"
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(tail, "INTERVAL_S", 0.01)


class Follower:
    """Somebody who follows, without a browser: reads events and then hangs up."""

    def __init__(self, app: Any, path: str, query: str = "", **headers: str) -> None:
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [
                (b"host", b"127.0.0.1"),
                *(
                    (name.replace("_", "-").encode(), text.encode())
                    for name, text in headers.items()
                ),
            ],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 80),
        }
        self.status = 0
        self.text = ""
        self.ended = False
        self._changed = anyio.Event()
        self._gone = anyio.Event()

    async def run(self, work: Callable[[Follower], Awaitable[None]]) -> None:
        """Follow while *work* goes on; then hang up, and wait until the console has noticed."""
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(self._serve)
                await work(self)
                self._gone.set()
        self.ended = True

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what was sent."""
        while not holds():
            self._changed = anyio.Event()
            await self._changed.wait()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls that were sent."""
        events = [each for each in self.text.split("\n\n") if each.startswith("event: call")]
        return [
            json.loads(line.removeprefix("data: "))
            for each in events
            for line in each.split("\n")
            if line.startswith("data: ")
        ]

    async def _serve(self) -> None:
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            else:
                self.text += message.get("body", b"").decode()
            self._changed.set()

        await self._app(dict(self._scope), receive, send)


def begun(follower: Follower) -> Callable[[], bool]:
    """The first look is over when the first sign of life is there."""
    return lambda: "event: alive" in follower.text


def app_of(visitor: Visitor, **access: Any) -> Starlette:
    return visitor(**access).app  # type: ignore[return-value]


def test_new_calls_arrive_once(filled: Ledger, visitor: Visitor) -> None:
    """
    What was there is not told; what comes is, once, also when it began before others did.
    """
    late = sample.call(901, started_at=sample.NOW - timedelta(minutes=5), duration_ms=290_000.0)
    new = sample.call(900, started_at=sample.NOW + timedelta(seconds=1))
    follower = Follower(app_of(visitor), LIVE)

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        filled.store.write([new])
        await follower.until(lambda: len(follower.calls) == 1)
        filled.store.write([new, late])
        await follower.until(lambda: len(follower.calls) == 2)

    anyio.run(follower.run, work)

    assert [call["id"] for call in follower.calls] == [new.id, late.id]
    assert (follower.status, follower.ended) == (200, True)
    assert "prompt" not in follower.text


def test_a_call_that_ends_is_told_again(filled: Ledger, visitor: Visitor) -> None:
    """
    Whoever saw a call under way also sees how it ended.
    """
    under_way = sample.call(900, started_at=sample.NOW, status="unfinished")
    follower = Follower(app_of(visitor), LIVE)

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        filled.store.write([under_way])
        await follower.until(lambda: len(follower.calls) == 1)
        filled.store.write([under_way.replace(status="failed")])
        await follower.until(lambda: len(follower.calls) == 2)

    anyio.run(follower.run, work)

    # What is as it mostly is stands in no line: the status of a call that succeeded.
    assert [call["status"] for call in follower.calls] == ["unfinished", "failed"]


def test_only_what_is_filtered_and_may_be_seen(filled: Ledger, visitor: Visitor) -> None:
    """
    A tail is confined by its filter, and by the reader's organisation.
    """
    follower = Follower(app_of(visitor, org_id="acme"), LIVE, "status=failed")
    at = sample.NOW

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        filled.store.write(
            [
                sample.call(900, started_at=at, status="failed", org_id="globex"),
                sample.call(901, started_at=at, status="success", org_id="acme"),
                sample.call(902, started_at=at, status="failed", org_id="acme"),
            ]
        )
        await follower.until(lambda: len(follower.calls) == 1)

    anyio.run(follower.run, work)

    assert [call["id"] for call in follower.calls] == ["call-00902"]
    assert "globex" not in follower.text


def test_who_comes_back_misses_nothing(filled: Ledger, visitor: Visitor) -> None:
    """
    A browser that was cut off says what it saw last, and gets what came since.
    """
    new = sample.call(900, started_at=sample.NOW - timedelta(seconds=5))
    filled.store.write([new])
    seen = (sample.NOW - timedelta(seconds=30)).isoformat()
    follower = Follower(app_of(visitor), LIVE, last_event_id=seen)

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))

    anyio.run(follower.run, work)

    assert "call-00900" in [call["id"] for call in follower.calls]


@pytest.mark.parametrize(
    ("seconds", "duration_ms", "told"),
    [
        pytest.param(-300, 290_000.0, True, id="began long before, ended meanwhile"),
        pytest.param(-300, 265_000.0, True, id="ended just before, and may have come later"),
        pytest.param(-300, 200_000.0, False, id="had ended and was seen"),
        pytest.param(-300, None, False, id="has not ended"),
    ],
)
def test_what_ended_meanwhile_is_told_to_who_comes_back(
    filled: Ledger, visitor: Visitor, seconds: int, duration_ms: float | None, told: bool
) -> None:
    """
    Where somebody was cut off is when they were told last, and not when the last call began.
    """
    status = "success" if duration_ms else "unfinished"
    started = sample.NOW + timedelta(seconds=seconds)
    filled.store.write(
        [sample.call(900, started_at=started, duration_ms=duration_ms, status=status)]
    )
    seen = (sample.NOW - timedelta(seconds=30)).isoformat()
    follower = Follower(app_of(visitor), LIVE, last_event_id=seen)

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))

    anyio.run(follower.run, work)

    assert ("call-00900" in [call["id"] for call in follower.calls]) == told


def test_events_say_when_was_looked(filled: Ledger, visitor: Visitor) -> None:
    """
    Calls and signs of life have the moment of the look as their number: a browser says it
    when it comes back, also after a time without calls. Any moment at all may come back.
    """
    follower = Follower(app_of(visitor), LIVE, last_event_id="0001-01-01T00:00:00+14:00")

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        filled.store.write([sample.call(900, started_at=sample.NOW - timedelta(seconds=90))])
        await follower.until(lambda: "call-00900" in follower.text)

    anyio.run(follower.run, work)

    numbers = set(re.findall(r"^id: (.*)$", follower.text, re.MULTILINE))
    assert numbers == {sample.NOW.isoformat()}
    assert f"event: alive\nid: {sample.NOW.isoformat()}\n" in follower.text


def test_today_is_another_day_after_midnight(filled: Ledger, visitor: Visitor) -> None:
    """
    Whoever follows the calls of today follows those of tomorrow when that has begun.
    """
    clock = [sample.NOW.replace(hour=23, minute=59)]
    app = visitor(clock=lambda: clock[0]).app
    follower = Follower(app, LIVE, "days=1")
    new = sample.call(900, started_at=clock[0] + timedelta(minutes=2))

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        clock[0] += timedelta(minutes=3)
        filled.store.write([new])
        await follower.until(lambda: len(follower.calls) == 1)

    anyio.run(follower.run, work)

    assert [call["id"] for call in follower.calls] == [new.id]


def test_rows_for_the_page(filled: Ledger, visitor: Visitor) -> None:
    """
    The page gets rows, in which every text is a text.
    """
    follower = Follower(app_of(visitor), "/calls/live")
    hostile = "<script>alert(1)</script>\r\ndata: x\u2028\n\nevent: call"

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        filled.store.write([sample.call(900, started_at=sample.NOW, user_id=hostile)])
        await follower.until(lambda: "event: call" in follower.text)

    anyio.run(follower.run, work)

    assert "<script" not in follower.text
    assert "&lt;script&gt;" in follower.text
    assert follower.text.count("\nevent: call\n") == 1
    assert 'data: <tr data-call="call-00900">' in follower.text


def test_a_store_that_is_away(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The tail says that the store is away, and goes on when it is back.
    """
    read, away = Reader.calls, []

    def calls(self: Reader, *args: Any, **options: Any) -> list[CallRecord]:
        if away:
            raise SinkUnavailable("away")
        return read(self, *args, **options)

    monkeypatch.setattr(Reader, "calls", calls)
    follower = Follower(app_of(visitor), LIVE)

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        away.append(1)
        await follower.until(lambda: "event: away" in follower.text)
        away.clear()
        # At once, and never while the store is away.
        await follower.until(lambda: "event: alive" in follower.text.rpartition("event: away")[2])
        between = follower.text.partition("event: away")[2].rpartition("event: away")[0]
        assert "event: alive" not in between
        filled.store.write([sample.call(900, started_at=sample.NOW)])
        await follower.until(lambda: len(follower.calls) == 1)

    anyio.run(follower.run, work)


def test_tails_are_bounded(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One too many is refused with 503; a place is free again as soon as somebody goes.
    """
    monkeypatch.setattr(tail, "MAX_TAILS", 1)
    app = app_of(visitor)
    answers: list[int] = []

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        second = Follower(app, LIVE)
        await second._serve()
        answers.append(second.status)

    anyio.run(Follower(app, LIVE).run, work)
    again = Follower(app, LIVE)

    async def look(follower: Follower) -> None:
        await follower.until(begun(follower))

    anyio.run(again.run, look)

    assert (answers, again.status) == ([503], 200)


def test_a_wrong_filter_is_refused(visitor: Visitor) -> None:
    """
    A tail of nonsense is an error and no tail, and takes no place.
    """
    client = visitor()

    assert client.get(f"{LIVE}?status=lost").status_code == 422
    assert client.get("/calls/live?tag=x").status_code == 422


def test_lines_of_an_event() -> None:
    """
    Whatever ends a line in an event stream ends none in a text.
    """
    assert event("call", "a\r\nb\rc\nd\u2028e", "7") == (
        "event: call\nid: 7\ndata: a\ndata: b\ndata: c\ndata: d\u2028e\n\n"
    )


def test_places_are_each_consoles_own(ledger: Ledger) -> None:
    """
    Two consoles in one program do not take each other's places.
    """
    one, two = House(ledger), House(ledger)

    assert seats_of(one) is seats_of(one)
    assert seats_of(one) is not seats_of(two)
    one.close()
    two.close()


def test_hostile_calls_are_texts_in_rows(filled: Ledger, visitor: Visitor) -> None:
    """
    The page's script puts rows in as they come, so the server has escaped whatever is in a call.
    """
    hostile = (
        "<img src=x onerror=alert(1)>\"'<script>alert(2)</script></td></tr>\n\ndata: x\r\nevent: y"
    )
    names = ("request_model", "provider", "function", "business_type", "user_id", "org_id")
    new = sample.call(
        900,
        id=hostile,
        started_at=sample.NOW,
        status="failed",
        currency="<b>",
        error_type=hostile,
        error_message=hostile,
        **dict.fromkeys(names, hostile),
    )
    follower = Follower(app_of(visitor), "/calls/live")

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        filled.store.write([new])
        await follower.until(lambda: "event: call" in follower.text)

    anyio.run(follower.run, work)

    (told,) = (each for each in follower.text.split("\n\n") if each.startswith("event: call"))
    row = "\n".join(
        line.removeprefix("data: ") for line in told.split("\n") if line.startswith("data: ")
    )
    tags = {tag.lower() for tag in re.findall(r"</?([a-zA-Z!][\w-]*)", row)}
    assert tags == {"tr", "td", "th", "a", "label", "input", "span", "br", "wbr"}
    assert row.count("<tr") == row.count("</tr>") == 1
    assert "onerror" in row
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', '""', row))
    assert "event: y" not in follower.text.split("\n")
