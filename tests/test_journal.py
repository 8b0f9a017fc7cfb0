"""The journal: what is written survives, what is damaged harms nobody else, what is done goes."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.bounds import storable
from ai_ledger.delivery import process
from ai_ledger.errors import SinkUnavailable
from ai_ledger.journal import Journal, Limits
from ai_ledger.journal import segment as segment_module
from ai_ledger.journal.folder import held
from ai_ledger.journal.lines import INVALID_TAG, decode, encode
from ai_ledger.journal.overflow import CALLS_TAG, Overflow, priced_as_calls
from ai_ledger.journal.segment import create_segment
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks.scan import forgotten


def record(**fields: Any) -> CallRecord:
    return CallRecord(**{"id": new_id(), "started_at": utc_now(), **fields})


def begun(call: CallRecord) -> CallRecord:
    return call.replace(status="unfinished", response_content=None, duration_ms=None)


def open_journal(folder: Path | None, *sinks: str, fsync: str = "never", **limits: int) -> Journal:
    journal = Journal(folder, Limits(**limits), fsync=fsync)  # type: ignore[arg-type]
    for sink in sinks or ("store",):
        journal.add_sink(sink, durable=True)
    return journal


def die(journal: Journal) -> None:
    """What SIGKILL does: files are closed, locks go, nothing else happens."""
    for segment in (*journal._own, *journal._adopted):
        segment.close()


def take(journal: Journal, sink: str = "store", *, acknowledge: bool = True) -> list[CallRecord]:
    """Everything that *sink* has to take."""
    taken: list[CallRecord] = []
    while (batch := journal.next_batch(sink)) is not None:
        taken += batch.records
        if not acknowledge:
            break
        journal.acknowledge(sink, batch)
    return taken


def adopted(folder: Path, *sinks: str) -> Journal:
    """A second process on the same folder, after its first look round."""
    journal = open_journal(folder, *sinks)
    journal.tidy(sinks or ("store",), scan=True)
    return journal


def quarantined(folder: Path) -> list[dict[str, Any]]:
    path = folder / "quarantine.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture(autouse=True)
def _no_locks_left() -> Iterator[None]:
    yield
    for fd in list(held._fds):
        held.close(fd)


# What is written


def test_a_call_is_two_lines_behind_a_header(folder: Path) -> None:
    """
    A segment is JSON lines: who wrote it, then the beginning and the end of each call.
    """
    journal = open_journal(folder)
    call = record(user_id="u-1", duration_ms=3.5)
    journal.begin(begun(call))
    journal.end(call)

    [segment] = folder.glob("*.segment")
    header, *lines = segment.read_bytes().splitlines()

    assert json.loads(header).items() >= {"ai_ledger_journal": 1, "pid": os.getpid()}.items()
    assert [CallRecord.from_json(line) for line in lines] == [begun(call), call]
    assert take(journal) == [call]


def test_only_the_owner_can_read_it(folder: Path) -> None:
    """
    Folders are 0700 and files 0600, whatever the umask says.
    """
    old = os.umask(0)
    try:
        journal = open_journal(folder / "deep")
        journal.end(record())
        journal.end(record())
        batch = journal.next_batch("store", 1)
        assert batch is not None
        journal.acknowledge("store", batch)
        journal.tidy(("store",), scan=False)
        assert journal.quarantine is not None
        journal.quarantine.add_record(record(), sink="store", reason="odd")
    finally:
        os.umask(old)

    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {"": 0o700, ".segment": 0o600, ".cursors": 0o600, ".jsonl": 0o600}


@pytest.mark.parametrize("kind", ["link", "file", "shared", "foreign", "read-only parent"])
def test_a_folder_that_cannot_be_trusted_is_not_used(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A planted link, somebody else's folder, no folder: records wait in memory, and it is said once.
    """
    if kind == "link":
        (folder.parent / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "elsewhere")
    elif kind == "file":
        folder.write_text("")
    elif kind == "shared":
        folder.mkdir()
        folder.chmod(0o777)
    elif kind == "foreign":
        folder.mkdir(mode=0o700)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        monkeypatch.setattr(os, "mkdir", _refuse(errno.EROFS))
    journal = open_journal(folder)
    calls = [record(), record()]

    for call in calls:
        journal.begin(begun(call))
        journal.end(call)

    assert (journal.mode, take(journal)) == ("memory", calls)
    assert len(caplog.records) == 1
    assert not list((folder.parent / "elsewhere").glob("*"))


