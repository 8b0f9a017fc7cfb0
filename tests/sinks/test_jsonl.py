"""JSON Lines: private files, torn lines, several writers, erasing that erases."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ai_ledger.errors import RecordRefused, SinkUnavailable
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id
from ai_ledger.sinks import CostChange, Store, open_sink
from ai_ledger.sinks.dayfiles import DayFiles
from ai_ledger.sinks.jsonl import JSONLSink

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYTHING = Query.build(scope=None)


def make(number: int = 0, **fields) -> CallRecord:
    at = fields.pop("started_at", NOON + timedelta(seconds=number))
    return CallRecord(id=f"call-{number}", started_at=at, **fields)


@pytest.fixture
def sink(tmp_path: Path) -> JSONLSink:
    return JSONLSink(tmp_path / "ledger")


def all_of(sink: JSONLSink, query: Query = EVERYTHING) -> list[CallRecord]:
    return [record for batch in sink.scan(query) for record in batch]


def names(sink: JSONLSink) -> list[str]:
    return sorted(path.name for path in sink.folder.iterdir() if path.name != ".lock")


def test_url(tmp_path):
    """
    A URL opens a folder as a store, and nothing is made before the first record.
    """
    folder = tmp_path / "ledger"
    sink = open_sink(f"jsonl:///{folder}")

    assert isinstance(sink, Store)
    assert (sink.folder, folder.exists()) == (folder, False)
    assert list(sink.scan(EVERYTHING)) == []


def test_one_file_a_day(sink):
    """
    A record is in the file of the UTC day of its start, whatever zone it was noted in.
    """
    late = datetime.fromisoformat("2026-03-02T01:30:00+05:30")
    sink.write([make(1), make(2, started_at=late), make(3, started_at=NOON + timedelta(days=1))])

    assert names(sink) == ["usage_2026-03-01.jsonl", "usage_2026-03-02.jsonl"]
    assert (sink.folder / "usage_2026-03-01.jsonl").read_bytes() == (
        b'{"id":"call-1","started_at":"2026-03-01T12:00:01Z"}\n'
        b'{"id":"call-2","started_at":"2026-03-02T01:30:00+05:30"}\n'
    )


def test_one_write_a_batch(sink, monkeypatch):
    """
    A batch of one day is one write, so that processes cannot mix their lines.
    """
    writes: list[int] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(1) or real(fd, data))

    sink.write([make(number) for number in range(50)])

    assert writes == [1]
    assert all_of(sink) == [make(number) for number in range(50)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads names from /proc")
def test_on_the_disk_when_write_returns(sink, monkeypatch):
    """
    The journal may let go of what `write` took: each file is synced, a new one with its folder.
    """
    synced: list[str] = []

    def note(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr("ai_ledger.sinks.dayfiles._sync", note)
    monkeypatch.setattr(os, "fsync", note)
    file = str(sink.folder / "usage_2026-03-01.jsonl")
    sink.write([make(1)])
    sink.write([make(2)])

    assert synced == [file, str(sink.folder), file]


def test_private_files(sink):
    """
    Whatever the umask, files are 0600 in a folder that is 0700.
    """
    before = os.umask(0)
    try:
        sink.write([make(1)])
        sink.delete(EVERYTHING, at=NOON)
        sink.forget(EVERYTHING)
    finally:
        os.umask(before)

    assert stat.S_IMODE(sink.folder.stat().st_mode) == 0o700
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in sink.folder.iterdir()} == {
        ".lock": "0o600",
        "changes_2026-03-01.jsonl": "0o600",
        "usage_2026-03-01.jsonl": "0o600",
    }


@pytest.mark.parametrize("planted", ["usage_2026-03-01.jsonl", ".lock"])
def test_planted_link(sink, tmp_path, planted):
    """
    A symbolic link in the place of a file is refused and its target stays as it was.
    """
    sink.folder.mkdir()
    target = tmp_path / "precious"
    target.write_text("mine")
    (sink.folder / planted).symlink_to(target)

    with pytest.raises(SinkUnavailable):
        sink.write([make(1)])
    assert target.read_text() == "mine"


def test_planted_pipe(sink):
    """
    A pipe in the place of a file is refused at once, for writing and for reading.
    """
    sink.folder.mkdir()
    os.mkfifo(sink.folder / "usage_2026-03-01.jsonl")

    with pytest.raises(SinkUnavailable, match="not a file of our own"):
        sink.write([make(1)])
    with pytest.raises(SinkUnavailable, match="not a file of our own"):
        all_of(sink)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("foreign", ["folder", "file"])
def test_somebody_elses(sink, foreign):
    """
    A folder or a file of another user is not written to.
    """
    sink.write([make(1)])
    os.chown(sink.folder / ("" if foreign == "folder" else "usage_2026-03-01.jsonl"), 4321, 4321)

    with pytest.raises(SinkUnavailable):
        sink.write([make(2)])


@pytest.mark.parametrize("cut", [1, 2, 20, 45])
def test_torn_last_line(sink, cut):
    """
    Half a line is skipped, and the next record is not glued to it.
    """
    sink.write([make(1), make(2)])
    path = sink.folder / "usage_2026-03-01.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    left = [make(1)] if cut > 1 else [make(1), make(2)]
    assert all_of(sink) == left

    sink.write([make(3)])
    assert all_of(sink) == [*left, make(3)]

    sink.write([make(2)])
    assert all_of(sink) == [make(1), make(2), make(3)]


def test_unreadable_lines_are_reported_once(sink, caplog):
    """
    Lines that no version of ours wrote are left out, counted and reported once a file.
    """
    sink.write([make(1)])
    with (sink.folder / "usage_2026-03-01.jsonl").open("ab") as file:
        file.write(b'\x00\xff\n[1]\n{"id":"x"}\n\n{"id":"y","started_at":"2026-03-01T00:00:00"}\n')

    with caplog.at_level(logging.WARNING):
        assert [all_of(sink), all_of(sink)] == [[make(1)], [make(1)]]
    assert [record.getMessage() for record in caplog.records] == [
        f"{sink.folder}/usage_2026-03-01.jsonl: 4 lines cannot be read and are left out"
    ]


def test_counts_once(sink):
    """
    Of lines with one id the first finished one counts.
    """
    begun = make(1, status="unfinished", user_id="u")
    ended = make(1, input_tokens=5, user_id="u")
    for record in (begun, ended, begun, make(1, input_tokens=99)):
        sink.write([record])

    assert all_of(sink) == [ended]
    assert sink.call(None, "call-1") == ended


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"input_tokens": -1}, id="negative"),
        pytest.param({"input_tokens": 2**70}, id="huge"),
        pytest.param({"user_id": "\ud800"}, id="lone surrogate"),
        pytest.param({"cost": Decimal("NaN"), "currency": "USD"}, id="NaN"),
        pytest.param({"cost": Decimal("1e30"), "currency": "USD"}, id="cost too large"),
        pytest.param({"user_id": object()}, id="not JSON"),
    ],
)
def test_refuses_what_could_not_be_read_back(sink, fields):
    """
    A record that would be lost on reading is refused by its id and nothing is written.
    """
    with pytest.raises(RecordRefused, match="call-2"):
        sink.write([make(1), make(2, **fields)])
    assert all_of(sink) == []


def test_unavailable(tmp_path):
    """
    When the disk refuses, the error names the file and keeps its cause.
    """
    (tmp_path / "file").write_text("")
    sink = JSONLSink(tmp_path / "file" / "ledger")

    with pytest.raises(SinkUnavailable, match="file/ledger: Not a directory") as caught:
        sink.write([make(1)])
    assert isinstance(caught.value.__cause__, OSError)


def test_short_write(sink, monkeypatch):
    """
    A disk that takes half a batch is reported, and sending it again makes it whole.
    """
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(SinkUnavailable, match="only a part"):
        sink.write([make(number) for number in range(9)])

    monkeypatch.setattr(os, "write", real)
    sink.write([make(number) for number in range(9)])
    assert all_of(sink) == [make(number) for number in range(9)]


def test_reads_only_the_days_asked_for(sink, monkeypatch):
    """
    A question about one day opens the files of that day alone.
    """
    sink.write([make(day, started_at=NOON + timedelta(days=day)) for day in range(5)])
    opened: list[str] = []
    real = DayFiles.reading
    monkeypatch.setattr(
        DayFiles,
        "reading",
        lambda self, kind, day: opened.append(f"{kind} {day}") or real(self, kind, day),
    )
    midnight = datetime(2026, 3, 3, tzinfo=UTC)
    day = Query.build(scope=None, since=midnight, until=midnight + timedelta(days=1))

    assert all_of(sink, day) == [make(2, started_at=NOON + timedelta(days=2))]
    assert opened == ["usage 2026-03-03", "changes 2026-03-03"]

    opened.clear()
    edges = (midnight, midnight + timedelta(hours=12), midnight + timedelta(days=1))
    assert [group.interval for group in sink.aggregate(EVERYTHING, (), edges)] == [1]
    assert opened == ["usage 2026-03-03", "changes 2026-03-03"]

    opened.clear()
    assert [record.id for record in sink.calls(EVERYTHING, limit=1)] == ["call-4"]
    assert opened == ["usage 2026-03-05", "changes 2026-03-05"]


def test_call_by_id_of_our_own(sink, monkeypatch):
    """
    An id of our own making says on which day to look.
    """
    own = CallRecord(id=new_id(), started_at=datetime.now(UTC))
    sink.write([own, *(make(day, started_at=NOON + timedelta(days=day)) for day in range(5))])
    opened: list[str] = []
    real = DayFiles.reading
    monkeypatch.setattr(
        DayFiles,
        "reading",
        lambda self, kind, day: opened.append(kind) or real(self, kind, day),
    )

    assert sink.call(None, own.id) == own
    assert opened == ["usage", "changes"]


@pytest.mark.parametrize("order", ["started_at", "input_tokens"])
@pytest.mark.parametrize("descending", [True, False])
def test_pages(sink, order, descending):
    """
    Pages over several days follow each other without a gap or a repetition.
    """
    records = [
        make(number, started_at=NOON + timedelta(hours=5 * number), input_tokens=number * 7 % 11)
        for number in range(20)
    ]
    sink.write(records)
    pages = [
        sink.calls(EVERYTHING, limit=3, offset=offset, order=order, descending=descending)
        for offset in range(0, 24, 3)
    ]

    assert [record for page in pages for record in page] == sorted(
        records, key=lambda record: (getattr(record, order), record.id), reverse=descending
    )


@pytest.mark.parametrize(("descending", "opened"), [(True, [2, 1]), (False, [2, 3])])
def test_last_page_is_quick(sink, monkeypatch, descending, opened):
    """
    Going on behind a call opens its day and those that follow, until the page is full.
    """
    records = [make(day, started_at=NOON + timedelta(days=day)) for day in range(6)]
    sink.write(records)
    days: list[int] = []
    real = DayFiles.reading

    def reading(self, kind, day):
        if kind == "usage":
            days.append((day - NOON.date()).days)
        return real(self, kind, day)

    monkeypatch.setattr(DayFiles, "reading", reading)
    after = (records[2].started_at, records[2].id)
    page = sink.calls(EVERYTHING, limit=1, after=after, descending=descending)

    assert page == [records[opened[1]]]
    assert days == opened


@pytest.mark.parametrize("descending", [True, False])
def test_pages_by_key(sink, descending):
    """
    Going on behind the last call of a page reaches every call once.
    """
    records = [make(n, started_at=NOON + timedelta(hours=9 * (n // 2))) for n in range(12)]
    sink.write(records)
    found: list[CallRecord] = []
    after = None
    while page := sink.calls(EVERYTHING, limit=5, after=after, descending=descending):
        found += page
        after = (page[-1].started_at, page[-1].id)

    assert found == sorted(records, key=lambda r: (r.started_at, r.id), reverse=descending)


def test_deleted_and_restored(sink):
    """
    Deleting and restoring add lines beside the records, which stay untouched.
    """
    sink.write([make(1, user_id="a"), make(2, user_id="b")])
    before = (sink.folder / "usage_2026-03-01.jsonl").read_bytes()
    of_a = {"user_id": "a"}

    assert sink.delete(Query.build(scope=None, where=of_a), at=NOON) == 1
    assert sink.delete(Query.build(scope=None, where=of_a), at=NOON) == 0
    assert all_of(sink) == [make(2, user_id="b")]
    assert sink.call(None, "call-1") == make(1, user_id="a", deleted_at=NOON)

    assert sink.restore(Query.build(scope=None, where=of_a, deleted=True)) == 1
    assert all_of(sink) == [make(1, user_id="a"), make(2, user_id="b")]
    assert (sink.folder / "usage_2026-03-01.jsonl").read_bytes() == before


def test_corrections(sink):
    """
    The last correction is the cost, all of them can be seen, and none counts twice.
    """
    sink.write([make(1), make(2)])
    first = CostChange(
        call_id="call-1",
        corrected_at=NOON,
        old_cost=None,
        old_currency=None,
        old_price_id=None,
        cost=Decimal("0.5"),
        currency="CNY",
        price_id="p1",
    )
    second = CostChange(
        call_id="call-1",
        corrected_at=NOON,
        old_cost=Decimal("0.50"),
        old_currency="CNY",
        old_price_id="p1",
        cost=Decimal("0.7"),
        currency="CNY",
        price_id="p2",
    )

    counts = [sink.correct_costs([first]), sink.correct_costs([first, second])]
    counts.append(sink.correct_costs([first, second]))

    assert counts == [1, 1, 0]
    assert sink.call(None, "call-1") == make(1, cost=Decimal("0.7"), currency="CNY", price_id="p2")
    assert sink.corrections(None, "call-1") == [first, second]
    assert sink.corrections("other", "call-1") == []
    assert sink.corrections(None, "call-2") == []


def test_forget_leaves_nothing_on_the_disk(sink):
    """
    What is forgotten is in no file: not in the begun line, a repeated line or half a line.
    """
    canary = "canary-9f1"
    person = {
        "user_id": canary,
        "session_id": canary,
        "tags": {"k": canary},
        "request_content": canary,
    }
    ended = make(1, input_tokens=5, cost=Decimal("0.1"), currency="USD", org_id="o", **person)
    neighbour = make(2, user_id="b", request_content="kept")
    sink.write([make(1, status="unfinished", org_id="o", **person), ended, neighbour, ended])
    sink.delete(Query.build(scope=None, where={"user_id": "b"}), at=NOON)
    foreign = b'{"id":7,"a later version":true}'
    with (sink.folder / "usage_2026-03-01.jsonl").open("ab") as file:
        file.write(foreign + b"\n" + ended.to_json()[:-9])

    assert sink.forget(Query.build(scope="o", where={"user_id": canary})) == 1

    assert sink.call(None, "call-1") == make(
        1, input_tokens=5, cost=Decimal("0.1"), currency="USD", org_id="o"
    )
    assert sink.call(None, "call-2") == neighbour.replace(deleted_at=NOON)
    content = b"".join(path.read_bytes() for path in sink.folder.iterdir())
    assert canary.encode() not in content
    assert foreign in content
    assert names(sink) == ["changes_2026-03-01.jsonl", "usage_2026-03-01.jsonl"]


def test_forget_that_fails_changes_nothing(sink, monkeypatch):
    """
    When the disk refuses in the middle of a rewrite, the old file stays whole.
    """
    sink.write([make(1, user_id="a")])

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(SinkUnavailable, match="No space left"):
        sink.forget(EVERYTHING)

    assert all_of(sink) == [make(1, user_id="a")]
    assert names(sink) == ["usage_2026-03-01.jsonl"]


WRITER = """
import sys
from datetime import UTC, datetime
from ai_ledger.records import CallRecord
from ai_ledger.sinks.jsonl import JSONLSink

sink = JSONLSink(sys.argv[1])
noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
for batch in range(40):
    ids = [f"{sys.argv[2]}-{batch}-{number}" for number in range(10)]
    sink.write([CallRecord(id=id, started_at=noon, user_id="a") for id in ids])
"""


def test_writers_and_forget_at_once(sink):
    """
    Two processes write while a third erases again and again: nothing is lost.
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(sink.folder), name]) for name in "ab"
    ]
    while any(writer.poll() is None for writer in writers):
        sink.forget(EVERYTHING)

    assert [writer.returncode for writer in writers] == [0, 0]
    assert {record.id for record in all_of(sink)} == {
        f"{name}-{batch}-{number}" for name in "ab" for batch in range(40) for number in range(10)
    }


def test_threads_share_one_instance(sink):
    """
    Threads that write at once lose nothing.
    """
    threads = [
        threading.Thread(target=sink.write, args=([make(t * 100 + n) for n in range(100)],))
        for t in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all_of(sink) == [make(number) for number in range(800)]
