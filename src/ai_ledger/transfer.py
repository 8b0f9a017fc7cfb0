"""Calls from one store to another, and from files that other systems wrote."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from ai_ledger.bounds import MAX_ERROR_CHARS, MAX_TAGS, cut, label, storable
from ai_ledger.errors import InvalidValue, RecordRefused
from ai_ledger.policy import MARK_PREFIX
from ai_ledger.query import Query
from ai_ledger.records import ALIASES, STATUSES, TOKEN_FIELDS, CallRecord
from ai_ledger.secrets import scrub
from ai_ledger.sinks.base import Sink, Store
from ai_ledger.validation import (
    checked_cost,
    checked_count,
    checked_duration,
    checked_http_status,
    checked_moment,
    checked_status,
    checked_usage,
)


class TransferReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the calls that were read."""

    read: int
    written: int
    """Taken by the target, those included that it had already."""
    refused: tuple[Refusal, ...] = ()
    """The first 1,000 of the ``read - written`` that were not taken."""
    bad: int = 0
    """Lines that are no calls."""
    bad_lines: tuple[BadLine, ...] = ()
    """The first 1,000 of them."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the target will never take."""

    call_id: str
    reason: str


class BadLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a file that is no call."""

    number: int
    """From 1."""
    reason: str


MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_MAX_SHOWN: Final = 1000


def transfer(
    source: Store,
    target: Sink,
    query: Query,
    *,
    batch_size: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> TransferReport:
    """
    Write the calls that *query* means from *source* to *target*, oldest first.

    Doing it twice, or after it was broken off, counts every call once: ids are
    kept. Costs go as they stand; the history of their corrections stays behind.

    Args:
        source: Where the calls are.
        target: Where they go.
        query: Which ones; deleted ones only when it asks for them.
        batch_size: Calls in one ``write``.
        progress: Told how many were read, after each batch.

    Raises:
        SinkUnavailable: One side is away. What was written stays written.
    """
    return _load(source.scan(query, batch_size=batch_size), target, progress)


def import_jsonl(
    path: Path | str,
    target: Sink,
    *,
    tz: tzinfo | None = None,
    batch_size: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> TransferReport:
    """
    Write the calls of a JSON Lines file to *target*; see `read_jsonl` for what it may hold.

    Bad lines are left out and reported; their neighbours are not harmed.

    Raises:
        OSError: The file cannot be read.
        SinkUnavailable: The target is away. What was written stays written.
    """
    bad = 0
    bad_lines: list[BadLine] = []

    def batches() -> Iterator[list[CallRecord]]:
        nonlocal bad
        batch: list[CallRecord] = []
        for line in read_jsonl(path, tz=tz):
            if isinstance(line, BadLine):
                bad += 1
                if bad <= _MAX_SHOWN:
                    bad_lines.append(line)
                continue
            batch.append(line)
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    report = _load(batches(), target, progress)
    return msgspec.structs.replace(report, bad=bad, bad_lines=tuple(bad_lines))


def read_jsonl(path: Path | str, *, tz: tzinfo | None = None) -> Iterator[CallRecord | BadLine]:
    """
    The calls of a file with one JSON object a line, ours or another system's.

    - Field names are ours or one of `records.ALIASES`; ours win over an alias.
    - Keys that are neither become tags. ``success`` is read as status,
      ``cost_usd`` as a cost in USD, ``is_delete`` as already deleted.
    - Times are ISO 8601, or seconds or milliseconds since 1970. Durations are
      milliseconds, whatever their alias. Ids may be numbers.
    - A line without an id gets one made from what it says, so that it counts
      once however often it is imported, and two equal lines count as one.

    Args:
        path: The file.
        tz: The zone of times without one. Left out, such lines are bad.

    Yields:
        For each line that is not empty a record, or what is wrong with it.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(_lines(file), 1):
            if line.isspace():
                continue
            if len(line) > MAX_LINE_BYTES:
                yield BadLine(number=number, reason=f"longer than {MAX_LINE_BYTES:,} bytes")
                continue
            try:
                yield record_of(_parsed(line), tz=tz)
            except InvalidValue as error:
                yield BadLine(number=number, reason=storable(str(error))[:MAX_ERROR_CHARS])


def record_of(data: object, *, tz: tzinfo | None = None) -> CallRecord:
    """
    The record that a JSON object of ours, or of another system, describes; see `read_jsonl`.

    Raises:
        InvalidValue: Names the field and what was expected.
    """
    if not isinstance(data, dict):
        raise InvalidValue("line", data, "a JSON object")
    given = {
        name: value for name, value in cast("dict[str, Any]", data).items() if value is not None
    }
    fields: dict[str, Any] = {}
    tags: dict[str, str] = {}
    for name, value in given.items():
        field = "" if name == "cost_usd" else ALIASES.get(name, name)
        if field != name and (field in given or field in fields):
            continue
        if field in CallRecord.__struct_fields__ or field == "success":
            fields[field] = value
        elif name not in ("cost_usd", "total_tokens") or not _is_said_otherwise(name, given):
            tags[label(name)] = label(_tag(value))
    if "cost_usd" in given and "cost" not in fields:
        fields |= {"cost": given["cost_usd"], "currency": _usd(fields.get("currency", "USD"))}
    if fields.get("id") in (None, ""):
        fields["id"] = str(uuid.uuid5(_NAMESPACE, _as_json(given, str)))
    tags.update(_tags(fields.pop("tags", {})))
    # Policies and sinks have added theirs to as many as a call may have.
    marks = sum(name.startswith(MARK_PREFIX) for name in tags)
    if max(marks, len(tags) - marks) > MAX_TAGS:
        raise InvalidValue("tags", sorted(tags), f"at most {MAX_TAGS}, unknown keys included")
    return CallRecord(tags=tags, **_checked(fields, tz))


