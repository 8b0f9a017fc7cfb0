"""Deleting and restoring calls, within what a reader may see; each takes the other back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ai_ledger.bounds import label
from ai_ledger.errors import EditConflict, InvalidValue, NotFound
from ai_ledger.query import Query
from ai_ledger.sinks.base import Place
from ai_ledger.web.calls.filter import CallFilter
from ai_ledger.web.house import Desk, House
from ai_ledger.web.notes import note
from ai_ledger.web.patience import patient
from ai_ledger.web.periods import checked_moment
from ai_ledger.web.ways_back import ways_back_of

MAX_IDS: Final = 1_000
MAX_FILTERED: Final = 100_000
"""How many calls may be deleted by a filter at once, and how many are remembered."""


@dataclass(frozen=True)
class Deletion:
    """
    What was taken out of all lists and totals.

    Args:
        count: How many calls; without those that were deleted already.
        at: When; `restore_deletion` finds them by it.
    """

    count: int
    at: datetime


@dataclass(frozen=True)
class Restoration:
    """
    What was brought back.

    Args:
        count: How many calls; without those that were not deleted.
        name: `delete_again` finds them by it, as long as this console remembers; ``None``
            for more than `MAX_FILTERED`.
    """

    count: int
    name: str | None


def delete(desk: Desk, ids: Sequence[str]) -> Deletion:
    """
    Take calls out of all lists and totals.

    They stay in the store, and `restore` brings them back.

    Raises:
        AccessDenied: The reader is no operator.
        NotFound: One of them is not there, for this reader; nothing was done.
    """
    desk.require("operator")
    wanted = _known(desk, ids)
    at = _moment(desk.house)
    count = desk.house.store.delete(Query.build(scope=desk.scope, where={"id": wanted}), at=at)
    _note(desk, "deleted", wanted, count)
    return Deletion(count, at)


def delete_all(desk: Desk, asked: CallFilter, expected: int) -> Deletion:
    """
    The same of all calls that *asked* means: those that are there now, whatever comes meanwhile.

    Args:
        desk: Whose.
        asked: Which calls.
        expected: How many they are, as whoever asks has seen it.

    Raises:
        AccessDenied: The reader is no operator.
        EditConflict: They are more or fewer by now; nothing was done.
        InvalidValue: They are deleted ones, or more than `MAX_FILTERED` are expected.
    """
    desk.require("operator")
    if asked.deleted:
        raise InvalidValue("filter.deleted", True, "false: those have been deleted")
    if not 1 <= expected <= MAX_FILTERED:
        raise InvalidValue("expected", expected, f"1 to {MAX_FILTERED:,}; narrow the filter")
    ids = _all_of(desk, asked, expected + 1)
    if len(ids) != expected:
        found = f"{len(ids):,}" if len(ids) < expected else f"more than {expected:,}"
        raise EditConflict(
            f"this filter means {found} calls by now, and {expected:,} were expected: look at "
            "them again; nothing was deleted"
        )
    return _delete_many(desk, ids, {"filter": asked.query})


def delete_again(desk: Desk, name: str) -> Deletion:
    """
    Delete what was brought back: takes a restoration back.

    Args:
        desk: Whose.
        name: `Restoration.name`.

    Raises:
        AccessDenied: The reader is no operator.
        NotFound: This console does not know it any more; nothing was done.
    """
    desk.require("operator")
    ids = ways_back_of(desk).find("restored calls", desk.scope, name)
    return _delete_many(desk, ids, {"again": True})


def _delete_many(desk: Desk, ids: Sequence[str], why: Mapping[str, Any]) -> Deletion:
    """Delete *ids*, which are there, in batches; *why* is for the history."""
    at = _moment(desk.house)
    count = 0
    try:
        for start in range(0, len(ids), MAX_IDS):
            some = ids[start : start + MAX_IDS]
            query = Query.build(scope=desk.scope, where={"id": some})
            count += desk.house.store.delete(query, at=at)
    finally:
        # Also when the store went away in the middle: what was done can be taken back.
        after = {"deleted": count, **why, "deleted_at": at.isoformat()}
        if count:
            note(desk, "calls", f"{count} calls", None, after)
    return Deletion(count, at)


def restore_deletion(desk: Desk, at: datetime) -> Restoration:
    """
    Bring back what one deletion took, also one of a program, which may be of any size.

    Args:
        desk: Whose.
        at: `Deletion.at`.

    Raises:
        AccessDenied: The reader is no operator.
        InvalidValue: *at* is before 1970 or after 9000.
        NotFound: Nothing was deleted then, for this reader, or it is all back.
    """
    desk.require("operator")
    checked_moment("deleted_at", at)
    query = Query.build(scope=desk.scope, deleted_at=at)
    # First which they are: once they are back, nothing tells them from others.
    ids: list[str] | None = []
    for page in _ids_of(desk, query):
        ids += page
        if len(ids) > MAX_FILTERED:
            ids = None
            break
    count = desk.house.store.restore(query)
    if not count:
        raise NotFound(f"no call was deleted at {at.isoformat()}, or all are back")
    note(desk, "calls", f"{count} calls", None, {"restored": count, "deleted_at": at.isoformat()})
    ways = ways_back_of(desk)
    name = None if ids is None else ways.keep("restored calls", desk.scope, ids)
    return Restoration(count, name)


def restore(desk: Desk, ids: Sequence[str]) -> Restoration:
    """
    Bring deleted calls back.

    Raises:
        AccessDenied: The reader is no operator.
        NotFound: One of them is not there, for this reader; nothing was done.
    """
    desk.require("operator")
    wanted = _known(desk, ids)
    query = Query.build(scope=desk.scope, where={"id": wanted}, deleted=True)
    gone = [each for page in _ids_of(desk, query) for each in page]
    count = desk.house.store.restore(query)
    _note(desk, "restored", wanted, count)
    return Restoration(count, ways_back_of(desk).keep("restored calls", desk.scope, gone))


def _ids_of(desk: Desk, query: Query) -> Iterator[list[str]]:
    """The ids of all calls that *query* means, page by page."""
    after: Place | None = None
    while True:
        # Not by the reader, which is in a hurry: deleted ones are looked for in all calls.
        calls = desk.house.store.calls(query, limit=MAX_IDS, after=after, content=False)
        yield [call.id for call in calls]
        if len(calls) < MAX_IDS:
            return
        after = (calls[-1].started_at, calls[-1].id)


def _all_of(desk: Desk, asked: CallFilter, most: int) -> list[str]:
    """The ids of the calls that are asked for, up to *most*."""
    stats = desk.stats
    found: list[str] = []
    cursor: str | None = None
    with patient():
        where = asked.where(stats)
        since, until = asked.times(desk)
        while True:
            limit = min(MAX_IDS, most - len(found))
            # Strict: nothing twice, though calls may go meanwhile.
            page = stats.browse(where, cursor, limit, since=since, until=until, strict=True)
            found += [call.id for call in page.calls]
            cursor = page.next
            if cursor is None or len(found) >= most:
                return found


_last_lock: Final = threading.Lock()


def _moment(house: House) -> datetime:
    """Now, or a little later: no two deletions have the same, so that each can be taken back."""
    taken = house.kept("moments of deletions", lambda: deque[datetime](maxlen=1_000))
    with _last_lock:
        at = house.clock()
        while at in taken:
            at += timedelta(microseconds=1)
        taken.append(at)
    return at


def _known(desk: Desk, ids: Sequence[str]) -> list[str]:
    wanted = list(dict.fromkeys(label(each) for each in ids))
    if not 1 <= len(wanted) <= MAX_IDS:
        raise InvalidValue("ids", len(wanted), f"1 to {MAX_IDS:,} ids of calls")
    found: set[str] = set()
    for deleted in (False, True):
        query = Query.build(scope=desk.scope, where={"id": wanted}, deleted=deleted)
        calls = desk.house.reader.calls(query, limit=MAX_IDS, content=False)
        found.update(call.id for call in calls)
    missing = [each for each in wanted if each not in found]
    if missing:
        raise NotFound(f"there is no call {missing[0]!r}; nothing was changed")
    return wanted


def _note(desk: Desk, what: str, ids: list[str], count: int) -> None:
    if not count:
        return
    if len(ids) == 1:
        was = what == "restored"
        note(desk, "call", ids[0], {"deleted": was}, {"deleted": not was})
    else:
        note(desk, "calls", f"{len(ids)} calls", None, {what: count, "ids": ids})
