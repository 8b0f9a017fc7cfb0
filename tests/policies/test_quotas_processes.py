"""Quotas over several processes, killed ones among them, and with the store away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import pytest
import sqlalchemy as sa
from tests.policies.support import call

from ai_ledger import Ledger
from ai_ledger.database.tables.quotas import places
from ai_ledger.errors import ConfigurationError, ModelNotAllowed, TooSoon
from ai_ledger.policies import Quotas
from ai_ledger.policies.quotas import known
from ai_ledger.policies.quotas.known import Known
from ai_ledger.policies.quotas.rows import snapshot
from ai_ledger.sinks.sql import shared
from ai_ledger.testing.clock import FakeClock

PROCESSES = 4

PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from ai_ledger.errors import CallRefused
from ai_ledger.policies import Quotas
from ai_ledger.records import CallRecord, new_id

url, threads, calls, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
quotas = Quotas(url, **eval(options))

def ask(_):
    call = CallRecord(
        id=new_id(), started_at=datetime.now(UTC), status="unfinished",
        org_id="acme", request_model="m",
    )
    try:
        quotas.check(call, None)
    except CallRefused:
        return None
    return call

def say(text):
    print(text, flush=True)

quotas.rows()
say("ready")
sys.stdin.readline()
with ThreadPoolExecutor(threads) as pool:
    got = [each for each in pool.map(ask, range(calls)) if each is not None]
say(len(got))
sys.stdin.readline()
for each in got:
    quotas.settle(each)
"""


