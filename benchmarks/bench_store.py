"""The SQL store beside bare drivers and bare SQL: delivery, and a month of calls."""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from ai_ledger.database.columns import moment_text
from ai_ledger.database.engine import database_url
from ai_ledger.database.upgrade import upgrade
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.rows import prepare
from ai_ledger.sinks.sql.statements import Statements

DELIVERY_TARGET = 0.6
MONTH_TARGET = 100.0
USERS_TARGET = 5.0
BATCH = 500
USERS = 2_000
MODELS = [f"model-{number}" for number in range(10)]
MONTH = datetime(2026, 1, 1, tzinfo=UTC)
NEXT_MONTH = datetime(2026, 2, 1, tzinfo=UTC)
_TEXT = "The quick brown fox keeps the books of the lazy dog. " * 20


def made_calls(calls: int, *, content: bool, step: timedelta | None = None) -> Iterator[CallRecord]:
    """
    *calls* calls by 2,000 users of one organisation, oldest first.

    Args:
        calls: How many.
        content: With texts and a tag.
        step: Time from one to the next; the whole of January 2026 when not given.
    """
    chance = random.Random(1)
    step = step or (NEXT_MONTH - MONTH) / calls
    for number in range(calls):
        user = chance.randrange(USERS)
        answer = chance.randrange(20, 800)
        model = chance.choice(MODELS)
        yield CallRecord(
            id=new_id(),
            started_at=MONTH + number * step,
            status="success" if chance.random() < 0.97 else "failed",
            duration_ms=chance.lognormvariate(7.3, 0.7),
            operation="chat",
            provider="openai",
            server_address="api.example.com",
            request_model=model,
            response_model=f"{model}-2025-10-01",
            response_id=f"chatcmpl-{number}",
            finish_reason="stop",
            input_tokens=chance.randrange(100, 4_000),
            cache_read_tokens=0,
            output_tokens=answer,
            usage_source="reported",
            cost=Decimal(answer * 6_000 + 12_345) / 10**9,
            currency="USD",
            price_id="openai/2025-10",
            org_id="org",
            user_id=f"user-{user}",
            session_id=f"session-{number // 8}",
            function=chance.choice(["analyze", "match", "chat", "detect"]),
            business_type=chance.choice(["resume", "job", "interview"]),
            reference_id=f"job-{number // 3}",
            tags={"anchor_id": f"anchor-{number % 300}"} if content else {},
            request_content=_TEXT if content else None,
            response_content=_TEXT[:400] if content else None,
        )


def run(quick: bool) -> list[dict[str, Any]]:
    """Every figure; the month over 1,000,000 calls, or over 100,000 when *quick*."""
    calls = 5_000 if quick else 30_000
    found = [
        sqlite_delivery(calls, content=True),
        sqlite_delivery(calls, content=False),
        *(figure for content in (True, False) for figure in postgres_delivery(calls, content)),
    ]
    return [*found, *months(100_000 if quick else 1_000_000)]


