"""Queries: hostile names are refused, hostile values are values and never SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from ai_ledger.errors import InvalidValue
from ai_ledger.query import TEXT_FIELDS, Contains, Query, field_name
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import Store
from ai_ledger.stats import Stats

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MARK = "hostile7Q"
HOSTILE = [
    f"{MARK}' OR '1'='1",
    f"{MARK}'; DROP TABLE ai_call_records; --",
    f'{MARK}" OR ""="',
    f"{MARK}\\' OR 1=1 #",
    f"{MARK}%' UNION SELECT id FROM ai_call_records /*",
    f"{MARK} %s %(x)s :x ? $1 {{0}}",
    f"{MARK}\x00\n\u2028\ud800",
    f"{MARK}`; SELECT pg_sleep(9)",
]
NAMES = [
    "id; DROP TABLE ai_call_records",
    "id' OR '1'='1",
    "records.id",
    "cost_nano",
    "1",
    "*",
    "",
    "tags.",
    "__class__",
    "request_content",
    "user_id\x00",
    "(SELECT 1)",
]


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The SQL that reaches any driver."""
    seen: list[str] = []

    def note(_1: Any, _2: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", note)
    yield seen
    event.remove(sa.Engine, "before_cursor_execute", note)


def test_hostile_values_are_values(store: Store, statements: list[str]) -> None:
    """
    A text in any place of a query finds what holds it, and stands in no statement.
    """
    innocent = CallRecord(id="019ce000-0000-7000-8000-000000000000", started_at=NOW, org_id="a")
    store.write([innocent])
    for text in HOSTILE:
        where: dict[str, Any] = dict.fromkeys(TEXT_FIELDS, text)
        everywhere = Query.build(scope=text, where={**where, f"tags.{text}": text})
        assert store.calls(everywhere) == []
        for field in ("user_id", f"tags.{text}"):
            for value in (text, [text, MARK], Contains(text)):
                assert store.calls(Query.build(scope=None, where={field: value})) == []
        assert store.aggregate(everywhere, ("model", f"tags.{text}")[1:]) == []
        assert store.call(text, text) is None
        assert store.call("a", text) is None
        assert store.corrections(text, text) == []
        assert store.delete(everywhere, at=NOW) == 0
        assert store.restore(everywhere) == 0
        assert store.forget(everywhere) == 0
        assert store.calls(Query.build(scope=None), after=(NOW, text), descending=False) in (
            [],
            [innocent],
        )

    assert [statement for statement in statements if MARK in statement] == []
    assert store.calls(Query.build(scope=None)) == [innocent]


@pytest.mark.parametrize("name", NAMES)
def test_names_come_from_a_list(store: Store, name: str) -> None:
    """
    A name outside the list is refused where a field, a group or an order is meant.
    """
    stats = Stats(store, clock=lambda: NOW)
    for ask in (
        lambda: field_name(name),
        lambda: Query.build(scope=None, where={name: "x"}),
        lambda: store.calls(Query.build(scope=None), order=name),
        lambda: store.aggregate(Query.build(scope=None), (name,)),
        lambda: stats.summary(by=name),
        lambda: stats.top(name),
        lambda: stats.calls(order=name),
    ):
        with pytest.raises(InvalidValue):
            ask()
