"""JSON Lines: a folder of files, one call per line and one file per day."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple
from uuid import UUID

import msgspec

from ai_ledger.errors import InvalidValue, RecordRefused
from ai_ledger.money import to_nano
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange, Place
from ai_ledger.sinks.dayfiles import DayFiles
from ai_ledger.sinks.scan import check_page, forgotten, is_within, matches, page, without_content
from ai_ledger.totals import Group, group_records

logger = logging.getLogger(__name__)

_RECORDS: Final = "usage"
_CHANGES: Final = "changes"
_IDS_PER_LINE: Final = 1000


class JSONLSink:
    """
    A folder of files, one a day, that ``tail -f`` and ``jq`` can follow.

    Threads may share one instance, and processes may share one folder: a batch
    is one ``write`` in append mode for each day that it touches, on the disk
    when `write` returns. The format is the one at https://jsonlines.org.

    ``usage_YYYY-MM-DD.jsonl`` is only ever appended to, except by `forget`,
    because what is erased has to be gone. Deletions and corrections of costs go
    to ``changes_YYYY-MM-DD.jsonl`` beside it and are laid over when reading. A
    question reads the days that it can touch and no others.

    Args:
        folder: Where the files go; made when missing. The day is that of the
            call's start, in UTC.
    """

    name = "jsonl"
    durable = True

    def __init__(self, folder: Path | str) -> None:
        # Absolute at once, because a program may change its folder before the first record.
        self.folder = Path(folder).absolute()
        self._files = DayFiles(self.folder)
        self._complained: set[date] = set()

    def write(self, records: Sequence[CallRecord]) -> None:
        """
        Append *records* in the order given.

        Costs are written as decimal strings, durations as milliseconds, so
        that `CallRecord.from_json` reads back an equal record. A record that
        comes again is appended again and counts once.

        Raises:
            SinkUnavailable: The disk refused; the last line may be cut short.
            RecordRefused: A record could not be read back; nothing was written.
        """
        days: dict[date, list[bytes]] = {}
        for record in records:
            days.setdefault(_day_of(record.started_at), []).append(_line(record))
        if not days:
            return
        with self._files.locked(exclusive=False):
            for day, lines in days.items():
                self._files.append(_RECORDS, day, b"".join(lines))

    def calls(
        self,
        query: Query,
        *,
        limit: int = 100,
        offset: int = 0,
        after: Place | None = None,
        backwards: bool = False,
        order: str = "started_at",
        descending: bool = True,
        content: bool = True,
    ) -> list[CallRecord]:
        """One page of calls; see `Store.calls`. By time, it stops reading where the page ends."""
        check_page(limit, offset, after, order)
        by_time = order == "started_at"
        best: list[CallRecord] = []
        if after is not None and isinstance(after[0], datetime):
            query = _narrowed(query, after[0], descending=descending != backwards)
        for day in self._days(query, descending=descending != backwards):
            found = (record for record, _ in self._read(day) if matches(query, record))
            best += found if content else without_content(found)
            best = page(
                best,
                limit=len(best) if by_time else offset + limit,
                offset=0,
                after=after,
                backwards=backwards,
                order=order,
                descending=descending,
            )
            if by_time:
                # Days do not overlap, so what is left out can be let go of at once.
                left_out = min(offset, len(best))
                best = best[: len(best) - left_out] if backwards else best[left_out:]
                offset -= left_out
                if len(best) >= limit:
                    break
        return page(
            best,
            limit=limit,
            offset=offset,
            after=after,
            backwards=backwards,
            order=order,
            descending=descending,
        )

    def scan(self, query: Query, *, batch_size: int = 1000) -> Iterator[list[CallRecord]]:
        """All calls meant by *query*, oldest first; remembers only ids and places of one day."""
        batch: list[CallRecord] = []
        for record in self._matching(query):
            batch.append(record)
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def call(self, scope: str | None, call_id: str) -> CallRecord | None:
        """The call with this id, if it is within *scope*. Quick for ids of our own making."""
        found = self._find({call_id}).get(call_id)
        return found.record if found and is_within(scope, found.record) else None

    def aggregate(
        self, query: Query, by: tuple[str, ...] = (), edges: tuple[datetime, ...] = ()
    ) -> list[Group]:
        """Totals; see `Store.aggregate`. Reads every call of the days that are meant."""
        if len(edges) > 1:
            since, until = query.since or edges[0], query.until or edges[-1]
            query = msgspec.structs.replace(
                query, since=max(since, edges[0]), until=min(until, edges[-1])
            )
        return group_records(self._matching(query), by, edges)

    def delete(self, query: Query, *, at: datetime) -> int:
        """Mark calls as deleted, by lines in the files of changes."""
        return self._mark(query, lambda ids: _Deleted(ids=ids, at=at))

    def restore(self, query: Query) -> int:
        """Undo `delete`."""
        return self._mark(query, lambda ids: _Restored(ids=ids))

    def forget(self, query: Query) -> int:
        """
        Erase content and identity, deleted calls included.

        The files of the days concerned are written anew, without earlier lines
        of the same calls and without lines that a killed writer cut short.
        """
        count = 0
        for day in self._days(query):
            with self._files.locked(exclusive=True):
                count += self._forget_day(query, day)
        return count

    def correct_costs(self, changes: Sequence[CostChange]) -> int:
        """Give calls a new cost; see `Store.correct_costs`."""
        made: dict[date, list[_Change]] = {}
        with self._files.locked(exclusive=True):
            found = self._find({change.call_id for change in changes})
            for change in changes:
                known = found.get(change.call_id)
                if known is None or not _is_old(known.record, change):
                    continue
                # The next change of the same call starts from this one.
                record = _corrected(known.record, change)
                found[change.call_id] = known._replace(record=record)
                made.setdefault(known.day, []).append(_Corrected(change=change))
            for day, lines in made.items():
                self._append_changes(day, lines)
        return sum(map(len, made.values()))

    def corrections(self, scope: str | None, call_id: str) -> list[CostChange]:
        """The corrections of one call, oldest first."""
        found = self._find({call_id}).get(call_id)
        return found.corrections if found and is_within(scope, found.record) else []

    def _days(self, query: Query, *, descending: bool = False) -> list[date]:
        days = self._files.days(_RECORDS, query.since, query.until)
        return days[::-1] if descending else days

    def _matching(self, query: Query) -> Iterator[CallRecord]:
        for day in self._days(query):
            for record, _ in self._read(day):
                if matches(query, record):
                    yield record

    def _read(self, day: date) -> Iterator[tuple[CallRecord, list[CostChange]]]:
        """The calls of *day* as they stand now, oldest first, with their corrections."""
        with self._files.reading(_RECORDS, day) as file:
            if file is None:
                return
            places, unreadable = _index(file)
            changes = self._changes(day)
            for place in sorted(places.values(), key=operator.attrgetter("started_at", "id")):
                try:
                    yield changes.applied_to(place.read(file))
                except InvalidValue:
                    unreadable += 1
        if unreadable and day not in self._complained:
            self._complained.add(day)
            logger.warning(
                "%s: %d lines cannot be read and are left out",
                self._files.path(_RECORDS, day),
                unreadable,
            )

    def _find(self, ids: set[str]) -> dict[str, _Found]:
        """The calls with these ids; looks first on the days that the ids say."""
        # An id is made moments before or after the start is noted, so it may be
        # of the day before or after.
        likely = {
            hint + timedelta(days=shift)
            for hint in map(_day_in, ids)
            if hint is not None
            for shift in (-1, 0, 1)
        }
        days = self._files.days(_RECORDS, None, None)[::-1]
        found: dict[str, _Found] = {}
        for day in sorted(days, key=lambda day: day not in likely):
            if len(found) == len(ids):
                break
            with self._files.reading(_RECORDS, day) as file:
                places = _index(file)[0] if file is not None else {}
                here = (ids & places.keys()) - found.keys()
                if file is None or not here:
                    continue
                changes = self._changes(day)
                for call_id in here:
                    with suppress(InvalidValue):
                        found[call_id] = _Found(
                            day, *changes.applied_to(places[call_id].read(file))
                        )
        return found

    def _changes(self, day: date) -> _Changes:
        changes = _Changes()
        with self._files.reading(_CHANGES, day) as file:
            for line in file or ():
                try:
                    changes.add(_change_decoder.decode(line))
                except (msgspec.MsgspecError, UnicodeError):
                    continue  # cut short by a kill: the change was never confirmed
        return changes

    def _append_changes(self, day: date, changes: Sequence[_Change]) -> None:
        lines = b"".join(_encoder.encode(change) + b"\n" for change in changes)
        self._files.append(_CHANGES, day, lines)

    def _mark(self, query: Query, mark: Callable[[list[str]], _Change]) -> int:
        count = 0
        for day in self._days(query):
            with self._files.locked(exclusive=True):
                ids = [record.id for record, _ in self._read(day) if matches(query, record)]
                marks = [
                    mark(ids[start : start + _IDS_PER_LINE])
                    for start in range(0, len(ids), _IDS_PER_LINE)
                ]
                if marks:
                    self._append_changes(day, marks)
                count += len(ids)
        return count

    def _forget_day(self, query: Query, day: date) -> int:
        meant = {
            record.id
            for record, _ in self._read(day)
            if matches(query, record, deleted=record.deleted_at is not None)
        }
        if meant:
            with self._files.reading(_RECORDS, day) as file:
                if file is not None:
                    self._files.replace(_RECORDS, day, _lines_without(meant, file))
        return len(meant)


class _Deleted(msgspec.Struct, frozen=True, tag_field="kind", tag="deleted"):
    ids: list[str]
    at: datetime


class _Restored(msgspec.Struct, frozen=True, tag_field="kind", tag="restored"):
    ids: list[str]


class _Corrected(msgspec.Struct, frozen=True, tag_field="kind", tag="corrected"):
    change: CostChange


_Change = _Deleted | _Restored | _Corrected


class _Changes:
    """What happened to the calls of one day after they were written."""

    def __init__(self) -> None:
        self._deleted_at: dict[str, datetime | None] = {}
        self._corrections: dict[str, list[CostChange]] = {}

    def add(self, change: _Change) -> None:
        if isinstance(change, _Corrected):
            self._corrections.setdefault(change.change.call_id, []).append(change.change)
        else:
            at = change.at if isinstance(change, _Deleted) else None
            self._deleted_at.update(dict.fromkeys(change.ids, at))

    def applied_to(self, record: CallRecord) -> tuple[CallRecord, list[CostChange]]:
        """*record* as it stands now, and the corrections that brought it there."""
        if record.id in self._deleted_at:
            record = record.replace(deleted_at=self._deleted_at[record.id])
        applied: list[CostChange] = []
        for change in self._corrections.get(record.id, ()):
            if _is_old(record, change):
                record = _corrected(record, change)
                applied.append(change)
        return record, applied


class _Found(NamedTuple):
    """A call as it stands now, and where it is."""

    day: date
    record: CallRecord
    corrections: list[CostChange]


class _Head(msgspec.Struct):
    """As much of a line as is needed to know whether it counts: decoding it is quick."""

    id: str
    started_at: Annotated[datetime, msgspec.Meta(tz=True)]
    status: str = "success"


class _Place(NamedTuple):
    """Where the line that counts for one call is."""

    started_at: datetime
    id: str
    offset: int
    length: int
    unfinished: bool

    def read(self, file: BinaryIO) -> CallRecord:
        return CallRecord.from_json(os.pread(file.fileno(), self.length, self.offset))


_encoder: Final = msgspec.json.Encoder()
_head_decoder: Final = msgspec.json.Decoder(_Head)
_change_decoder: Final = msgspec.json.Decoder(_Change)


def _line(record: CallRecord) -> bytes:
    """
    The line for *record*.

    Raises:
        RecordRefused: It would not be read back, or its cost could not be summed.
    """
    try:
        line = record.to_json()
        CallRecord.from_json(line)
        if record.cost is not None:
            to_nano(record.cost)
    except (InvalidValue, msgspec.MsgspecError, UnicodeError, TypeError) as error:
        raise RecordRefused(f"call {record.id!r}: {error}") from error
    return line + b"\n"


def _index(file: BinaryIO) -> tuple[dict[str, _Place], int]:
    """The line that counts for each call of *file*, and how many lines cannot be read."""
    places: dict[str, _Place] = {}
    unreadable = offset = 0
    for line in file:
        start, offset = offset, offset + len(line)
        if line.isspace():
            continue
        try:
            head = _head_decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeError):
            unreadable += 1
            continue
        known = places.get(head.id)
        if known is None or known.unfinished:
            unfinished = head.status == "unfinished"
            places[head.id] = _Place(head.started_at, head.id, start, len(line), unfinished)
    return places, unreadable


def _lines_without(meant: set[str], file: BinaryIO) -> Iterator[bytes]:
    """The lines of *file* with the calls *meant* forgotten and one line for each of them."""
    places, _ = _index(file)
    counting = {place.offset: place for place in places.values()}
    file.seek(0)
    offset = 0
    for line in file:
        place = counting.get(offset)
        offset += len(line)
        if place is not None:
            yield _line(forgotten(place.read(file))) if place.id in meant else _ended(line)
        elif _is_of_another_version(line):
            yield _ended(line)


def _is_of_another_version(line: bytes) -> bool:
    # Half a line may hold just what has to be erased, and was never confirmed. A
    # whole line that this version cannot read is somebody's record.
    try:
        _head_decoder.decode(line)
    except msgspec.ValidationError:
        return True
    except (msgspec.MsgspecError, UnicodeError):
        return False
    return False


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n"


def _is_old(record: CallRecord, change: CostChange) -> bool:
    return (record.cost, record.currency, record.price_id) == (
        change.old_cost,
        change.old_currency,
        change.old_price_id,
    )


def _corrected(record: CallRecord, change: CostChange) -> CallRecord:
    return record.replace(cost=change.cost, currency=change.currency, price_id=change.price_id)


def _narrowed(query: Query, to: datetime, *, descending: bool) -> Query:
    """*query* without the days that a page behind *to* cannot reach."""
    if descending:
        until = to + timedelta(microseconds=1)
        return msgspec.structs.replace(query, until=min(query.until or until, until))
    return msgspec.structs.replace(query, since=max(query.since or to, to))


def _day_of(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _day_in(call_id: str) -> date | None:
    """The day that a UUIDv7 was made on; ``None`` for other ids."""
    with suppress(ValueError, OverflowError):
        uuid = UUID(call_id)
        if uuid.version == 7:
            return datetime.fromtimestamp((uuid.int >> 80) / 1000, UTC).date()
    return None
