"""Changes that meet: what one writer finishes while another erases or deletes it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ai_ledger.database import engine
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.sinks.scan import matches
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.writer import Writer
from ai_ledger.totals import group_records

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ALL = Query.build(scope=None)
ONE = Query.build(scope=None, where={"user_id": "u"})
BEGUN = CallRecord(
    id="019c0000-0000-7000-8000-000000000001",
    started_at=NOON,
    status="unfinished",
    user_id="u",
    request_content="secret",
    tags={"k": "v"},
)
ENDED = BEGUN.replace(status="success", input_tokens=7, usage_source="reported")


@pytest.fixture
def two(sql_url: str) -> Iterator[tuple[SQLSink, SQLSink]]:
    """Two sinks on one database, as two processes have them."""
    sinks = SQLSink(sql_url), SQLSink(sql_url)
    yield sinks
    for sink in sinks:
        sink.close()


@pytest.mark.parametrize("change", ["forget", "delete"])
def test_a_call_that_is_being_finished(
    two: tuple[SQLSink, SQLSink], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Forgetting and deleting wait for it and miss nothing of it.
    """
    writing, changing = two
    writing.write([BEGUN])
    assert changing.calls(ALL) == [BEGUN]
    reached, other_waits, pause = threading.Event(), threading.Event(), threading.Event()
    apply, locked = Writer._apply, Writer._locked
    writer = writing._opened()[2]

    def slow(self: Writer, *args: Any) -> None:
        if self is writer:
            reached.set()
            # SQLite's other writer waits before it even looks, so this may not come.
            other_waits.wait(0.5)
            pause.wait(0.3)  # until it stands at the lock that is held here
        apply(self, *args)

    def waiting(self: Writer, *args: Any) -> list[Any]:
        if self is not writer:
            other_waits.set()
        return locked(self, *args)

    monkeypatch.setattr(Writer, "_apply", slow)
    monkeypatch.setattr(Writer, "_locked", waiting)

    with ThreadPoolExecutor(1) as threads:
        finishing = threads.submit(writing.write, [ENDED])
        assert reached.wait(30)
        changed = changing.forget(ONE) if change == "forget" else changing.delete(ONE, at=NOON)
        finishing.result(30)

    assert changed == 1
    if change == "forget":
        left = ENDED.replace(user_id=None, request_content=None, tags={})
        assert changing.call(None, ENDED.id) == left
        assert changing.aggregate(ALL) == group_records([left], (), ())
    else:
        assert changing.call(None, ENDED.id) == ENDED.replace(deleted_at=NOON)
        assert changing.aggregate(ALL) == []


def test_a_row_that_went_away_under_the_lock(
    two: tuple[SQLSink, SQLSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the lock brings fewer rows than were found, those that still match are looked for again.
    """
    sink, _ = two
    sink.write([ENDED])
    locked, asked = Writer._locked, []

    def blind_at_first(self: Writer, *args: Any) -> list[Any]:
        asked.append(args)
        return locked(self, *args) if len(asked) > 1 else []

    monkeypatch.setattr(Writer, "_locked", blind_at_first)

    assert sink.forget(ONE) == 1
    assert len(asked) == 2
    assert sink.calls(ONE) == []


def test_a_file_that_cannot_be_compacted_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Who forgets is told how many were forgotten, and the log that traces are left.
    """
    path = tmp_path / "ledger.db"
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_S", 0.1)
    sink = SQLSink(f"sqlite:///{path}")
    sink.write([ENDED])
    other = sqlite3.connect(path, isolation_level=None)
    sweep = engine.Database.sweep

    def meanwhile(self: engine.Database) -> None:
        other.execute("BEGIN IMMEDIATE")
        sweep(self)

    monkeypatch.setattr(engine.Database, "sweep", meanwhile)
    try:
        assert sink.forget(ONE) == 1
    finally:
        other.close()
        sink.close()

    assert "traces stay in the file until VACUUM" in caplog.text


@pytest.mark.parametrize("change", ["delete", "restore", "forget"])
def test_memory_loses_no_update(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A call that is finished while a change looks for calls stays finished.
    """
    sink = MemorySink()
    begun = BEGUN.replace(deleted_at=NOON if change == "restore" else None)
    sink.write([begun])
    finishing: list[threading.Thread] = []

    def meanwhile(query: Query, record: CallRecord, **options: Any) -> bool:
        if not finishing:
            finishing.append(threading.Thread(target=sink.write, args=([ENDED],)))
            finishing[0].start()
            finishing[0].join(0.2)
        return matches(query, record, **options)

    monkeypatch.setattr("ai_ledger.sinks.memory.matches", meanwhile)
    if change == "delete":
        assert sink.delete(ALL, at=NOON) == 1
    elif change == "restore":
        assert sink.restore(Query.build(scope=None, deleted=True)) == 1
    else:
        assert sink.forget(ALL) == 1
    finishing[0].join(30)

    assert [(record.status, record.input_tokens) for record in sink.records] == [("success", 7)]
