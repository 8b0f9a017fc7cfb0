"""Words from and to files: CSV and XLSX, with a report on every line."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.policies.words.rows import DRAFT_FIELDS, Draft, Word, checked
from ai_ledger.policies.words.sheet import sheet_rows
from ai_ledger.policies.words.store import WordList
from ai_ledger.stats.export import harmless, write_private

MAX_LINES: Final = 100_000
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 512 * 1024 * 1024
ENCODINGS: Final = ("utf-8", "utf-8-sig", "gb18030", "gbk", "big5", "utf-16")

Outcome: TypeAlias = Literal["added", "updated", "unchanged", "refused"]

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "word": (
        "敏感词", "敏感词语", "词语", "词", "关键词", "关键字", "屏蔽词", "违禁词", "违规词",
        "keyword", "sensitive_word", "term",
    ),
    "replacement": ("替换词", "替换为", "替换", "替代词", "替换内容", "replace_word", "replace"),
    "active": ("是否启用", "启用", "启用状态", "状态", "enabled", "is_active", "status"),
    "match": ("匹配方式", "匹配模式", "匹配类型", "match_type", "match_mode"),
    "fuzzy": ("模糊匹配", "是否模糊", "是否模糊匹配", "is_fuzzy"),
    "action": ("处理方式", "处理", "动作", "操作", "策略"),
    "org_id": ("机构", "机构id", "组织", "组织id", "站点", "站点id", "site_id", "org"),
    "variants": ("繁简", "繁简通用", "简繁通用", "繁体"),
    "note": ("备注", "说明", "描述", "remark", "description"),
}  # fmt: skip
"""What each column may be called, beside its own name."""

_FIELDS: Final = {name: field for field, names in COLUMNS.items() for name in (field, *names)}
_TRUE: Final = frozenset({"是", "启用", "已启用", "正常", "1", "1.0", "true", "yes", "y", "on"})
_FALSE: Final = frozenset(
    {"否", "停用", "已停用", "禁用", "已禁用", "0", "0.0", "false", "no", "n", "off"}
)
_MATCH: Final = {"精确": "exact", "精确匹配": "exact", "模糊": "fuzzy", "模糊匹配": "fuzzy"}
_ACTION: Final = {
    "拦截": "block", "阻止": "block", "屏蔽": "block", "禁止": "block", "拒绝": "block",
    "替换": "replace", "警告": "warn", "告警": "warn", "提示": "warn", "标记": "warn",
}  # fmt: skip


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """
    How large a file may be.

    Args:
        lines: How many, without the header.
        unpacked_bytes: Of an XLSX file.
    """

    lines: int = MAX_LINES
    unpacked_bytes: int = MAX_UNPACKED_BYTES


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of a line.

    Args:
        number: As a spreadsheet counts, the header being 1.
        word: What stands there.
        outcome: ``added``, ``updated``, ``unchanged`` or ``refused``.
        reason: Why it was refused.
    """

    number: int
    word: str
    outcome: Outcome
    reason: str | None = None


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of a file.

    Args:
        lines: Each that is not empty, in order.
        written: Whether anything was; without ``keep_good`` nothing is when a line is refused.
        ignored: Columns that nothing was taken from.
    """

    lines: tuple[Line, ...]
    written: bool
    ignored: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many lines had each outcome."""
        return dict(Counter(line.outcome for line in self.lines))

    @property
    def refused(self) -> tuple[Line, ...]:
        """Those that were refused."""
        return tuple(line for line in self.lines if line.outcome == "refused")


