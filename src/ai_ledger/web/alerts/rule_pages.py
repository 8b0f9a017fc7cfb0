"""The pages of the rules that raise alerts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ai_ledger.alerts.rule import DEFAULTS, KINDS, PERIODS, SEVERITIES, WITHOUT_CALLS, Rule
from ai_ledger.errors import AlreadyThere, EditConflict, InvalidValue, NotFound
from ai_ledger.query import GROUP_FIELDS
from ai_ledger.web.alerts import rules
from ai_ledger.web.alerts.conditions import lines_of, where_of
from ai_ledger.web.alerts.shown import RuleRow, rule_row
from ai_ledger.web.edits import WayBack
from ai_ledger.web.forms import Fields, posted
from ai_ledger.web.language import Labels
from ai_ledger.web.parameters import Page
from ai_ledger.web.rendering import done, moved, part_of, path_of, render
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.web.visit import Visit

_WINDOWLESS: Final = ("budget_threshold",)
_PAST: Final = ("latency", "cost_spike", "silence")
_COUNTED: Final = ("failure_rate", "timeouts", "breaker_open", "latency", "cost_spike", "unpriced")


def fields_of_kind(kind: str) -> frozenset[str]:
    """Which fields a rule of *kind* has, besides those of all."""
    found: set[str] = set()
    if kind not in _WINDOWLESS:
        found.add("window_s")
    if kind not in WITHOUT_CALLS:
        found |= {"each", "where"}
    if kind in _PAST:
        found.add("past_days")
    if kind in _COUNTED:
        found.add("min_calls")
    if kind == "cost_spike":
        found.add("at_least")
    if kind == "budget_threshold":
        found.add("budget")
    return frozenset(found)


def page(request: Request) -> Response:
    """All rules."""
    return render(request, "alerts/rules.html", **list_values(request))


def list_part(request: Request) -> Response:
    """The list alone, for the page to renew."""
    return render(request, "alerts/rules_list.html", **list_values(request))


def list_values(request: Request) -> dict[str, Any]:
    """What the list of rules is made of."""
    desk = visit_of(request).desk
    return {
        "rules": rules.rules(desk),
        "kinds": [kind for kind in KINDS if kind != "undelivered" or desk.scope is None],
        "now": desk.house.clock(),
        "lines": lines_of,
    }


def new_page(request: Request) -> Response:
    """The form of a rule of one kind that is not there yet, with what is usual for it."""
    kind: Any = request.query_params.get("kind") or "failure_rate"
    if kind not in KINDS:
        raise NotFound(f"there is no kind of rule {kind!r}")
    visit_of(request).desk.require("admin")
    usual = Rule(name="-", kind=kind, id=0).checked()
    return render(request, "alerts/rule.html", rule=rule_row(usual), **_form_values(request, kind))


def rule_page(request: Request) -> Response:
    """One rule: its form, and who changed it."""
    desk = visit_of(request).desk
    rule_id = request.path_params["rule_id"]
    rule = rules.rule_of(desk, rule_id)
    return render(
        request,
        "alerts/rule.html",
        rule=rule,
        **_form_values(request, rule.kind),
        edits=rules.history(desk, rule_id),
    )


def save(request: Request, form: Fields) -> Response:
    """Add a rule, or change one."""
    visit = visit_of(request)
    visit.desk.require("admin")
    rule_id = form.whole("id")
    kind: Any = form.raw("kind")
    if kind not in KINDS:
        raise InvalidValue("kind", kind, f"one of {', '.join(KINDS)}")
    fields = _typed(form, kind)
    _ = visit.language.gettext
    if not rule_id:
        added = rules.add(visit.desk, {**fields, "kind": kind})
        return moved(request, path_of(request, "alert_rule", rule_id=added.id))
    saved = _edited(
        visit, rule_id, lambda: rules.edit(visit.desk, rule_id, fields, form.whole("version"))
    )
    return _changed(request, saved, _("Rule “%(name)s” was changed."), form.whole("version"))


def enable(request: Request, form: Fields) -> Response:
    """Look at a rule again, or no more."""
    visit = visit_of(request)
    visit.desk.require("admin")
    rule_id, enabled = request.path_params["rule_id"], form.flag("enabled")
    saved = _edited(
        visit,
        rule_id,
        lambda: rules.edit(visit.desk, rule_id, {"enabled": enabled}, form.whole("version")),
    )
    _ = visit.language.gettext
    message = (
        _("Rule “%(name)s” is looked at again.")
        if enabled
        else _("Rule “%(name)s” is looked at no more. Its alerts end at the next look.")
    )
    return _changed(request, saved, message, form.whole("version"))


def remove(request: Request, form: Fields) -> Response:
    """Remove a rule."""
    visit = visit_of(request)
    visit.desk.require("admin")
    rule_id = request.path_params["rule_id"]
    gone = _edited(visit, rule_id, lambda: rules.remove(visit.desk, rule_id, form.whole("version")))
    message = visit.language.gettext("Rule “%(name)s” was removed.")
    if form.flag("leave"):
        return moved(request, path_of(request, "alert_rules"))
    return _changed(request, gone, message, None)


def undo(request: Request, form: Fields) -> Response:
    """Take the last edit of a rule back."""
    visit = visit_of(request)
    visit.desk.require("admin")
    rule = rules.undo(visit.desk, request.path_params["rule_id"], WayBack.posted(form))
    name = Labels(visit.language).rule(rule.name)
    message = visit.language.gettext("Rule “%(name)s” is as it was before.")
    back = path_of(request, "alert_rules")
    return done(request, message % {"name": name}, back=back)


def add_defaults(request: Request, form: Fields) -> Response:
    """Add the rules that a ledger should have."""
    visit = visit_of(request)
    added = rules.add_defaults(visit.desk)
    message = visit.language.ngettext(
        "%(num)s rule was added.", "%(num)s rules were added.", len(added)
    )
    back = path_of(request, "alert_rules")
    return done(request, message % {"num": len(added)}, back=back)


def _form_values(request: Request, kind: str) -> dict[str, Any]:
    desk = visit_of(request).desk
    return {
        "has": fields_of_kind(kind),
        "severities": SEVERITIES,
        "periods": PERIODS,
        "groupings": [field for field in GROUP_FIELDS if field != "org_id" or desk.scope is None],
        "budgets": rules.budget_names(desk),
        "usual": DEFAULTS[kind],
        "lines": lines_of,
    }


def _typed(form: Fields, kind: str) -> dict[str, Any]:
    """What the form of a rule says, as `Rule` takes it."""
    has = fields_of_kind(kind)
    threshold = form.number("threshold")
    if threshold is not None and DEFAULTS[kind].unit == "share":
        threshold = round(threshold / 100, 9)
    fields: dict[str, Any] = {
        "name": form.text("name") or "",
        "severity": form.raw("severity"),
        "threshold": threshold,
        "per": form.raw("per"),
        "quiet": form.text("quiet"),
        "tz": form.text("tz") or "UTC",
        "enabled": form.flag("enabled"),
    }
    if "window_s" in has:
        minutes = form.number("window_min")
        if minutes is not None and not 1 <= minutes <= 31 * 1_440:
            raise InvalidValue("window", minutes, "minutes, from 1 to 44,640")
        fields["window_s"] = None if minutes is None else round(minutes * 60)
    if "each" in has:
        fields["each"] = form.text("each") or ""
        fields["where"] = where_of(form.raw("where"))
    if "past_days" in has:
        fields["past_days"] = form.whole("past_days") or 7
    if "min_calls" in has:
        fields["min_calls"] = form.whole("min_calls")
    if "at_least" in has:
        fields["at_least"] = form.text("at_least")
    if "budget" in has:
        fields["budget"] = form.text("budget")
    return fields


def _edited(visit: Visit, rule_id: int, edit: Callable[[], RuleRow]) -> RuleRow:
    """What *edit* gives; if somebody else was quicker, say so, and what it is now."""
    _ = visit.language.gettext
    try:
        return edit()
    except AlreadyThere:
        raise  # another rule has the new name
    except EditConflict as conflict:
        rule = rules.rule_of(visit.desk, rule_id)
        message = _(
            "Somebody else was quicker: %(who)s changed rule “%(name)s”, %(when)s. "
            "Read it again, then edit."
        )
        raise EditConflict(
            message
            % {
                "who": rule.updated_by or "—",
                "name": Labels(visit.language).rule(rule.name),
                "when": visit.language.moment(rule.updated_at),
            }
        ) from conflict


def _changed(request: Request, rule: RuleRow, message: str, seen: int | None) -> Response:
    """The answer to an edit, which offers to take it back: not one that changed nothing."""
    visit = visit_of(request)
    told = message % {"name": Labels(visit.language).rule(rule.name)}
    back = path_of(request, "alert_rules")
    if rule.version == seen:
        return done(request, told, back=back)
    way = WayBack.of(rules.history(visit.desk, rule.id, 1), rule.version)
    undo = path_of(request, "alert_rule_undo", rule_id=rule.id)
    return done(request, told, back=back, undo=undo, fields=way.fields)


routes: list[BaseRoute] = [
    Page("/alerts/rules", page, name="alert_rules"),
    Page("/alerts/rules/list", part_of("alert_rules")(list_part), name="alert_rules_list"),
    Page("/alerts/rules/new", new_page, name="alert_rule_new", takes=("kind",)),
    Route("/alerts/rules/save", posted(save), methods=["POST"], name="alert_rule_save"),
    Route("/alerts/rules/defaults", posted(add_defaults), methods=["POST"], name="alert_rules_add"),
    Page("/alerts/rules/{rule_id:int}", rule_page, name="alert_rule"),
    Route(
        "/alerts/rules/{rule_id:int}/enable",
        posted(enable),
        methods=["POST"],
        name="alert_rule_enable",
    ),
    Route(
        "/alerts/rules/{rule_id:int}/remove",
        posted(remove),
        methods=["POST"],
        name="alert_rule_remove",
    ),
    Route(
        "/alerts/rules/{rule_id:int}/undo",
        posted(undo),
        methods=["POST"],
        name="alert_rule_undo",
    ),
]
