"""Kills at random moments: how many of the calls that had returned are lost or counted twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ai_ledger import Ledger, Query

# Says each call's id only after the call has returned, straight into the pipe: what is
# read from it had returned before the kill.
_VICTIM = """
import os, sys
from ai_ledger import Ledger

ledger = Ledger(sys.argv[1])
while True:
    call = ledger.record(model="qwen-plus", input_tokens=120, output_tokens=48, duration_ms=850)
    os.write(1, (call.id + "\\n").encode())
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """Lost and doubled calls over the rounds; both have to be zero."""
    rounds = 10 if quick else 200
    chance = random.Random(7)
    returned: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        for _ in range(rounds):
            victim = subprocess.Popen([sys.executable, "-c", _VICTIM, url], stdout=subprocess.PIPE)
            assert victim.stdout is not None
            head = victim.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.15))
            victim.send_signal(signal.SIGKILL)
            said = head + victim.stdout.read()
            victim.wait()
            # The last line may have been cut off by the kill itself.
            returned.update(said.decode().split("\n")[:-1])
        with Ledger(url) as ledger:
            assert ledger.flush(600)
            everything = Query.build(scope=None)
            stored = [call.id for batch in ledger.store.scan(everything) for call in batch]
            counted = ledger.stats.summary().calls
    lost, doubled = len(returned - set(stored)), len(stored) - len(set(stored))
    assert counted == len(stored)
    return [
        {
            "name": f"{what} of {len(returned):,} returned calls, {rounds} kills",
            "ours": figure,
            "baseline": 0,
            "ratio": figure,
            "target": "0",
            "met": figure == 0,
            "unit": "calls",
        }
        for what, figure in (("lost", lost), ("counted twice", doubled))
    ]


if __name__ == "__main__":
    for row in run(quick=True):
        print(row)
