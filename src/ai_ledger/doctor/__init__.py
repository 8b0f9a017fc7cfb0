"""The doctor: drives the installed SDK through every form of call, and checks the books."""

from __future__ import annotations

from ai_ledger.doctor.examine import Finding, examine

__all__ = ["Finding", "examine"]
