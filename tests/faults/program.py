"""A program that records calls and then ends in the way it is told, for the tests beside it."""

from __future__ import annotations

import atexit
import os
import signal
import sys

_late_calls = 0


@atexit.register
def _late() -> None:
    # Registered before the library is imported, so it runs after the library's own.
    for _ in range(_late_calls):
        call()


import asyncio  # noqa: E402
import concurrent.futures  # noqa: E402
import faulthandler  # noqa: E402
import multiprocessing  # noqa: E402
import sqlite3  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from ai_ledger.delivery import Delivery  # noqa: E402
from ai_ledger.errors import SinkUnavailable  # noqa: E402
from ai_ledger.records import CallRecord, new_id, utc_now  # noqa: E402


class Table:
    """The smallest durable sink: one table with a primary key."""

    name = "table"

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, records: Sequence[CallRecord]) -> None:
        try:
            with sqlite3.connect(self.path, timeout=5, isolation_level=None) as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=NORMAL")
                db.execute("BEGIN IMMEDIATE")
                db.execute("CREATE TABLE IF NOT EXISTS calls (id TEXT PRIMARY KEY, status TEXT)")
                db.executemany(
                    "INSERT INTO calls VALUES (?, ?) ON CONFLICT (id) DO UPDATE"
                    " SET status = excluded.status WHERE calls.status = 'unfinished'",
                    [(record.id, record.status) for record in records],
                )
                db.execute("COMMIT")
            db.close()
        except sqlite3.Error as error:
            raise SinkUnavailable(str(error)) from error


class Away:
    """A durable sink that is never there, or that never answers."""

    name = "away"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def write(self, records: Sequence[CallRecord]) -> None:
        time.sleep(self.seconds)
        raise SinkUnavailable("gone")


class Screen:
    """A sink that keeps nothing: what it is not given in time it never gets."""

    name = "screen"
    durable = False

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, records: Sequence[CallRecord]) -> None:
        with open(self.path, "a", encoding="ascii") as file:
            file.write("".join(f"{record.id}\n" for record in records))


def open_sink(url: str) -> object:
    if url.startswith("screen:"):
        return Screen(url.removeprefix("screen:"))
    if url.startswith("away:"):
        return Away(float(url.removeprefix("away:")))
    if url.startswith("table:"):
        return Table(url.removeprefix("table:"))
    from ai_ledger.sinks import open_sink as real

    return real(url)


def call() -> None:
    """One call: begin, end, and a line in the file of acknowledged ones once both returned."""
    record = CallRecord(
        id=new_id(),
        started_at=utc_now(),
        request_model="m",
        input_tokens=3,
        user_id="u",
        request_content="x" * 200,
    )
    try:
        delivery.begin(record.replace(status="unfinished", request_content=None))
        delivery.end(record)
    except BaseException as error:
        os.write(acks, f"raised {error!r}\n".encode())
        raise
    os.write(acks, record.id.encode() + b"\n")


def calls(number: int | None = None) -> None:
    for _ in range(count if number is None else number):
        call()


def calls_until_stopped() -> None:
    while True:
        call()
        time.sleep(0.0002)


def in_child(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def reap(*pids: int) -> None:
    for pid in pids:
        os.waitpid(pid, 0)


# The ways to end


def end_by_return() -> None:
    calls()


def end_by_exception() -> None:
    calls()
    raise ValueError("a mistake of the program's")


def end_by_sys_exit() -> None:
    calls()
    sys.exit(3)


def end_by_os_exit() -> None:
    calls()
    os._exit(3)


def end_by_exec() -> None:
    calls()
    os.execv("/bin/true", ["true"])


def end_by_abort() -> None:
    calls()
    os.abort()


def end_by_segfault() -> None:
    calls()
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def end_by_kill() -> None:
    calls()
    os.kill(os.getpid(), signal.SIGKILL)


def end_by_sigterm() -> None:
    calls()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def end_by_sigterm_handled() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    calls()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def end_by_sigint() -> None:
    calls()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def end_by_sighup() -> None:
    calls()
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(5)


def end_by_late_atexit() -> None:
    global _late_calls
    _late_calls = count
    calls()


def end_with_a_daemon_thread() -> None:
    threading.Thread(target=calls_until_stopped, daemon=True).start()
    calls()


def end_with_a_thread_pool() -> None:
    pool = concurrent.futures.ThreadPoolExecutor(4)
    for _ in range(4):
        pool.submit(calls, count // 4)


def end_with_a_process_pool() -> None:
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(calls, [count // 4] * 4))


def end_by_cancelling_asyncio() -> None:
    async def work() -> None:
        while True:
            call()
            await asyncio.sleep(0)

    async def main() -> None:
        try:
            await asyncio.wait_for(work(), 0.2)
        except TimeoutError:
            sys.exit(1)

    asyncio.run(main())


# The ways to fork


def fork_and_return() -> None:
    calls()
    pid = os.fork()
    calls()
    if pid:
        reap(pid)


def fork_and_os_exit() -> None:
    calls()
    reap(in_child(calls))


def fork_and_kill() -> None:
    calls()

    def child() -> None:
        calls()
        os.kill(os.getpid(), signal.SIGKILL)

    reap(in_child(child))
    calls()


def fork_and_die_first() -> None:
    calls()

    def child() -> None:
        time.sleep(0.3)
        calls()
        delivery.flush(10)

    in_child(child)
    os.kill(os.getpid(), signal.SIGKILL)


def fork_by_multiprocessing() -> None:
    _by_multiprocessing("fork")


def fork_by_spawn() -> None:
    _by_multiprocessing("spawn")


def _by_multiprocessing(method: str) -> None:
    calls()
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=spawned, args=(sys.argv,)) for _ in range(2)]
    for process in processes:
        process.start()
    calls()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def spawned(argv: list[str]) -> None:
    if "delivery" not in globals():
        set_up(argv)
    calls()


def fork_by_pool() -> None:
    calls()
    # Leaving the block terminates the workers.
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(calls, [count // 4] * 4)


def fork_while_busy() -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            call()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        reap(in_child(lambda: calls(10)))
    stop.set()
    for thread in threads:
        thread.join()


def fork_before_serving() -> None:
    calls(10)

    def serve() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        calls_until_stopped()

    workers = [in_child(serve) for _ in range(3)]
    time.sleep(0.4)
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    reap(*workers)


def fork_to_daemonise() -> None:
    calls()
    reader, writer = os.pipe()
    if os.fork():
        # The test waits until the last one has closed this.
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    calls()


def run_until_stopped() -> None:
    calls_until_stopped()


def cut_off() -> None:
    calls()
    delivery.begin(CallRecord(id=new_id(), started_at=utc_now(), status="unfinished"))
    os.kill(os.getpid(), signal.SIGKILL)


def set_up(argv: list[str]) -> None:
    global delivery, acks, count
    url, place, ack_file, number = argv[2:6]
    folder = None if url.startswith("screen:") else Path(place)
    count = int(number)
    acks = os.open(ack_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    delivery = Delivery([open_sink(url)], folder=folder)  # type: ignore[list-item]


if __name__ == "__main__":
    set_up(sys.argv)
    globals()[sys.argv[1]]()
