"""What only a database can get wrong: locks, processes, files, values, time-outs."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from ai_ledger.database import engine as engine_module
from ai_ledger.database.files import file_system, make_private
from ai_ledger.errors import ConfigurationError, InvalidValue, RecordRefused, SinkUnavailable
from ai_ledger.query import AnyOf, Contains, Query
from ai_ledger.records import MAX_COUNT, CallRecord, new_id
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.cells import durations_of, durations_text, shortened
from ai_ledger.totals import group_records

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = Query.build(scope=None)


def call(number: int, **fields) -> CallRecord:
    at = fields.pop("started_at", NOON + timedelta(seconds=number))
    return CallRecord(id=f"call-{number:05}", started_at=at, **fields)


def stored(sink: SQLSink) -> list[CallRecord]:
    return [record for batch in sink.scan(ALL) for record in batch]


@pytest.fixture
def sink(tmp_path: Path):
    opened = SQLSink(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def sql(sql_url: str):
    opened = SQLSink(sql_url)
    yield opened
    opened.close()


# Processes


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql import SQLSink

url, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sink = SQLSink(url)
noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
for turn in range(rounds):
    # Every process sends the same calls, in another order and in other batches,
    # and first as unfinished ones.
    numbers = [(seed * 7 + turn * 20 + step) % (rounds * 20) for step in range(20)]
    for status in ("unfinished", "success"):
        sink.write([
            CallRecord(
                id=f"call-{number:05}", started_at=noon + timedelta(seconds=number), status=status,
                user_id=f"u{number % 7}", request_model="m", input_tokens=number,
                cost=Decimal(number) / 1000, currency="USD", duration_ms=number,
            )
            for number in numbers
        ])
sink.close()
"""


