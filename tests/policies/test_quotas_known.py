"""The rows of quotas that a process remembers: who waits for them, and what it hears."""

from __future__ import annotations

from typing import Any

import pytest

from ai_ledger.errors import SchemaError, SinkUnavailable
from ai_ledger.policies.quotas.known import REFRESH_S, Known, forget_rows, known_rows
from ai_ledger.policies.quotas.rows import Snapshot
from ai_ledger.testing.clock import FakeClock


class Rows:
    """What `snapshot` finds, or the trouble that it runs into."""

    def __init__(self) -> None:
        self.stamp = 1
        self.trouble: Exception | None = None
        self.looks = 0

    def snapshot(self, _: object, known: Snapshot | None = None) -> Snapshot:
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        if known is not None and known.stamp == self.stamp:
            return known
        return Snapshot(self.stamp, {}, {})


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    rows = Rows()
    monkeypatch.setattr("ai_ledger.policies.quotas.rows.snapshot", rows.snapshot)
    return rows


def nothing() -> Any:
    """No database: `Rows` asks none."""


def test_while_calls_come_nobody_waits(rows: Rows) -> None:
    """
    Half-way to their age the rows are looked at in the background, and kept if nothing is new.
    """
    clock = FakeClock()
    known = Known(nothing, clock.monotonic)
    assert not known.is_fresh
    first = known.rows()
    for _ in range(5):
        clock.advance(REFRESH_S * 0.6)
        assert known.is_fresh
        assert known.rows() is first
        looking = known._rows.soon()
        assert looking is None or looking.wait(60)
    assert rows.looks == 6


def test_a_failure_is_heard_for_a_while(rows: Rows) -> None:
    """
    The call that tries hears what is wrong, those after it without trying, and an edit tries.
    """
    clock = FakeClock()
    known = Known(nothing, clock.monotonic)
    rows.trouble = SchemaError("other tables")
    with pytest.raises(SchemaError, match="other tables"):
        known.rows()
    rows.trouble = None
    assert known.is_fresh
    with pytest.raises(SinkUnavailable, match="other tables"):
        known.rows()
    assert (known.last, rows.looks) == (None, 1)
    known.edited()
    assert not known.is_fresh

    assert known.rows().stamp == 1


def test_a_failure_in_the_background_is_no_callers(rows: Rows) -> None:
    """
    The next call has it tried again, and goes on with the rows that still hold.
    """
    clock = FakeClock()
    known = Known(nothing, clock.monotonic)
    known.rows()
    rows.trouble = SinkUnavailable("away")
    rows.stamp = 2
    clock.advance(REFRESH_S * 0.6)
    looking = known._rows.soon()
    assert looking is not None
    assert looking.wait(60)
    rows.trouble = None
    known.rows()
    looking = known._rows.soon()
    assert looking is None or looking.wait(60)

    assert known.rows().stamp == 2


def test_one_for_each_database() -> None:
    """
    All quotas of a process hear of the edits of any of them.
    """
    known = known_rows("sqlite:///a.db", nothing)
    assert known_rows("sqlite:///a.db", nothing) is known
    assert known_rows("sqlite:///b.db", nothing) is not known
    forget_rows()
    assert known_rows("sqlite:///a.db", nothing) is not known
