"""Spreadsheets of words: what people have in them, and what only hostile ones have."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from tests.policies.test_words_files import xlsx_file

from ai_ledger.errors import ConfigurationError
from ai_ledger.policies.words import sheet
from ai_ledger.policies.words.dates import shape_of
from ai_ledger.policies.words.files import Bounds, import_words
from ai_ledger.policies.words.sheet import sheet_rows
from ai_ledger.policies.words.store import WordList

MOST = 64 * 1024 * 1024
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def book(
    path: Path,
    rows: str,
    *,
    texts: str | None = None,
    styles: str | None = None,
    compression: int = zipfile.ZIP_DEFLATED,
    head: str = "",
    about: str = "",
) -> Path:
    """A workbook whose sheet has *rows*, as XML; *about* stands before the list of its sheets."""
    parts = {"sharedStrings": texts, "styles": styles}
    beside = {kind: text for kind, text in parts.items() if text is not None}
    plain = xlsx_file(path.with_suffix(".plain"), [])
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            text = old.read(name).decode()
            if name.endswith("a.xml"):
                text = f"{head}<worksheet><sheetData>{rows}</sheetData></worksheet>"
            if name == "xl/workbook.xml":
                text = text.replace("<sheets>", f"{about}<sheets>")
            if name == "xl/_rels/workbook.xml.rels":
                links = "".join(
                    f'<Relationship Id="{kind}" Type="{OFFICE}/{kind}" Target="/xl/{kind}.xml"/>'
                    for kind in beside
                )
                text = text.replace("</Relationships>", f"{links}</Relationships>")
            new.writestr(name, text)
        for kind, text in beside.items():
            new.writestr(f"xl/{kind}.xml", f"<part>{text}</part>")
    return path


def cell(place: str, text: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'


def looks(*formats: int | str) -> str:
    """Looks of cells, one for each of *formats*: the number of a built-in one, or its code."""
    codes = {164 + at: each for at, each in enumerate(formats) if isinstance(each, str)}
    described = "".join(
        f"<numFmt numFmtId='{number}' formatCode={quoteattr(code)}/>"
        for number, code in codes.items()
    )
    numbers = (164 + at if isinstance(each, str) else each for at, each in enumerate(formats))
    cells = "".join(f'<xf numFmtId="{number}" applyNumberFormat="1"/>' for number in numbers)
    # Others of the same names, which are no formats of cells.
    other = '<dxfs><dxf><numFmt numFmtId="164" formatCode="0.00"/></dxf></dxfs>'
    return (
        f'<numFmts>{described}</numFmts><cellStyleXfs><xf numFmtId="0"/></cellStyleXfs>'
        f'<cellXfs><xf numFmtId="0"/>{cells}</cellXfs>{other}'
    )


def shown(path: Path, format: int | str, number: str, about: str = "") -> str:
    """What a cell with *number* and *format* arrives as."""
    row = f'<row><c t="str"><v>x</v></c><c s="1"><v>{number}</v></c></row>'
    ((_, cells),) = sheet_rows(book(path, row, styles=looks(format), about=about), MOST)
    return cells[1]


@pytest.mark.parametrize(
    ("format", "number", "text"),
    [
        pytest.param(14, "46082", "2026-03-01", id="a day"),
        pytest.param(14, "46082.75", "2026-03-01", id="a day, of which the time is not shown"),
        pytest.param(22, "46082.75", "2026-03-01T18:00:00", id="a day and a time"),
        pytest.param(22, "46082", "2026-03-01T00:00:00", id="midnight"),
        pytest.param(20, "0.5208333333333334", "12:30:00", id="a time of day"),
        pytest.param(21, "46082.25", "06:00:00", id="a time of day, of which the day is not shown"),
        pytest.param(46, "1.5", "36:00:00", id="more hours than a day has"),
        pytest.param(31, "46082", "2026-03-01", id="a day in Chinese"),
        pytest.param(34, "46082", "2026-03-01", id="a day in Japanese"),
        pytest.param(34, "0.75", "18:00:00", id="a time of day in Chinese"),
        pytest.param(55, "46082.75", "2026-03-01T18:00:00", id="both"),
        pytest.param(58, "4.6082E4", "2026-03-01", id="as numbers may be written"),
        pytest.param('yyyy"年"m"月"d"日";@', "46082", "2026-03-01", id="a format of its own"),
        pytest.param("mm:ss.000", "0.00001157407", "00:00:01", id="seconds"),
        pytest.param("h:mm:ss.000", "0.0000144676", "00:00:01.250", id="parts of a second"),
        pytest.param(2, "46082.75", "46082.75", id="a number"),
        pytest.param('0.00" days"', "46082", "46082", id="a number with a word"),
        pytest.param(14, "1", "1900-01-01", id="the first day"),
        pytest.param(14, "59", "1900-02-28", id="before the day that never was"),
        pytest.param(14, "60", "60", id="the 29th of February 1900, which never was"),
        pytest.param(14, "61", "1900-03-01", id="after it"),
        pytest.param(14, "0", "0", id="no day yet"),
        pytest.param(14, "2958465", "9999-12-31", id="the last day"),
        pytest.param(14, "2958466", "2958466", id="beyond the calendar"),
        pytest.param(14, "-1", "-1", id="before the calendar"),
        pytest.param(14, "1e999", "inf", id="no number of days"),
    ],
)
def test_dates_arrive_as_people_see_them(
    tmp_path: Path, format: int | str, number: str, text: str
) -> None:
    """
    A number whose format shows a date or a time is one, as ISO 8601 writes it.
    """
    assert shown(tmp_path / "w.xlsx", format, number) == text


@pytest.mark.parametrize(
    ("about", "number", "text"),
    [
        ('<workbookPr date1904="1"/>', "44620", "2026-03-01"),
        ('<workbookPr date1904="true"/>', "0", "1904-01-01"),
        ('<workbookPr date1904="true"/>', "60", "1904-03-01"),
        ('<workbookPr date1904="true"/>', "2958465", "2958465"),
        ('<workbookPr date1904="0"/>', "46082", "2026-03-01"),
    ],
)
def test_dates_count_from_1904_where_the_file_says_so(
    tmp_path: Path, about: str, number: str, text: str
) -> None:
    """
    Files of old Macs have another calendar, in which February 1900 is not.
    """
    assert shown(tmp_path / "w.xlsx", 14, number, about) == text


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        ("General", None),
        ("0.00E+00", None),
        ("[Red]0.00;[Blue]-0.00", None),
        ("#,##0\\d_d*d", None),
        ('"due by"0', None),
        ("@", None),
        ('0;"d";yyyy', None),
        ("[$-804]yyyy/m/d", "day"),
        ("mmm", "day"),
        ("YYYY-MM-DD HH:MM", "moment"),
        ("[$-F400]h:mm:ss AM/PM", "clock"),
        ("mm:ss", "clock"),
        ("[hh]:mm", "span"),
        ("[mm]", "span"),
        ("[" * 200_000, None),
        ('"' * 200_001, None),
    ],
)
def test_what_a_format_shows(code: str, shape: str | None) -> None:
    """
    Letters of dates count outside of quotes, signs that escape, colours and languages.
    """
    assert shape_of(code) == shape


def test_what_people_have(tmp_path: Path) -> None:
    """
    Shared, rich and spoken texts, numbers, booleans, errors, formulas, gaps and colours.
    """
    path = book(
        tmp_path / "w.xlsx",
        '<row r="2"><c r="A2" t="s"><v>0</v></c><c r="C2" t="s"><v>1</v></c></row>'
        '<row><c><v>1.0086E4</v></c><c t="b"><v>1</v></c><c t="e"><v>#N/A</v></c>'
        '<c t="str"><f>A1</f><v>out</v></c><c><v>1.5</v></c></row>'
        f'<row r="7"><c r="ZZ7" s="1"/>{cell("$B$7", " a_x000D_b_xD800_ ")}</row>'
        '<row r="1048576"><c r="XFD1048576" s="1"/></row>',
        texts="<si><t>中</t><rPh><t>zhong</t></rPh></si>"
        "<si><r><t>in </t></r><r><t>two</t></r></si>",
    )

    assert list(sheet_rows(path, MOST)) == [
        (2, ["中", "", "in two"]),
        (3, ["10086", "true", "", "out", "1.5"]),
        (7, ["", "a\rb_xD800_"]),
    ]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        pytest.param("XFD1048576", "100 columns", id="the last cell that there is"),
        pytest.param("A1048576", "more than 50,000 lines", id="the last row"),
        pytest.param("XFD2", "100 columns", id="the last column"),
        pytest.param("ZZZZ2", "no place", id="beyond the last column"),
    ],
)
def test_cells_far_away(tmp_path: Path, place: str, why: str) -> None:
    """
    A kilobyte that names a cell far away is refused, and takes no memory.
    """
    row = "".join(filter(str.isdigit, place))
    rows = f'<row r="1">{cell("A1", "word")}</row><row r="{row}">{cell(place, "z")}</row>'
    path = book(tmp_path / "w.xlsx", rows)
    words = WordList(f"sqlite:///{tmp_path}/w.db")

    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError, match=why):
            import_words(words, path, bounds=Bounds(lines=50_000, unpacked_bytes=MOST))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 20 * 1024 * 1024


@pytest.mark.parametrize(
    ("rows", "options", "why"),
    [
        pytest.param("<row/>" * 300, {}, "more cells", id="rows without a number"),
        pytest.param(f"<row>{'<c/>' * 300}</row>", {}, "more cells", id="cells without a place"),
        pytest.param("<a>" * 60 + "</a>" * 60, {}, "more cells", id="deep"),
        pytest.param('<row r="2"/><row r="2"/>', {}, "stands behind", id="a row twice"),
        pytest.param('<row r="-1"/>', {}, "no number", id="no row"),
        pytest.param(cell("A1", "x" * 40_000), {}, "32,767", id="a long text"),
        pytest.param(f'<row a="{"x" * 3_000_000}"/>', {}, "a tag of", id="a long tag"),
        pytest.param("<row>", {}, "no XLSX", id="not closed"),
        pytest.param(
            "<row/>", {"head": '<!DOCTYPE a [<!ENTITY b "c">]>'}, "document type", id="entities"
        ),
        pytest.param(
            "<row/>", {"compression": zipfile.ZIP_LZMA}, "packed", id="a packing that takes memory"
        ),
        pytest.param(
            "".join('<row><c t="s"><v>0</v></c></row>' for _ in range(40)),
            {"texts": f"<si><t>{'x' * 3_000}</t></si>"},
            "characters",
            id="one long text in many cells",
        ),
        pytest.param("<row/>", {"styles": "<xf/>" * 300}, "more cells", id="many looks"),
        pytest.param(
            "<row/>",
            {"styles": f"<cellXfs>{'<xf/>' * 201}</cellXfs>"},
            "looks of cells",
            id="more looks than there can be",
        ),
        pytest.param(
            "<row/>",
            {
                "styles": "<numFmts>"
                + "".join(f'<numFmt numFmtId="{at}"/>' for at in range(200, 400))
                + "</numFmts>"
            },
            "looks of cells",
            id="more formats than there can be",
        ),
        pytest.param("<row/>", {"styles": " " * 200_000}, "unpacks", id="looks of nothing"),
        pytest.param(
            "<row/>", {"styles": "<cellXfs><xf numFmtId='x'/></cellXfs>"}, "no number", id="no look"
        ),
    ],
)
def test_hostile_sheets(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: str,
    options: dict[str, Any],
    why: str,
) -> None:
    """
    What takes memory or time out of proportion is refused with a reason.
    """
    monkeypatch.setattr(sheet, "MAX_ELEMENTS", 250)
    monkeypatch.setattr(sheet, "MAX_STYLES", 200)
    path = book(tmp_path / "w.xlsx", rows, **options)
    most = MOST if "a=" in rows else 100_000

    with pytest.raises(ConfigurationError, match=why):
        list(sheet_rows(path, most))


def test_an_encoding_that_hides_cells(tmp_path: Path) -> None:
    """
    A sheet is UTF-8, whatever it says of itself.
    """
    head = '<?xml version="1.0" encoding="cp500"?>'
    path = book(tmp_path / "w.xlsx", f"<row>{cell('A1', 'word')}</row>", head=head)

    assert list(sheet_rows(path, MOST)) == [(1, ["word"])]
