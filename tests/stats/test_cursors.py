"""Cursors: going through calls forwards, backwards and from the end, whatever happens meanwhile."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import InvalidValue
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.stats import Stats

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def call(number: int, **fields: Any) -> CallRecord:
    return CallRecord(
        **{"id": f"c{number:03}", "started_at": NOON + timedelta(seconds=number // 3), **fields}
    )


def stats_of(calls: list[CallRecord]) -> tuple[Stats, MemorySink]:
    sink = MemorySink()
    sink.write(calls)
    return Stats(sink), sink


def priced(number: int, nano: int | None) -> CallRecord:
    if nano is None:
        return call(number)
    return call(number, cost=Decimal(nano) / 10**9, currency="CNY")


@given(
    nanos=st.lists(st.none() | st.integers(0, 3), max_size=12),
    limit=st.integers(1, 5),
    order=st.sampled_from(["started_at", "cost"]),
    descending=st.booleans(),
)
def test_both_ways(nanos: list[int | None], limit: int, order: str, descending: bool) -> None:
    """
    Pages by cursor are those by position: from the first on, and from the last back.
    """
    stats, sink = stats_of([priced(n, nano) for n, nano in enumerate(nanos)])
    asked: dict[str, Any] = {"order": order, "descending": descending}
    whole = tuple(sink.calls(Query.build(scope=None), **asked))

    on = [stats.browse(limit=limit, **asked)]
    while on[-1].next is not None:
        on.append(stats.browse(cursor=on[-1].next, limit=limit, **asked))
    back = [stats.browse(limit=limit, last=True, **asked)]
    while back[-1].previous is not None:
        back.append(stats.browse(cursor=back[-1].previous, limit=limit, **asked))

    pages = [whole[start : start + limit] for start in range(0, len(whole), limit)] or [()]
    assert [page.calls for page in on] == pages
    assert (on[0].previous, back[0].next) == (None, None)
    # Counted from the end the pages are others, but the first is always full.
    assert back[0].calls == whole[-limit:]
    assert back[-1].calls == whole[:limit]
    assert {each.id for page in back for each in page.calls} == {each.id for each in whole}
    for before, here in pairwise(on):
        assert here.previous is not None
        assert stats.browse(cursor=here.previous, limit=limit, **asked) == before


def test_what_goes_meanwhile() -> None:
    """
    A page whose calls have all been deleted shows the last ones, and never nothing.
    """
    stats, sink = stats_of([call(n) for n in range(6)])
    first = stats.browse(limit=4)
    assert first.next is not None
    sink.delete(Query.build(scope=None, where={"id": ["c000", "c001"]}), at=NOON)

    after = stats.browse(cursor=first.next, limit=4)

    assert [each.id for each in after.calls] == ["c005", "c004", "c003", "c002"]
    assert (after.next, after.previous) == (None, None)


def test_deleted_calls_have_pages_of_their_own() -> None:
    """
    Deleted calls are shown when they are asked for, and nowhere else.
    """
    stats, sink = stats_of([call(n) for n in range(4)])
    sink.delete(Query.build(scope=None, where={"id": ["c001", "c002"]}), at=NOON)

    assert [each.id for each in stats.browse().calls] == ["c003", "c000"]
    assert [each.id for each in stats.browse(deleted=True).calls] == ["c002", "c001"]


def made(*parts: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(list(parts))).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "\x00",
        "a" * 3_000,
        made("cost", "1", "c", False),
        made("started_at", None, "c", False),
        made("started_at", "2026-01-01T00:00:00", "c", False),
        made("started_at", 5, "c", False),
        made("started_at", "soon", "c", False),
        made("started_at", "2026-01-01T00:00:00Z", "c", 1),
        made("started_at", "2026-01-01T00:00:00Z", "c"),
        made({}),
        "W10" + "\n",
    ],
)
def test_a_forged_cursor(cursor: str) -> None:
    """
    A cursor of one's own making is refused by name, whatever it is.
    """
    stats, _ = stats_of([call(1)])

    with pytest.raises(InvalidValue, match=r"cursor|after"):
        stats.browse(cursor=cursor)


@pytest.mark.parametrize("value", ["NaN", "x", "1e400", 0.5, True, "-Infinity"])
def test_a_forged_cost(value: Any) -> None:
    """
    No cost that a call cannot have is compared with any.
    """
    stats, _ = stats_of([priced(1, 1)])

    with pytest.raises(InvalidValue, match=r"cursor|after"):
        stats.browse(cursor=made("cost", value, "c", False), order="cost")


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 1_001}, {"last": True, "cursor": "x"}])
def test_what_cannot_be(asked: dict[str, Any]) -> None:
    """
    Limits have bounds, and the last page needs no cursor.
    """
    stats, _ = stats_of([])

    with pytest.raises(InvalidValue, match=r"limit|cursor"):
        stats.browse(**asked)
