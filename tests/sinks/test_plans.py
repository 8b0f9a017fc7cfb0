"""Which questions kept totals answer, and that they answer them as the rows would."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.databases import EACH, ledger_of

from ai_ledger.query import Contains, Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.totals import plan
from ai_ledger.totals import Group, group_records

START = datetime(2026, 3, 24, 5, 30, tzinfo=UTC)
ORGS = ["acme", "Acme", "globex", "", "\\", None]
DAYS = tuple(datetime(2026, 3, 24, 16, tzinfo=UTC) + timedelta(days=n) for n in range(5))
GONE = {"user_id": "u3"}


def _calls() -> list[CallRecord]:
    chance = random.Random(3)
    return [
        CallRecord(
            id=f"c-{number:04}",
            started_at=START + timedelta(minutes=chance.randrange(5 * 24 * 60)),
            status="success",
            duration_ms=float(number),
            input_tokens=number,
            request_model=chance.choice(["one", "two", None]),
            function=chance.choice(["f", "g"]),
            user_id=f"u{number % 5}",
            org_id=ORGS[number % len(ORGS)],
            cost=Decimal(number) / 1000,
            currency=chance.choice(["CNY", "USD"]),
            usage_source="reported",
        )
        for number in range(400)
    ]


CALLS = _calls()


@pytest.fixture(scope="module", params=EACH)
def sink(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SQLSink]:
    """A store with the calls, those of one user deleted."""

    with ledger_of(request.param, tmp_path_factory.mktemp("plans")) as url:
        sink = SQLSink(url)
        sink.write(CALLS)
        sink.delete(Query.build(scope=None, where=GONE), at=START)
        yield sink
        sink.close()


def told(groups: list[Group]) -> list[Any]:
    """*groups* as values that can be compared, in an order."""
    return sorted(
        (
            (tuple(map(repr, each.key)), each.interval, each.totals.calls, each.totals)
            for each in groups
        ),
        key=lambda each: each[:2],
    )


@pytest.mark.parametrize("edges", [(), DAYS], ids=["whole", "days"])
@pytest.mark.parametrize(
    ("scope", "where", "by"),
    [
        pytest.param(None, {"org_id": "acme"}, (), id="one organisation"),
        pytest.param(None, {"org_id": None}, (), id="no organisation"),
        pytest.param(None, {"org_id": ["acme", None, "", "\\"]}, (), id="several"),
        pytest.param(None, {"org_id": "acme"}, ("request_model",), id="by model"),
        pytest.param(None, {"org_id": ["acme", "globex"]}, ("org_id",), id="by themselves"),
        pytest.param(None, {"org_id": "acme", "function": "f"}, (), id="and a function"),
        pytest.param(
            None, {"org_id": "acme", "user_id": ["u1", "u3"]}, ("user_id",), id="some users of it"
        ),
        pytest.param(None, {"function": "f"}, ("org_id",), id="a function by organisation"),
        pytest.param("acme", {"org_id": ["acme", "globex"]}, (), id="within the scope"),
        pytest.param("acme", {"org_id": "globex"}, ("request_model",), id="out of the scope"),
        pytest.param("Acme", {"request_model": None}, (), id="scope and a field"),
    ],
)
def test_an_organisation_is_answered_from_totals(
    sink: SQLSink, scope: str | None, where: Any, by: tuple[str, ...], edges: tuple[datetime, ...]
) -> None:
    """
    As from the calls that are not deleted, beside one other field at most.
    """
    query = Query.build(scope=scope, where=where)
    assert plan(query, by, edges) is not None
    wanted = {
        field: values if isinstance(values, list) else [values] for field, values in where.items()
    }
    meant = [
        each
        for each in CALLS
        if each.user_id != GONE["user_id"]
        and (scope is None or each.org_id == scope)
        and all(getattr(each, field) in values for field, values in wanted.items())
    ]

    assert told(sink.aggregate(query, by, edges)) == told(group_records(meant, by, edges))


@pytest.mark.parametrize(
    ("asked", "by"),
    [
        ({"where": {"function": "f", "request_model": "one"}}, ()),
        ({"where": {"function": "f"}}, ("request_model",)),
        ({"where": {"org_id": "acme", "function": "f"}}, ("request_model",)),
        ({"where": {"org_id": Contains("ac")}}, ()),
        ({"where": {"tags.k": "v"}}, ()),
        ({"where": {"session_id": "s"}}, ()),
        ({"where": {"org_id": "acme"}, "deleted": True}, ()),
        ({}, ("org_id", "function")),
    ],
)
def test_what_totals_do_not_tell_apart_is_asked_of_the_rows(
    asked: dict[str, Any], by: tuple[str, ...]
) -> None:
    """
    Two fields beside the organisation, other conditions than lists, and deleted calls.
    """
    assert plan(Query.build(scope=None, **asked), by, ()) is None
