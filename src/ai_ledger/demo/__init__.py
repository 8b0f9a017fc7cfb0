"""The demonstration: an imaginary company, its calls of today and its past month."""

from __future__ import annotations

from ai_ledger.demo.company import DemoRun, run_demo
from ai_ledger.demo.month import furnish

__all__ = ["DemoRun", "furnish", "run_demo"]
