"""The console over a month of a million calls; and what its readers cost those who record."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import sqlalchemy as sa

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.database.columns import moment_text
from ai_ledger.database.engine import database_url
from ai_ledger.database.upgrade import upgrade
from benchmarks import console_books
from benchmarks.console_books import DAYS, NOW

TARGET_MS = 200.0
READERS = 50
PAUSE_S = 10.0
"""A reader opens the overview and the calls, and looks at each for so long."""
TARGET_P99 = 1.05
_PARTS = re.compile(r'<[^>]*\bhx-get="([^"]+)"[^>]*\bhx-trigger="[^"]*\bload\b[^"]*"[^>]*>')
_SUMS = "currency, count(*), sum(input_tokens), sum(output_tokens), sum(cost_nano)"
_ROWS = "FROM ai_call_records WHERE started_at >= :since AND deleted_at IS NULL"

_BY = ("request_model", "provider", "function", "business_type", "user_id", "device_id",
       "session_id", "org_id", "operation")  # fmt: skip


def _pages() -> dict[str, tuple[str, str]]:
    """Name → address, and the bare query for what it is about."""
    listed = "SELECT * FROM ai_call_records WHERE deleted_at IS NULL ORDER BY started_at"
    found = {
        "overview": ("/", f"SELECT {_SUMS} {_ROWS} GROUP BY currency"),
        "calls, first page": ("/calls?days=30", f"{listed} DESC LIMIT 50"),
        "calls, last page": ("/calls?days=30&end=true", f"{listed} LIMIT 50"),
        "calls of one user": (
            "/calls?days=30&user_id=user-7",
            f"SELECT {_SUMS} {_ROWS} AND user_id = 'user-7' GROUP BY currency",
        ),
    }
    for field in _BY:
        found[f"costs by {field}"] = (
            f"/costs?days=30&by={field}",
            f"SELECT {field}, {_SUMS} {_ROWS} GROUP BY {field}, currency ORDER BY 6 DESC LIMIT 25",
        )
    found["costs over time"] = (
        "/costs/time?days=30",
        f"SELECT request_model, {_SUMS} {_ROWS} GROUP BY request_model, currency",
    )
    found["forecast"] = ("/costs/forecast", f"SELECT {_SUMS} {_ROWS} GROUP BY currency")
    found["budgets"] = ("/budgets", "SELECT * FROM ai_budget_accounts LIMIT 500")
    found["alerts"] = ("/alerts", "SELECT * FROM ai_alerts ORDER BY id DESC LIMIT 100")
    return found


def run(quick: bool) -> list[dict[str, Any]]:
    """Every figure; over 1,000,000 calls, or 20,000 when *quick*."""
    calls = 20_000 if quick else 1_000_000
    found: list[dict[str, Any]] = []
    for database in (sqlite_books, postgres_books):
        with database(calls) as (kind, url):
            if url:
                found += opened(kind, url, calls, rounds=5 if quick else 15)
    found += under_load(200 if quick else 1_500, 3 if quick else 9)
    return found


@contextmanager
def sqlite_books(calls: int, kept: str | None = None) -> Iterator[tuple[str, str]]:
    """A ledger in a file, or the one that is *kept* already."""
    if kept and Path(kept).exists():
        yield "SQLite", f"sqlite:///{kept}"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = kept or str(Path(folder) / "books.db")
        console_books.fill(f"sqlite:///{path}", calls)
        yield "SQLite", f"sqlite:///{path}"


@contextmanager
def postgres_books(calls: int, kept: str | None = None) -> Iterator[tuple[str, str]]:
    """A ledger in a database of its own, or the one that is *kept*; without a server, none."""
    import psycopg

    if kept:
        yield "PostgreSQL", kept
        return
    server = os.environ.get("AI_LEDGER_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
    try:
        admin = psycopg.connect(server, autocommit=True)
    except psycopg.OperationalError:
        yield "PostgreSQL", ""
        return
    name = f"ai_ledger_bench_{uuid4().hex[:8]}"
    url = server.rpartition("/")[0] + "/" + name
    with closing(admin):
        admin.execute(f"CREATE DATABASE {name}")
        try:
            upgrade(url)
            console_books.fill(url, calls)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
            yield "PostgreSQL", url
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def opened(kind: str, url: str, calls: int, rounds: int) -> list[dict[str, Any]]:
    """
    Each page, and what it loads afterwards, in turns with the bare query.

    A part is timed until it has its answer; nothing that a reader has found before is kept.
    """
    from starlette.testclient import TestClient

    from ai_ledger.web import create_app

    found: list[dict[str, Any]] = []
    engine = sa.create_engine(database_url(url))
    since: Any = NOW - timedelta(days=DAYS)
    since = moment_text(since) if kind == "SQLite" else since
    access = Access(name="bench", role="admin", prompts=True)
    with Ledger(url) as ledger, engine.connect() as connection:
        app = create_app(ledger, auth=lambda request: access, clock=lambda: NOW)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            for name, (path, text) in _pages().items():
                query = sa.text(text)
                values = {"since": since} if ":since" in text else {}
                pages: list[float] = []
                parts: list[float] = []
                bare: list[float] = []
                cpu: list[float] = []
                _open(client, path)
                for _ in range(rounds):
                    # What is kept for a minute is found anew, as by the first who asks.
                    app.state.house._kept.clear()
                    begun = time.process_time()
                    page, part = _open(client, path)
                    cpu.append((time.process_time() - begun) * 1000)
                    pages.append(page)
                    parts.extend(part)
                    bare.append(_timed(lambda: connection.execute(query, values).fetchall()))  # noqa: B023
                # On a busy machine this says more than the time by the clock.
                busy = f"{name}, {statistics.median(cpu):.0f} ms of processor"
                found.append(_row(f"{kind}, {calls:,} calls: {busy}", pages, bare))
                print(f"  {found[-1]['name']} {found[-1]['ours']} ms", file=sys.stderr, flush=True)
                if parts:
                    found.append(_row(f"{kind}, {calls:,} calls: {name}, its part", parts, bare))
    engine.dispose()
    return found


def _open(client: Any, path: str) -> tuple[float, list[float]]:
    """How long a page took, and the parts that a browser asks for with it, until they are there."""
    begun = time.perf_counter()
    answer = client.get(path)
    taken = (time.perf_counter() - begun) * 1000
    answer.raise_for_status()
    parts: list[float] = []
    for part in _PARTS.findall(answer.text):
        begun = time.perf_counter()
        asked: str | None = part
        while asked:
            answer = client.get(asked.replace("&amp;", "&"), headers={"HX-Request": "true"})
            answer.raise_for_status()
            # One that is still being counted asks again.
            asked = next(iter(_PARTS.findall(answer.text)), None)
        parts.append((time.perf_counter() - begun) * 1000)
    return taken, parts


def _timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def _row(name: str, took: list[float], bare: list[float]) -> dict[str, Any]:
    median = statistics.median(took)
    baseline = statistics.median(bare)
    p95 = statistics.quantiles(took, n=20)[18]
    return {
        "name": f"console, {name} (p95 {p95:.0f} ms)",
        "ours": round(median, 1),
        "baseline": round(baseline, 2),
        "ratio": round(median / baseline, 2),
        "target": f"<= {TARGET_MS:g} ms",
        "met": median <= TARGET_MS,
        "unit": "ms",
    }


# Readers beside somebody who records


def under_load(calls: int, rounds: int) -> list[dict[str, Any]]:
    """
    The p99 of a recorder with and without readers of a console over the same ledger, in turns.

    A third case says what of that the processor alone does: as many readers of a console
    over another ledger, whose database the recorder never touches.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        urls = [f"sqlite:///{Path(folder) / name}.db" for name in ("same", "other")]
        for url in urls:
            console_books.fill(url, 20_000)
        ports = [context.SimpleQueue() for _ in urls]
        consoles = [
            context.Process(target=_console, args=(url, port), daemon=True)
            for url, port in zip(urls, ports, strict=True)
        ]
        for console in consoles:
            console.start()
        addresses = [f"http://127.0.0.1:{port.get()}" for port in ports]
        wanted, figures = context.SimpleQueue(), context.SimpleQueue()
        recorder = context.Process(
            target=_recorder, args=(urls[0], calls, wanted, figures), daemon=True
        )
        recorder.start()
        cases = {"quiet": None, "same": addresses[0], "other": addresses[1]}
        p99: dict[str, list[float]] = {name: [] for name in cases}
        served: dict[str, int] = dict.fromkeys(cases, 0)
        for number in range(rounds + 1):
            for name, address in cases.items():
                with _readers(address) as count:
                    wanted.put(True)
                    figure = figures.get()
                if number > 0:  # the first round warms up
                    p99[name].append(figure)
                    served[name] += count()
        memory = psutil.Process(consoles[0].pid).memory_info().rss / 2**20
        wanted.put(False)
        recorder.join(30)
        for console in consoles:
            console.terminate()
            console.join(30)
    return [*_load_rows(p99, served), _memory_row(memory)]


