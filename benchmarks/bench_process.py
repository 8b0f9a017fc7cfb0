"""What the package costs a process: its import, and its memory after many calls."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORT_TARGET = 0.20
MEMORY_TARGET_MB = 50

_RECORD = """
import sys
from ai_ledger import Ledger

first, last, url = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ledger = Ledger(url, content="none")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


done = 0
for goal in (first, last):
    while done < goal:
        for number in range(min(1_000, goal - done)):
            ledger.record(
                model="qwen-plus", input_tokens=120, output_tokens=48, duration_ms=850,
                user_id=f"u-{number}", business_type="bench",
            )
            done += 1
    assert ledger.flush(600)
    print(resident())
ledger.close(60)
"""


def _import_seconds(statement: str, runs: int, *, before: str = "pass") -> float:
    code = (
        f"{before}; import time; a = time.perf_counter(); {statement}; "
        "print(time.perf_counter() - a)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, stdout=-1).stdout)
        for _ in range(runs + 1)
    ]
    return statistics.median(times[1:])


def run(quick: bool) -> list[dict[str, Any]]:
    """The figures: import time beside that of openai, and growth of resident memory."""
    runs = 5 if quick else 15
    ours = _import_seconds("import ai_ledger", runs)
    # The names that a program really uses load the recording side, in a program
    # that has the SDK anyway.
    used = _import_seconds(
        "from ai_ledger import TrackedClient, call_context", runs, before="import openai"
    )
    openai = _import_seconds("import openai", runs)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "ours": round(seconds * 1e3, 1),
            "baseline": round(openai * 1e3, 1),
            "ratio": round(seconds / openai, 3),
            "target": f"<= {IMPORT_TARGET}",
            "met": seconds / openai <= IMPORT_TARGET,
            "unit": "ms",
        }
        for name, seconds in (
            ("import ai_ledger, beside import openai", ours),
            ("import openai, and then TrackedClient and call_context", used),
        )
    ]
    few, many = (2_000, 50_000) if quick else (10_000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        answer = subprocess.run(
            [sys.executable, "-c", _RECORD, str(few), str(many), url], check=True, stdout=-1
        )
    before, after = (int(line) / 1e6 for line in answer.stdout.split())
    rows.append(
        {
            "name": f"resident memory after {many:,} calls, beside after {few:,}",
            "ours": round(after, 1),
            "baseline": round(before, 1),
            "ratio": round(after / before, 3),
            "target": f"<= {MEMORY_TARGET_MB} MB more",
            "met": after - before <= MEMORY_TARGET_MB,
            "unit": "MB",
        }
    )
    return rows


if __name__ == "__main__":
    for row in run(quick=True):
        print(row)
