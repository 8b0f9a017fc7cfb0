"""Processes that record while a budget's day ends: each call counts once, and on its own day."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from time import sleep, time
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from ai_ledger import Budget, Ledger, records
from ai_ledger.database.tables.calls import records as rows
from ai_ledger.errors import BudgetExceeded
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.sql.shared import shared_database

ZONE = "Asia/Shanghai"
MIDNIGHT = datetime(2026, 3, 5, tzinfo=ZoneInfo(ZONE))
EACH = 10
FEW, PLENTY = 20, 1_000_000
"""Calls a day."""
PROCESSES, THREADS = 2, 3
BEFORE, AFTER = timedelta(seconds=1), timedelta(seconds=0.5)


def set_clock(clock: Callable[[], float]) -> None:
    """From now on *clock* says what time it is in this process."""
    # What `utc_now` asks; whoever has imported that has the new clock as well.
    vars(records)["time"] = SimpleNamespace(time=clock)


def work(url: str, folder: str, limit: int) -> None:
    """One process: calls until the day is over and the next one has begun or is used up."""
    opened = Accounts.__init__

    def with_clock(self: Accounts, database: Any, clock: Any = None) -> None:
        # The same clock for the database.
        opened(self, database, clock or records.utc_now)

    setattr(Accounts, "__init__", with_clock)  # noqa: B010  # a method cannot be assigned to
    set_clock((MIDNIGHT - BEFORE).timestamp)
    budget = Budget(
        tokens=limit * EACH, name="day", per="day", tz=ZONE,
        max_output_tokens=EACH, unseen_input_tokens=0, warn_at=(),
    )  # fmt: skip
    sent: dict[str, str] = {}
    begun = threading.Event()

    def send(until: datetime) -> None:
        """One call that goes on until then, if there is enough for it."""
        with ledger.call("m") as call:
            begun.set()
            while records.utc_now() < until:
                sleep(0.001)
            call.set_usage(input_tokens=0, output_tokens=EACH)
        assert call.record is not None
        sent[call.id] = _day(call.record.started_at)

    def send_on(_: int) -> None:
        while True:
            late = records.utc_now() >= MIDNIGHT + AFTER
            try:
                send(records.utc_now())
            except BudgetExceeded:
                if late:
                    return
                sleep(0.001)
            else:
                if late and limit == PLENTY:
                    return

    with Ledger(url, policies=[budget], journal=folder) as ledger:
        with ThreadPoolExecutor(THREADS + 1) as pool:
            # One that begins on the one day, while the clock stands still, and ends on the other.
            over = pool.submit(send, MIDNIGHT + AFTER / 2)
            assert begun.wait(60)
            print("ready", flush=True)
            ahead = float(sys.stdin.readline())
            set_clock(lambda: time() + ahead)
            list(pool.map(send_on, range(THREADS)))
            over.result()
        assert ledger.flush(60)
    print(json.dumps(sent))


@pytest.mark.parametrize("limit", [FEW, PLENTY], ids=["used up", "plenty"])
def test_midnight(sql_url: str, tmp_path: Path, limit: int) -> None:
    """
    Of two processes whose day ends, each call is counted once, on the day on which it began.
    """
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, sql_url, str(tmp_path / f"j{number}"), str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        ahead = (MIDNIGHT - BEFORE).timestamp() - time()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{ahead}\n")
            worker.stdin.flush()
        told = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    calls = {call_id: day for each in told for call_id, day in each.items()}
    sent = Counter(calls.values())
    with shared_database(sql_url).reading() as connection:
        found = connection.execute(sa.select(rows.c.id, rows.c.started_at, rows.c.status)).all()
    stored = {row.id: _day(row.started_at) for row in found if row.status == "success"}
    accounts = Accounts(shared_database(sql_url), lambda: MIDNIGHT + AFTER)
    known = accounts.budget("day")
    assert known is not None
    counted = {each.period: each for each in accounts.history(known.id)}

    assert set(sent) == {"2026-03-04", "2026-03-05"}
    assert stored == calls
    # Those that were refused are counted as well, and took nothing.
    assert {day: each.calls for day, each in counted.items()} == Counter(
        _day(row.started_at) for row in found
    )
    assert {day: each.used for day, each in counted.items()} == {
        day: number * EACH for day, number in sent.items()
    }
    assert [each.reserved for each in counted.values()] == [0, 0]
    if limit == FEW:
        assert sent["2026-03-04"] <= limit
        assert sent["2026-03-05"] == limit
    assert accounts.check() == []


def _day(moment: datetime) -> str:
    return moment.astimezone(ZoneInfo(ZONE)).date().isoformat()


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
