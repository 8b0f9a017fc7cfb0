"""One benchmark, run where it is called: its rows, each with a verdict."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

Row = dict[str, Any]
"""``benchmark``, ``name``, ``ours``, ``baseline``, ``unit``, ``ratio``, ``target``, ``met``."""


def measure(name: str, quick: bool) -> list[Row]:
    """The rows of ``bench_<name>``, each with its verdict."""
    rows: list[Row] = import_module(f"benchmarks.bench_{name}").run(quick)
    return [
        {"benchmark": name, **row, "met": row["met"] if "met" in row else _is_met(row)}
        for row in rows
    ]


def _is_met(row: Row) -> bool:
    """Whether the ratio meets a target such as ``>= 0.6``."""
    found = re.fullmatch(r"([<>])= ([0-9.e+]+)", row["target"])
    if found is None:
        raise ValueError(f"{row['name']}: 'met' is missing, and cannot be told from the target")
    bound = float(found[2])
    return row["ratio"] <= bound if found[1] == "<" else row["ratio"] >= bound