@pytest.mark.timeout(300)
def test_processes_that_send_the_same_calls(sql_url: str) -> None:
    """
    However many processes deliver the same calls at once, each is stored and counted once.
    """
    rounds = 10
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, sql_url, str(seed), str(rounds)], stderr=subprocess.PIPE
        )
        for seed in range(4)
    ]
    said = [process.communicate(timeout=250)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    sink = SQLSink(sql_url)
    expected = [
        call(
            number,
            user_id=f"u{number % 7}",
            request_model="m",
            input_tokens=number,
            cost=Decimal(number) / 1000,
            currency="USD",
            duration_ms=float(number),
        )
        for number in range(rounds * 20)
    ]

    assert stored(sink) == expected
    for by in ((), ("user_id",), ("request_model",)):
        found = {group.key: group.totals for group in sink.aggregate(ALL, by)}
        assert found == {group.key: group.totals for group in group_records(expected, by, ())}
    sink.close()


def test_a_deletion_beside_writers(sql: SQLSink, sql_url: str) -> None:
    """
    Totals equal rows when calls are deleted while others come in.
    """
    other = SQLSink(sql_url)

    def write(batch: int) -> None:
        try:
            other.write([call(100 * batch + number, user_id="u") for number in range(100)])
        except SinkUnavailable:
            # SQLite keeps no queue: who asks again at once may get the lock every time.
            write(batch)

    writing = threading.Thread(target=lambda: [write(batch) for batch in range(12)])
    writing.start()
    while writing.is_alive():
        sql.delete(Query.build(scope=None, where={"user_id": "u"}), at=NOON)
        sql.restore(Query.build(scope=None, until=NOON + timedelta(seconds=500), deleted=True))
    writing.join()
    other.close()

    assert sql.aggregate(ALL, ("user_id",)) == group_records(stored(sql), ("user_id",), ())


def test_a_forked_child_opens_its_own(sql: SQLSink) -> None:
    """
    A child writes over connections of its own, and the parent's stay alive.
    """
    sql.write([call(1)])
    child = os.fork()
    if child == 0:
        try:
            sql.after_fork_in_child()
            sql.write([call(2)])
            sql.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    sql.write([call(3)])
    assert stored(sql) == [call(1), call(2), call(3)]


def test_big_deletions_go_in_batches(sink: SQLSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A deletion of many calls takes the lock for one batch at a time, and misses none.
    """
    from ai_ledger.sinks.sql import writer

    monkeypatch.setattr(writer, "BATCH", 10)
    sink.write([call(number, started_at=NOON, user_id="u") for number in range(35)])
    transactions: list[str] = []
    database = sink._opened()[0]

    @event.listens_for(database.writer, "commit")
    def committed(_: object) -> None:
        transactions.append("commit")

    assert sink.delete(ALL, at=NOON) == 35
    assert len(transactions) == 4
    assert sink.aggregate(ALL) == []


# Values


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"input_tokens": MAX_COUNT + 1}, id="a count that cannot be added up"),
        pytest.param({"cost": Decimal(10**9 + 1), "currency": "USD"}, id="a cost that large"),
        pytest.param({"cost": Decimal("NaN"), "currency": "USD"}, id="a cost that is no number"),
        pytest.param({"duration_ms": float("nan")}, id="a duration that is no number"),
        pytest.param({"duration_ms": float("inf")}, id="an endless duration"),
        pytest.param({"started_at": datetime(2026, 1, 1)}, id="a moment without a zone"),
        pytest.param({"status": "odd"}, id="an unknown status"),
        pytest.param({"currency": "DOLLARS AND MORE CENTS", "cost": Decimal(1)}, id="no currency"),
        pytest.param({"http_status": 10**30}, id="an enormous status"),
        pytest.param({"user_id": 7}, id="an id that is no text"),
        pytest.param({"tags": {"a": 7}}, id="a tag that is no text"),
    ],
)
def test_a_value_that_fits_no_table(sql: SQLSink, odd: dict) -> None:
    """
    A record with it is refused, and nothing of its batch is stored or counted by half.
    """
    with pytest.raises(RecordRefused):
        sql.write([call(1), call(2, **odd), call(3)])

    assert stored(sql) == []
    sql.write([call(1), call(3)])
    assert sql.aggregate(ALL) == group_records([call(1), call(3)], (), ())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"user_id": "a\x00b"}, {"user_id": "a\ufffdb"}),
        ({"error_message": "\ud800!"}, {"error_message": "\ufffd!"}),
        ({"request_content": "\x00" * 3}, {"request_content": "\ufffd" * 3}),
        ({"tags": {"\x00": "\udfff"}}, {"tags": {"\ufffd": "\ufffd"}}),
        ({"user_id": "😀"}, {"user_id": "😀"}),
    ],
)
def test_texts_that_databases_refuse(sql: SQLSink, given: dict, kept: dict) -> None:
    """
    NUL and lone surrogates are replaced; the call is found under the cleaned text.
    """
    sql.write([call(1, **given)])

    assert stored(sql) == [call(1, **kept)]
    if "user_id" in given:
        assert sql.calls(Query.build(scope=None, where=given)) == [call(1, **kept)]


def test_long_texts(sql: SQLSink) -> None:
    """
    A name too long for an index is cut with a hash, so that two of them stay two.
    """
    one, two = "猫" * 400 + "1", "猫" * 400 + "2"
    sql.write([call(1, user_id=one, org_id=one), call(2, user_id=two, org_id=two)])
    sql.write([call(3, request_content="x" * 5_000_000, error_message="猫" * 70_000)])

    assert [len(record.user_id or "") for record in stored(sql)[:2]] == [255, 255]
    assert len(sql.aggregate(ALL, ("user_id",))) == 3
    assert sql.calls(Query.build(scope=one))[0].id == call(1).id
    assert sql.aggregate(Query.build(scope=one, where={"user_id": one}))[0].totals.calls == 1
    long = sql.call(None, call(3).id)
    assert long is not None
    assert len(long.request_content or "") <= 4 * 1024 * 1024
    assert "[cut: 5000000 bytes" in (long.request_content or "")
    assert long.error_message == "猫" * 70_000


HOSTILE = ["' OR 1=1 --", '"; DROP TABLE ai_call_records; --', "%", "_", "\\", ":x", "?", "%s"]


def test_statements_hold_placeholders_only(sql: SQLSink) -> None:
    """
    Nothing that a person typed becomes part of a statement.
    """
    sql.write([call(1)])
    texts: list[str] = []
    for engine in (sql._opened()[0].reader, sql._opened()[0].writer):
        event.listen(
            engine, "before_cursor_execute", lambda c, k, text, p, x, m: texts.append(text)
        )
    for hostile in HOSTILE:
        marked = f"canary{hostile}"
        for where in (
            {"user_id": marked},
            {"model": Contains(marked)},
            {f"tags.{marked}": AnyOf((marked, None))},
        ):
            query = Query.build(scope=marked, where=where)
            assert sql.calls(query) == []
            assert sql.aggregate(query, (f"tags.{marked}",)) == []
            assert sql.delete(query, at=NOON) == 0
        sql.write([call(2, user_id=marked, tags={marked: marked}, request_content=marked)])

    assert texts
    assert not [text for text in texts if "canary" in text]
    assert stored(sql)[0] == call(1)


@pytest.mark.parametrize(
    "asked", [{"limit": 10**9}, {"limit": -1}, {"offset": -1}, {"offset": 10**30}]
)
def test_a_page_out_of_bounds(sink: SQLSink, asked: dict) -> None:
    """
    Pages are bounded, and the message says by what.
    """
    with pytest.raises(InvalidValue, match=r"limit|offset"):
        sink.calls(ALL, **asked)


def test_a_deep_page_and_a_long_list(sink: SQLSink) -> None:
    """
    An offset beyond the end is empty, and a list of too many values is refused by name.
    """
    sink.write([call(1)])

    assert sink.calls(ALL, offset=10**9) == []
    with pytest.raises(InvalidValue, match="user_id"):
        sink.calls(Query.build(scope=None, where={"user_id": [str(n) for n in range(10_001)]}))


def test_pages_by_position_use_the_index(sink: SQLSink) -> None:
    """
    The last page costs what the first does: the place is found in an index.
    """
    sink.write([call(1)])
    texts: list[tuple[str, object]] = []
    database = sink._opened()[0]
    event.listen(
        database.reader, "before_cursor_execute", lambda c, k, t, p, x, m: texts.append((t, p))
    )
    sink.calls(ALL, after=(NOON, "x"))
    connection = sqlite3.connect(database.path)
    text, values = next(each for each in texts if each[0].startswith("SELECT"))
    plan = str(connection.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall())
    connection.close()

    assert "ix_ai_call_records_started (started_at<?)" in plan
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


def test_durations_as_text() -> None:
    """
    Texts add up by standing one after another, and cancel out.
    """
    one, two = {3: 1, 104: 12}, {3: 2, 7: 1}

    assert durations_text(one) == "3 104*12 "
    assert durations_of(durations_text(one) + durations_text(two)) == {3: 3, 7: 1, 104: 12}
    assert shortened("3 3 3 3*-1 8 8*-1 ") == "[3,2]"
    assert durations_of("[3,2]3 [7,1,3,2]104*12 7*-1 ") == {3: 5, 104: 12}
    assert durations_of(shortened("")) == {}


def test_durations_stay_short(sql: SQLSink) -> None:
    """
    However many batches a total has seen, its durations are kept in few words.
    """
    for batch in range(120):
        sql.write([call(10 * batch + n, duration_ms=1.5 ** (n + batch % 3)) for n in range(5)])
    with sql._opened()[0].reading() as connection:
        longest = connection.execute(
            sa.text("SELECT max(length(durations)) FROM ai_call_totals")
        ).scalar()
        connection.rollback()

    assert longest < 2_500
    rows = stored(sql)
    assert sql.aggregate(ALL) == group_records(rows, (), ())


# The file


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_forgotten_is_gone_from_the_bytes(sink: SQLSink, tmp_path: Path) -> None:
    """
    After forgetting, neither the file nor its log holds a letter of what was forgotten.
    """
    sink.write(
        [
            call(
                number,
                user_id="canary-user" if number % 3 == 0 else f"other-{number}",
                session_id=f"canary-session-{number}" if number % 3 == 0 else None,
                reference_id="canary-reference" if number % 3 == 0 else None,
                tags={"t": "canary-tag"} if number % 3 == 0 else {"t": "kept"},
                request_content=("canary-prompt " if number % 3 == 0 else "a prompt ") * 300,
                error_message="canary-error" if number % 3 == 0 else None,
            )
            for number in range(600)
        ]
    )
    assert b"canary" in everything_in(tmp_path)

    assert sink.forget(Query.build(scope=None, where={"user_id": "canary-user"})) == 200

    assert b"canary" not in everything_in(tmp_path)
    assert b"other-1" in everything_in(tmp_path)


def test_files_are_private(tmp_path: Path) -> None:
    """
    The file and those beside it can be read by their owner alone, whatever the umask.
    """
    before = os.umask(0)
    try:
        sink = SQLSink(f"sqlite:///{tmp_path}/ledger.db")
        sink.write([call(1)])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        sink.close()
    finally:
        os.umask(before)

    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    """
    A link that somebody planted is not followed; the records wait.
    """
    (tmp_path / "target.db").touch()
    (tmp_path / "ledger.db").symlink_to(tmp_path / "target.db")
    sink = SQLSink(f"sqlite:///{tmp_path}/ledger.db")

    with pytest.raises(ConfigurationError, match="symbolic link"):
        sink.calls(ALL)
    with pytest.raises(SinkUnavailable, match="symbolic link"):
        sink.write([call(1)])
    assert (tmp_path / "target.db").read_bytes() == b""


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where locks do not hold, no ledger is made.
    """
    mounts = f"/dev/a / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\n"

    assert file_system(tmp_path / "deeper", mounts) == "nfs4"
    assert file_system(Path("/"), mounts) == "ext4"
    monkeypatch.setattr("ai_ledger.database.files.file_system", lambda _: "nfs4")
    with pytest.raises(ConfigurationError, match="network file system"):
        make_private(tmp_path / "ledger.db")


def test_a_missing_folder(tmp_path: Path) -> None:
    """
    The records wait until the folder is there.
    """
    sink = SQLSink(f"sqlite:///{tmp_path}/missing/ledger.db")
    with pytest.raises(SinkUnavailable, match="missing"):
        sink.write([call(1)])
    (tmp_path / "missing").mkdir()
    sink.write([call(1)])

    assert stored(sink) == [call(1)]
    sink.close()


def test_a_locked_file(sink: SQLSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A lock that is held too long means try again later, and nothing by half.
    """
    monkeypatch.setattr(engine_module, "LOCK_TIMEOUT_S", 0.2)
    sink.write([call(1)])
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SinkUnavailable, match="locked"):
        sink.write([call(2)])
    assert stored(sink) == [call(1)]
    other.execute("ROLLBACK")
    other.close()

    sink.write([call(2)])
    assert sink.aggregate(ALL)[0].totals.calls == 2


def test_a_reader_that_stays_does_not_stop_writers(sink: SQLSink, tmp_path: Path) -> None:
    """
    Writers go on beside an open read transaction.
    """
    sink.write([call(1)])
    reader = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM ai_call_records").fetchall()
    begin = time.monotonic()
    for number in range(2, 30):
        sink.write([call(number)])
    taken = time.monotonic() - begin
    reader.close()

    assert taken < 20
    assert len(stored(sink)) == 29


def test_a_long_question_is_cut_off(tmp_path: Path) -> None:
    """
    A report that takes longer than its time is stopped; the ledger goes on.
    """
    sink = SQLSink(f"sqlite:///{tmp_path}/ledger.db", timeout_s=2.0)
    sink.write([call(1)])
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with (
        pytest.raises(SinkUnavailable, match="interrupted"),
        sink._opened()[0].reading() as connection,
    ):
        connection.exec_driver_sql(endless).fetchall()

    assert stored(sink) == [call(1)]
    sink.close()


def test_an_old_sqlite_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The fault of older versions is named only where a second process has the file open.
    """
    monkeypatch.setattr(engine_module, "_warned_about_sqlite", False)
    monkeypatch.setattr(engine_module.sqlite3, "sqlite_version_info", (3, 40, 1))
    url = f"sqlite:///{tmp_path}/ledger.db"

    def write() -> None:
        sink = SQLSink(url)
        sink.write([call(1)])
        sink.close()

    with caplog.at_level(logging.WARNING, "ai_ledger"):
        first = SQLSink(url)
        first.write([call(1)])
        write()
        first.close()
        (tmp_path / "ledger.db-shm").touch()  # as a process leaves it that was killed
        write()
        assert caplog.messages == []
        with elsewhere(url, "input()") as other:
            write()
            write()
            other.communicate("\n", timeout=60)
        write()

    assert len(caplog.messages) == 1
    assert "3.51.3" in caplog.text


@contextmanager
def elsewhere(url: str, then: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has opened the ledger and written to it."""
    program = (
        "import sys; from ai_ledger.sinks.sql import SQLSink; from ai_ledger.query import Query; "
        "from ai_ledger.records import CallRecord, new_id, utc_now; sink = SQLSink(sys.argv[1]); "
        "sink.write([CallRecord(id=new_id(), started_at=utc_now())]); print('open', flush=True); "
        f"{then}; sink.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process


def test_several_parts_of_a_program_keep_the_locks_of_all(tmp_path: Path) -> None:
    """
    Whoever opens the file again does not take SQLite's locks from those who have it open.

    Another process would otherwise believe that it is alone, and delete the log.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    first = SQLSink(url)
    first.write([call(1)])
    first.calls(ALL)
    second = SQLSink(url)
    second.calls(ALL)
    with elsewhere(url, "input()") as other:
        other.communicate("\n", timeout=60)

    assert (tmp_path / "ledger.db-wal").exists()
    second.write([call(2)])
    program = (
        "import sys; from ai_ledger.sinks.sql import SQLSink; from ai_ledger.query import Query; "
        "print(len(SQLSink(sys.argv[1]).calls(Query.build(scope=None))))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, check=True
    )
    assert seen.stdout == "3\n"
    second.close()
    first.close()


# Away


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    """
    To construct connects to nothing, makes nothing and imports nothing heavy.
    """
    program = (
        "import sys; from ai_ledger.sinks.sql import SQLSink; "
        "SQLSink('postgresql://nobody@127.0.0.1:1/x'); SQLSink('sqlite:///x.db'); "
        "print('sqlalchemy' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )

    assert said.stdout == "False\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://ledger:canary@127.0.0.1:1/x", marks=pytest.mark.postgres),
        pytest.param("mariadb://ledger:canary@127.0.0.1:1/x?password=canary", id="mariadb"),
    ],
)
def test_a_server_that_is_away(url: str) -> None:
    """
    The records wait, and no message, name or repr tells the password.
    """
    sink = SQLSink(url)
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([call(1)])

    shown = f"{caught.value} {caught.value.__cause__} {sink!r} {sink.name}"
    assert "canary" not in shown
    assert "127.0.0.1" in sink.name


@pytest.fixture
def black_hole():
    """A port that accepts connections and never says a word."""
    server = socket.create_server(("127.0.0.1", 0))
    yield server.getsockname()[1]
    server.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_never_answers(
    scheme: str, black_hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A connection into the void is given up after its time-out.
    """
    monkeypatch.setattr(engine_module, "CONNECT_TIMEOUT_S", 2)
    begin = time.monotonic()
    with pytest.raises(SinkUnavailable):
        SQLSink(f"{scheme}://ledger@127.0.0.1:{black_hole}/x", timeout_s=1).write([call(1)])

    assert time.monotonic() - begin < 30


class Proxy:
    """Passes bytes on to a server until it is told to keep them."""

    def __init__(self, host: str, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._target = (host, port)
        self.stalled = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, goal in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, goal), daemon=True).start()

    def _pass(self, source: socket.socket, goal: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.stalled.is_set():
                    goal.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        for each in (self._server, *self._open):
            each.close()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def test_an_answer_that_never_comes(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the line goes dead in mid-session the writer is free again soon, and so is the next.
    """
    from tests.databases import empty

    monkeypatch.setattr(engine_module, "LOCK_TIMEOUT_S", 1)
    monkeypatch.setattr(engine_module, "CONNECT_TIMEOUT_S", 2)
    url = request.getfixturevalue(kind)
    empty(url)
    parsed = sa.make_url(url)
    proxy = Proxy(parsed.host or "", parsed.port or 0)
    through = parsed.set(host="127.0.0.1", port=proxy.port)
    sink = SQLSink(through.render_as_string(hide_password=False), timeout_s=1.0)
    sink.write([call(1)])

    proxy.stalled.set()
    begin = time.monotonic()
    with pytest.raises(SinkUnavailable):
        sink.write([call(2)])
    assert time.monotonic() - begin < 40
    proxy.stalled.clear()

    sink.write([call(2)])
    assert stored(sink) == [call(1), call(2)]
    sink.close()
    proxy.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory", "oracle://x/y"]
)
def test_a_url_that_cannot_work(url: str) -> None:
    """
    A database that no ledger can live in is named at first use.
    """
    with pytest.raises(ConfigurationError):
        SQLSink(url).calls(ALL)


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql://h/d", "postgresql+psycopg"),
        ("postgres://h/d", "postgresql+psycopg"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg"),
        ("mysql://h/d", "mysql+pymysql"),
        ("mariadb://h/d", "mysql+pymysql"),
        ("sqlite:///x.db", "sqlite+pysqlite"),
    ],
)
def test_drivers(given: str, driver: str) -> None:
    """
    Whatever driver a URL names, this package's own is used.
    """
    assert engine_module.database_url(given).drivername == driver


def test_ids_of_the_ledger_are_kept(sql: SQLSink) -> None:
    """
    A UUIDv7 comes back as it is.
    """
    record = CallRecord(id=new_id(), started_at=NOON)
    sql.write([record])

    assert sql.call(None, record.id) == record