# The namespace of ids made from lines; it must never change, or what was
# imported before would be imported again.
_NAMESPACE: Final = uuid.UUID("6f1d1c8e-0d5f-5d4b-9a51-9c2a4a3f7b10")


def _checked(fields: dict[str, Any], tz: tzinfo | None) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    if "started_at" not in fields:
        raise InvalidValue("started_at", None, "the time when the call started")
    checked["started_at"] = _moment("started_at", fields.pop("started_at"), tz)
    success = fields.pop("success", None)
    status = fields.pop("status", None)
    # Our own files may hold calls that never ended; nobody types that status.
    checked["status"] = (
        status if status == STATUSES[-1] else checked_status(status, _boolean("success", success))
    )
    deleted = fields.pop("deleted_at", None)
    if deleted not in (None, 0, False, "0", "false", ""):
        plain_yes = deleted in (1, True, "1", "true")
        checked["deleted_at"] = (
            checked["started_at"] if plain_yes else _moment("deleted_at", deleted, tz)
        )
    checked.update(_usage(fields))
    cost, currency = fields.pop("cost", None), fields.pop("currency", None)
    if cost is not None:
        checked["cost"], checked["currency"] = checked_cost(cost, currency)
    for name, value in fields.items():
        checked[name] = _CHECKS.get(name, _text)(name, value)
    return checked


def _usage(fields: dict[str, Any]) -> dict[str, Any]:
    counts = {name: _number(fields.pop(name)) for name in TOKEN_FIELDS if name in fields}
    # Who counted is not known of another system's figures: only a source that
    # is stated is believed.
    usage = checked_usage(counts, fields.pop("usage_source", "unknown"))
    return {
        "usage_source": usage.source,
        **{name: getattr(usage, name) for name in counts},
    }


def _moment(name: str, value: object, tz: tzinfo | None) -> datetime:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
        else:
            if isinstance(value, bool):
                value = None
            # 1e11 seconds are in the year 5138, 1e11 milliseconds in 1973.
            seconds = float(cast("Any", value))
            moment = datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        expected = "a time such as 2026-03-01T12:00:00Z, or seconds or milliseconds since 1970"
        raise InvalidValue(name, value, expected) from None
    if moment.tzinfo is None and tz is not None:
        moment = moment.replace(tzinfo=tz)
    return checked_moment(name, moment)


def _boolean(name: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    raise InvalidValue(name, value, "true or false")


def _number(value: object) -> object:
    """*value*, as a whole number or a float where it is one in another dress."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation:
            return value
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise InvalidValue(name, value, "a text")
    text = str(value)
    if name in ("request_content", "response_content"):
        return cut(storable(text))
    if name == "error_message":
        return scrub(storable(text))[:MAX_ERROR_CHARS]
    return label(text)


def _tags(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidValue("tags", value, "an object of texts")
    return {
        label(name): label(_tag(each))
        for name, each in cast("dict[str, Any]", value).items()
        if each is not None
    }


def _duration(name: str, value: object) -> float | None:
    return checked_duration(name, _number(value))


def _count(name: str, value: object) -> int | None:
    return checked_count(name, _number(value))


def _http_status(_: str, value: object) -> int | None:
    return checked_http_status(_number(value))


_CHECKS: Final[dict[str, Callable[[str, object], object]]] = {
    "duration_ms": _duration,
    "time_to_first_token_ms": _duration,
    "http_status": _http_status,
    "retries": _count,
    "streamed": _boolean,
}


def _usd(currency: object) -> str:
    if currency != "USD":
        raise InvalidValue("currency", currency, "USD, as the cost is called cost_usd")
    return "USD"


def _is_said_otherwise(name: str, given: dict[str, Any]) -> bool:
    """Whether *given* has fields of ours that say what ``cost_usd`` or ``total_tokens`` does."""
    if name == "cost_usd":
        # Beside an amount in another currency it is kept, as a tag.
        return not {"cost", "cost_amount"} & set(given)
    counts = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
    return any(count in given for count in counts)


def _tag(value: object) -> str:
    if isinstance(value, (str, Decimal)):
        return str(value)
    return _as_json(value, float)


def _as_json(value: object, default: Callable[[Any], object]) -> str:
    """*value* as JSON that is the same whatever the order of keys and the white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=default)


def _refuse_constant(name: str) -> Any:
    raise InvalidValue("line", name, "JSON, which has no NaN and no Infinity")


def _parsed(line: bytes) -> object:
    try:
        # Amounts of money have to keep the digits that the file gives.
        return json.loads(
            line.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_refuse_constant
        )
    except InvalidValue:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidValue("line", line[:80], f"JSON in UTF-8 ({error})") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of *file*, those that are too long cut to one byte more than is allowed."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return


def _load(
    batches: Iterable[Sequence[CallRecord]],
    target: Sink,
    progress: Callable[[int], None] | None,
) -> TransferReport:
    read = refused = 0
    refusals: list[Refusal] = []
    for batch in batches:
        read += len(batch)
        found = _write(target, batch)
        refused += len(found)
        refusals += found[: _MAX_SHOWN - len(refusals)]
        if progress is not None:
            progress(read)
    return TransferReport(read=read, written=read - refused, refused=tuple(refusals))


def _write(target: Sink, batch: Sequence[CallRecord]) -> list[Refusal]:
    """Write *batch*, halving it around what the target refuses."""
    try:
        target.write(batch)
    except RecordRefused as error:
        if len(batch) == 1:
            return [Refusal(call_id=batch[0].id, reason=str(error))]
        middle = len(batch) // 2
        return [*_write(target, batch[:middle]), *_write(target, batch[middle:])]
    return []