def _load_rows(p99: dict[str, list[float]], served: dict[str, int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, whose in (("same", "this ledger"), ("other", "another ledger, for comparison")):
        ratio = statistics.median(
            with_ / without for with_, without in zip(p99[name], p99["quiet"], strict=True)
        )
        rows.append(
            {
                "name": f"recorder's p99 beside {READERS} readers of {whose} "
                f"({served[name]:,} pages)",
                "ours": round(statistics.median(p99[name]) * 1e6, 1),
                "baseline": round(statistics.median(p99["quiet"]) * 1e6, 1),
                "ratio": round(ratio, 3),
                "target": f"<= {TARGET_P99}",
                "met": ratio <= TARGET_P99,
                "unit": "µs",
            }
        )
    return rows


def _memory_row(memory: float) -> dict[str, Any]:
    return {
        "name": "resident memory of the console after that, beside 500 MB",
        "ours": round(memory, 1),
        "baseline": 500,
        "ratio": round(memory / 500, 3),
        "target": "<= 1",
        "met": memory <= 500,
        "unit": "MB",
    }


def _console(url: str, port: Any) -> None:
    """The process of a console."""
    import socket

    import uvicorn

    from ai_ledger.web import create_app

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    with Ledger(url) as ledger:
        access = Access(name="bench", role="admin")
        app = create_app(ledger, auth=lambda request: access, clock=lambda: NOW)
        port.put(listener.getsockname()[1])
        config = uvicorn.Config(app, log_level="error", ws="none", lifespan="off")
        uvicorn.Server(config).run(sockets=[listener])


def _recorder(url: str, calls: int, wanted: Any, figures: Any) -> None:
    """The process that records: a call every two milliseconds; its p99 each time it is asked."""
    with Ledger(url) as ledger:
        while wanted.get():
            times: list[float] = []
            for _ in range(calls):
                begun = time.perf_counter()
                ledger.record("model-1", input_tokens=100, output_tokens=20, org_id="org-1")
                times.append(time.perf_counter() - begun)
                time.sleep(0.002)
            figures.put(statistics.quantiles(times, n=100)[98])


@contextmanager
def _readers(address: str | None) -> Iterator[Callable[[], int]]:
    """Fifty people, each at a page of their own pace; says how many pages they have seen."""
    stop = threading.Event()
    counts: list[int] = []

    def read(number: int) -> None:
        seen = 0
        # Not all at once: people come when they come.
        stop.wait(number * PAUSE_S / READERS)
        while not stop.is_set():
            for path in ("/", "/calls"):
                for part in _PARTS.findall(_got(f"{address}{path}")):
                    _got(f"{address}{part}".replace("&amp;", "&"))
                seen += 1
                if stop.wait(PAUSE_S):
                    break
        counts.append(seen)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(READERS if address else 0)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _got(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read().decode()


def main() -> None:
    """Print the rows of a part, over as many calls as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["sqlite", "postgres", "load"])
    parser.add_argument("--keep", help="SQLite file to make once and use again")
    parser.add_argument("--postgres", help="URL of a ledger that holds the calls already")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []
    if asked.only in (None, "sqlite"):
        with sqlite_books(asked.calls, asked.keep) as (kind, url):
            found += opened(kind, url, asked.calls, asked.rounds)
    if asked.only in (None, "postgres"):
        with postgres_books(asked.calls, asked.postgres) as (kind, url):
            found += opened(kind, url, asked.calls, asked.rounds) if url else []
    if asked.only in (None, "load"):
        found += under_load(1_500, 9)
    for row in found:
        print(
            f"{row['name']:78} {row['ours']:>9,} {row['baseline']:>9,} {row['unit']:3} "
            f"x{row['ratio']:<8} {row['target']} {'' if row.get('met', True) else 'NOT MET'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
