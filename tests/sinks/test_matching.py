"""Which budgets a call may count for, out of many."""

from __future__ import annotations

from itertools import product

from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.sinks.sql.matching import AllInForce, InForce
from ai_ledger.terms import Terms

VALUES = ("acme", "全", None, "x" * 300)


def terms(number: int, **where: tuple[str | None, ...]) -> InForce:
    return InForce(number, Terms(name=f"b-{number}", unit="tokens", limit=1, where=where), None)


def call(org_id: str | None, model: str | None, user_id: str | None = None) -> CallRecord:
    return CallRecord(
        id=new_id(), started_at=utc_now(), org_id=org_id, request_model=model, user_id=user_id
    )


def test_none_is_missed() -> None:
    """
    Whatever budgets are about, those that a call counts for are among those found, once.
    """
    choices = [(), *((value,) for value in VALUES), VALUES]
    wheres = [
        {"org_id": orgs, "request_model": models, "user_id": users}
        for orgs, models, users in product(choices, choices, [(), ("acme",), (None,)])
    ]
    wheres.append({"org_id": tuple(f"o-{n}" for n in range(900)) + VALUES})
    wheres.append({"org_id": tuple(f"o-{n}" for n in range(2_000)), "request_model": VALUES})
    budgets = [
        terms(number, **{field: values for field, values in where.items() if values})
        for number, where in enumerate(wheres)
    ]
    all_of = AllInForce(budgets)

    for org_id, model, user_id in product((*VALUES, "o-7"), VALUES, (None, "acme")):
        record = call(org_id, model, user_id)
        found = [budget.id for budget in all_of.about(record)]
        assert len(found) == len(set(found))
        assert {each.id for each in budgets if each.terms.matches(record)} <= set(found)
    assert len(all_of) == len(budgets)
    assert not AllInForce()


def test_few_are_tried() -> None:
    """
    Of a thousand rows of organisations and models, a call is compared with its own.
    """
    rows = [
        terms(org * 20 + model, org_id=(f"o-{org}",), request_model=(f"m-{model}",))
        for org, model in product(range(50), range(20))
    ]
    all_of = AllInForce([*rows, terms(1_000, user_id=("u",))])

    assert [each.id for each in all_of.about(call("o-3", "m-4"))] == [64, 1_000]
