"""Forgetting somebody whom alerts, rules and their history name."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.alerts.support import MINUTE, NOW, failed, write

from ai_ledger import Ledger
from ai_ledger.alerts import Alerts, Rule
from ai_ledger.database.columns import metadata
from ai_ledger.errors import InvalidValue, NotFound
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.testing import FakeClock

EACH = Rule(name="each", kind="timeouts", threshold=1, each="user_id")


def everything(url: str) -> str:
    """All that all tables hold, as one text."""
    with shared_database(url).reading() as connection:
        return "\n".join(
            str(row)
            for table in metadata.sorted_tables
            for row in connection.execute(sa.select(table))
        )


@pytest.mark.parametrize("user", ["\\a'b\"c\\d%_张三", "x" * 300])
def test_nothing_names_them(sql_url: str, user: str) -> None:
    """
    After the calls and the alerts were erased, no table has the name; the others' alerts stay.
    """
    clock = FakeClock(NOW)
    write(sql_url, [failed(status="timeout", user_id=each) for each in (user, "other")])
    alerts = Alerts(sql_url, clock=clock)
    alerts.add_rule(EACH)
    of_them = {"kind": "timeouts", "threshold": 1, "each": ""}
    alerts.add_rule(Rule(name="only", where={"user_id": user}, **of_them))
    both = alerts.add_rule(Rule(name="both", where={"user_id": [user, "other"]}, **of_them))
    raised = alerts.evaluate()
    assert len(raised) == 4
    told = next(each for each in raised if each.whose not in (None, "other"))
    alerts.ack(told.id, note=f"wrote to {user[:200]}")
    alerts.edit_rule("both", threshold=2)
    assert repr(user[:200])[1:-1] in everything(sql_url)

    with Ledger(sql_url, journal=False) as ledger:
        ledger.forget(user_id=user)
    assert alerts.forget(user_id=user, by="ada") == 5

    left = everything(sql_url)
    assert not any(text in left for text in ("张三", "x" * 100))
    erased = alerts.get(told.id)
    assert (erased.state, erased.note, erased.calls.ids, erased.value) == ("resolved", None, (), 1)
    assert erased.whose == f"forgotten-{told.id}"
    with pytest.raises(NotFound):
        alerts.rule("only")
    assert alerts.rule(both.id or 0).where == {"user_id": ["other"]}
    assert [each.whose for each in alerts.list()] == ["other"]
    clock.advance(MINUTE.seconds)
    # Their calls are there still, of nobody.
    assert [each.whose for each in alerts.evaluate()] == [None]
    assert alerts.forget(user_id=user) == 0


def test_notes_on_failed_calls(sql_url: str) -> None:
    """
    With calls go the notes on them, from their history as well; who saw to them stays.
    """
    calls = [failed(id=each, user_id=each) for each in ("gone", "marked again", "open", "kept")]
    write(sql_url, calls)
    alerts = Alerts(sql_url, clock=FakeClock(NOW))
    alerts.ack_call("gone", "marked again", "open", by="ada", note="wrote to 张三")
    alerts.ignore_call("marked again", by="bob", note="张三 does not mind")
    alerts.reopen_call("open", by="bob")
    alerts.ack_call("kept", by="ada", note="wrote to 李四")

    with Ledger(sql_url, journal=False) as ledger:
        assert ledger.forget(user_id=["gone", "marked again", "open"]) == 3

    left = everything(sql_url)
    assert ("张三" in left, "李四" in left) == (False, True)
    marks = {each.call.id: each for each in alerts.failures(state=None)}
    assert {name: (each.state, each.marked_by, each.note) for name, each in marks.items()} == {
        "gone": ("acknowledged", "ada", None),
        "marked again": ("ignored", "bob", None),
        "open": ("open", None, None),
        "kept": ("acknowledged", "ada", "wrote to 李四"),
    }
    newest, oldest = alerts.history("call", "marked again")
    assert (newest.changed_by, newest.before, newest.after) == (
        "bob", {"state": "acknowledged", "note": None}, {"state": "ignored", "note": None},
    )  # fmt: skip
    assert (oldest.changed_by, oldest.before) == ("ada", None)


def test_two_of_one_rule(sql_url: str) -> None:
    """
    Two people may be forgotten whose alerts are of the same rule and period.
    """
    write(sql_url, [failed(status="timeout", user_id=each) for each in ("a", "b")])
    alerts = Alerts(sql_url, [EACH], clock=FakeClock(NOW))
    assert len(alerts.evaluate()) == 2

    assert [alerts.forget(user_id=each) for each in ("a", "b", "c")] == [1, 1, 0]


def test_within_an_organisation(sql_url: str) -> None:
    """
    An organisation erases from its own alerts and rules alone.
    """
    write(
        sql_url, [failed(status="timeout", user_id="u", org_id=org) for org in ("acme", "globex")]
    )
    alerts = Alerts(sql_url, clock=FakeClock(NOW))
    for org in ("acme", "globex"):
        alerts.scoped(org).add_rule(
            Rule(name="r", kind="timeouts", threshold=1, each="user_id", where={"user_id": "u"})
        )
    assert len(alerts.evaluate()) == 2

    assert alerts.scoped("acme").forget(user_id="u") == 2

    assert [each.org_id for each in alerts.rules()] == ["globex"]
    [left] = alerts.list()
    assert (left.org_id, left.whose) == ("globex", "u")


def test_whom(sql_url: str) -> None:
    """
    Somebody has to be named, by a field that rules know.
    """
    alerts = Alerts(sql_url)

    for who in ({}, {"user_id": ""}, {"user_id": None}, {"user_id": ["u"]}, {"colour": "red"}):
        with pytest.raises(InvalidValue):
            alerts.forget(**who)
