"""Limits: how much the journal and memory may hold before something has to give."""

from __future__ import annotations

import msgspec

_MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """
    The bounds of journal and delivery. All in bytes where nothing else is said.

    What gives, in order: above 80 % of ``journal_bytes`` texts are left out and
    metering goes on; a journal that is full, or a disk that is, turns to memory;
    when memory is full too, records are added up by model, user and organisation
    and the sums are delivered later.
    """

    journal_bytes: int = 512 * _MIB
    """Of all processes that share the folder."""
    memory_bytes: int = 64 * _MIB
    segment_bytes: int = 8 * _MIB
    """A segment that has reached this size is followed by a new one."""
    record_bytes: int = 4 * _MIB
    """A longer record is kept without its texts."""
    batch_records: int = 500
    batch_bytes: int = _MIB
