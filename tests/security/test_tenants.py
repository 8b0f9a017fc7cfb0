"""Tenants: whatever is asked of a store within a scope, nothing of another one comes back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ai_ledger.pricing import PriceTable
from ai_ledger.query import GROUP_FIELDS, NUMBER_FIELDS, AnyOf, Between, Contains, Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.base import CostChange, Store
from ai_ledger.stats import Stats, tallies

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
OURS = "acme"
# A database may take these for the same name: by case, trailing blanks, accents, or NUL.
OTHERS = ("ACME", "acme ", "acmé", "acme\u0301", "ac", "acme%", "", None)
SECRET = "theirs-7Q9f"


def call(number: int, org_id: str | None) -> CallRecord:
    """A call that is like every other one, but for its organisation and what it says."""
    theirs = org_id != OURS
    return CallRecord(
        id=f"019cd{number:03d}-0000-7000-8000-000000000000",
        started_at=NOW - timedelta(minutes=number),
        duration_ms=1000.0,
        request_model=SECRET if theirs else "m",
        provider="p",
        input_tokens=1_000_003 if theirs else 1,
        output_tokens=1,
        usage_source="reported",
        cost=Decimal(7_000_000 if theirs else 1),
        currency="USD",
        price_id="own:m",
        org_id=org_id,
        user_id="u",
        device_id="d",
        session_id="s",
        function=SECRET if theirs else "f",
        business_type="b",
        tags={"plan": SECRET if theirs else "free"},
        request_content=SECRET if theirs else "hello",
        response_content=SECRET if theirs else "hello",
    )


# The others' model is the cheaper one, so it would be suggested if it were seen.
PRICES = PriceTable()
PRICES.add("m", input=5_000, output=5_000)
PRICES.add(SECRET, input=1, output=1)

OUR_CALL = call(0, OURS)
DELETED = call(20, OURS).replace(deleted_at=NOW)
THEIRS = [call(number, org) for number, org in enumerate(OTHERS, start=1)]
THEIR_DELETED = call(30, "ACME").replace(deleted_at=NOW)

WIDENING: list[dict[str, Any]] = [
    {},
    {"org_id": ["ACME", "acme ", None, ""]},
    {"org_id": Contains("")},
    {"site_id": AnyOf(("ACME", None))},
    {"tags.org_id": None},
    {"request_model": [SECRET, "m", "' OR 1=1 --", "%"]},
    {"user_id": Contains("u")},
    {"any_id": Contains("0")},
    {"unpriced": True},
    {"cost": Between(0, 10**9)},
]


@pytest.fixture(scope="module")
def filled(store: Store) -> Store:
    """A store with one call of ours and those of all the others."""
    store.write([OUR_CALL, DELETED, *THEIRS, THEIR_DELETED])
    for record in THEIRS:
        store.correct_costs([change(record, record.cost, Decimal(8_000_000))])
    return store


def change(record: CallRecord, old: Decimal | None, new: Decimal) -> CostChange:
    return CostChange(
        call_id=record.id,
        corrected_at=NOW,
        old_cost=old,
        old_currency="USD",
        old_price_id="own:m",
        cost=new,
        currency="USD",
        price_id="own:m",
    )


def queries(**options: Any) -> list[Query]:
    return [Query.build(scope=OURS, where=where, **options) for where in WIDENING]


def everything(store: Store) -> list[CallRecord]:
    """All calls of all others, as they stand."""
    whole = [
        record
        for deleted in (False, True)
        for batch in store.scan(Query.build(scope=None, deleted=deleted))
        for record in batch
    ]
    return [record for record in whole if record.org_id != OURS]


def stats_answers(stats: Stats, tmp_path: Path, where: dict[str, Any]) -> dict[str, Any]:
    """One answer, or several, of every method of `Stats`."""
    by = (*GROUP_FIELDS, "tags.plan")
    ids = [record.id for record in (*THEIRS, THEIR_DELETED)]
    return {
        "summary": stats.summary(where=where, by=by),
        "current": stats.current(where, by),
        "hourly": stats.hourly(2, where, by),
        "daily": stats.daily(2, where, by),
        "days": stats.days(NOW.date(), NOW.date(), where, by),
        "monthly": stats.monthly(2026, 3, where, by),
        "trend": stats.trend(1, "hour", by, where),
        "top": [stats.top(field, days=None, where=where) for field in ("model", "org_id")],
        "forecast": stats.forecast(by, where),
        "suggestions": stats.suggestions(2, where, prices=PRICES),
        "session": stats.session("s"),
        "user": stats.user("u"),
        "device": stats.device("d"),
        "calls": [
            stats.calls(where, page_size=100, content=True, deleted=deleted)
            for deleted in (False, True)
        ],
        "browse": [
            stats.browse(where, order=order, last=last, content=True, deleted=deleted)
            for order in ("started_at", "cost")
            for last in (False, True)
            for deleted in (False, True)
        ],
        "call": [stats.call(call_id) for call_id in ids],
        "export_report": [
            stats.export_report(tmp_path / name).read_text() for name in ("r.csv", "r.json")
        ],
        "in_zone": stats.in_zone("Asia/Kolkata").summary(by=by),
        "scoped": stats.scoped(OURS).summary(by=by),
        "scope": stats.scope,
        "tz": stats.tz,
    }


@pytest.mark.parametrize("where", WIDENING[:2], ids=["plain", "widening"])
def test_reports_show_nothing_of_others(
    filled: Store, tmp_path: Path, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No method of `Stats`, with no filter, tells a name, a count or a cost of another organisation.
    """
    # So few calls are enough here for a model to be suggested.
    monkeypatch.setattr(tallies, "MIN_ELSEWHERE", 1)
    stats = Stats(filled, scope=OURS, clock=lambda: NOW)
    answers = stats_answers(stats, tmp_path, where)

    # A method that is new fails here until it is tried above.
    assert set(answers) == {name for name in dir(Stats) if not name.startswith("_")}
    assert answers["call"] == [None] * len(answers["call"])
    for name, answer in answers.items():
        told = str(answer)
        for trace in (SECRET, "1000003", "7000000", "8000000", "1000004", "ACME", "acmé"):
            assert trace not in told, (name, trace)
        if name not in ("scope", "tz", "call"):
            assert told