def test_a_planted_link_is_never_followed(folder: Path) -> None:
    """
    A link with the name of a segment or of the quarantine leads nowhere.
    """
    target = folder.parent / "precious"
    target.write_text("precious\n")
    folder.mkdir(mode=0o700)
    (folder / "0123456789abcdef-1-01234567-000001.segment").symlink_to(target)
    (folder / "quarantine.jsonl").symlink_to(target)
    journal = adopted(folder)

    assert take(journal) == []
    assert journal.quarantine is not None
    with pytest.raises(OSError, match="symbolic links"):
        journal.quarantine.add_record(record(), sink="store", reason="odd")
    assert target.read_text() == "precious\n"


def _refuse(number: int) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_short_write_is_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When the disk takes half a line, the half is removed and the record waits in memory.
    """
    journal = open_journal(folder)
    calls = [record(), record(), record()]
    journal.end(calls[0])
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(os, "write", lambda fd, line: write(fd, line[: len(line) // 2]))
        journal.end(calls[1])
    journal.end(calls[2])
    [segment] = folder.glob("*.segment")

    assert len(segment.read_bytes().splitlines()) == 3
    assert sorted(take(journal), key=lambda each: each.id) == calls


def test_a_half_line_that_stays_is_not_glued_to_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    If a short write cannot be taken back either, the next record goes to another segment.
    """
    journal = open_journal(folder)
    journal.end(record())
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(os, "write", lambda fd, line: write(fd, line[:9]))
        patch.setattr(os, "ftruncate", _refuse(errno.EIO))
        journal.end(record())
    journal.end(record())
    die(journal)

    assert len(take(adopted(folder))) == 2
    assert [entry["reason"] for entry in quarantined(folder)] == ["unreadable line"]