def import_words(
    words: WordList,
    file: Path | str,
    *,
    encoding: str = "utf-8-sig",
    org_id: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    literal: bool = False,
    keep_good: bool = False,
    dry_run: bool = False,
    by: str | None = None,
    confined: bool = False,
    bounds: Bounds = Bounds(),  # noqa: B008  # it is frozen
) -> ImportReport:
    """
    Add and update words from a CSV or XLSX file whose first line names the columns.

    A word that its organisation has already is updated with what the file says; what
    the file has no column for stays as it is. Doing it twice changes nothing more.

    Args:
        words: Where they go.
        file: Its name ends in ``.csv`` or ``.xlsx``.
        encoding: Of a CSV file; with or without a byte order mark for UTF-8.
        org_id: For lines that name no organisation.
        defaults: Fields for words that are new and for which the file says nothing.
        literal: Take what looks like a regular expression for the word that it is.
        keep_good: Take the good lines although others are refused.
        dry_run: Only say what would become of each line.
        by: Who says so; the user of this process, if left out.
        confined: Refuse lines that name another organisation than *org_id*.
        bounds: How large the file may be.

    Raises:
        ConfigurationError: The file cannot be read: another encoding, no column of
            words, too many lines.
    """
    path = Path(file)
    most = min(bounds.lines, MAX_LINES)
    rows = _rows(path, encoding, bounds)
    nothing: tuple[int, list[str]] = (1, [])
    columns, ignored = _columns(next(rows, nothing)[1], path)
    known = _known(words)
    lines: list[Line] = []
    drafts: list[Draft] = []
    places: list[int] = []
    seen: dict[tuple[str | None, str], int] = {}
    for number, cells in rows:
        if number > most + 1:
            raise ConfigurationError(f"{path.name}: more than {most:,} lines; divide the file")
        texts = {name: cells[at].strip() for at, name in columns.items() if at < len(cells)}
        if not any(texts.values()):
            continue
        try:
            draft = _draft(texts, known, org_id, defaults or {}, literal=literal)
            if confined:
                _refuse_others(draft, org_id)
            _refuse_again(draft, number, seen)
        except InvalidValue as error:
            reason = str(error)
            lines.append(
                Line(number=number, word=texts.get("word", ""), outcome="refused", reason=reason)
            )
            continue
        places.append(len(lines))
        drafts.append(draft)
        lines.append(Line(number=number, word=draft.word, outcome="unchanged"))
    refused = len(drafts) < len(lines)
    keep = not dry_run and (keep_good or not refused) and bool(drafts)
    for at, outcome in zip(places, words.put(drafts, by=by, rehearse=not keep), strict=True):
        lines[at] = msgspec.structs.replace(lines[at], outcome=outcome)
    written = keep and any(line.outcome in ("added", "updated") for line in lines)
    return ImportReport(lines=tuple(lines), written=written, ignored=ignored)


def export_words(words: Iterable[Word], file: Path | str) -> int:
    """
    Write *words* into a CSV file that `import_words` reads; how many there were.

    Cells that a spreadsheet would calculate get an apostrophe in front.

    Raises:
        InvalidValue: *file* is a symbolic link, or no regular file.
        OSError: The file cannot be written; one that was there before stays as it was.
    """
    kept = list(words)
    write_private(Path(file), csv_of(kept))
    return len(kept)


