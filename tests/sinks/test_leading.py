"""The database finds those who come first as the interpreter would."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.databases import EACH, ledger_of

from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.leading import Leading
from ai_ledger.stats.rank import Ranking, ranked

START = datetime(2026, 3, 24, tzinfo=UTC)
LIMIT = 7
SESSIONS = [None, "", "\\", "\\odd", "zero", *(f"s-{number}" for number in range(60))]


def _calls() -> list[CallRecord]:
    chance = random.Random(11)
    found: list[CallRecord] = []
    for number in range(900):
        priced = chance.random() < 0.7
        found.append(
            CallRecord(
                id=f"c-{number:04}",
                started_at=START + timedelta(minutes=chance.randrange(5 * 24 * 60)),
                status=chance.choice(["success", "success", "failed"]),
                input_tokens=chance.choice([None, 10, 300]),
                output_tokens=chance.choice([0, 10]),
                # Few amounts, so that many are equal and the order among equals shows.
                cost=Decimal(chance.choice([0, 1, 1, 2])) / 100 if priced else None,
                currency=chance.choice(["CNY", "USD", "EUR"]) if priced else None,
                usage_source="reported",
                session_id=chance.choice(SESSIONS),
                user_id=chance.choice(SESSIONS),
                org_id=chance.choice(["acme", "globex", None]),
                tags={"team": chance.choice(["red", "blue", ""])} if number % 3 else {},
            )
        )
    return found


@pytest.fixture(scope="module", params=EACH)
def sink(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SQLSink]:
    """A store with the calls, one of which was deleted."""
    with ledger_of(request.param, tmp_path_factory.mktemp("leading")) as url:
        sink = SQLSink(url)
        sink.write(_calls())
        sink.delete(Query.build(scope=None, where={"id": ["c-0005"]}), at=START)
        yield sink
        sink.close()


def _first(found: Leading, by: Ranking) -> list[object]:
    return ranked({group.key: group.totals for group in found.groups}, by)[:LIMIT]


@pytest.mark.parametrize("scope", [None, "acme", "nobody"])
@pytest.mark.parametrize("field", ["session_id", "user_id", "tags.team"])
@pytest.mark.parametrize(
    ("days", "minutes"),
    [
        pytest.param(5, 0, id="whole days"),
        pytest.param(3, 30, id="with ragged ends"),
        pytest.param(0, 0, id="no time at all"),
    ],
)
def test_the_first_are_those_of_all_groups(
    sink: SQLSink, field: str, scope: str | None, days: int, minutes: int
) -> None:
    """
    In each ranking the same values in the same order, with the same sums, also among equals.
    """
    since = START + timedelta(minutes=minutes)
    query = Query.build(scope=scope, since=since, until=since + timedelta(days=days))

    found = sink.leading(query, field, limit=LIMIT)

    expected = Leading.of(sink.costs(query, (field,)))
    assert (found.values, found.whole) == (expected.values, expected.whole)
    for by in ("cost", "calls", "tokens"):
        assert _first(found, by) == _first(expected, by)


def test_the_rest_stays_in_the_database(sink: SQLSink) -> None:
    """
    Of many values only those come out that are shown in some ranking.
    """
    if sink.url.startswith("mysql"):
        pytest.skip("MariaDB hands over all of them")
    query = Query.build(scope=None, since=START, until=START + timedelta(days=5))

    found = sink.leading(query, "session_id", limit=2)

    assert found.values == len(SESSIONS)
    # Two by calls, two by tokens, and two in each of three currencies.
    assert len(found.groups) <= 10
