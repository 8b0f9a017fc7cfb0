"""A disk that is full and then freed: nothing is unaccounted for, and nothing is torn."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ai_ledger.delivery import Delivery, Limits
from ai_ledger.journal.overflow import CALLS_TAG
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks import open_sink


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def call(**fields: Any) -> CallRecord:
    return CallRecord(
        id=new_id(),
        started_at=utc_now(),
        request_model="m",
        user_id="u",
        input_tokens=3,
        **fields,
    )


@pytest.mark.parametrize("store", ["sqlite", "jsonl"])
@pytest.mark.parametrize("memory", [64 * 1024 * 1024, 200_000], ids=["room in memory", "none"])
def test_a_full_disk(small_disk: Path, store: str, memory: int) -> None:
    """
    While it is full, flush says no; once it is freed everything is there, as records or as sums.
    """
    url = f"sqlite:///{small_disk}/l.db" if store == "sqlite" else f"jsonl:///{small_disk}/usage"
    sink = open_sink(url)
    delivery = Delivery([sink], folder=small_disk / "journal", limits=Limits(memory_bytes=memory))
    calls = [call(request_content="x" * 500) for _ in range(1_500)]
    for each in calls[:300]:
        delivery.end(each)
    assert delivery.flush(60) is True
    with pytest.raises(OSError, match="No space"), open(small_disk / "ballast", "wb") as ballast:
        while True:
            ballast.write(b"x" * 65_536)
            ballast.flush()
    for each in calls[300:]:
        delivery.end(each)
    assert delivery.flush(0.3) is False

    os.unlink(small_disk / "ballast")
    assert delivery.flush(60) is True
    delivery.end(call())
    assert delivery.flush(60) is True
    # Sums find room only after what was in memory has gone.
    assert delivery.flush(60) is True
    assert delivery.close() is True

    query = Query.build(scope=None)
    stored = [each for batch in sink.scan(query) for each in batch]  # type: ignore[attr-defined]
    assert sum(int(each.tags.get(CALLS_TAG, "1")) for each in stored) == 1_501
    assert sum(each.input_tokens or 0 for each in stored) == 3 * 1_501
    assert len({each.id for each in stored}) == len(stored)
    assert any(CALLS_TAG in each.tags for each in stored) == (memory == 200_000)


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """
    Where files may not grow, memory serves; nothing is raised into the call.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            taken: list[CallRecord] = []
            sink = type("Sink", (), {"write": lambda self, records: taken.extend(records)})()
            delivery = Delivery([sink], folder=tmp_path / "journal")
            calls = [call(request_content="x" * 500) for _ in range(200)]
            for each in calls:
                delivery.end(each)
            assert delivery.flush(60) is True
            assert sorted(each.id for each in taken) == [each.id for each in calls]
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
