"""A signal flushes when asked to, and does afterwards what it did before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import signal, sys, time
from ai_ledger import Ledger, install_signal_flush
from ai_ledger.sinks.memory import MemorySink

class Late(MemorySink):
    durable = True
    def write(self, records):
        super().write(records)
        open(sys.argv[1], "a").writelines(record.id + "\\n" for record in records)

if sys.argv[2] == "handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
if sys.argv[2] != "plain":
    # Longer than by default: a busy machine may need it for the imports alone.
    install_signal_flush(timeout=60.0)
ledger = Ledger(sinks=[Late()], journal=sys.argv[1] + ".journal", exit_timeout=0.0)
print(ledger.record(model="m").id, flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize(
    ("kind", "code", "delivered"),
    [
        pytest.param("flush", -signal.SIGTERM, True, id="the default still kills"),
        pytest.param("handled", 7, True, id="the handler before it still runs"),
        pytest.param("plain", -signal.SIGTERM, False, id="without it nothing is flushed"),
    ],
)
def test_signal_flush(tmp_path: Path, kind: str, code: int, delivered: bool) -> None:
    """
    With install_signal_flush a SIGTERM delivers first; the process ends as it would have.
    """
    store = tmp_path / "store"
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(store), kind], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    call = program.stdout.readline()
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=100)

    assert program.returncode == code
    assert (store.read_text() if store.exists() else "") == (call if delivered else "")