def csv_of(words: Iterable[Word]) -> bytes:
    """*words* as the content of the file that `export_words` writes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(DRAFT_FIELDS)
    for word in words:
        writer.writerow([_cell(getattr(word, name)) for name in DRAFT_FIELDS])
    # With a byte order mark, without which spreadsheets take Chinese for something else.
    return text.getvalue().encode("utf-8-sig")


def _cell(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    text = str(value)
    return f"'{text}" if text.startswith("'") else harmless(text)


def _rows(path: Path, encoding: str, bounds: Bounds) -> Iterator[tuple[int, list[str]]]:
    kind = path.suffix.lower()
    if kind not in (".csv", ".txt", ".xlsx"):
        raise ConfigurationError(f"{path.name}: expected a file whose name ends in .csv or .xlsx")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path.name}: more than {MAX_FILE_BYTES:,} bytes")
    return _xlsx(path, bounds) if kind == ".xlsx" else _csv(path, encoding)


def _csv(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    if encoding not in ENCODINGS:
        raise ConfigurationError(f"encoding={encoding!r}: expected one of {', '.join(ENCODINGS)}")
    data = path.read_bytes()
    if encoding != "utf-16" and _is_utf16(data):
        raise ConfigurationError(f"{path.name}: the file is UTF-16: give --encoding utf-16")
    try:
        # A byte order mark is no part of the first column's name.
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeError as error:
        other = "gb18030" if encoding.startswith("utf-8") else "utf-8"
        raise ConfigurationError(
            f"{path.name}: not {encoding} ({_where(data, error)}); is it {other}? "
            f"Say so with encoding={other!r}"
        ) from None
    if "\x00" in text:
        raise ConfigurationError(f"{path.name}: not {encoding}, or no CSV: it has NUL characters")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0
    try:
        for cells in reader:
            # By line of the spreadsheet: a cell may have several lines.
            number += 1
            yield number, [_plain_cell(cell) for cell in cells]
    except csv.Error as error:
        raise ConfigurationError(f"{path.name}: line {number + 1} is no CSV: {error}") from None


def _is_utf16(data: bytes) -> bool:
    # What spreadsheets save as "Unicode text" begins with the mark; without one, an
    # end of line has two bytes.
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    return len(data) % 2 == 0 and "\n".encode("utf-16-le") in data


def _where(data: bytes, error: UnicodeError) -> str:
    start: int = getattr(error, "start", 0)
    lines = data[:start].count(b"\n")
    return f"line {lines + 1}"


def _plain_cell(cell: str) -> str:
    # What export put there.
    rest = cell[1:]
    put = cell.startswith("'") and (rest.startswith("'") or harmless(rest) != rest)
    return rest if put else cell


def _xlsx(path: Path, bounds: Bounds) -> Iterator[tuple[int, list[str]]]:
    rows = sheet_rows(path, min(bounds.unpacked_bytes, MAX_UNPACKED_BYTES))
    for at, (number, cells) in enumerate(rows):
        if at == 0 and number > 1:
            # The first line is the one that names the columns, with something in it or not.
            yield 1, []
        yield number, cells


def _columns(header: list[str], path: Path) -> tuple[dict[int, str], tuple[str, ...]]:
    columns: dict[int, str] = {}
    ignored: list[str] = []
    for at, cell in enumerate(header):
        name = cell.strip().lower().replace(" ", "_").lstrip("*")
        field = _FIELDS.get(name) or _FIELDS.get(name.replace("_", ""))
        if field is None:
            ignored += [cell.strip()] if cell.strip() else []
        elif field in columns.values():
            raise ConfigurationError(f"{path.name}: two columns for {field}")
        else:
            columns[at] = field
    if "word" not in columns.values():
        raise ConfigurationError(
            f"{path.name}: no column of words in its first line; call it one of "
            f"{', '.join(('word', *COLUMNS['word'][:4]))}"
        )
    return columns, tuple(ignored)


def _known(words: WordList) -> dict[tuple[str | None, str], Word]:
    return {(word.org_id, word.word): word for word in words.list(everybody=True)}


def _draft(
    texts: dict[str, str],
    known: Mapping[tuple[str | None, str], Word],
    org_id: str | None,
    defaults: Mapping[str, Any],
    *,
    literal: bool,
) -> Draft:
    said = _said(texts)
    org = said.pop("org_id", None) or org_id
    word = texts.get("word", "")
    before = known.get((org, word))
    fields: dict[str, Any] = {"org_id": org, **defaults, **said, "word": word}
    if before is not None:
        fields = {name: getattr(before, name) for name in DRAFT_FIELDS} | said
    elif "action" not in said and said.get("replacement"):
        fields["action"] = "replace"
    if fields.get("action", "block") != "replace" and "replacement" not in said:
        fields["replacement"] = None
    return checked(fields, literal=literal)


def _refuse_others(draft: Draft, org_id: str | None) -> None:
    if draft.org_id != org_id:
        raise InvalidValue("org_id", draft.org_id, f"{org_id!r}, or nothing")


def _refuse_again(draft: Draft, number: int, seen: dict[tuple[str | None, str], int]) -> None:
    first = seen.setdefault((draft.org_id, draft.word), number)
    if first != number:
        raise InvalidValue("word", draft.word, f"each word once; line {first} has it too")


def _said(texts: dict[str, str]) -> dict[str, Any]:
    """The values that a line has; an empty cell says nothing."""
    said: dict[str, Any] = {name: text for name, text in texts.items() if text and name != "word"}
    for name in ("active", "variants", "fuzzy"):
        if name in said:
            said[name] = _boolean(name, said[name])
    if "match" in said:
        said["match"] = _MATCH.get(said["match"], said["match"].lower())
    if "action" in said:
        said["action"] = _ACTION.get(said["action"], said["action"].lower())
    fuzzy = said.pop("fuzzy", None)
    if fuzzy is not None:
        said.setdefault("match", "fuzzy" if fuzzy else "exact")
    return said


def _boolean(name: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise InvalidValue(name, text, "是 or 否, 启用 or 停用, true or false, 1 or 0")
