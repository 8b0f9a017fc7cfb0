"""The pages of budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.terms import TOKENS
from ai_ledger.web.budgets import quota_pages, register
from ai_ledger.web.budgets.standing import Standing, groups, shown
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.language import Labels
from ai_ledger.web.links import calls_query
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import done, is_partial, part_of, path_of, render
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.policies.budgets.account import StoredBudget
    from ai_ledger.web.budgets.register import BudgetPeriod
    from ai_ledger.web.house import Desk
    from ai_ledger.web.visit import Visit

_PERIODS = 60


def page(request: Request) -> Response:
    """Budgets, quotas and the switches of models."""
    values = {**budgets_values(request), **quota_pages.table_values(request)}
    return render(request, "budgets/page.html", **values)


def standings_part(request: Request) -> Response:
    """The budgets alone, for the page to renew."""
    return render(request, "budgets/standings.html", **budgets_values(request))


def budgets_values(request: Request) -> dict[str, Any]:
    """What the list of budgets is made of."""
    desk = visit_of(request).desk
    return {
        "groups": groups(desk),
        "ended": register.ended(desk)[:50],
        "now": desk.house.clock(),
        "calls_of": _calls_of(visit_of(request)),
        "url": desk.house.ledger.urls[0] if desk.house.ledger.urls else "",
        "amount": _amount(visit_of(request)),
    }


def _calls_of(visit: Visit) -> Callable[[Standing], dict[str, list[str]] | None]:
    """The calls that an account counts, as the page of calls is asked for them."""

    def calls_of(standing: Standing) -> dict[str, list[str]] | None:
        where: dict[str, Any] = dict(standing.where)
        if standing.each is not None:
            where[standing.each] = standing.whose
        return calls_query(where, standing.starts_at, standing.resets_at, visit.desk.tz)

    return calls_of


def budget_page(request: Request) -> Response:
    """One budget: its terms, its periods, who changed it."""
    visit = visit_of(request)
    desk = visit.desk
    budget = register.budget_of(desk, request.path_params["budget_id"])
    whose = request.query_params.get("whose", "")[:255] or None
    found = register.periods(desk, budget, whose, _PERIODS)
    return render(
        request,
        "budgets/budget.html",
        budget=budget,
        terms=budget.terms,
        limit=shown(budget.terms, budget.terms.limit),
        whose=whose,
        periods=found,
        chart=_chart(visit, budget, found, whose),
        edits=register.edits(desk, budget) if desk.scope is None else [],
        amount=_amount(visit),
        now=desk.house.clock(),
    )


def check_page(request: Request) -> Response:
    """Whether the accounts add up."""
    visit = visit_of(request)
    result = register.check(visit.desk)
    template = "budgets/checked.html" if is_partial(request) else "budgets/check.html"
    return render(request, template, result=result, amount=_amount(visit))


def deactivate(request: Request, form: Fields) -> Response:
    """Put a budget out of force."""
    message = visit_of(request).language.gettext("Budget “%(name)s” is out of force.")
    return _switched(request, form, register.deactivate, message, undo="budget_reactivate")


def reactivate(request: Request, form: Fields) -> Response:
    """Put a budget into force again."""
    message = visit_of(request).language.gettext("Budget “%(name)s” is in force again.")
    return _switched(request, form, register.reactivate, message, undo="budget_deactivate")


def _switched(
    request: Request,
    form: Fields,
    switch: Callable[[Desk, int, int | None], StoredBudget],
    message: str,
    *,
    undo: str,
) -> Response:
    """*switch* a budget; the answer offers to take it back, unless nothing was changed."""
    visit, seen = visit_of(request), form.whole("version")
    budget = switch(visit.desk, request.path_params["budget_id"], seen)
    return done(
        request,
        message % {"name": Labels(visit.language).budget(budget.terms.name)},
        back=path_of(request, "budgets"),
        undo=None if budget.version == seen else path_of(request, undo, budget_id=budget.id),
        fields={"version": str(budget.version)},
    )


def _amount(visit: Visit) -> Any:
    """An amount in the unit of a budget: ``amount(value, unit)``."""
    language = visit.language
    tokens = language.gettext("tokens")

    def amount(value: Any, unit: str, *, bare: bool = False) -> str:
        if unit == TOKENS:
            return language.number(value) + ("" if bare else f"\u00a0{tokens}")
        return language.amount(value) if bare else language.money(value, unit)

    return amount


def _chart(
    visit: Visit, budget: StoredBudget, found: list[BudgetPeriod], whose: str | None
) -> dict[str, Any] | None:
    """Used and limit over the periods of one account, oldest first."""
    one = budget.terms.each is None or whose is not None or visit.access.org_id is not None
    if not one or len(found) < 2 or len({each.whose for each in found}) > 1:
        return None
    oldest = found[::-1]
    amount = _amount(visit)
    _ = visit.language.gettext
    return {
        "type": "bar",
        "labels": [Labels(visit.language).period(each.period) for each in oldest],
        "series": [
            {
                "label": _("used"),
                "values": [float(each.used) for each in oldest],
                "shown": [amount(each.used, each.unit) for each in oldest],
            },
            {
                "label": _("limit, as it is now"),
                "type": "line",
                "values": [float(each.limit) for each in oldest],
                "shown": [amount(each.limit, each.unit) for each in oldest],
            },
        ],
        "unit": _("tokens") if budget.terms.unit == TOKENS else budget.terms.unit,
    }


routes: list[BaseRoute] = [
    Page("/budgets", page, name="budgets"),
    Page("/budgets/standings", part_of("budgets")(standings_part), name="budget_standings"),
    Page("/budgets/check", check_page, name="budget_check"),
    *quota_pages.routes,
    Page("/budgets/{budget_id:int}", budget_page, name="budget", takes=("whose",)),
    Route(
        "/budgets/{budget_id:int}/deactivate",
        posted(deactivate),
        methods=["POST"],
        name="budget_deactivate",
    ),
    Route(
        "/budgets/{budget_id:int}/reactivate",
        posted(reactivate),
        methods=["POST"],
        name="budget_reactivate",
    ),
]
