"""What drives costs: the sums of the pages and of the API, beside sums over the calls by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from starlette.testclient import TestClient
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.totals import is_unpriced
from ai_ledger.web import create_app

ALL = "days=30"
FIELDS = {
    "request_model": lambda call: call.request_model,
    "provider": lambda call: call.provider,
    "function": lambda call: call.function,
    "business_type": lambda call: call.business_type,
    "user_id": lambda call: call.user_id,
    "device_id": lambda call: call.device_id,
    "session_id": lambda call: call.session_id,
    "org_id": lambda call: call.org_id,
    "operation": lambda call: call.operation,
    "tags.team": lambda call: call.tags.get("team"),
}


@pytest.fixture
def shared(ledger):
    """One console for everybody; the header ``who`` says the organisation."""
    app = create_app(
        ledger,
        auth=lambda request: Access(name="tester", org_id=request.headers["who"] or None),
        clock=lambda: sample.NOW,
    )
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def by_hand(calls: list[CallRecord], key: Callable[[CallRecord], str | None]) -> dict:
    """Value → calls, costs by currency, tokens, unpriced calls."""
    found: dict = {}
    for call in calls:
        each = found.setdefault(key(call), [0, defaultdict(Decimal), 0, 0])
        each[0] += 1
        if call.cost is not None:
            each[1][call.currency] += call.cost
        each[2] += call.input_tokens + call.output_tokens
        each[3] += is_unpriced(call)
    return {
        value: (n, dict(cost), tokens, lacking)
        for value, (n, cost, tokens, lacking) in found.items()
    }


def told(rows: list[dict]) -> dict:
    """The rows of the API in the same shape."""
    return {
        row["value"]: (
            row["calls"],
            {code: Decimal(amount) for code, amount in row["cost"].items()},
            row["total_tokens"],
            row["unpriced_calls"],
        )
        for row in rows
    }


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.usefixtures("filled")
def test_each_dimension_equals_the_sums_over_the_calls(visitor, field):
    """
    Whether totals are kept for it or not, per currency, to the last digit.
    """
    answer = visitor().get(f"/api/v1/costs?by={field}&{ALL}&limit=100")

    assert answer.status_code == 200
    assert told(answer.json()["rows"]) == by_hand(sample.calls(), FIELDS[field])
    whole = by_hand(sample.calls(), lambda call: "all")["all"]
    assert told([{**answer.json()["total"], "value": "all"}]) == {"all": whole}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.usefixtures("filled")
def test_a_filter_on_another_field_counts_those_calls_alone(visitor, field):
    """
    A filter that no totals are kept for is answered from the calls.
    """
    chosen = [call for call in sample.calls() if call.status == "failed"]

    answer = visitor().get(f"/api/v1/costs?by={field}&{ALL}&limit=100&status=failed")

    assert told(answer.json()["rows"]) == by_hand(chosen, FIELDS[field])


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "org_id"])
@pytest.mark.usefixtures("filled")
def test_readers_of_one_organisation_see_its_calls_alone(shared, field):
    """
    Rows, totals and the number of values are those of the organisation.
    """
    mine = [call for call in sample.calls() if call.org_id == "acme"]
    expected = by_hand(mine, FIELDS[field])
    asked = f"/api/v1/costs?by={field}&{ALL}&limit=100"
    # One console: what was just counted for somebody who sees all is not given to others.
    assert shared.get(asked, headers={"who": ""}).json()["total"]["calls"] == 120

    answer = shared.get(asked, headers={"who": "acme"}).json()

    assert told(answer["rows"]) == expected
    assert answer["values"] == len(expected)
    assert answer["total"]["calls"] == len(mine)


@pytest.mark.usefixtures("filled")
def test_an_organisation_does_not_ask_about_organisations(visitor):
    """
    There is nothing to tell apart, and no filter leads out.
    """
    client = visitor(org_id="acme")

    assert client.get("/api/v1/costs?by=org_id").status_code == 422
    assert client.get("/costs?by=org_id").status_code == 422
    rows = client.get(f"/api/v1/costs?by=user_id&{ALL}&org_id=globex").json()
    assert rows["rows"] == []


def test_of_equals_the_one_with_more_calls_comes_first_and_then_the_alphabet(ledger, visitor):
    """
    Ties are broken the same way each time, in each currency's ranking.
    """
    ledger.store.write(
        [
            sample.call(0, id="1", user_id="b", cost=Decimal(2), currency="USD"),
            sample.call(0, id="2", user_id="a", cost=Decimal(2), currency="USD"),
            sample.call(0, id="3", user_id="c", cost=Decimal(1), currency="USD"),
            sample.call(0, id="4", user_id="c", cost=Decimal(1), currency="USD"),
            sample.call(0, id="5", user_id="d", cost=Decimal(9), currency="CNY"),
            sample.call(0, id="6", user_id="e", cost=None, currency=None, price_id=None),
        ]
    )

    def order(rank: str) -> list[str]:
        answer = visitor().get(f"/api/v1/costs?by=user_id&ranked_by={rank}&{ALL}")
        return [row["value"] for row in answer.json()["rows"]]

    assert order("cost") == ["d", "c", "a", "b", "e"]
    assert order("calls") == ["c", "a", "b", "d", "e"]
    assert order("tokens") == ["c", "a", "b", "d", "e"]
    short = visitor().get(f"/api/v1/costs?by=user_id&limit=2&{ALL}").json()
    assert ([row["value"] for row in short["rows"]], short["values"]) == (["d", "c"], 5)


@pytest.mark.usefixtures("filled")
def test_days_confine_what_is_counted(visitor):
    """
    Two dates, both included.
    """
    calls = [call for call in sample.calls() if call.started_at.date().isoformat() == "2026-05-18"]

    answer = visitor().get("/api/v1/costs?by=session_id&first=2026-05-18&last=2026-05-18&limit=100")

    assert told(answer.json()["rows"]) == by_hand(calls, FIELDS["session_id"])


@pytest.mark.usefixtures("filled")
def test_models_stand_side_by_side_with_what_one_call_costs(visitor):
    """
    The average is of calls whose cost is known, and the unpriced share is of all.
    """
    found = visitor().get(f"/api/v1/costs/models?{ALL}").json()["models"]

    for each in found:
        calls = [call for call in sample.calls() if call.request_model == each["model"]]
        lacking = sum(map(is_unpriced, calls))
        cost = sum((call.cost for call in calls if call.cost is not None), Decimal(0))
        assert abs(Decimal(each["average_cost"]) - cost / (len(calls) - lacking)) <= Decimal("1e-9")
        assert each["unpriced_share"] == lacking / len(calls)
        assert each["success_rate"] == sum(c.status == "success" for c in calls) / len(calls)
    assert {each["model"] for each in found} == {"qwen-plus", "gpt-4o-mini"}


def test_a_model_with_several_currencies_has_no_average_cost(ledger, visitor):
    """
    Currencies are never added, and how many calls each has is not known.
    """
    ledger.store.write(
        [
            sample.call(0, id="1", cost=Decimal(2), currency="USD"),
            sample.call(0, id="2", cost=Decimal(2), currency="CNY"),
        ]
    )

    (model,) = visitor().get(f"/api/v1/costs/models?{ALL}").json()["models"]

    assert (model["average_cost"], model["currency"]) == (None, None)
    assert model["cost"] == {"CNY": "2", "USD": "2"}


@pytest.mark.usefixtures("filled")
def test_unpriced_calls_are_told_by_model(visitor):
    """
    As many as there are by hand, and for one organisation its own.
    """
    for org in (None, "globex"):
        calls = [call for call in sample.calls() if org in (None, call.org_id)]
        expected: dict[str | None, int] = {}
        for call in filter(is_unpriced, calls):
            expected[call.request_model] = expected.get(call.request_model, 0) + 1

        found = visitor(org_id=org).get(f"/api/v1/unpriced?{ALL}").json()

        assert {each["model"]: each["calls"] for each in found["models"]} == expected
        assert found["calls"] == sum(expected.values())


@pytest.mark.usefixtures("filled")
def test_suggestions_hold_no_prompt_and_are_of_the_organisation(visitor):
    """
    Counts, sums and ids alone, whoever asks.
    """
    for prompts in (True, False):
        answer = visitor(org_id="acme", prompts=prompts).get("/api/v1/suggestions?days=30")

        assert answer.status_code == 200
        assert "prompt 1" not in answer.text
        successes = [c for c in sample.calls() if c.org_id == "acme" and c.status == "success"]
        assert answer.json()["calls"] == len(successes)
        page = visitor(org_id="acme", prompts=prompts).get("/costs/suggestions?wait=1")
        assert "prompt 1" not in page.text


@pytest.mark.parametrize(
    "address",
    [
        "/costs?by=nothing",
        "/costs?by=tags.",
        "/costs?limit=101",
        "/costs?limit=0",
        "/costs?days=367",
        "/costs?days=1e9",
        "/costs?first=2026-02-30",
        "/costs?first=0001-01-01",
        "/costs?tag=red",
        "/costs?unset=id",
        "/costs?ranked_by=name",
        "/costs/time?by=colour",
        "/costs?" + "&".join(f"user_id={number}" for number in range(51)),
    ],
)
@pytest.mark.usefixtures("filled")
def test_what_cannot_be_asked_is_refused_with_the_reason(visitor, address):
    """
    422 on the page, and never a failure of the server.
    """
    assert visitor().get(address).status_code == 422


@pytest.mark.parametrize("field", FIELDS)
def test_narrow_sums_are_those_of_all_figures(filled: Ledger, field):
    """
    What a list of costs is made of equals the same numbers of the full answer.
    """
    query = Query.build(
        scope=None, since=sample.NOW - timedelta(days=3, hours=5, minutes=20), until=sample.NOW
    )

    def numbers(groups):
        return {
            group.key: (
                group.totals.calls,
                group.totals.statuses.get("success", 0),
                group.totals.input_tokens,
                group.totals.output_tokens,
                group.totals.cost_nano,
                group.totals.unpriced_calls,
            )
            for group in groups
        }

    narrow = filled.store.costs(query, (field,))

    assert numbers(narrow) == numbers(filled.store.aggregate(query, (field,)))
    assert all(group.totals.durations == {} for group in narrow)
