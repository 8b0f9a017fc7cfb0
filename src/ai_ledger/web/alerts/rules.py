"""Rules, as one reader may see and edit them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ai_ledger.alerts.rule import Rule
from ai_ledger.alerts.rulebook import EDITABLE
from ai_ledger.errors import InvalidValue
from ai_ledger.web.alerts.shown import RuleRow, rule_row
from ai_ledger.web.budgets.standing import concerns
from ai_ledger.web.edits import SHOWN, Edit, WayBack, edits_of, taken_back, with_successors

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

# Left out of the history where they are not set.
_OPTIONAL: Final = ("at_least", "budget", "quiet")


def rules(desk: Desk) -> list[RuleRow]:
    """The rules that *desk* may see, by name; of an organisation its own alone."""
    return [rule_row(rule) for rule in desk.alerts.rules()]


def rule_of(desk: Desk, rule_id: int) -> RuleRow:
    """
    One rule.

    Raises:
        NotFound: There is none of this number, for this reader.
    """
    return rule_row(desk.alerts.rule(rule_id))


def add(desk: Desk, fields: dict[str, Any]) -> RuleRow:
    """Add a rule; one of the reader's organisation, if it is confined to one."""
    desk.require("admin")
    _check_budget(desk, fields)
    return rule_row(desk.alerts.add_rule(Rule(**fields), by=desk.by))


def add_defaults(desk: Desk) -> list[RuleRow]:
    """Add the rules that a ledger should have, as far as their names are not there."""
    desk.require("admin")
    return [rule_row(rule) for rule in desk.alerts.add_default_rules(by=desk.by)]


def edit(desk: Desk, rule_id: int, fields: dict[str, Any], version: int | None) -> RuleRow:
    """Change some of what a rule says."""
    desk.require("admin")
    _check_budget(desk, fields)
    return rule_row(desk.alerts.edit_rule(rule_id, by=desk.by, version=version, **fields))


def remove(desk: Desk, rule_id: int, version: int | None) -> RuleRow:
    """Remove a rule; what it was. Its alerts end at the next look, and stay to be read."""
    desk.require("admin")
    before = rule_of(desk, rule_id)
    desk.alerts.remove_rule(rule_id, by=desk.by, version=version)
    return before


def undo(desk: Desk, rule_id: int, way: WayBack) -> RuleRow:
    """
    Take the last edit of a rule back, if that is the one of *way*.

    One that was removed is added again, with a new number.

    Raises:
        NotFound: There never was one, for this reader.
        EditConflict: It has been edited or removed since, or added again.
        AlreadyThere: Another rule has become what it was.
    """
    desk.require("admin")

    def named(fields: dict[str, Any]) -> tuple[object, object]:
        return fields.get("org_id"), fields.get("name")

    def fields_of(before: dict[str, Any]) -> dict[str, Any]:
        said = {name: before[name] for name in EDITABLE if name in before}
        return {**dict.fromkeys(_OPTIONAL), **said}

    def add_again(before: dict[str, Any]) -> RuleRow:
        return add(
            desk,
            {**fields_of(before), "kind": before["kind"], "org_id": before.get("org_id")},
        )

    return taken_back(
        f"rule {rule_id}",
        with_successors(desk.house.database, desk.alerts.history("rule", rule_id, limit=1), named),
        way,
        edit=lambda before: edit(desk, rule_id, fields_of(before), way.version),
        add=add_again,
        remove=lambda: remove(desk, rule_id, way.version),
    )


def history(desk: Desk, rule_id: int, limit: int = SHOWN) -> list[Edit]:
    """The edits of a rule, newest first; also of one that was removed."""
    return edits_of(desk.alerts.history("rule", rule_id, limit=limit))


def budget_names(desk: Desk) -> list[str]:
    """The budgets in force that a rule of this reader may be about."""
    return [
        budget.terms.name
        for budget in desk.house.accounts.budgets()
        if budget.active and concerns(desk, budget.terms)
    ]


def _check_budget(desk: Desk, fields: dict[str, Any]) -> None:
    """Refuse what a confined reader may not know, before the names of others are told."""
    name = fields.get("budget")
    if desk.scope is not None and name is not None and name not in budget_names(desk):
        raise InvalidValue("budget", name, f"a budget of {desk.scope!r}")
