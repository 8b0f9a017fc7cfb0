"""Loading: imports in the background of a program that forks."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A program without any delivery: prices or a store alone.
PROGRAM = """
import os, sys, threading, time
import ai_ledger.loading as module
from ai_ledger.loading import loading

assert not any(name.startswith("ai_ledger.delivery") for name in sys.modules)
module.LONGEST_WAIT_SECONDS = {longest}
inside = threading.Event()


def load():
    with loading, loading:
        inside.set()
        time.sleep({takes})


threading.Thread(target=load, daemon=True).start()
inside.wait()
started = time.monotonic()
pid = os.fork()
if not pid:
    thread = threading.Thread(target=load, daemon=True)
    inside.clear()
    thread.start()
    os._exit(0 if inside.wait(3) else 1)
print(time.monotonic() - started)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
with loading:
    pass
"""


def forked_after(*, takes: float, longest: float) -> float:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(takes=takes, longest=longest)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
    return float(ended.stdout)


def test_a_fork_waits_for_an_import() -> None:
    """
    Without a delivery too, a child is born when no import is half done, and can import itself.
    """
    assert forked_after(takes=0.3, longest=5.0) == pytest.approx(0.3, abs=0.2)


def test_a_fork_does_not_wait_forever() -> None:
    """
    An import that hangs stops neither the fork nor the child, which has a lock of its own.
    """
    assert forked_after(takes=1.0, longest=0.2) == pytest.approx(0.2, abs=0.2)
