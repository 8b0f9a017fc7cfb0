"""Loading: imports in the background of a program that forks."""

from __future__ import annotations

import subprocess
import sys

# A program without any delivery: prices or a store alone.
PROGRAM = """
import os, sys, threading
import ai_ledger.loading as module
from ai_ledger.loading import loading

assert not any(name.startswith("ai_ledger.delivery") for name in sys.modules)
module.LONGEST_WAIT_SECONDS = {longest}
inside, loaded, let_go = threading.Event(), threading.Event(), threading.Event()


def load():
    with loading, loading:
        inside.set()
        let_go.wait({takes})
        loaded.set()


threading.Thread(target=load, daemon=True).start()
inside.wait()
pid = os.fork()
if not pid:
    thread = threading.Thread(target=load, daemon=True)
    inside.clear()
    thread.start()
    os._exit(0 if inside.wait(30) else 1)
print(loaded.is_set())
let_go.set()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
with loading:
    pass
"""


def waited_for(*, takes: float, longest: float) -> bool:
    """Whether an import that *takes* so long was over when the fork was."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(takes=takes, longest=longest)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
    return ended.stdout == "True\n"


def test_a_fork_waits_for_an_import() -> None:
    """
    Without a delivery too, a child is born when no import is half done, and can import itself.
    """
    assert waited_for(takes=0.3, longest=60.0)


def test_a_fork_does_not_wait_forever() -> None:
    """
    An import that hangs stops neither the fork nor the child, which has a lock of its own.
    """
    assert not waited_for(takes=60.0, longest=0.2)
