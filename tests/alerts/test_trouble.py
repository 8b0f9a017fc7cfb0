"""What one rule comes to grief over is no other rule's trouble."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.alerts.support import MINUTE, NOW, Told, failed, write

from ai_ledger.alerts import Alerts, Rule
from ai_ledger.database.changes import whoever
from ai_ledger.database.tables.alerts import rules as rules_table
from ai_ledger.database.tables.budgets import budgets
from ai_ledger.errors import InvalidValue, NotFound, SinkUnavailable
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.terms import Terms
from ai_ledger.testing import FakeClock

TIMEOUTS = Rule(name="time-outs", kind="timeouts", threshold=1, window_s=900)
BUDGETS = Rule(name="all budgets", kind="budget_threshold")
FIFTY = Terms(name="users", unit="CNY", limit=50 * 10**9, each="user_id", per="month")


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """An SQLite ledger, where the database does not matter."""
    return f"sqlite:///{tmp_path}/ledger.db"


def budget(url: str, terms: str, name: str = "users") -> None:
    """A budget whose row says *terms*, whatever that is."""
    row = {"name": name, "terms": terms, "active": True, "version": 1}
    shared_database(url).writing(
        lambda connection: connection.execute(
            sa.insert(budgets).values(**row, created_at=NOW, updated_at=NOW)
        )
    )


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_rule_that_fails_holds_up_no_other(
    sql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The others are looked at, told and ended; it is logged once, and raised at the end.
    """
    told, clock = Told(), FakeClock(NOW)
    alerts = Alerts(sql_url, channels=[told], clock=clock)
    gone = alerts.add_rule(Rule(name="gone", kind="timeouts", threshold=1))
    write(sql_url, [failed(MINUTE, status="timeout")])
    [ended] = alerts.evaluate()
    alerts.remove_rule("gone")
    alerts.add_rule(BUDGETS)
    alerts.add_rule(TIMEOUTS)
    budget(sql_url, "{}")

    clock.advance(1)
    for _ in range(2):
        with pytest.raises(Exception, match="name"):
            alerts.evaluate()

    assert [each.rule for each in told.alerts] == [gone.name, "time-outs"]
    assert alerts.get(ended.id).state == "resolved"
    [said] = warnings(caplog)
    assert "'all budgets'" in said
    assert "time-outs" not in said


