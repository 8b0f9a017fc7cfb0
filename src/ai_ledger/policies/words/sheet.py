"""
The first sheet of an XLSX file, row by row.

A file of a kilobyte may name a cell in the last column of the last row, which readers
that make a table of a sheet take gigabytes for. This one holds a row at a time.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from xml.parsers import expat

from ai_ledger.errors import ConfigurationError
from ai_ledger.policies.words.dates import BUILT_IN, Shape, iso, shape_of

MAX_COLUMNS: Final = 100
MAX_ELEMENTS: Final = 5_000_000
MAX_TEXTS: Final = 1_000_000
"""Different texts of all cells."""
MAX_TEXT_CHARS: Final = 32_767
"""Of a cell, as spreadsheets have it."""
MAX_STYLES: Final = 65_490
"""Looks that cells may have, as spreadsheets have it."""
_MAX_DEPTH: Final = 50
_MAX_TAG_BYTES: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024

_PLACE: Final = re.compile(r"\$?([A-Za-z]{1,3})\$?[0-9]{1,7}", re.ASCII)
_ESCAPED: Final = re.compile(r"_x([0-9A-Fa-f]{4})_", re.ASCII)

Rows: TypeAlias = Iterator[tuple[int, list[str]]]


def sheet_rows(path: Path, most: int) -> Rows:
    """
    The rows that hold something, each with its number as a spreadsheet counts.

    Args:
        path: Of the file.
        most: How many bytes it may unpack to, and how many characters its cells may have.

    Raises:
        ConfigurationError: It is no XLSX that can be read, or is larger than that.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > most:
                raise ConfigurationError(f"{path.name}: unpacks to more than {most:,} bytes")
            parts = _parts(archive)
            shared, styles = _Texts(), _Styles()
            if parts.texts in archive.namelist():
                _read(archive, parts.texts, shared)
            if parts.styles in archive.namelist():
                _read(archive, parts.styles, styles)
            rows, told = _Rows(shared.found, styles.dates, since_1904=parts.since_1904), 0
            for _ in _parsed(archive, parts.sheet, rows):
                for number, cells in rows.taken():
                    # Each cell may name the same long text.
                    told += sum(map(len, cells))
                    if told > most:
                        raise ConfigurationError(
                            f"{path.name}: its cells have more than {most:,} characters"
                        )
                    yield number, cells
    except _Refused as error:
        raise ConfigurationError(f"{path.name}: {error}") from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError,
        expat.ExpatError, OSError,
    ) as error:  # fmt: skip
        raise ConfigurationError(f"{path.name}: no XLSX that can be read: {error}") from None


class _Refused(Exception):
    """The file is one that nobody has by accident."""


