"""Lines: how a record becomes one line of a segment, and what is still read from a bad one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast, get_type_hints

import msgspec

from ai_ledger.bounds import storable
from ai_ledger.errors import InvalidValue
from ai_ledger.records import CallRecord

INVALID_TAG: Final = "ai_ledger.invalid"
"""Names the fields of a record that held nothing usable and were left out."""

_MARK: Final = b'"status":"unfinished"'
# `to_json` writes id, started_at and status first, so the mark is near the front.
_MARK_WITHIN: Final = 200
_HINTS: Final = get_type_hints(CallRecord, include_extras=True)


class _Head(msgspec.Struct):
    id: str
    status: str = "success"


_head: Final = msgspec.json.Decoder(_Head)


def encode(record: CallRecord, max_bytes: int) -> bytes:
    """
    *record* as one line with its newline.

    A record that is too long loses its texts first and its tags next; one that
    JSON cannot express loses the fields that are at fault, and says so in a tag.
    """
    try:
        line = record.to_json() + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError):
        record = _mended(msgspec.structs.asdict(record))
        line = record.to_json() + b"\n"
    if len(line) > max_bytes:
        record = without_content(record)
        line = record.to_json() + b"\n"
    if len(line) > max_bytes:
        record = record.replace(tags={}, error_message=None)
        line = record.to_json() + b"\n"
    return line


def without_content(record: CallRecord) -> CallRecord:
    """*record* without what was asked and answered."""
    return record.replace(request_content=None, response_content=None)


def decode(line: bytes) -> CallRecord:
    """
    The record that *line* holds, without the fields that hold nothing usable.

    Raises:
        InvalidValue: It is no record: not JSON, or it has no id.
    """
    try:
        return CallRecord.from_json(line)
    except InvalidValue:
        try:
            values = msgspec.json.decode(line)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict) or not isinstance(
            cast("dict[str, Any]", values).get("id"), str
        ):
            raise
        return _mended(cast("dict[str, Any]", values))


def unfinished_id(line: bytes) -> str | None:
    """The id, if *line* says that a call began; ``None`` for any other line."""
    if line.find(_MARK, 0, _MARK_WITHIN) < 0:
        return None
    try:
        head = _head.decode(line)
    except (ValueError, RecursionError):
        return None
    return head.id if head.status == "unfinished" else None


def finished_id(line: bytes) -> str | None:
    """The id, if *line* says how a call ended."""
    try:
        head = _head.decode(line)
    except (ValueError, RecursionError):
        return None
    return None if head.status == "unfinished" else head.id


def _mended(values: dict[str, Any]) -> CallRecord:
    good: dict[str, Any] = {}
    bad: list[str] = []
    for name, value in values.items():
        if name not in _HINTS:
            continue
        try:
            good[name] = _fitting(name, value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            bad.append(name)
    good.setdefault("started_at", datetime.now(UTC))
    if "id" in bad:
        good["id"] = storable(repr(values["id"]))[:255]
    if bad:
        good["tags"] = {**good.get("tags", {}), INVALID_TAG: ",".join(bad)}
    return CallRecord(**good)


def _fitting(name: str, value: Any) -> Any:
    if isinstance(value, str):
        value = storable(value)
    elif name == "tags" and isinstance(value, dict):
        tags = cast("dict[object, object]", value)
        value = {storable(str(key)): storable(str(tag)) for key, tag in tags.items()}
    elif isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    fitting: Callable[..., Any] = msgspec.convert
    # There and back, so that what cannot be written is found here as well.
    return fitting(msgspec.json.decode(msgspec.json.encode(value)), type=_HINTS[name], strict=False)