def sqlite_delivery(calls: int, *, content: bool) -> dict[str, Any]:
    """Calls a second into SQLite, beside ``sqlite3.executemany`` of the finished rows."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder, "ours.db"), Path(folder, "bare.db")
        sink = SQLSink(f"sqlite:///{ours}")
        sink.write([])
        SQLSink(f"sqlite:///{bare}").write([])
        with closing(sqlite3.connect(bare, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")

            def insert(texts: list[tuple[str, list[Any]]]) -> None:
                connection.execute("BEGIN IMMEDIATE")
                for text, rows in texts:
                    connection.executemany(text, rows)
                connection.execute("COMMIT")

            rates = _rates(sink, insert, calls, "sqlite:///x.db", content=content)
        sink.close()
    return _delivery("SQLite", "sqlite3.executemany", rates, content=content)


def postgres_delivery(calls: int, content: bool) -> list[dict[str, Any]]:
    """The same into PostgreSQL, beside psycopg's ``executemany``; nothing without a server."""
    import psycopg

    server = os.environ.get("AI_LEDGER_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
    names = [f"ai_ledger_bench_{uuid4().hex[:8]}" for _ in range(2)]
    try:
        admin = psycopg.connect(server, autocommit=True)
    except psycopg.OperationalError:
        return []
    ours, bare = (server.rpartition("/")[0] + "/" + name for name in names)
    with closing(admin):
        for name in names:
            admin.execute(f"CREATE DATABASE {name}")
        try:
            upgrade(ours)
            upgrade(bare)
            sink = SQLSink(ours)
            with psycopg.connect(bare) as connection, connection.cursor() as cursor:

                def insert(texts: list[tuple[str, list[Any]]]) -> None:
                    for text, rows in texts:
                        cursor.executemany(text, rows)
                    connection.commit()

                rates = _rates(sink, insert, calls, ours, content=content)
            sink.close()
        finally:
            for name in names:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    return [_delivery("PostgreSQL", "psycopg executemany", rates, content=content)]


def _rates(
    sink: SQLSink,
    insert: Callable[[list[tuple[str, list[Any]]]], None],
    calls: int,
    url: str,
    *,
    content: bool,
) -> tuple[float, float]:
    """Calls a second of *sink* and of *insert*, in turns, so that both see the same machine."""
    parsed = database_url(url)
    statements = Statements(parsed.get_dialect()())
    moment = moment_text if parsed.get_backend_name() == "sqlite" else _as_is
    # A busy service: a hundred calls a second.
    records = list(made_calls(calls, content=content, step=timedelta(milliseconds=10)))
    ours = bare = 0.0
    for start in range(0, calls, BATCH):
        batch = records[start : start + BATCH]
        ready = [prepare(record, moment) for record in batch]
        texts = [
            (statements.insert_records, [each.row for each in ready]),
            (statements.insert_contents, [each.content for each in ready if each.content]),
            (statements.insert_tags, [tag for each in ready for tag in each.tags]),
        ]
        begin = time.perf_counter()
        insert([(text, rows) for text, rows in texts if rows])
        middle = time.perf_counter()
        sink.write(batch)
        ours += time.perf_counter() - middle
        bare += middle - begin
    return calls / ours, calls / bare


def _as_is(moment: datetime) -> datetime:
    return moment


def _delivery(
    where: str, baseline: str, rates: tuple[float, float], *, content: bool
) -> dict[str, Any]:
    ours, bare = rates
    kind = "with 1.4 kB of text and a tag" if content else "without text"
    return {
        "name": f"delivery into {where}, calls {kind}, against {baseline}",
        "ours": round(ours),
        "baseline": round(bare),
        "ratio": round(ours / bare, 2),
        "target": f">= {DELIVERY_TARGET}",
        "unit": "calls/s",
    }


# The sums of the shortest report there is, each with the best index for it: all
# columns are in it, in the order of the groups, and deleted calls are not.
_SUMS = "currency, count(*), sum(input_tokens), sum(output_tokens), sum(cost_nano)"
_FROM = (
    "FROM ai_call_records INDEXED BY bench_rows"
    " WHERE started_at >= ? AND started_at < ? AND deleted_at IS NULL"
)
_SUMMED = "input_tokens, output_tokens, cost_nano) WHERE deleted_at IS NULL"
_QUESTIONS = {
    "by model": (
        f"(request_model, currency, started_at, {_SUMMED}",
        f"SELECT request_model, {_SUMS} {_FROM} GROUP BY request_model, currency",
        MONTH_TARGET,
    ),
    "by day": (
        f"(started_at, currency, {_SUMMED}",
        f"SELECT substr(started_at, 1, 10), {_SUMS} {_FROM} GROUP BY 1, currency",
        MONTH_TARGET,
    ),
    "by user, 2,000 of them": (
        f"(user_id, currency, started_at, {_SUMMED}",
        f"SELECT user_id, {_SUMS} {_FROM} GROUP BY user_id, currency ORDER BY 6 DESC LIMIT 10",
        USERS_TARGET,
    ),
}


def months(calls: int, folder: str | None = None) -> list[dict[str, Any]]:
    """A month over *calls* calls: the store's answer beside the sum over the rows."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place, "month.db")
        sink = SQLSink(f"sqlite:///{path}")
        batch: list[CallRecord] = []
        for record in made_calls(calls, content=False):
            batch.append(record)
            if len(batch) == BATCH:
                sink.write(batch)
                batch = []
        sink.write(batch)
        query = Query.build(scope=None, since=MONTH, until=NEXT_MONTH)
        days = tuple(MONTH + timedelta(days=day) for day in range(32))
        asked: dict[str, Callable[[], Any]] = {
            "by model": lambda: sink.aggregate(query, ("request_model",)),
            "by day": lambda: sink.aggregate(query, (), days),
            "by user, 2,000 of them": lambda: sorted(
                sink.aggregate(query, ("user_id",)),
                key=lambda group: -group.totals.cost_nano.get("USD", 0),
            )[:10],
        }
        found: list[dict[str, Any]] = []
        span = (moment_text(MONTH), moment_text(NEXT_MONTH))
        with closing(sqlite3.connect(path)) as connection:
            for name, (index, text, target) in _QUESTIONS.items():
                connection.execute(f"CREATE INDEX bench_rows ON ai_call_records {index}")
                ours = _best(asked[name])
                bare = _best(lambda text=text: connection.execute(text, span).fetchall())
                connection.execute("DROP INDEX bench_rows")
                found.append(
                    {
                        "name": f"a month {name} over {calls:,} calls, against the rows",
                        "ours": round(ours * 1000, 3),
                        "baseline": round(bare * 1000, 3),
                        "ratio": round(bare / ours, 1),
                        "target": f">= {target:g}",
                        "unit": "ms",
                    }
                )
        with suppress(OSError):
            sink.close()
    return found


def _best(work: Callable[[], Any], times: int = 5) -> float:
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls in the month")
    parser.add_argument("--folder", help="where the month's database goes")
    parser.add_argument("--only", choices=["delivery", "months"])
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []
    if asked.only != "months":
        for content in (True, False):
            found.append(sqlite_delivery(30_000, content=content))
            found.extend(postgres_delivery(30_000, content))
    if asked.only != "delivery":
        found.extend(months(asked.calls, asked.folder))
    for figure in found:
        print(
            f"{figure['name']:72} {figure['ours']:>12,} {figure['baseline']:>12,} "
            f"{figure['unit']:8} x{figure['ratio']:<8} target {figure['target']}"
        )


if __name__ == "__main__":
    main()
