"""What waits in a journal's folder can be told without disturbing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ai_ledger.journal import Journal, Limits
from ai_ledger.journal.waiting import waiting
from ai_ledger.records import CallRecord, new_id, utc_now


def journal_in(folder: Path) -> Journal:
    journal = Journal(folder, Limits())
    journal.add_sink("store", durable=True)
    return journal


def record() -> CallRecord:
    return CallRecord(id=new_id(), started_at=utc_now(), request_model="qwen-plus")


def test_what_is_not_delivered_waits(tmp_path: Path) -> None:
    """
    A segment is told with the bytes behind its header; one with nothing in it is not.
    """
    journal = journal_in(tmp_path)
    journal.end(record())
    (path,) = tmp_path.glob("*.segment")

    (found,) = waiting(tmp_path)

    header = path.read_bytes().index(b"\n") + 1
    assert (found.name, found.bytes) == (path.name, path.stat().st_size - header)
    assert not found.orphaned
    assert 0 <= found.age_seconds < 60
    journal.close(())


def test_what_every_sink_has_taken_does_not_wait(tmp_path: Path) -> None:
    """
    A delivered record is gone, or behind the cursor that its process saved.
    """
    journal = journal_in(tmp_path)
    journal.end(record())
    batch = journal.next_batch("store")
    assert batch is not None
    journal.acknowledge("store", batch)
    journal.tidy((), scan=False)

    found = waiting(tmp_path)

    journal.close(())
    assert found == []


def test_the_segment_of_a_dead_process_is_left_behind(tmp_path: Path) -> None:
    """
    Nobody holds its lock; and whoever adopts it later still can.
    """
    journal = journal_in(tmp_path)
    journal.end(record())
    for segment in journal._own:
        segment.close()

    (found,) = waiting(tmp_path)

    assert found.orphaned
    heir = journal_in(tmp_path)
    heir.tidy(("store",), scan=True)
    batch = heir.next_batch("store")
    assert batch is not None
    assert len(batch.records) == 1
    heir.close(())


def test_what_is_no_segment_is_not_looked_at(tmp_path: Path) -> None:
    """
    Links, other names and a folder that is not there are nothing that waits.
    """
    (tmp_path / "secret").write_bytes(b"x" * 1000)
    name = "000000000000-1-00000000-000001.segment"
    (tmp_path / name).symlink_to(tmp_path / "secret")
    (tmp_path / "other.segment").write_bytes(b"x" * 1000)

    assert waiting(tmp_path) == []
    assert waiting(tmp_path / "missing") == []


def test_a_child_that_is_forked_meanwhile_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What it inherits of the file is not locked: the segment is adopted while the child lives.
    """
    journal = journal_in(tmp_path)
    journal.end(record())
    for segment in journal._own:
        segment.close()
    inherited: list[int] = []
    close = os.close

    def forked(fd: int) -> None:
        inherited.append(os.dup(fd))  # as a fork does it with all that are open
        close(fd)

    monkeypatch.setattr("ai_ledger.journal.waiting.os.close", forked)
    (found,) = waiting(tmp_path)
    monkeypatch.undo()

    assert found.orphaned
    heir = journal_in(tmp_path)
    heir.tidy(("store",), scan=True)
    assert heir.next_batch("store") is not None
    heir.close(())
    for fd in inherited:
        close(fd)
