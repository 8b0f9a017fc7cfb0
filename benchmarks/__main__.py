"""All benchmarks, one after the other, as a table and as JSON: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, measure

HERE = Path(__file__).parent


def main() -> int:
    """Run them, print a table, write JSON; 1 when a figure misses its target."""
    modules = sorted(file.stem.removeprefix("bench_") for file in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(modules)}")
    parser.add_argument("--quick", action="store_true", help="smaller numbers, wider spread")
    parser.add_argument(
        "--json", type=Path, default=HERE / "results" / "latest.json", help="where the figures go"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(modules)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(modules)}")

    rows: list[Row] = []
    for name in options.names or modules:
        print(f"{name} …", file=sys.stderr, flush=True)
        started = time.monotonic()
        # A process of its own each, so that what one leaves in memory slows no other.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found = pool.submit(measure, name, options.quick).result()
        rows += found
        print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    facts = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **machine()}
    print(table(rows))
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(
        json.dumps({**facts, "quick": options.quick, "rows": rows}, indent=2, ensure_ascii=False)
        + "\n",
        "utf-8",
    )
    return 0 if all(row["met"] for row in rows) else 1


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for package in ("ai-ledger", "openai", "sqlalchemy"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| figure | ours | baseline | | ratio | target | met |",
        "|---|--:|--:|---|--:|---|---|",
    ]
    for row in rows:
        cells = (
            row["name"],
            f"{row['ours']:,}",
            f"{row['baseline']:,}",
            row["unit"],
            f"{row['ratio']:,}",
            row["target"],
            "yes" if row["met"] else "**no**",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
