"""Words from and to files: headers, encodings, a report per line, all or nothing."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from msgspec.structs import replace

from ai_ledger.errors import ConfigurationError
from ai_ledger.policies.words import Word, WordList, Words
from ai_ledger.policies.words.files import MAX_LINES, export_words, import_words

CHINESE = (
    "序号,敏感词,替换词,是否启用,匹配方式,备注\n1,内部代号,某项目,是,模糊,\n2,竞品,,停用,,问法务\n"
)

UTF_16 = "the file is UTF-16: give --encoding utf-16"


def csv_file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """A file with this text."""
    path = folder / "words.csv"
    path.write_bytes(text.encode(encoding))
    return path


def outcomes(report) -> list[tuple[int, str]]:
    """What became of each line."""
    return [(line.number, line.outcome) for line in report.lines]


def test_a_file_goes_in(sql_url: str, tmp_path: Path) -> None:
    """
    Chinese headers and values, on every database; the second time changes nothing.
    """
    rows = WordList(sql_url)
    path = csv_file(tmp_path, CHINESE)

    first = import_words(rows, path, by="ann")
    second = import_words(rows, path)

    assert outcomes(first) == [(2, "added"), (3, "added")]
    assert (first.written, first.ignored) == (True, ("序号",))
    assert outcomes(second) == [(2, "unchanged"), (3, "unchanged")]
    assert second.written is False
    code, rival = rows.list()
    assert (code.action, code.replacement, code.match, code.active) == (
        "replace", "某项目", "fuzzy", True,
    )  # fmt: skip
    assert (rival.action, rival.active, rival.note) == ("block", False, "问法务")
    assert [each.changed_by for each in rows.history(code.id)] == ["ann"]
    changed = import_words(rows, csv_file(tmp_path, "word,active\n竞品,是\n"))
    assert outcomes(changed) == [(2, "updated")]
    assert rows.get(rival.id).note == "问法务"
    assert len(rows.history(rival.id)) == 2


def test_all_or_nothing_unless_the_good_are_kept(tmp_path: Path) -> None:
    """
    A bad line names its number and why; the others wait until one says that they may go.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    path = csv_file(
        tmp_path, "word,active,action\n好词,,\n.*敏感,,\n,1,\n好词,,\nx,maybe,\ny,,delete\n\n"
    )

    report = import_words(rows, path)
    assert [line.number for line in report.refused] == [3, 4, 5, 6, 7]
    assert "regular expression" in (report.refused[0].reason or "")
    assert "line 2" in (report.refused[2].reason or "")
    assert (report.written, rows.list()) == (False, [])
    assert import_words(rows, path, dry_run=True, keep_good=True).written is False
    assert rows.generation() == 0
    assert import_words(rows, path, keep_good=True).written is True
    assert [each.word for each in rows.list()] == ["好词"]
    literal = import_words(rows, csv_file(tmp_path, "word\n.*敏感\n"), literal=True)
    assert outcomes(literal) == [(2, "added")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """
    Read by the encoding that is named.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    import_words(rows, csv_file(tmp_path, CHINESE, encoding), encoding=encoding)

    assert [each.word for each in rows.list()] == ["内部代号", "竞品"]


@pytest.mark.parametrize(
    ("data", "encoding", "hint"),
    [
        pytest.param(CHINESE.encode("gb18030"), "utf-8", "gb18030", id="GB taken for UTF-8"),
        pytest.param(CHINESE.encode("utf-16"), "utf-8", UTF_16, id="UTF-16 taken for UTF-8"),
        pytest.param(CHINESE.encode("utf-16-le"), "utf-8", UTF_16, id="UTF-16 without a mark"),
        pytest.param("word\n".encode("utf-16"), "gbk", UTF_16, id="UTF-16 and GBK"),
        pytest.param(CHINESE.encode("utf-8"), "latin-9", "expected one of", id="unknown"),
        pytest.param(b"a,b\n1,2\n", "utf-8", "敏感词", id="no column of words"),
        pytest.param(b"", "utf-8", "敏感词", id="empty"),
        pytest.param(b'word\n"x', "utf-8", "no CSV", id="an open quote"),
        pytest.param(b"word,keyword\nx,y\n", "utf-8", "two columns", id="words twice"),
        pytest.param(b"word\nx\x00y\n", "utf-8", "NUL", id="binary"),
        pytest.param(b"word\n" + b"x\n" * (MAX_LINES + 1), "utf-8", "lines", id="too many"),
    ],
)
def test_bad_files(tmp_path: Path, data: bytes, encoding: str, hint: str) -> None:
    """
    A clear error, and nothing written.
    """
    path = tmp_path / "words.csv"
    path.write_bytes(data)
    rows = WordList(f"sqlite:///{tmp_path}/w.db")

    with pytest.raises(ConfigurationError, match=hint):
        import_words(rows, path, encoding=encoding)
    assert rows.list(everybody=True) == []


def xlsx_file(path: Path, rows: list[list[object]]) -> Path:
    """The smallest workbook that there is."""
    cells = "".join(
        "<row>"
        + "".join(
            f"<c><v>{each}</v></c>"
            if isinstance(each, (int, float))
            else f'<c t="inlineStr"><is><t>{escape(str(each))}</t></is></c>'
            for each in row
        )
        + "</row>"
        for row in rows
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="xml" '
        'ContentType="application/xml"/><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="a" '
        'sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/a.xml"/>'
        "</Relationships>",
        "xl/worksheets/a.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData>'
        "</worksheet>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return path


def test_a_workbook(tmp_path: Path) -> None:
    """
    Numbers are what people see; the report counts lines as the spreadsheet does.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    path = xlsx_file(
        tmp_path / "w.xlsx",
        [["敏感词", "是否启用"], ["内部代号", 1], [10086, "是"], ["***", "是"]],
    )

    report = import_words(rows, path, keep_good=True)

    assert outcomes(report) == [(2, "added"), (3, "added"), (4, "refused")]
    assert [each.word for each in rows.list()] == ["内部代号", "10086"]


def test_a_workbook_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A text with that name, and one that would fill the memory.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    bad = tmp_path / "bad.xlsx"
    bad.write_text("word\nx\n")
    with pytest.raises(ConfigurationError, match=r"bad\.xlsx"):
        import_words(rows, bad)
    monkeypatch.setattr("ai_ledger.policies.words.files.MAX_UNPACKED_BYTES", 100)
    with pytest.raises(ConfigurationError, match="unpacks"):
        import_words(rows, xlsx_file(tmp_path / "w.xlsx", [["word"], ["x"]]))
    other = tmp_path / "words.doc"
    other.write_text("word\nx\n")
    with pytest.raises(ConfigurationError, match="xlsx"):
        import_words(rows, other)


def test_there_and_back(tmp_path: Path) -> None:
    """
    An exported file brings the same words to another database, formulas disarmed.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    rows.add("=cmd", note="-1")
    rows.add('a, "b"', action="replace", replacement="'x", org_id="acme", active=False)
    rows.add("敏感词", match="fuzzy", variants=True, action="warn")
    path = tmp_path / "out.csv"

    assert export_words(rows.list(everybody=True), path) == 3
    assert not any(line.startswith("=") for line in path.read_text("utf-8-sig").splitlines())
    other = WordList(f"sqlite:///{tmp_path}/other.db")
    import_words(other, path)
    keys = ("word", "active", "match", "action", "replacement", "org_id", "variants", "note")

    def plain(words: WordList) -> list[tuple[object, ...]]:
        return [tuple(getattr(each, key) for key in keys) for each in words.list(everybody=True)]

    assert plain(other) == plain(rows)


def test_an_import_of_many_is_one_edit(tmp_path: Path) -> None:
    """
    Twenty thousand lines, found by the next call of this process.
    """
    words = Words(f"sqlite:///{tmp_path}/w.db")
    lines = "".join(f"词语编号{number}号\n" for number in range(20_000))

    report = import_words(words.rows, csv_file(tmp_path, f"敏感词\n{lines}"))

    assert report.counts() == {"added": 20_000}
    assert words.rows.generation() == 1
    assert len(words.find("词语编号19999号")) == 1


def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No number goes up, no process reads the list anew, and nobody who writes is waited for.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    rows.add("竞品")
    path = csv_file(tmp_path, CHINESE)

    def refuse(*_: object) -> None:
        raise AssertionError("something was written")

    monkeypatch.setattr(type(rows.database), "writing", refuse)
    monkeypatch.setattr("ai_ledger.policies.words.store.on_change", [refuse])
    report = import_words(rows, path, dry_run=True)

    assert outcomes(report) == [(2, "added"), (3, "updated")]
    assert (report.written, rows.generation()) == (False, 1)


def test_an_import_that_changes_nothing_tells_nobody(tmp_path: Path) -> None:
    """
    The second time the number stays as it was.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    path = csv_file(tmp_path, CHINESE)
    import_words(rows, path)
    import_words(rows, path)

    assert rows.generation() == 1


def test_an_export_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """
    What was there before stays when the words cannot be read to their end.
    """
    rows = WordList(f"sqlite:///{tmp_path}/w.db")
    rows.add("敏感词")
    path = tmp_path / "out.csv"
    export_words(rows.list(), path)
    before = path.read_bytes()

    def broken() -> Iterator[Word]:
        for word in rows.list():
            yield replace(word, note="another")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        export_words(broken(), path)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.glob("*out.csv*")) == ["out.csv"]