def test_a_call_ended_by_the_garbage_collector_within_an_append(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A finalizer may end a call while the same thread is in the middle of an append.
    """
    journal = open_journal(folder)
    outer, inner = record(), record()
    journal.end(record())
    write = os.write

    def interrupted(fd: int, line: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        journal.end(inner)
        return write(fd, line)

    monkeypatch.setattr(os, "write", interrupted)
    journal.end(outer)

    assert take(journal)[1:] == [outer, inner]


# What is damaged


DAMAGE = {
    "torn in the middle": (b'{"id":"x","started_at":"2026', 1),
    "not JSON": (b"garbage\n", 1),
    "JSON, but no record": (b'[1, 2]\n{"id": 3}\n', 2),
    "bytes that are no text": (b"\xff\xfe\x00\xff\n", 1),
    "zeros after a power loss": (b"\x00" * 5_000, 1),
    "deeply nested": (b"[" * 100_000 + b"\n", 1),
}


@pytest.mark.parametrize(("damage", "set_aside"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_harms_no_neighbour(folder: Path, damage: bytes, set_aside: int) -> None:
    """
    Lines that cannot be read are set aside, once, and all the others are delivered.
    """
    journal = open_journal(folder, "a", "b")
    calls = [record() for _ in range(3)]
    for call in calls:
        journal.end(call)
    [path] = folder.glob("*.segment")
    path.write_bytes(path.read_bytes() + damage)
    die(journal)

    second = adopted(folder, "a", "b")

    assert [take(second, sink) for sink in ("a", "b")] == [calls, calls]
    assert len(quarantined(folder)) == set_aside
    second.tidy(("a", "b"), scan=False)
    assert not list(folder.glob("*.segment"))


def test_a_last_line_without_its_newline_is_a_record(folder: Path) -> None:
    """
    Only the newline of the last line is missing: nothing of the record is.
    """
    journal = open_journal(folder)
    call = record()
    journal.end(call)
    [path] = folder.glob("*.segment")
    path.write_bytes(path.read_bytes()[:-1])
    die(journal)

    assert take(adopted(folder)) == [call]
    assert quarantined(folder) == []


@pytest.mark.parametrize("header", [b"", b"\n", b"{}\n", b"nonsense\n", b"\x00" * 200 + b"\n"])
def test_a_damaged_header_costs_nothing_but_itself(folder: Path, header: bytes) -> None:
    """
    A segment is delivered whatever its first line has become.
    """
    journal = open_journal(folder)
    calls = [record(), record()]
    for call in calls:
        journal.end(call)
    [path] = folder.glob("*.segment")
    path.write_bytes(header + path.read_bytes().partition(b"\n")[2])
    die(journal)

    assert take(adopted(folder)) == calls


def test_a_segment_of_a_newer_version_is_left_alone(folder: Path) -> None:
    """
    What a newer version wrote is for that version to read.
    """
    journal = open_journal(folder)
    journal.end(record())
    [path] = folder.glob("*.segment")
    path.write_bytes(path.read_bytes().replace(b'journal":1', b'journal":2'))
    die(journal)

    assert take(adopted(folder)) == []
    assert path.exists()


def test_empty_and_foreign_files_are_no_segments(folder: Path) -> None:
    """
    An empty segment goes, and what is not ours stays.
    """
    folder.mkdir(mode=0o700)
    (folder / "0123456789abcdef-1-01234567-000001.segment").touch()
    (folder / "notes.txt").touch()
    journal = adopted(folder)
    journal.tidy(("store",), scan=False)

    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


ODD = {
    "negative count": {"input_tokens": -5},
    "huge count": {"output_tokens": 2**70},
    "not a number": {"duration_ms": float("nan")},
    "infinite": {"duration_ms": float("inf")},
    "lone surrogate": {"user_id": "\ud800"},
    "NUL": {"user_id": "a\x00b"},
    "an object": {"request_content": object()},
    "bytes": {"response_content": b"\xff\x00"},
    "a number as text": {"user_id": 42},
    "naive time": {"started_at": utc_now().replace(tzinfo=None)},
    "no time": {"started_at": None},
    "odd tags": {"tags": {1: object(), "\udcff": "\ud800"}},
    "no tags": {"tags": None},
    "unknown status": {"status": "splendid"},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD.keys())
def test_an_odd_record_keeps_what_is_good_in_it(folder: Path, fields: dict[str, Any]) -> None:
    """
    A field that no record can hold is left out and named; the call stays on the books.
    """
    journal = open_journal(folder)
    odd, good = record(request_model="m"), record()
    journal.end(odd.replace(**fields))
    journal.end(good)

    first, second = take(journal)

    assert (first.id, first.request_model, second) == (odd.id, "m", good)
    assert first.to_json()
    assert quarantined(folder) == []


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD.keys())
def test_an_odd_record_without_room_is_still_counted(fields: dict[str, Any]) -> None:
    """
    What no record can hold keeps no call out of the sums.
    """
    journal = open_journal(None, memory_bytes=0)
    journal.end(record(request_model="m", input_tokens=1).replace(**fields))

    assert journal._overflow.calls == 1


def test_a_field_that_was_left_out_is_named() -> None:
    """
    The tag says which fields held nothing usable.
    """
    odd = record(input_tokens=-5, output_tokens=7)

    read = decode(encode(odd, 10_000))

    assert (read.input_tokens, read.output_tokens) == (None, 7)
    assert read.tags == {INVALID_TAG: "input_tokens"}


@given(
    st.text(st.characters(exclude_categories=())),
    st.dictionaries(st.text(st.characters(exclude_categories=())), st.text()),
)
def test_any_text_survives_the_journal(text: str, tags: dict[str, str]) -> None:
    """
    Every text comes back as it was, but for what no text file can hold.
    """
    call = record(user_id=text, request_content=text, tags=tags)

    line = encode(call, 1 << 20)
    read = decode(line[:-1])

    assert line.count(b"\n") == 1
    assert storable(read.user_id or "") == storable(text)
    assert len(read.tags) <= len(tags)


def test_a_record_that_is_too_long_loses_its_texts_first(folder: Path) -> None:
    """
    Metering goes before content, and content before tags.
    """
    journal = open_journal(folder, record_bytes=1_000)
    journal.end(record(input_tokens=7, request_content="x" * 2_000, tags={"a": "b"}))
    journal.end(record(input_tokens=8, request_content="x" * 2_000, tags={"a": "b" * 2_000}))

    assert [(each.input_tokens, each.request_content, each.tags) for each in take(journal)] == [
        (7, None, {"a": "b"}),
        (8, None, {}),
    ]


# What is done, and what is left


def test_what_all_sinks_have_is_gone_from_the_disk(folder: Path) -> None:
    """
    Nothing is removed before the last sink has it, and nothing stays after that.
    """
    journal = open_journal(folder, "a", "b")
    journal.end(record(request_content="canary"))
    take(journal, "a")
    journal.tidy(("a", "b"), scan=False)
    [path] = folder.glob("*.segment")
    assert b"canary" in path.read_bytes()

    take(journal, "b")
    journal.tidy(("a", "b"), scan=False)
    assert [b"canary" in path.read_bytes() for path in folder.iterdir()] == [False]

    call = record()
    journal.end(call)
    assert (take(journal, "a"), take(journal, "b")) == ([call], [call])


def test_a_cursor_never_outlives_what_it_points_into(folder: Path) -> None:
    """
    After a segment was emptied, an old cursor must not skip what is written into it next.
    """
    journal = open_journal(folder)
    for _ in range(5):
        journal.end(record())
    batch = journal.next_batch("store", 3)
    assert batch is not None
    journal.acknowledge("store", batch)
    journal.tidy(("store",), scan=False)
    assert list(folder.glob("*.cursors"))
    take(journal)
    journal.tidy(("store",), scan=False)
    calls = [record() for _ in range(5)]
    for call in calls:
        journal.end(call)
    die(journal)

    assert take(adopted(folder)) == calls


def test_segments_end_at_their_size_and_go_in_their_order(folder: Path) -> None:
    """
    A later segment waits for an earlier one, since it may hold the end of a call begun there.
    """
    journal = open_journal(folder, "a", segment_bytes=500)
    calls = [record(request_content="x" * 200) for _ in range(9)]
    for call in calls:
        journal.end(call)
    names = sorted(path.name for path in folder.glob("*.segment"))
    assert len(names) >= 4

    assert take(journal, "a") == calls
    journal._own[0].positions["a"] = journal._own[0].start
    journal.tidy(("a",), scan=False)
    assert sorted(path.name for path in folder.glob("*.segment")) == names

    assert take(journal, "a")
    journal.tidy(("a",), scan=False)
    assert sorted(path.name for path in folder.glob("*.segment")) == names[-1:]


def test_a_call_in_flight_is_carried_over(folder: Path) -> None:
    """
    One long stream holds no old segment, and its beginning is still there after a crash.
    """
    journal = open_journal(folder, segment_bytes=500)
    stream = record(user_id="long")
    journal.begin(begun(stream))
    first = {path.name for path in folder.glob("*.segment")}
    for _ in range(9):
        journal.end(record(request_content="x" * 200))
        take(journal)
        journal.tidy(("store",), scan=False)
    assert not first & {path.name for path in folder.glob("*.segment")}
    die(journal)

    assert take(adopted(folder)) == [begun(stream)]


def test_a_dead_process_is_heard_to_the_end(folder: Path) -> None:
    """
    Who adopts its segments delivers what was pending, and calls without an end as unfinished.
    """
    journal = open_journal(folder, segment_bytes=600)
    finished = [record(request_content="x" * 100) for _ in range(8)]
    cut_off = record(user_id="cut off")
    journal.begin(begun(cut_off))
    for call in finished:
        journal.begin(begun(call))
    for call in finished:
        journal.end(call)
    die(journal)

    second = adopted(folder)
    taken = take(second)
    second.tidy(("store",), scan=False)

    assert sorted(taken, key=lambda each: each.id) == sorted(
        [begun(cut_off), *finished], key=lambda each: each.id
    )
    assert not list(folder.glob("*.segment"))
    assert second.pending("store") == 0


def test_the_living_are_not_adopted(folder: Path) -> None:
    """
    A segment whose owner lives is its owner's alone, and an orphan is adopted once.
    """
    journal = open_journal(folder)
    call = record()
    journal.end(call)

    assert take(adopted(folder)) == []
    die(journal)
    second, third = adopted(folder), adopted(folder)
    assert (take(second), take(third)) == ([call], [])


def test_after_a_crash_little_is_sent_twice(folder: Path) -> None:
    """
    Who adopts a segment goes on where each sink's cursor stood.
    """
    journal = open_journal(folder, "a", "b")
    calls = [record() for _ in range(10)]
    for call in calls:
        journal.end(call)
    batch = journal.next_batch("a", 6)
    assert batch is not None
    journal.acknowledge("a", batch)
    journal.tidy(("a", "b"), scan=False)
    die(journal)

    second = adopted(folder, "a", "b")

    assert (second.pending("a"), second.pending("b")) == (4, 10)
    assert (take(second, "a"), take(second, "b")) == (calls[6:], calls)


def test_a_call_cut_off_long_ago(folder: Path) -> None:
    """
    A beginning that every cursor had passed while its process lived is delivered all the same.
    """
    journal = open_journal(folder)
    before, stream, after = record(), record(), [record() for _ in range(5)]
    journal.end(before)
    journal.begin(begun(stream))
    for call in after:
        journal.end(call)
    take(journal)
    journal.tidy(("store",), scan=False)
    assert list(folder.glob("*.cursors"))
    die(journal)

    second = adopted(folder)
    pending = second.pending("store")
    taken = take(second)

    assert taken == [begun(stream), *after]
    assert (pending, second.pending("store")) == (6, 0)


@pytest.mark.parametrize("saved", [b"", b"{", b'{"store":[9999999,5]}', b'{"store":"far"}'])
def test_a_damaged_cursor_means_the_beginning(folder: Path, saved: bytes) -> None:
    """
    Better twice than not at all.
    """
    journal = open_journal(folder)
    call = record()
    journal.end(call)
    [path] = folder.glob("*.segment")
    path.with_suffix(".cursors").write_bytes(saved)
    die(journal)

    assert take(adopted(folder)) == [call]


def test_a_process_that_died_while_it_made_a_segment(folder: Path) -> None:
    """
    Half-made files are nobody's segments; they go after a minute.
    """
    journal = open_journal(folder)
    journal.open()
    assert journal._folder is not None
    segment = create_segment(journal._folder, journal._writer, 99)
    hidden = folder / f".{segment.name}.new"
    os.rename(folder / segment.name, hidden)
    segment.close()

    journal.tidy(("store",), scan=True)
    assert hidden.exists()
    os.utime(hidden, (0, 0))
    journal.tidy(("store",), scan=True)
    assert not hidden.exists()


def test_a_folder_that_is_removed_is_made_again(folder: Path) -> None:
    """
    Somebody cleans up: what was written is still delivered, what comes is still journalled.
    """
    journal = open_journal(folder)
    calls = [record(), record()]
    journal.end(calls[0])
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    journal.tidy(("store",), scan=True)
    journal.end(calls[1])

    assert len(list(folder.glob("*.segment"))) == 1
    assert take(journal) == calls
    journal.tidy(("store",), scan=True)
    assert journal.pending("store") == 0


# When room is short


def test_texts_give_way_before_records(folder: Path) -> None:
    """
    Above 80 % of its bound the journal keeps metering and leaves texts out.
    """
    journal = open_journal(folder, journal_bytes=10_000)
    for _ in range(12):
        journal.end(record(input_tokens=1, request_content="x" * 1_000))

    taken = take(journal)
    with_text = sum(each.request_content is not None for each in taken)

    assert (len(taken), 6 <= with_text <= 8) == (12, True)
    assert journal.dropped == {"texts left out: the journal is nearly full": 12 - with_text}
    assert journal.bytes <= 10_000


def test_a_full_journal_turns_to_memory_and_full_memory_to_sums(folder: Path) -> None:
    """
    Whatever does not fit is still counted: calls, tokens and money are all there in the end.
    """
    journal = open_journal(folder, journal_bytes=3_000, memory_bytes=3_000)
    for number in range(100):
        journal.begin(begun(record()))
        journal.end(
            record(
                input_tokens=number,
                output_tokens=2,
                request_model="m",
                user_id=f"u-{number % 2}",
                request_content="x" * 100,
            )
        )
    dropped = journal.dropped["no room: kept as a sum only"]

    taken = take(journal)
    journal.tidy(("store",), scan=False)
    taken += take(journal)

    calls = [int(each.tags.get(CALLS_TAG, 1)) for each in taken]
    assert 0 < dropped < 100
    assert sum(calls) == 100
    assert sum(each.input_tokens or 0 for each in taken) == sum(range(100))
    assert sum(each.output_tokens or 0 for each in taken) == 200
    assert {each.user_id for each in taken} == {"u-0", "u-1"}
    assert journal._overflow.calls == 0


def test_memory_is_bounded_in_bytes() -> None:
    """
    Without a folder, what waits takes no more than it may, however much comes.
    """
    journal = open_journal(None, memory_bytes=50_000)
    for _ in range(500):
        journal.end(record(request_content="x" * 1_000))

    assert journal.memory.bytes <= 50_000
    taken = take(journal)
    journal.tidy(("store",), scan=False)
    taken += take(journal)
    assert sum(int(each.tags.get(CALLS_TAG, 1)) for each in taken) == 500


def test_sums_are_bounded_in_number() -> None:
    """
    A million users without room make no million sums.
    """
    overflow = Overflow()
    for number in range(10_000):
        overflow.add(record(user_id=f"u-{number}", org_id=f"o-{number}", input_tokens=1))

    sums = overflow.take()

    assert len(sums) <= 5_000
    assert sum(each.input_tokens or 0 for each in sums) == 10_000


def test_a_disk_that_is_full_and_then_freed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While the disk is full records wait in memory; then they go to the disk again.
    """
    journal = open_journal(folder)
    calls = [record() for _ in range(4)]
    journal.end(calls[0])
    with monkeypatch.context() as patch:
        patch.setattr(segment_module, "write_all", _refuse(errno.ENOSPC))
        journal.end(calls[1])
        journal.end(calls[2])
    journal.end(calls[3])
    [path] = folder.glob("*.segment")

    assert len(path.read_bytes().splitlines()) == 3
    assert sorted(take(journal), key=lambda each: each.id) == calls


PRICE = Decimal("0.0004") / 1000


def _tiered(call: CallRecord) -> CallRecord:
    """By the call, by the token, and dearer above 1,000 tokens of input."""
    rate = PRICE * (2 if (call.input_tokens or 0) > 1_000 else 1)
    cost = rate * (call.input_tokens or 0) + PRICE * (call.output_tokens or 0) + Decimal("0.01")
    return call.replace(cost=cost, currency="CNY", price_id="p")


@given(
    st.lists(
        st.tuples(st.one_of(st.integers(0, 500), st.integers(1_100, 1_900)), st.integers(0, 5_000)),
        min_size=1,
        max_size=50,
    )
)
def test_a_sum_costs_what_its_calls_cost(calls: list[tuple[int, int]]) -> None:
    """
    Prices by the call and dearer long inputs come out the same when calls are summed.
    """
    overflow = Overflow()
    expected = Decimal(0)
    for inputs, outputs in calls:
        call = record(input_tokens=inputs, output_tokens=outputs, cache_read_tokens=inputs // 3)
        expected += _tiered(call).cost or 0
        overflow.add(call)

    priced = [priced_as_calls(each, _tiered) for each in overflow.take()]

    assert sum(each.cost or 0 for each in priced) == expected
    assert sum(each.input_tokens or 0 for each in priced) == sum(inputs for inputs, _ in calls)


@pytest.mark.parametrize(
    ("calls", "fields"),
    [
        pytest.param(
            5_000, {"cost": Decimal("2000.5"), "currency": "VND", "price_id": "provider"}, id="cost"
        ),
        pytest.param(5, {"input_tokens": 2**52 - 1, "output_tokens": 3}, id="counts"),
    ],
)
def test_a_sum_that_no_store_could_add_up_becomes_several(
    calls: int, fields: dict[str, Any]
) -> None:
    """
    Money in weak currencies and huge counts are spread over records that every store takes.
    """
    overflow = Overflow()
    for _ in range(calls):
        overflow.add(record(**fields))

    sums = overflow.take()

    assert 1 < len(sums) < 10
    assert len({each.id for each in sums}) == len(sums)
    assert sum(int(each.tags[CALLS_TAG]) for each in sums) == calls
    for each in sums:
        share = int(each.tags[CALLS_TAG])
        for name, value in fields.items():
            assert getattr(each, name) == (value if isinstance(value, str) else value * share)
            assert isinstance(value, str) or getattr(each, name) <= 2**53
        assert each.cost is None or each.cost * 10**9 <= 2**53


def test_a_sum_is_exact_whatever_the_caller_does_with_decimals() -> None:
    """
    A thread that calculates with few digits does not round what is added up there.
    """
    overflow = Overflow()
    with localcontext(prec=3):
        for _ in range(2):
            overflow.add(record(cost=Decimal("12.3456789"), currency="USD", price_id="p"))

    assert [each.cost for each in overflow.take()] == [Decimal("24.6913578")]


@pytest.mark.parametrize("claim", ["1000000", "x", "²", "-1", "9" * 5_000])
def test_a_caller_cannot_pretend_that_a_call_is_a_sum(folder: Path, claim: str) -> None:
    """
    Only the journal makes sums: on a call of somebody else the tag means nothing and is gone.
    """
    journal = open_journal(folder, journal_bytes=400)
    tags = {CALLS_TAG: claim, "kept": "1"}
    open_call = record(tags=tags)
    journal.begin(begun(open_call))
    journal.end(record(tags=tags, input_tokens=1))
    journal.memory.max_bytes = 0
    journal.end(record(tags=tags, input_tokens=2))
    journal.memory.max_bytes = 10_000
    journal.tidy(("store",), scan=False)
    journal.give_up_open_calls()

    taken = take(journal)

    assert {each.input_tokens: each.tags for each in taken} == {
        None: {"kept": "1"},
        1: {"kept": "1"},
        2: {CALLS_TAG: "1"},
    }


@pytest.mark.parametrize("claim", ["x", "²", "-1", "0", "9" * 5_000])
def test_a_damaged_sum_is_one_call(claim: str) -> None:
    """
    A number of calls that is none costs neither the record nor its price.
    """
    damaged = record(tags={CALLS_TAG: claim}, input_tokens=1_000)
    overflow = Overflow()
    overflow.add(damaged)

    assert overflow.calls == 1
    assert priced_as_calls(damaged, _tiered) == _tiered(damaged)


def test_a_sink_that_hangs_is_not_put_back_later(folder: Path) -> None:
    """
    What was emptied while a sink without memory hung is counted, and its cursor is right again.
    """
    journal = open_journal(folder, "store")
    journal.add_sink("screen", durable=False)
    calls = [record() for _ in range(3)]
    journal.end(calls[0])
    journal.end(calls[1])
    hanging = journal.next_batch("screen")
    assert hanging is not None
    take(journal)
    journal.tidy(("store",), scan=False)
    journal.end(calls[2])
    journal.acknowledge("screen", hanging)

    assert take(journal, "screen") == [calls[2]]
    assert journal.dropped == {"missed by screen, which hangs": 2}


# Forgetting


def test_forgetting_reaches_everything_that_waits(folder: Path) -> None:
    """
    Own and orphaned segments, calls in flight, memory and quarantine: the canary is gone.
    """
    dead = open_journal(folder)
    dead.end(record(user_id="u-1", request_content="canary", input_tokens=1))
    die(dead)
    journal = open_journal(folder)
    other = record(user_id="u-2", request_content="stays")
    open_call = record(user_id="u-1", tags={"t": "canary"})
    journal.begin(begun(open_call))
    journal.end(record(user_id="u-1", request_content="canary", input_tokens=2))
    journal.end(other)
    journal.memory.append(encode(record(user_id="u-1", tags={"t": "canary"}), 10_000))
    assert journal.quarantine is not None
    journal.quarantine.add_record(record(user_id="u-1"), sink="s", reason="odd: canary")
    journal.quarantine.add_fragment(b"canary", segment="s", reason="unreadable")

    changed = journal.forget(lambda each: each.user_id == "u-1", forgotten)

    assert changed == 5
    assert not any(b"canary" in path.read_bytes() for path in folder.iterdir())
    taken = take(journal)
    assert sorted(str(each.user_id) for each in taken) == ["None", "None", "None", "u-2"]
    assert {each.input_tokens for each in taken} == {1, 2, None}
    journal.end(other)
    journal.tidy(("store",), scan=False)
    assert not any(b"canary" in path.read_bytes() for path in folder.iterdir())
    journal.end(open_call)
    assert take(journal) == [other, open_call]


def test_forgetting_leaves_cursors_right(folder: Path) -> None:
    """
    What was taken before stays taken, and what comes after is read whole.
    """
    journal = open_journal(folder)
    calls = [record(user_id="u-1", request_content="x" * 50) for _ in range(6)]
    for call in calls:
        journal.end(call)
    batch = journal.next_batch("store", 2)
    assert batch is not None
    journal.acknowledge("store", batch)

    def replaced(call: CallRecord) -> CallRecord:
        return call.replace(user_id="y" * 90 if call == calls[3] else None)

    changed = journal.forget(lambda each: each in calls[:5], replaced)
    taken = take(journal)

    assert changed == 5
    assert sorted(each.id for each in taken) == [each.id for each in calls[2:]]
    assert {each.user_id for each in taken} == {None, "u-1", "y" * 90}
    assert (journal.pending("store"), quarantined(folder)) == (0, [])


@pytest.mark.parametrize("failing", ["header", "lines", "name"])
def test_forgetting_on_a_full_disk_destroys_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """
    A segment that cannot be rewritten stays as it is, the others are done, and the caller hears.
    """
    dead = open_journal(folder)
    dead.end(record(user_id="u-1", input_tokens=1))
    die(dead)
    journal = open_journal(folder)
    calls = [record(user_id="u-1" if number % 4 else "u-2") for number in range(20)]
    for call in calls:
        journal.end(call)
    real = os.write
    left = {"header": 0, "lines": 1, "name": -1}[failing]

    def short(fd: int, content: bytes) -> int:
        nonlocal left
        left -= 1
        return real(fd, content[: len(content) // 2] if left == -1 else content)

    def refuse(old: str, new: str, **options: Any) -> None:
        monkeypatch.undo()
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(os, "write", short)
    if failing == "name":
        monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(SinkUnavailable):
        journal.forget(lambda each: each.user_id == "u-1", forgotten)
    monkeypatch.undo()

    taken = take(journal)
    assert [each for each in taken if each.input_tokens is None] == calls
    assert [each.user_id for each in taken if each.input_tokens == 1] == [None]
    assert not list(folder.glob(".*"))
    assert journal.forget(lambda each: each.user_id == "u-1", forgotten) == 15
    assert (journal.pending("store"), quarantined(folder)) == (0, [])


# Forks


def test_a_child_lets_go_of_its_parents_locks(folder: Path) -> None:
    """
    When the parent is dead its segments can be adopted, though a child of it lives on.
    """
    assert process is not None
    go_r, go_w = os.pipe()
    up_r, up_w = os.pipe()
    journal = open_journal(folder)
    call = record()
    journal.end(call)
    pid = os.fork()
    if pid == 0:
        os.write(up_w, b"x")
        os.read(go_r, 1)
        os._exit(0)
    try:
        os.read(up_r, 1)
        die(journal)
        assert take(adopted(folder)) == [call]
    finally:
        os.write(go_w, b"x")
        os.waitpid(pid, 0)
        for fd in (go_r, go_w, up_r, up_w):
            os.close(fd)


def test_open_handles_are_counted(folder: Path) -> None:
    """
    Closing a journal closes every file it opened.
    """
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    journal = open_journal(folder, segment_bytes=300)
    for _ in range(20):
        journal.end(record(request_content="x" * 100))
    journal.tidy(("store",), scan=True)
    journal.close(("store",))
    journal.end(record())
    journal.close(("store",))

    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert (after, held._fds) == (before, set())


def test_always_syncing_forces_each_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With fsync="always" a call is on the disk when it has returned.
    """
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal = open_journal(folder, fsync="always")
    journal.begin(begun(record()))
    journal.end(record())

    assert len(synced) == 2
