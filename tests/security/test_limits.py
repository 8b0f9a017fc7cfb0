"""Limits: a question that asks for too much costs neither memory nor the writers' time."""

from __future__ import annotations

import sqlite3
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ai_ledger.errors import InvalidValue
from ai_ledger.query import NUMBER_FIELDS, AnyOf, Contains, Query
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks import Store, open_sink
from ai_ledger.stats import Stats

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
ALL = Query.build(scope=None)
TEXT = "x" * (1024 * 1024)
CALLS = 30


def call(number: int, **fields: object) -> CallRecord:
    return CallRecord(
        id=f"019cf{number:03d}-0000-7000-8000-000000000000",
        started_at=NOW - timedelta(hours=5 * number),
        **fields,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def filled(store: Store) -> Store:
    """A store whose calls have two megabytes of text each."""
    for number in range(CALLS):
        store.write([call(number, request_content=TEXT, response_content=TEXT)])
    return store


def peak(ask: object) -> tuple[float, float, object]:
    """Mebibytes at the most, seconds, and the answer."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        answer = ask()  # type: ignore[operator]
        seconds = time.perf_counter() - began
        return tracemalloc.get_traced_memory()[1] / 2**20, seconds, answer
    finally:
        tracemalloc.stop()


def test_a_page_of_long_prompts_is_small(filled: Store) -> None:
    """
    A list of calls leaves 60 MB of prompts where they are, whatever page and order.
    """
    stats = Stats(filled, clock=lambda: NOW)
    for options in ({}, {"page": 3, "page_size": 10}, {"order": "cost"}, {"page": 10**9}):
        mebibytes, seconds, page = peak(lambda: stats.calls(**options))  # noqa: B023
        assert mebibytes < 20, options
        assert seconds < 5, options
        assert all(each.request_content is None for each in page.calls)  # type: ignore[attr-defined]

    assert stats.calls(page_size=1, content=True).calls[0].request_content == TEXT


@pytest.mark.parametrize(
    "page",
    [
        {"limit": 10_001},
        {"limit": 10**9},
        {"limit": -1},
        {"offset": -1},
        {"offset": 10**30},
        {"order": "request_content"},
    ],
    ids=str,
)
def test_a_page_that_cannot_be_is_refused(filled: Store, page: dict[str, object]) -> None:
    """
    No store hands out more than ten thousand calls at once, or knows negative places.
    """
    with pytest.raises(InvalidValue):
        filled.calls(ALL, **page)  # type: ignore[arg-type]


def test_a_page_far_behind_the_end_is_empty_and_small(filled: Store) -> None:
    """
    An offset of a thousand million costs no memory.
    """
    for order in ("started_at", "cost"):
        mebibytes, seconds, found = peak(
            lambda: filled.calls(ALL, offset=10**9, order=order, content=False)  # noqa: B023
        )
        assert (found, seconds < 5) == ([], True)
        assert mebibytes < 20


def test_reports_refuse_what_has_no_end(filled: Store) -> None:
    """
    Pages, days and hours have limits that a number from outside cannot pass.
    """
    stats = Stats(filled, clock=lambda: NOW)
    for ask in (
        lambda: stats.calls(page_size=1001),
        lambda: stats.calls(page_size=0),
        lambda: stats.calls(page=10**30),
        lambda: stats.top("model", limit=0),
        lambda: stats.hourly(10**9),
        lambda: stats.daily(10**9),
        lambda: stats.trend(10**9),
        lambda: stats.trend(10**5, "hour"),
    ):
        with pytest.raises(InvalidValue):
            ask()


def test_a_filter_of_a_megabyte(filled: Store) -> None:
    """
    A very long text, or list of texts, to look for is answered or refused, and soon.
    """
    for condition in (TEXT, Contains(TEXT), AnyOf(tuple(map(str, range(10_000))))):
        query = Query.build(scope=TEXT, where={"user_id": condition, "tags.a": condition})
        mebibytes, seconds, found = peak(lambda: filled.calls(query))  # noqa: B023
        assert (found, seconds < 10, mebibytes < 50) == ([], True, True)


def test_every_number_can_be_ordered_by(filled: Store) -> None:
    """
    Each order of the list gives the whole page.
    """
    for order in NUMBER_FIELDS:
        assert len(filled.calls(ALL, order=order, content=False)) == CALLS


def test_a_long_reader_stops_no_writer(tmp_path: Path) -> None:
    """
    While a reader holds an old view of an SQLite ledger, and another one walks it, writing goes on.

    Afterwards the log beside the file is emptied again.
    """
    sink = open_sink(f"sqlite:///{tmp_path}/ledger.db")
    log = tmp_path / "ledger.db-wal"

    def write(batches: int) -> float:
        longest = 0.0
        for _ in range(batches):
            batch = [
                CallRecord(id=new_id(), started_at=utc_now(), request_content=TEXT[:10_000])
                for _ in range(100)
            ]
            began = time.perf_counter()
            sink.write(batch)
            longest = max(longest, time.perf_counter() - began)
        return longest

    write(12)
    walk = sink.scan(ALL, batch_size=100)
    next(walk)
    outside = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    outside.execute("BEGIN")
    before = outside.execute("SELECT count(*) FROM ai_call_records").fetchone()
    longest = write(20)

    assert longest < 2
    assert outside.execute("SELECT count(*) FROM ai_call_records").fetchone() == before == (1200,)
    outside.close()
    # Our own walk holds no view between two batches, so that it keeps no log from being emptied.
    write(60)
    assert log.stat().st_size < 48 * 2**20
    assert sum(map(len, walk)) == 9_100
    sink.write([CallRecord(id=new_id(), started_at=utc_now(), user_id="u")])
    assert sink.forget(Query.build(scope=None, where={"user_id": "u"})) == 1
    assert log.stat().st_size == 0
    sink.close()
