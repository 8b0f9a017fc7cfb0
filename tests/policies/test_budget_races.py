"""Many threads in several processes against one budget: exactly as many calls as it is worth."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ai_ledger import Budget, Ledger
from ai_ledger.errors import BudgetExceeded
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.sql.shared import shared_database

# What one call takes, which is also the most that it can take.
INPUT, OUTPUT = 40, 60
EACH = INPUT + OUTPUT


def budgets(calls: int) -> list[Budget]:
    return [
        Budget(
            tokens=calls * EACH,
            name="race",
            max_output_tokens=OUTPUT,
            unseen_input_tokens=INPUT,
            warn_at=(),
        ),
        Budget(
            tokens=calls * EACH * 10,
            name="wide",
            max_output_tokens=OUTPUT,
            unseen_input_tokens=INPUT,
            warn_at=(),
        ),
    ]


def work(url: str, folder: str, calls: int, threads: int) -> None:
    """One process: each thread calls until it is refused. Prints how many were sent."""
    with Ledger(url, policies=budgets(calls), journal=folder, exit_timeout=60) as ledger:

        def until_refused(_: int) -> int:
            count = 0
            try:
                while True:
                    with ledger.call("m") as call:
                        count += 1
                        call.set_usage(input_tokens=INPUT, output_tokens=OUTPUT)
            except BudgetExceeded:
                return count

        with ThreadPoolExecutor(threads) as pool:
            print("ready", flush=True)
            sys.stdin.readline()
            total = sum(pool.map(until_refused, range(threads)))
        assert ledger.flush(60)
    print(total)


def race(url: str, folder: Any, *, calls: int, threads: int, processes: int) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, url, str(folder / f"j{number}"), str(calls), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    with Ledger(url, policies=budgets(calls), journal=folder / "j") as ledger:
        budget = ledger.policies[0]
        assert isinstance(budget, Budget)
        assert budget.spent() == 0  # registered, so that there is something to watch
        accounts = Accounts(shared_database(ledger))
        most: list[int] = []
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                for account in accounts.history(budget.member.id or 0):
                    most.append(account.used + account.reserved)
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            watcher.start()
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            total = sum(int(worker.communicate(timeout=300)[0]) for worker in workers)
        finally:
            done.set()
            for worker in workers:
                worker.kill()
                worker.wait()
        watcher.join()
        assert [worker.returncode for worker in workers] == [0] * processes
        assert total == calls
        assert budget.spent() == calls * EACH
        assert budget.reserved() == 0
        assert max(most, default=0) <= calls * EACH
        assert accounts.check() == []


def test_threads_in_processes_send_exactly_what_there_is(sql_url: str, tmp_path: Any) -> None:
    """
    64 threads in each of 4 processes; what is used and reserved never passes the limit.
    """
    race(sql_url, tmp_path, calls=48, threads=64, processes=4)


@pytest.mark.slow
def test_many_calls(sql_url: str, tmp_path: Any) -> None:
    """
    The same with so many calls that most are admitted without asking the store.
    """
    race(sql_url, tmp_path, calls=20_000, threads=64, processes=4)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
