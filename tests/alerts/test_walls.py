"""Organisations: what one of them has, another neither sees nor touches."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.alerts.support import NOW, Told, call, failed, write

from ai_ledger.alerts import Alerts, Rule
from ai_ledger.errors import InvalidValue, NotFound
from ai_ledger.testing import FakeClock


@pytest.fixture
def both(sql_url: str) -> Alerts:
    """Alerts, rules and failed calls of acme and globex, and some of nobody in particular."""
    write(sql_url, [failed(org_id=org, id=f"call-{org}") for org in ("acme", "globex", None)])
    alerts = Alerts(sql_url, clock=FakeClock(NOW))
    options = {"kind": "failure_rate", "threshold": 0.1, "min_calls": 1, "each": ""}
    for org in ("acme", "globex", None):
        alerts.add_rule(Rule(name="failures", org_id=org, **options))
    assert len(alerts.evaluate()) == 3
    return alerts


def test_alerts(both: Alerts) -> None:
    """
    Another's alert is not there: not in the list, not by its number, not to be changed.
    """
    for org in ("acme", "ACME", "acme ", "globex"):
        ours = both.scoped(org)
        assert {each.org_id for each in ours.list(states=())} <= {org}
        for alert in [each for each in both.list() if each.org_id != org]:
            for action in (ours.get, ours.ack, ours.ignore, ours.resolve, ours.deliveries):
                with pytest.raises(NotFound):
                    action(alert.id)
    assert {each.state for each in both.list(states=())} == {"open"}


def test_rules(both: Alerts) -> None:
    """
    Another's rule is not there, also where names are the same; a name is free for each.
    """
    ours = both.scoped("acme")
    [own] = ours.rules()
    theirs = [rule for rule in both.rules() if rule.org_id != "acme"]

    assert own.org_id == "acme"
    for rule in theirs:
        for action in (ours.rule, ours.edit_rule, ours.remove_rule):
            with pytest.raises(NotFound):
                action(rule.id or 0)
    assert ours.edit_rule("failures", threshold=0.9).id == own.id
    with pytest.raises(InvalidValue, match="org_id"):
        ours.add_rule(Rule(name="x", kind="timeouts", org_id="globex"))
    with pytest.raises(InvalidValue, match="org_id"):
        Alerts("sqlite:///x.db", [Rule(name="x", kind="timeouts", org_id="b")], scope="a")
    with pytest.raises(InvalidValue, match="org_id"):
        ours.scoped("globex")
    assert ours.add_rule(Rule(name="x", kind="timeouts")).org_id == "acme"
    assert len(ours.add_default_rules()) > 5
    assert {rule.org_id for rule in ours.rules()} == {"acme"}


def test_failed_calls(both: Alerts) -> None:
    """
    Another's failed call is not listed, and cannot be marked; with it nothing is.
    """
    ours = both.scoped("acme")

    assert [each.call.id for each in ours.failures()] == ["call-acme"]
    for action in (ours.ack_call, ours.ignore_call):
        with pytest.raises(NotFound):
            action("call-acme", "call-globex")
    assert {each.state for each in both.failures(state=None)} == {"open"}
    assert ours.failures(where={"org_id": "globex"}) == []


def test_channels(sql_url: str) -> None:
    """
    The channel of one organisation is told of its alerts alone, whoever raised them.
    """
    write(sql_url, [failed(org_id=org) for org in ("acme", "globex")])
    rule = Rule(name="f", kind="failure_rate", threshold=0.1, min_calls=1, each="org_id")
    clock = FakeClock(NOW)
    Alerts(sql_url, [rule], clock=clock).evaluate()
    told = Told()

    Alerts(sql_url, channels=[told], scope="acme", clock=clock).evaluate()

    assert [each.org_id for each in told.alerts] == ["acme"]


def test_an_organisation_looks_at_its_own_rules(both: Alerts, tmp_path: Path) -> None:
    """
    To look within a scope is to look at its rules, and at its calls.
    """
    url = f"sqlite:///{tmp_path}/other.db"
    write(url, [failed(org_id="globex"), call(org_id="acme")])
    rule = Rule(name="f", kind="failure_rate", threshold=0.1, min_calls=1, each="")
    Alerts(url).add_rule(rule)

    ours = Alerts(url, [rule], scope="acme", clock=FakeClock(NOW))

    assert ours.evaluate() == []
    assert Alerts(url, scope="globex", clock=FakeClock(NOW)).evaluate() == []
    assert len(Alerts(url, clock=FakeClock(NOW)).evaluate()) == 1