@contextmanager
def asking(
    url: str, *, processes: int = PROCESSES, threads: int = 8, calls: int = 8, **options: Any
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that ask at once when told to, and give back when told again."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, str(threads), str(calls), repr(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        for each in running:
            assert out(each).readline() == "ready\n"
        yield running
    finally:
        for each in running:
            each.kill()
            each.wait(30)
            out(each).close()
            cast("IO[str]", each.stdin).close()


def out(process: subprocess.Popen[str]) -> IO[str]:
    return cast("IO[str]", process.stdout)


def go(processes: list[subprocess.Popen[str]]) -> None:
    for each in processes:
        stdin = cast("IO[str]", each.stdin)
        stdin.write("go\n")
        stdin.flush()


def test_one_turn_for_all_processes(sql_url: str) -> None:
    """
    Of all threads of all processes that ask at once, one gets the turn.
    """
    Quotas(sql_url).set("acme", "m", min_interval_s=600)
    with asking(sql_url) as processes:
        go(processes)
        assert sum(int(out(each).readline()) for each in processes) == 1


def test_as_many_places_as_there_are(sql_url: str) -> None:
    """
    Exactly as many calls are in flight as the row allows, and all are given back.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", max_concurrent=5)
    with asking(sql_url) as processes:
        go(processes)
        assert sum(int(out(each).readline()) for each in processes) == 5
        assert quotas.in_flight("m", "acme") == 5
        go(processes)
        for each in processes:
            assert each.wait(60) == 0
    assert quotas.in_flight("m", "acme") == 0


def test_a_killed_process_gives_its_places_back(sql_url: str) -> None:
    """
    What it held is free when its time is up; a process that lives keeps what it holds.
    """
    quotas = Quotas(sql_url, wait=True, max_wait=60)
    quotas.set("acme", "m", max_concurrent=3)
    with asking(sql_url, processes=1, calls=2, place_ttl=2.0) as (process,):
        go([process])
        assert out(process).readline() == "2\n"
        mine = call()
        quotas.check(mine, None)
        before = ends(sql_url)
        end = time.monotonic() + 60
        while min(ends(sql_url)) <= max(before[:2]) and time.monotonic() < end:
            time.sleep(0.05)
        assert min(ends(sql_url)) > max(before[:2])
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        for _ in range(2):
            quotas.check(call(), None)  # waits
        assert quotas.in_flight("m", "acme") == 3


def ends(url: str) -> list[int]:
    """When the places are free that nobody renews, the earliest first."""
    with shared.shared_database(url).reading() as connection:
        return sorted(connection.execute(sa.select(places.c.expires_at_us)).scalars())


def test_an_edit_reaches_other_processes(sql_url: str) -> None:
    """
    Within the refresh: the rows are read again when they are too old, and by then anew.
    """
    quotas = Quotas(sql_url)
    clock = FakeClock()
    elsewhere = Known(lambda: shared.shared_database(sql_url), clock=clock.monotonic)
    assert elsewhere.rows().switches == {}
    quotas.switch_off("m")
    assert elsewhere.rows().switches == {}
    clock.advance(known.REFRESH_S + 0.01)
    assert elsewhere.rows().switches["m"].off


def test_a_look_that_finds_nothing_new(sql_url: str) -> None:
    """
    Rows that nobody has edited are not read again.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m")
    database = shared.shared_database(sql_url)
    first = snapshot(database)
    assert snapshot(database, first) is first
    quotas.set("acme", "m", tokens=1)
    assert snapshot(database, first).quotas["acme", "m"].tokens == 1


def test_a_child_process_starts_with_nothing(sql_url: str) -> None:
    """
    After a fork the child asks and is refused by what its parent holds, and ends none of it.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", max_concurrent=1)
    quotas.set("acme", "n", max_concurrent=1)
    mine = call()
    quotas.check(mine, None)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            quotas.settle(mine)
            quotas.check(other := call(model="n"), None)
            quotas.settle(other)
            try:
                quotas.check(call(), None)
            except TooSoon:
                code = 0
            quotas.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert quotas.in_flight("m", "acme") == 1
    assert quotas.in_flight("n", "acme") == 0
    quotas.settle(mine)
    quotas.close()
    assert quotas.in_flight("m", "acme") == 0


AWAY = "postgresql://nobody@127.0.0.1:1/none"


def test_the_store_is_away_from_the_start() -> None:
    """
    The choice that was made applies, and the record says so.
    """
    allowing, refusing = Quotas(AWAY), Quotas(AWAY, on_unavailable="refuse")
    revision = allowing.check(call(), None)
    assert revision is not None
    assert dict(revision.marks) == {"ai_ledger.quota": "unchecked"}
    with pytest.raises(TooSoon, match="cannot be told"):
        refusing.check(call(), None)


def test_an_unchecked_call_is_on_the_books(tmp_path: Any) -> None:
    """
    The mark is on the record, and the ledger's health counts it.
    """
    with Ledger(f"sqlite:///{tmp_path}/a.db", journal=False, policies=[Quotas(AWAY)]) as ledger:
        with ledger.call("m", org_id="acme"):
            pass
        assert ledger.flush(10)
        (record,) = ledger.stats.calls().calls
        assert record.tags == {"ai_ledger.quota": "unchecked"}
        assert "quotas could not be checked" in str(ledger.health())


def test_the_store_goes_away(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was known still holds: a model that was off stays off, rates are still counted.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    quotas.switch_off("m")
    quotas.set("acme", "n", rates="1/day", max_concurrent=5)
    quotas.rows()
    quotas.check(call(model="x"), None)

    def away() -> Any:
        raise ConfigurationError("no tables any more")

    monkeypatch.setattr(quotas, "_database", away)
    monkeypatch.setattr(quotas._known, "_opened", away)
    monkeypatch.setattr(quotas._shared, "_opened", away)
    quotas._known.edited()
    with pytest.raises(ModelNotAllowed):
        quotas.check(call(model="m"), None)
    unchecked = quotas.check(call(model="n"), None)
    assert unchecked is not None
    assert unchecked.marks == {"ai_ledger.quota": "unchecked"}


def _redis() -> str:
    url = os.environ.get("AI_LEDGER_TEST_REDIS", "redis://127.0.0.1:6379")
    redis = pytest.importorskip("redis")
    try:
        redis.Redis.from_url(url, socket_connect_timeout=2).ping()
    except redis.exceptions.RedisError as error:
        pytest.skip(f"no Redis; AI_LEDGER_TEST_REDIS names one ({error})")
    return url


def test_rates_of_all_processes(tmp_path: Any) -> None:
    """
    Counted in Redis, a rate is that of all processes together.
    """
    storage = _redis()
    url = f"sqlite:///{tmp_path}/ledger.db"
    # A window of its own each time: what an earlier run has counted stays for an hour.
    hours = int(time.time()) % 10_000_000 + 1
    Quotas(url).set("acme", "m", rates=f"10 per {hours} hours")
    with asking(url, storage=storage) as processes:
        go(processes)
        assert sum(int(out(each).readline()) for each in processes) == 10


def test_the_storage_of_rates_is_away(tmp_path: Any) -> None:
    """
    The choice that was made applies to it as well.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    pytest.importorskip("redis")
    away = "redis://127.0.0.1:1"
    Quotas(url).set("acme", "m", rates="1/day")
    assert Quotas(url, storage=away).check(call(), None) is not None
    with pytest.raises(TooSoon, match="cannot be told"):
        Quotas(url, storage=away, on_unavailable="refuse").check(call(), None)