def test_a_rule_of_a_later_version(file_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    What this version cannot read is one rule less, and said again after it was mended.
    """
    told = Told()
    alerts = Alerts(file_url, channels=[told], clock=FakeClock(NOW))
    alerts.add_rule(Rule(name="a", kind="latency"))
    alerts.add_rule(TIMEOUTS)
    write(file_url, [failed(MINUTE, status="timeout")])

    def kind(word: str) -> None:
        statement = sa.update(rules_table).where(rules_table.c.name == "a").values(kind=word)
        shared_database(file_url).writing(lambda connection: connection.execute(statement))

    for word, fails in (("weather", True), ("latency", False), ("weather", True)):
        kind(word)
        if fails:
            with pytest.raises(Exception, match="weather"):
                alerts.evaluate()
        else:
            alerts.evaluate()

    assert [each.rule for each in told.alerts] == ["time-outs"]
    assert len(warnings(caplog)) == 2


def test_a_store_that_goes_away_is_asked_once(file_url: str, monkeypatch) -> None:
    """
    Rules do not each wait for a store that is away.
    """
    from ai_ledger.alerts.findings import Sight
    from ai_ledger.alerts.rulebook import Rulebook

    asked: list[str] = []

    def away(sight: Sight, rule: Rule) -> None:
        asked.append(rule.name)
        raise SinkUnavailable("away")

    def unreachable(rulebook: Rulebook) -> None:
        raise SinkUnavailable("still away")

    monkeypatch.setattr(Sight, "findings", away)
    monkeypatch.setattr(Rulebook, "reach", unreachable)
    alerts = Alerts(file_url, clock=FakeClock(NOW))
    alerts.add_default_rules()

    with pytest.raises(SinkUnavailable, match="still away"):
        alerts.evaluate()
    assert len(asked) == 1


def test_a_budget_that_is_not_there(sql_url: str) -> None:
    """
    A rule about a budget that the ledger does not have is refused, with those that it has.
    """
    alerts = Alerts(sql_url, clock=FakeClock(NOW))
    with pytest.raises(InvalidValue, match="none yet"):
        alerts.add_rule(Rule(name="r", kind="budget_threshold", budget="users"))
    budget(sql_url, FIFTY.to_json())
    added = alerts.add_rule(Rule(name="r", kind="budget_threshold", budget="users"))
    with pytest.raises(InvalidValue, match=r"budget='usres'.*\(users\)"):
        alerts.edit_rule("r", budget="usres")

    assert alerts.rules() == [added]


def test_a_budget_that_is_not_there_among_many(file_url: str) -> None:
    """
    The error names a few budgets, those that are spelt nearly like it before any others.
    """
    for name in (*(f"quota-{number:03}" for number in range(30)), "users"):
        budget(file_url, FIFTY.to_json(), name)
    alerts = Alerts(file_url)

    with pytest.raises(InvalidValue, match=r"\(users\)$"):
        alerts.add_rule(Rule(name="r", kind="budget_threshold", budget="usres"))
    with pytest.raises(InvalidValue, match=r"\(quota-000(, quota-00[1-4]){4}\)$"):
        alerts.add_rule(Rule(name="r", kind="budget_threshold", budget="x"))


def test_whoever_edits(file_url: str) -> None:
    """
    Edits of nobody in particular are those of the user of this process.
    """
    alerts = Alerts(file_url, clock=FakeClock(NOW))
    rule = alerts.add_rule(TIMEOUTS)
    write(file_url, [failed(MINUTE, status="timeout")])
    [raised] = alerts.evaluate()

    assert whoever() is not None
    assert rule.updated_by == alerts.edit_rule("time-outs", threshold=2).updated_by == whoever()
    assert alerts.ack(raised.id).changed_by == whoever()
    with pytest.raises(InvalidValue, match="by"):
        alerts.resolve(raised.id, by=" ")
    assert alerts.get(raised.id).state == "acknowledged"


def test_histories(sql_url: str) -> None:
    """
    Who changed a rule, an alert and a mark is told, of a rule also after it is gone.
    """
    alerts = Alerts(sql_url, clock=FakeClock(NOW))
    rule = alerts.add_rule(TIMEOUTS, by="ada")
    write(sql_url, [failed(MINUTE, status="timeout")])
    [raised] = alerts.evaluate()
    alerts.edit_rule("time-outs", enabled=False, by="bob")
    alerts.ack(raised.id, by="eve")
    alerts.ack_call(raised.calls.ids[0], by="eve")

    newest, oldest = alerts.history("rule", "time-outs")
    assert (oldest.before, oldest.changed_by, newest.changed_by) == (None, "ada", "bob")
    assert newest.before is not None
    assert newest.after is not None
    assert (newest.before["enabled"], newest.after["enabled"]) == (True, False)
    assert alerts.history("rule", "time-outs", limit=1) == [newest]
    alerts.remove_rule("time-outs", by="ada")
    assert [each.changed_by for each in alerts.history("rule", "time-outs")] == [
        "ada",
        "bob",
        "ada",
    ]
    assert rule.id is not None
    assert len(alerts.history("rule", rule.id)) == 3
    assert [each.changed_by for each in alerts.history("alert", raised.id)] == ["eve"]
    assert [each.changed_by for each in alerts.history("call", raised.calls.ids[0])] == ["eve"]


def test_histories_of_others(file_url: str) -> None:
    """
    What is another organisation's has no history here, and what never was has none at all.
    """
    alerts = Alerts(file_url, clock=FakeClock(NOW))
    for org in ("acme", "globex"):
        alerts.scoped(org).add_rule(TIMEOUTS, by=org)
        alerts.scoped(org).remove_rule("time-outs", by=org)
    [kept] = [alerts.scoped("globex").add_rule(Rule(name="kept", kind="latency"))]
    write(file_url, [failed(MINUTE, id="call-1")])
    alerts.ack_call("call-1")
    acme = alerts.scoped("acme")

    assert {each.changed_by for each in acme.history("rule", "time-outs")} == {"acme"}
    assert len(acme.history("call", "call-1")) == 1
    assert kept.id is not None
    for kind, key in (("rule", "kept"), ("rule", kept.id), ("rule", "x"), ("alert", 1)):
        with pytest.raises(NotFound):
            acme.history(kind, key)
    with pytest.raises(NotFound):
        alerts.scoped("globex").history("call", "call-1")
    for kind, key, limit in (("word", "x", 1), ("rule", "kept", 0), ("alert", "x", 1)):
        with pytest.raises(InvalidValue):
            alerts.history(kind, key, limit=limit)  # pyright: ignore[reportArgumentType]
