"""Report files: private, whole, and no program for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ai_ledger.errors import InvalidValue
from ai_ledger.records import CallRecord
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.stats import Stats, export

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
FORMULA = '=HYPERLINK("http://evil";"x")'


def make(number: int, **fields) -> CallRecord:
    return CallRecord(id=f"call-{number}", started_at=NOW - timedelta(days=number), **fields)


@pytest.fixture
def stats() -> Stats:
    store = MemorySink()
    store.write(
        [
            make(
                0,
                user_id=FORMULA,
                request_model="@SUM(A1)",
                org_id="a",
                input_tokens=5,
                output_tokens=1,
                cost=Decimal("1.50"),
                currency="CNY",
            ),
            make(1, user_id="-1+1", org_id="b", cost=Decimal("0.0000004"), currency="USD"),
            make(1, user_id="-1+1", org_id="b", cost=Decimal("0.0000004"), currency="USD"),
            make(40, user_id="long ago"),
        ]
    )
    return Stats(store, clock=lambda: NOW)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("\x00=x", "'\x00=x"),
        ('"=1+1', "'\"=1+1"),
        ("'=1+1", "''=1+1"),
        ('" =1', "'\" =1"),
        ("  =1", "'  =1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("＝1+1", "'＝1+1"),  # noqa: RUF001
        ("", ""),
        ("qwen-plus", "qwen-plus"),
        ("a=b", "a=b"),
        ("模型", "模型"),
        ('"quoted"', '"quoted"'),
    ],
)
def test_harmless(text, written):
    """
    A text that a spreadsheet would run gets a leading apostrophe, others stay.
    """
    assert export.harmless(text) == written
    assert list(csv.reader(io.StringIO(export.to_csv(iter([[text]])).decode(), newline=""))) == (
        [[written]] if written else [[""]]
    )


def test_numbers_stay_numbers():
    """
    Numbers are written as they are, also negative ones and small amounts.
    """
    row = [-5, -0.5, Decimal("-0.0000004"), Decimal("1E+3"), None]

    assert export.to_csv(iter([row])) == b"-5,-0.5,-0.0000004,1000,\r\n"


def test_lone_surrogates():
    """
    Half a character cannot stop an export.
    """
    assert export.to_csv(iter([["a\ud800"]])) == b"a\\ud800\r\n"


def test_csv(stats, tmp_path):
    """
    The CSV holds total, days and groups; no cell begins like a formula.
    """
    path = stats.export_report(tmp_path / "report.csv", days=2)
    rows = rows_of(path)

    assert [(row["section"], row["key"], row["calls"]) for row in rows if row["section"]] == [
        ("total", "UTC", "2"),
        ("day", "2026-03-09", "1"),
        ("day", "2026-03-10", "1"),
        ("request_model", "'@SUM(A1)", "1"),
        ("request_model", "", "1"),
        ("provider", "", "2"),
        ("function", "", "2"),
        ("business_type", "", "2"),
        ("operation", "chat", "2"),
        ("org_id", "a", "1"),
        ("org_id", "b", "1"),
        ("user_id", "'-1+1", "1"),
        ("user_id", f"'{FORMULA}", "1"),
        ("device_id", "", "2"),
    ]
    assert (rows[0]["cost_CNY"], rows[0]["cost_USD"], rows[0]["total_tokens"]) == (
        "1.5",
        "0.0000004",
        "6",
    )


def test_json(stats, tmp_path):
    """
    The JSON holds the same, texts as they are and amounts with all their digits.
    """
    path = stats.scoped("b").export_report(tmp_path / "report.json", days=2)
    report = json.loads(path.read_text())

    assert (report["scope"], report["tz"], report["since"]) == ("b", "UTC", "2026-03-09T00:00:00Z")
    assert (report["total"]["calls"], report["total"]["cost"]) == (1, {"USD": "0.0000004"})
    assert [group["key"] for group in report["groups"]["org_id"]] == [{"org_id": "b"}]
    assert [group["key"] for group in report["groups"]["user_id"]] == [{"user_id": "-1+1"}]
    assert len(report["daily"]) == 2


@pytest.mark.parametrize("name", ["report.csv", "report.json"])
def test_private(stats, tmp_path, name):
    """
    Whatever the umask and whatever was there, the file is 0600.
    """
    (tmp_path / name).write_text("old")
    (tmp_path / name).chmod(0o666)
    before = os.umask(0)
    try:
        path = stats.export_report(tmp_path / name)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_only_files(stats, tmp_path, kind):
    """
    A symbolic link, a folder or a pipe in the place of the file is refused and stays.
    """
    path, target = tmp_path / "report.json", tmp_path / "target"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    if kind == "link":
        target.write_text("mine")

    with pytest.raises(InvalidValue, match="path="):
        stats.export_report(path)
    assert path.is_symlink() == kind.endswith("link")
    assert (target.read_text() if kind == "link" else target.exists()) in ("mine", False)


def test_other_endings(stats, tmp_path):
    """
    An ending that is neither .json nor .csv is refused before anything is written.
    """
    with pytest.raises(InvalidValue, match=r"\.json or \.csv"):
        stats.export_report(tmp_path / "report.xlsx")
    assert os.listdir(tmp_path) == []


def test_failed_export_leaves_the_old_file(stats, tmp_path, monkeypatch):
    """
    When the file cannot be put in place, the old one stays and nothing else is left.
    """
    path = tmp_path / "report.json"
    path.write_text("old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        stats.export_report(path)

    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["report.json"])


def test_a_folder_that_is_not_there(stats, tmp_path):
    """
    The error names the path that was given.
    """
    path = tmp_path / "none" / "report.json"
    with pytest.raises(FileNotFoundError) as missing:
        stats.export_report(path)

    assert missing.value.filename == str(path)