class _Texts:
    """The texts that cells share."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._text: list[str] = []
        self._in: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "si":
            self._text = []
        self._in.append(name)

    def text(self, text: str) -> None:
        # How a word is spoken stands beside it, in <rPh>.
        if self._in[-1] == "t" and "rPh" not in self._in:
            self._text.append(text)

    def end(self, name: str) -> None:
        self._in.pop()
        if name == "si":
            if len(self.found) == MAX_TEXTS:
                raise _Refused(f"more than {MAX_TEXTS:,} different texts")
            self.found.append(_plain(self._text))


class _Styles:
    """The looks of cells that show a date or a time."""

    def __init__(self) -> None:
        self._formats: Final[dict[int, Shape | None]] = dict(BUILT_IN)
        self._looks: Final[list[int]] = []
        self._in: list[str] = []

    @property
    def dates(self) -> dict[str, Shape]:
        """Those that do, by what cells call them."""
        return {
            str(at): shape
            for at, each in enumerate(self._looks)
            if (shape := self._formats.get(each)) is not None
        }

    def start(self, name: str, attributes: dict[str, str]) -> None:
        # Formats and looks of other things have the same names, and stand elsewhere.
        within = self._in[-1] if self._in else ""
        if (within, name) == ("numFmts", "numFmt"):
            number = _whole(attributes.get("numFmtId"), -1)
            self._formats[number] = shape_of(attributes.get("formatCode", ""))
        elif (within, name) == ("cellXfs", "xf"):
            self._looks.append(_whole(attributes.get("numFmtId"), 0))
        if max(len(self._formats), len(self._looks)) > MAX_STYLES:
            raise _Refused(f"more than {MAX_STYLES:,} looks of cells")
        self._in.append(name)

    def text(self, text: str) -> None:
        """Nothing."""

    def end(self, name: str) -> None:
        self._in.pop()


class _Rows:
    """The rows of a sheet."""

    def __init__(self, shared: list[str], dates: dict[str, Shape], *, since_1904: bool) -> None:
        self._shared: Final = shared
        self._dates: Final = dates
        self._since_1904: Final = since_1904
        self._in: list[str] = []
        self._row = 0
        self._column = 0
        self._kind = "n"
        self._look = "0"
        self._text: list[str] = []
        self._cells: list[str] = []
        self._ready: list[tuple[int, list[str]]] = []

    def taken(self) -> list[tuple[int, list[str]]]:
        """Those that are complete, once each."""
        ready, self._ready = self._ready, []
        return ready

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._in.append(name)
        if name == "row":
            number = _whole(attributes.get("r"), self._row + 1)
            if number <= self._row:
                raise _Refused(f"row {number} stands behind row {self._row}")
            self._row, self._column, self._cells = number, 0, []
        elif name == "c":
            place = attributes.get("r")
            self._column = self._column + 1 if place is None else _column(place)
            self._kind, self._look = attributes.get("t", "n"), attributes.get("s", "0")
            self._text = []

    def text(self, text: str) -> None:
        if self._in[-1] in ("v", "t") and "c" in self._in and "rPh" not in self._in:
            self._text.append(text)

    def end(self, name: str) -> None:
        self._in.pop()
        if name == "row" and any(self._cells):
            self._ready.append((self._row, self._cells))
            self._cells = []
        elif name == "c":
            text = self._value()
            # What is only coloured is nothing, wherever it stands.
            if not text:
                return
            if self._column > MAX_COLUMNS:
                raise _Refused(f"row {self._row} has more than {MAX_COLUMNS} columns")
            self._cells += [""] * (self._column - len(self._cells))
            self._cells[self._column - 1] = text

    def _value(self) -> str:
        text = _plain(self._text)
        if self._kind == "s":
            at = _whole(text or None, -1)
            return self._shared[at] if 0 <= at < len(self._shared) else ""
        if self._kind == "b":
            return "true" if text == "1" else "false" if text == "0" else ""
        if self._kind == "e":
            return ""
        return text if self._kind != "n" else self._dated(text) or _number(text)

    def _dated(self, text: str) -> str | None:
        shape = self._dates.get(self._look)
        if shape is None or not text:
            return None
        return iso(float(text), shape, since_1904=self._since_1904)


def _parsed(archive: zipfile.ZipFile, name: str, into: Any) -> Iterator[None]:
    """Parse a member; after each piece of it whoever asks may take what *into* has."""
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Refused("it is packed as no spreadsheet does it")
    # Whatever it says of itself: with another encoding the same bytes are another sheet.
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _no_doctype
    elements = depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal elements, depth
        elements, depth = elements + 1, depth + 1
        if elements > MAX_ELEMENTS or depth > _MAX_DEPTH:
            raise _Refused("it has more cells than can be read")
        into.start(tag.rpartition(":")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        into.end(tag.rpartition(":")[2])

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = into.text
    read = 0
    with archive.open(member) as file:
        while chunk := file.read(_CHUNK):
            parser.Parse(chunk, False)
            read += len(chunk)
            # A tag is kept until it ends.
            if read - max(parser.CurrentByteIndex, 0) > _MAX_TAG_BYTES:
                raise _Refused("it has a tag of more than a megabyte")
            yield
    parser.Parse(b"", True)
    yield


def _no_doctype(*_: Any) -> None:
    raise _Refused("it declares a document type, which no spreadsheet does")


class _Links:
    """What a part refers to: by kind, and by id."""

    def __init__(self, folder: str) -> None:
        self._folder: Final = folder
        self.by_kind: dict[str, str] = {}
        self.by_id: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and "Target" in attributes:
            target = attributes["Target"]
            path = posixpath.normpath(posixpath.join("/", self._folder, target)).lstrip("/")
            self.by_kind.setdefault(attributes.get("Type", "").rpartition("/")[2], path)
            self.by_id[attributes.get("Id", "")] = path

    def text(self, text: str) -> None:
        """Nothing."""

    def end(self, name: str) -> None:
        """Nothing."""


class _Book(_Links):
    """The id of the first sheet, and which calendar its dates count by."""

    first: str | None = None
    since_1904 = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "workbookPr":
            self.since_1904 = attributes.get("date1904") in ("1", "true")
        elif name == "sheet" and self.first is None:
            ids = [text for key, text in attributes.items() if key.rpartition(":")[2] == "id"]
            self.first = ids[0] if ids else ""


class _Parts(NamedTuple):
    """Where the first sheet is, its texts and its looks; and its calendar."""

    sheet: str
    texts: str
    styles: str
    since_1904: bool


def _parts(archive: zipfile.ZipFile) -> _Parts:
    top = _read(archive, "_rels/.rels", _Links(""))
    workbook = top.by_kind.get("officeDocument", "xl/workbook.xml")
    folder, name = posixpath.split(workbook)
    links = _read(archive, f"{folder}/_rels/{name}.rels".lstrip("/"), _Links(folder))
    book = _read(archive, workbook, _Book(folder))
    if book.first is None or book.first not in links.by_id:
        raise _Refused("it has no sheet")
    texts, styles = (links.by_kind.get(each, "") for each in ("sharedStrings", "styles"))
    return _Parts(links.by_id[book.first], texts, styles, book.since_1904)


def _read(archive: zipfile.ZipFile, name: str, into: Any) -> Any:
    for _ in _parsed(archive, name, into):
        pass
    return into


def _plain(parts: list[str]) -> str:
    text = "".join(parts)
    if len(text) > MAX_TEXT_CHARS:
        raise _Refused(f"a cell has more than {MAX_TEXT_CHARS:,} characters")
    # Stripped here and not for each cell, which would be a copy for each.
    return _ESCAPED.sub(_escaped, text).strip()


def _escaped(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    # Neither halves of characters, nor what no text of XML may have.
    keeps = (number < 32 and number not in (9, 10, 13)) or 0xD800 <= number <= 0xDFFF
    return match[0] if keeps else chr(number)


def _number(text: str) -> str:
    # A spreadsheet has no whole numbers: 10086 may come as 1.0086E4.
    if not text or text.isdecimal():
        return text
    number = float(text)
    return str(int(number)) if number.is_integer() else str(number)


def _whole(text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise _Refused(f"{text[:20]!r} is no number of a row or a text")
    return int(text)


def _column(place: str) -> int:
    match = _PLACE.fullmatch(place)
    if match is None:
        raise _Refused(f"{place[:20]!r} is no place of a cell")
    column = 0
    for letter in match[1].upper():
        column = column * 26 + ord(letter) - ord("A") + 1
    return column
