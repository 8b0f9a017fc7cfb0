"""Failed calls, and what people say about them."""

from __future__ import annotations

import pytest
from tests.alerts.support import DAY, HOUR, NOW, call, failed, write

from ai_ledger.alerts import Alerts
from ai_ledger.database.changes import changes_of
from ai_ledger.errors import InvalidValue, NotFound
from ai_ledger.query import Query
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.testing import FakeClock


@pytest.fixture
def alerts(sql_url: str) -> Alerts:
    """Calls of all kinds, with ids that can be foreseen."""
    write(
        sql_url,
        [
            failed(HOUR, id="f", request_content="secret", tags={"plan": "pro"}),
            failed(2 * HOUR, status="timeout", id="t"),
            failed(3 * HOUR, status="circuit_open", id="c"),
            failed(8 * DAY, id="old"),
            failed(HOUR, status="blocked", id="b"),
            failed(HOUR, status="cancelled", id="x"),
            call(HOUR, id="s"),
        ],
    )
    return Alerts(sql_url, clock=FakeClock(NOW))


def ids(alerts: Alerts, **options) -> list[str]:
    return [each.call.id for each in alerts.failures(**options)]


def test_listed(alerts: Alerts) -> None:
    """
    What failed, timed out or met an open circuit, newest first, without its texts.
    """
    assert ids(alerts) == ["f", "t", "c"]
    assert ids(alerts, days=9) == ["f", "t", "c", "old"]
    assert ids(alerts, limit=1) == ["f"]
    assert ids(alerts, where={"status": "timeout"}) == ["t"]
    first = alerts.failures()[0]
    assert (first.call.request_content, first.call.tags) == (None, {"plan": "pro"})


def test_marked(alerts: Alerts, sql_url: str) -> None:
    """
    Each call has a state of its own, with who, when and a note; it can be changed.
    """
    assert alerts.ack_call("f", "t", "f", by="ada", note="told the provider") == 2
    assert alerts.ignore_call("t", by="bob") == 1

    assert ids(alerts) == ["c"]
    assert ids(alerts, state="acknowledged") == ["f"]
    assert ids(alerts, state="ignored") == ["t"]
    assert ids(alerts, state=None) == ["f", "t", "c"]
    [marked] = alerts.failures(state="acknowledged")
    assert (marked.marked_by, marked.marked_at, marked.note) == ("ada", NOW, "told the provider")
    with shared_database(sql_url).reading() as connection:
        history = changes_of(connection, "call_mark", "t")
    assert [(each.changed_by, each.after and each.after["state"]) for each in history] == [
        ("bob", "ignored"), ("ada", "acknowledged"),
    ]  # fmt: skip


@pytest.mark.parametrize("bad", ["s", "b", "none", "f' OR 1=1 --"])
def test_all_or_none(alerts: Alerts, bad: str) -> None:
    """
    What is no failed call is refused, and nothing beside it is marked.
    """
    with pytest.raises(NotFound, match="no failed call"):
        alerts.ack_call("f", bad)

    assert ids(alerts) == ["f", "t", "c"]


def test_deleted_calls(alerts: Alerts, sql_url: str) -> None:
    """
    A deleted call is nothing to look at any more.
    """
    sink = SQLSink(sql_url)
    sink.delete(Query.build(scope=None, where={"id": "f"}), at=NOW)
    sink.close()

    assert ids(alerts) == ["t", "c"]
    with pytest.raises(NotFound):
        alerts.ack_call("f")


def test_bad_input(alerts: Alerts) -> None:
    """
    Numbers, states and ids that cannot be.
    """
    for options in (
        {"days": 0}, {"days": 10**6}, {"limit": 0}, {"limit": 10**9}, {"state": "gone"},
        {"where": {"colour": "red"}},
    ):  # fmt: skip
        with pytest.raises(InvalidValue):
            alerts.failures(**options)
    for ids_ in ((), ("",), (7,), tuple(map(str, range(1001)))):
        with pytest.raises(InvalidValue):
            alerts.ack_call(*ids_)
