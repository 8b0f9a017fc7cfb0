"""Sinks that are slow, locked, gone or silent: the caller does not notice and nothing is lost."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ai_ledger.delivery import Delivery
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks import open_sink


class Sleeper:
    """A sink that takes a while for each batch."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ids: list[str] = []

    def write(self, records: Sequence[CallRecord]) -> None:
        time.sleep(self.seconds)
        self.ids += [record.id for record in records]


def call() -> CallRecord:
    return CallRecord(
        id=new_id(), started_at=utc_now(), request_model="m", user_id="u", request_content="x" * 300
    )


def timed_calls(
    delivery: Delivery, seconds: float, per_second: int
) -> tuple[list[str], float, float]:
    """
    Record at a steady rate; the ids, the median and the longest in milliseconds.

    Percentiles beyond the median are the benchmarks' business: where two cores
    have other things to do, one call in fifty waits for a core.
    """
    ids: list[str] = []
    times: list[float] = []
    started = time.perf_counter()
    while (now := time.perf_counter()) < started + seconds:
        record = call()
        delivery.begin(record.replace(status="unfinished", request_content=None))
        delivery.end(record)
        times.append((time.perf_counter() - now) * 1000)
        ids.append(record.id)
        time.sleep(max(0.0, started + len(ids) / per_second - time.perf_counter()))
    times.sort()
    return ids, times[len(times) // 2], times[-1]


# A caller that waits for the sink waits for a second or more, and one that does
# the sink's work has more than this for each call.
MEDIAN_MS = 5.0
LONGEST_MS = 800.0


def stored_ids(sink: Any) -> list[str]:
    return [each.id for batch in sink.scan(Query.build(scope=None)) for each in batch]


def test_a_slow_sink(tmp_path: Path) -> None:
    """
    A sink that takes a second a batch: no call waits for it.
    """
    sink = Sleeper(1.0)
    delivery = Delivery([sink], folder=tmp_path / "journal")
    ids, median, longest = timed_calls(delivery, 2.0, 500)

    assert delivery.flush(60) is True
    assert sorted(sink.ids) == sorted(ids)
    assert (median < MEDIAN_MS, longest < LONGEST_MS) == (True, True), (median, longest)
    delivery.close()


def test_a_locked_file(tmp_path: Path) -> None:
    """
    Somebody holds SQLite's lock: no call waits for it, and nothing is lost.
    """
    path = tmp_path / "ledger.db"
    sink: Any = open_sink(f"sqlite:///{path}")
    delivery = Delivery([sink], folder=tmp_path / "journal")
    delivery.end(call())
    assert delivery.flush(60) is True
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    ids, median, longest = timed_calls(delivery, 1.5, 500)
    lock.execute("ROLLBACK")
    lock.close()

    assert delivery.flush(60) is True
    assert set(ids) <= set(stored_ids(sink))
    assert (median < MEDIAN_MS, longest < LONGEST_MS) == (True, True), (median, longest)
    delivery.close()


BURST = """
import sys, resource, time
from pathlib import Path
from ai_ledger.delivery import Delivery
from ai_ledger.records import CallRecord, new_id, utc_now

class Sink:
    seen = 0
    ids = set()
    def write(self, records):
        time.sleep(0.02)
        self.seen += len(records)
        self.ids.update(hash(record.id) for record in records)

sink = Sink()
delivery = Delivery([sink], folder=Path(sys.argv[1]))
number = int(sys.argv[2])
delivery.end(CallRecord(id=new_id(), started_at=utc_now()))
assert delivery.flush(60)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(number):
    record = CallRecord(id=new_id(), started_at=utc_now(), user_id="u", request_content="x" * 1000)
    delivery.begin(record.replace(status="unfinished", request_content=None))
    delivery.end(record)
assert delivery.flush(100)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sink.seen - 1, len(sink.ids) - 1, (after - before) // 1024)
assert delivery.close()
"""


@pytest.mark.parametrize("number", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_burst(tmp_path: Path, number: int) -> None:
    """
    Lost 0, memory at most +200 MiB (and a fifth of that for a fifth of the calls).
    """
    done = subprocess.run(
        [sys.executable, "-c", BURST, str(tmp_path / "journal"), str(number)],
        capture_output=True,
        check=True,
        timeout=110,
    )
    seen, unique, grown_mib = map(int, done.stdout.split())

    assert (seen, unique) == (number, number)
    assert grown_mib <= 200 * number // 100_000


class Proxy:
    """A TCP proxy whose line can be cut, refused or left open and silent."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.mode = "open"
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "refuse":
                client.close()
                continue
            self._sockets.append(client)
            server = socket.create_connection(self.target)
            self._sockets.append(server)
            self._start(self._pump, client, server, "up")
            self._start(self._pump, server, client, "down")

    def _pump(self, source: socket.socket, target: socket.socket, way: str) -> None:
        try:
            while data := source.recv(65_536):
                # Into the void: questions arrive, and answers never come back.
                while self.mode == "silent" or (self.mode == "void" and way == "down"):
                    time.sleep(0.01)
                target.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, target):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Close all lines that are open."""
        for each in self._sockets:
            with suppress(OSError):
                # Closing alone would not be noticed by a thread that reads from it.
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.mode = "open"
        self.cut()


@pytest.fixture
def proxied(postgres_url: Callable[[], str]) -> Iterator[tuple[str, Proxy]]:
    """A database of one's own, behind a proxy."""
    url = postgres_url()
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5432)
    yield url.replace(parts.netloc, f"{parts.username or 'postgres'}@127.0.0.1:{proxy.port}"), proxy
    proxy.close()


@pytest.mark.postgres
@pytest.mark.parametrize("seconds", [1.5, pytest.param(10.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("outage", ["refuse", "silent", "void"])
def test_a_database_that_is_away(
    tmp_path: Path, proxied: tuple[str, Proxy], outage: str, seconds: float
) -> None:
    """
    At 200 calls a second: lost 0, doubled 0, and no call waits for it.
    """
    url, proxy = proxied
    from ai_ledger.sinks.sql import SQLSink

    # The black hole is given up after three seconds here, in place of thirty.
    sink = SQLSink(url, timeout_s=3.0)
    delivery = Delivery([sink], folder=tmp_path / "journal")
    delivery.end(call())
    assert delivery.flush(60) is True
    proxy.mode = outage
    if outage == "refuse":
        proxy.cut()
    ids, median, longest = timed_calls(delivery, seconds, 200)
    assert delivery.flush(0.1) is False
    proxy.mode = "open"
    if outage != "refuse":
        proxy.cut()

    assert delivery.flush(60) is True, delivery.health()
    stored = stored_ids(sink)
    assert (len(stored), set(ids) <= set(stored)) == (len(ids) + 1, True)
    assert (median < MEDIAN_MS, longest < LONGEST_MS) == (True, True), (median, longest)
    delivery.close()


def test_odd_records_among_good_ones(tmp_path: Path) -> None:
    """
    200 odd records among 400 good ones: raised 0, neighbours lost 0, unreadable 0.
    """
    sink: Any = open_sink(f"sqlite:///{tmp_path}/ledger.db")
    delivery = Delivery([sink], folder=tmp_path / "journal")
    odd: list[dict[str, Any]] = [
        {"input_tokens": -1},
        {"input_tokens": 2**64},
        {"duration_ms": float("nan")},
        {"duration_ms": float("inf")},
        {"user_id": "a\x00b"},
        {"user_id": "\ud83d"},
        {"tags": {"\x00": "\udfff"}},
        {"request_content": "\x00" * 1_000},
        {"response_content": object()},
        {"user_id": 10**30},
        {"error_message": "\u2028\x1b]0;x\x07"},
        {"request_model": "'; DROP TABLE ai_call_records; --"},
        {"status": "splendid"},
        {"request_content": "x" * 5_000_000},
        {"started_at": utc_now().replace(tzinfo=None)},
        {"currency": "CNY", "cost": "a lot"},
        {"org_id": "\u202e" * 300},
        {"http_status": "teapot"},
        {"retries": None},
        {"streamed": "perhaps"},
    ]
    good: list[str] = []
    bad: list[str] = []
    for number in range(600):
        record = call()
        if number % 3 == 0:
            record = record.replace(**odd[number // 3 % len(odd)])
            bad.append(record.id)
        else:
            good.append(record.id)
        delivery.end(record)

    assert delivery.flush(60) is True
    stored = stored_ids(sink)
    health = delivery.health()
    assert set(good) <= set(stored)
    assert len(set(stored) & set(bad)) + health.quarantined == 200
    assert health.dropped == {}
    delivery.close()


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0], ids=["back", "forward"])
def test_a_clock_that_is_stepped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """
    Waiting, adoption and back-off keep to the monotonic clock.
    """
    sink = Sleeper(0.0)
    delivery = Delivery([sink], folder=tmp_path / "journal")
    delivery.end(call())
    assert delivery.flush(60) is True
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + step) * 1e9))
    started = time.monotonic()
    for _ in range(10):
        delivery.end(call())

    assert delivery.flush(60) is True
    assert delivery.close() is True
    assert len(sink.ids) == 11
    assert time.monotonic() - started < 30
