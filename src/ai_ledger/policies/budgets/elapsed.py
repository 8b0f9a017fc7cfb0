"""The clock that leases are measured by: it goes on while the machine sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

elapsed: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
"""Seconds; like `time.monotonic`, which stands still in a machine that is suspended."""