def ask_calls(store: Store) -> object:
    orders = ("started_at", *NUMBER_FIELDS)
    whole, *narrowed = queries()
    (deleted, *_) = queries(deleted=True)
    return [
        *(store.calls(whole, order=order) for order in orders),
        *(store.calls(query, limit=1000) for query in (*narrowed, deleted)),
        store.calls(whole, after=(NOW + timedelta(days=9), "x")),
        store.calls(whole, after=(NOW - timedelta(days=9), "x"), descending=False),
        *(store.calls(whole, order=order, backwards=True) for order in orders),
        store.calls(whole, after=(None, ""), order="http_status", descending=False),
        store.calls(whole, after=(None, "x"), order="http_status", backwards=True),
    ]


def ask_aggregate(store: Store) -> object:
    fields = (*GROUP_FIELDS, "tags.plan")
    edges = (NOW - timedelta(days=1), NOW, NOW + timedelta(days=1))
    whole = queries()[0]
    groups = [
        # The fields by which totals are kept are answered from those.
        *(store.aggregate(whole, (field,)) for field in fields),
        *(store.aggregate(whole, (field,), edges) for field in ("user_id", "request_model")),
        *(store.aggregate(query, fields) for query in queries()),
    ]
    return msgspec.to_builtins(groups)


def others(store: Store) -> list[CallRecord]:
    return [*THEIRS, THEIR_DELETED]


ASKED: dict[str, Callable[[Store], object]] = {
    "calls": ask_calls,
    "scan": lambda store: [
        list(store.scan(query)) for deleted in (False, True) for query in queries(deleted=deleted)
    ],
    "aggregate": ask_aggregate,
    "call": lambda store: [store.call(OURS, record.id) for record in others(store)],
    "corrections": lambda store: [store.corrections(OURS, record.id) for record in others(store)],
}
CHANGING: dict[str, Callable[[Store], object]] = {
    "delete": lambda store: [store.delete(query, at=NOW) for query in queries()],
    "restore": lambda store: [store.restore(query) for query in queries(deleted=True)],
    "forget": lambda store: [store.forget(query) for query in queries()],
}
# Writing is the ledger's own, and so is pricing again: both are for all organisations.
UNSCOPED = {"write", "correct_costs"}


def test_every_method_of_a_store_is_tried() -> None:
    """
    A method that is new to stores fails here until it is tried from another organisation.
    """
    methods = {name for name in dir(Store) if not name.startswith("_")}

    assert methods == set(ASKED) | set(CHANGING) | UNSCOPED


@pytest.mark.parametrize("name", ASKED)
def test_nothing_of_others_is_found(filled: Store, name: str) -> None:
    """
    No question to a store within a scope is answered with anything of another.
    """
    told = str(ASKED[name](filled))

    for trace in (SECRET, "1000003", "7000000", "8000000", "ACME", "acmé"):
        assert trace not in told, trace


@pytest.mark.parametrize("name", CHANGING)
def test_nothing_of_others_is_changed(filled: Store, name: str) -> None:
    """
    No deletion or erasure within a scope reaches a call of another.
    """
    before = everything(filled)

    CHANGING[name](filled)

    assert everything(filled) == before
    assert len(before) == len(THEIRS) + 1
