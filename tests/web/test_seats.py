"""Nobody starves anybody: long questions, files and live tails have bounds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
from tests.web import sample
from tests.web.conftest import Visitor
from tests.web.test_calls_live import LIVE, Follower, begun

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.errors import SinkUnavailable
from ai_ledger.query import Query
from ai_ledger.records import utc_now
from ai_ledger.stats import Stats
from ai_ledger.web import create_app
from ai_ledger.web.calls import export, tail
from ai_ledger.web.guard import answer
from ai_ledger.web.seats import QUESTIONS, QUESTIONS_EACH, Seats

PATIENCE_S = 60


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """Sums are not told before the end; released once for each that has begun."""
    begun, end = threading.Semaphore(0), threading.Event()
    summary = Stats.summary

    def blocked(self: Stats, *args: Any, **options: Any) -> Any:
        begun.release()
        end.wait(PATIENCE_S)
        return summary(self, *args, **options)

    monkeypatch.setattr(Stats, "summary", blocked)
    monkeypatch.setattr(Stats, "_end", end, raising=False)
    yield begun
    end.set()


@pytest.mark.parametrize(
    ("readers", "begin"),
    [pytest.param(1, QUESTIONS_EACH, id="of one"), pytest.param(10, QUESTIONS, id="of many")],
)
def test_long_questions_starve_nobody(
    filled: Ledger, stuck: threading.Semaphore, readers: int, begin: int
) -> None:
    """
    Of 40 questions that take for ever few are worked on; the others are told to come
    again at once, and health, styles and quick pages answer.
    """

    async def ask() -> tuple[list[int], list[str]]:
        app = create_app(
            filled,
            auth=lambda request: Access(name=request.headers["x-name"], role="admin"),
            clock=lambda: sample.NOW,
        )
        refused: list[str] = []

        async def question(client: httpx.AsyncClient, number: int) -> None:
            found = await client.get(
                "/api/v1/calls/totals", headers={"X-Name": f"reader {number % readers}"}
            )
            if found.status_code == 503:
                refused.append(found.headers["Retry-After"])

        async with (
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1"
            ) as client,
            anyio.create_task_group() as group,
        ):
            with anyio.fail_after(PATIENCE_S):
                for number in range(40):
                    group.start_soon(question, client, number)
                for _ in range(begin):
                    await anyio.to_thread.run_sync(stuck.acquire, limiter=anyio.CapacityLimiter(1))
                while len(refused) < 40 - begin:
                    await anyio.lowlevel.checkpoint()
                quick = [
                    (await client.get(path, headers={"X-Name": "quick"})).status_code
                    for path in ("/healthz", "/static/css/console.css", "/settings")
                ]
            Stats._end.set()  # type: ignore[attr-defined]
        return quick, refused

    quick, refused = anyio.run(ask)

    assert quick == [200, 200, 200]
    assert refused == ["5"] * (40 - begin)


def test_seats() -> None:
    """
    A seat is free again when it was left; nobody has more than theirs.
    """
    seats = Seats(3, 2)

    assert [seats.take(who) for who in ("a", "a", "a", "b", "c")] == [
        True, True, False, True, False,
    ]  # fmt: skip
    seats.leave("a")
    assert [seats.take("c"), seats.take("a")] == [True, False]


def test_a_file_ends_with_the_token(filled: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is sent in pieces stops when the token is revoked, and does not look complete.
    """
    app = create_app(filled)
    tokens = app.state.house.tokens
    text, token = tokens.add("ada", by="ann", role="viewer")

    sent = _exported(app, monkeypatch, lambda: tokens.revoke(token.id, by="ann"), f"Bearer {text}")

    lines = b"".join(each.get("body", b"") for each in sent).splitlines()
    assert len(lines) == 20
    assert all(each.get("more_body") for each in sent[1:])


@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"org_id": "globex"}, id="of another organisation"),
        pytest.param({"prompts": False}, id="without prompts"),
        pytest.param({"role": "viewer"}, id="of another role"),
    ],
)
def test_a_file_ends_with_the_access_it_was_begun_with(
    filled: Ledger, monkeypatch: pytest.MonkeyPatch, later: dict[str, Any]
) -> None:
    """
    Whoever becomes somebody else meanwhile gets no more of what they were before.
    """
    who = {"name": "ada", "role": "admin", "org_id": "acme", "prompts": True}
    app = create_app(filled, auth=lambda request: Access(**who))

    sent = _exported(app, monkeypatch, lambda: who.update(later))

    assert len(b"".join(each.get("body", b"") for each in sent).splitlines()) == 20
    assert all(each.get("more_body") for each in sent[1:])


def test_a_file_goes_on_though_nobody_knows_the_token(
    filled: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While tokens cannot be read, what was begun is not broken off in the middle.
    """
    app = create_app(filled)
    tokens = app.state.house.tokens
    text, _ = tokens.add("ada", by="ann", role="viewer")

    def away(_: str) -> None:
        raise SinkUnavailable("the store is away")

    sent = _exported(
        app, monkeypatch, lambda: monkeypatch.setattr(tokens, "find", away), f"Bearer {text}"
    )

    told = b"".join(each.get("body", b"") for each in sent).splitlines()
    assert len(told) == len(filled.store.calls(Query.build(scope=None), limit=1_000)) > 20
    assert sent[-1]["more_body"] is False


def _exported(
    app: Any, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any], token: str = ""
) -> list[Any]:
    """What is sent of a file in pieces of ten calls, with *meanwhile* after the second piece."""
    monkeypatch.setattr(export, "BATCH", 10)
    monkeypatch.setattr(answer, "RECHECK_S", 0.0)
    headers = {"authorization": token} if token else {}
    scope = Follower(app, "/api/v1/calls/export", "format=jsonl", **headers)
    sent: list[Any] = []

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            meanwhile()

    async def run() -> None:
        with anyio.fail_after(PATIENCE_S):
            await app(dict(scope._scope), receive, send)

    anyio.run(run)
    return sent


def test_deleted_calls_make_no_copies(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A file whose oldest calls are deleted while it is made has no call twice.
    """
    stored = [call.id for call in filled.store.calls(Query.build(scope=None), limit=1_000)]
    monkeypatch.setattr(export, "BATCH", 20)
    browse = Stats.browse
    asked = 0

    def browsed(self: Stats, *args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            filled.store.delete(Query.build(scope=None, where={"id": stored[40:]}), at=utc_now())
        return browse(self, *args, **options)

    monkeypatch.setattr(Stats, "browse", browsed)
    found = visitor().get("/api/v1/calls/export", params={"format": "jsonl"})

    assert [json.loads(line)["id"] for line in found.content.splitlines()] == stored[:40]


def test_one_reader_does_not_take_all_tails(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever follows in too many pages is refused; somebody else is not.
    """
    monkeypatch.setattr(tail, "INTERVAL_S", 0.01)
    monkeypatch.setattr(tail, "MAX_TAILS_EACH", 1)
    app = create_app(
        filled,
        auth=lambda request: Access(name=request.headers["x-name"], role="viewer"),
        clock=lambda: sample.NOW + timedelta(minutes=1),
    )
    first, again, other = (Follower(app, LIVE, x_name=name) for name in ("ada", "ada", "bob"))

    async def work(follower: Follower) -> None:
        await follower.until(begun(follower))
        await again.run(lambda each: each.until(lambda: each.status != 0))
        await other.run(lambda each: each.until(begun(each)))

    anyio.run(first.run, work)

    assert [each.status for each in (first, again, other)] == [200, 503, 200]
