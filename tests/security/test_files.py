"""Files: whatever the umask and whoever was there before, what is written is the owner's alone."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ai_ledger import Ledger
from ai_ledger.errors import ConfigurationError, InvalidValue, SinkUnavailable
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks import open_sink

PROGRAM = """
import json, os, sys
os.umask(0)
from ai_ledger import Ledger
from ai_ledger.errors import RecordRefused, SinkUnavailable
from ai_ledger.query import Query
from ai_ledger.records import utc_now

class Refusing:
    def write(self, records):
        raise RecordRefused("no")

class Away:
    tries = 0
    def write(self, records):
        # Takes one batch, so that a cursor has to be kept, and no more.
        self.tries += 1
        if self.tries > 1:
            raise SinkUnavailable("no")

ledger = Ledger(
    [f"sqlite:///{sys.argv[1]}/ledger.db", f"jsonl:///{sys.argv[1]}/deep/down/lines"],
    sinks=[Refusing(), Away()],
    journal=sys.argv[1] + "/far/away/journal",
)
ledger.record("m", input_tokens=1)
assert ledger.flush(60)
ledger.record("m", input_tokens=1)
# One sink is away from now on, so there is no end of flushing.
for _ in range(600):
    ledger.flush(0.1)
    if not any(each.pending for each in ledger.health().sinks if each.name != "Away"):
        break
else:
    raise AssertionError(ledger.health())
ledger.sinks[1].delete(Query.build(scope=None), at=utc_now())
for name in ("report.csv", "report.json"):
    ledger.stats.export_report(os.path.join(sys.argv[1], name), days=1)
modes = {}
for folder, _, names in os.walk(sys.argv[1]):
    for path in [folder, *(os.path.join(folder, name) for name in names)]:
        modes[os.path.relpath(path, sys.argv[1])] = oct(os.stat(path).st_mode & 0o7777)
del modes["."]
print(json.dumps(modes))
sys.stdout.flush()
os._exit(0)
"""


def test_everything_is_private_under_any_umask(tmp_path: Path) -> None:
    """
    With umask 000 the store, its log, lines, journal, cursors, quarantine and reports are 0600.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modes: dict[str, str] = json.loads(done.stdout)
    folders = {name for name in modes if (tmp_path / name).is_dir()}

    assert {modes[name] for name in folders} == {"0o700"}
    assert {modes[name] for name in set(modes) - folders} == {"0o600"}
    # Each kind of file was there to be looked at.
    assert {
        "deep",
        "deep/down",
        "deep/down/lines",
        "far",
        "far/away",
        "far/away/journal",
    } == folders
    for kind in (
        *("ledger.db", "ledger.db-wal", "ledger.db-shm", "report.csv", "report.json"),
        *("lines/usage_", "lines/changes_", "lines/.lock"),
        *(".segment", ".cursors", "quarantine.jsonl"),
    ):
        assert any(kind in name for name in modes), kind


def record() -> CallRecord:
    return CallRecord(id=new_id(), started_at=utc_now())


def link(path: Path, target: Path) -> None:
    target.write_bytes(b"")
    path.symlink_to(target)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("planted", ["link", "foreign", "pipe"])
def test_what_was_planted_for_the_store_is_refused(
    suffix: str, planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A link, pipe or foreign file in the place of the SQLite file, or beside it, is not used.
    """
    path = tmp_path / f"ledger.db{suffix}"
    target = tmp_path / "elsewhere"
    if planted == "link":
        link(path, target)
    elif planted == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"")
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        if suffix and os.getuid() != 0:
            pytest.skip("only root can give a file away")
        if suffix:
            os.chown(path, 54321, 54321)
    sink = open_sink(f"sqlite:///{tmp_path}/ledger.db")

    with pytest.raises(SinkUnavailable, match=r"link|another user|regular|owner"):
        sink.write([record()])

    assert not target.exists() or target.read_bytes() == b""
    assert not suffix or (tmp_path / "ledger.db").stat().st_size == 0


def foreign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o777)
    if os.getuid() == 0:
        os.chown(folder, 54321, 54321)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


def test_a_foreign_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A folder that belongs to somebody else gets no lines and no journal; records wait in memory.
    """
    folder = tmp_path / "shared"
    foreign(folder, monkeypatch)

    with pytest.raises(SinkUnavailable, match="belongs to another user"):
        open_sink(f"jsonl:///{folder}").write([record()])
    with Ledger("memory:", sinks=[open_sink(f"jsonl:///{tmp_path}/own")], journal=folder) as ledger:
        ledger.record("m")
        assert ledger.health().mode == "memory"

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["report.csv", "report.json"])
def test_a_report_follows_no_link(tmp_path: Path, name: str) -> None:
    """
    A link in the place of a report is refused, and what it leads to stays as it was.
    """
    target = tmp_path / "precious"
    link(tmp_path / name, target)
    with Ledger("memory:") as ledger, pytest.raises(InvalidValue, match="symbolic link"):
        ledger.stats.export_report(tmp_path / name)

    assert target.read_bytes() == b""


def test_nothing_is_placed_in_a_shared_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without a folder of its own a ledger keeps its journal in the user's state folder, not in /tmp.
    """
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    ledger = Ledger("postgresql://ledger@127.0.0.1:1/db")
    ledger.record("m")
    folder = Path(ledger.health().folder or "")
    ledger.close(0)

    assert folder.parent == tmp_path / ".local" / "state" / "ai-ledger"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_configuration_errors_name_the_cause(tmp_path: Path) -> None:
    """
    Making a store through a link says which file is at fault.
    """
    from ai_ledger.database.files import make_private

    link(tmp_path / "ledger.db", tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match=r"ledger\.db is a symbolic link"):
        make_private(tmp_path / "ledger.db")
