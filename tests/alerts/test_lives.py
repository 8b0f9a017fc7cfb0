"""The life of an alert: raised once, seen again, over by itself, taken up by people."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.alerts.support import DAY, HOUR, MINUTE, NOW, Told, call, failed, write

from ai_ledger import Ledger
from ai_ledger.alerts import Alerts, Rule
from ai_ledger.database.changes import changes_of
from ai_ledger.database.tables.alerts import alerts as alerts_table
from ai_ledger.errors import AlreadyThere, EditConflict, InvalidValue, NotFound
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.testing import FakeClock

TIMEOUTS = Rule(name="time-outs", kind="timeouts", threshold=1, window_s=900)


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """An SQLite ledger, where the database does not matter."""
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


def timed_out(url: str, at: datetime, **fields) -> None:
    write(url, [failed(NOW - at, status="timeout", **fields)])


def test_once_in_its_period(sql_url: str, clock: FakeClock) -> None:
    """
    What goes on, ends and comes back on one day is one alert that counts.
    """
    alerts = Alerts(sql_url, [TIMEOUTS], clock=clock)
    timed_out(sql_url, NOW - MINUTE)

    [raised] = alerts.evaluate()
    clock.advance(60)
    assert alerts.evaluate() == []
    seen = alerts.get(raised.id)
    assert (seen.state, seen.occurrences, seen.last_seen_at) == ("open", 1, NOW + MINUTE)
    clock.advance(3600)
    assert alerts.evaluate() == []
    ended = alerts.get(raised.id)
    assert (ended.state, ended.resolved_itself, ended.changed_by) == ("resolved", True, None)
    timed_out(sql_url, clock() - MINUTE)
    assert alerts.evaluate() == []
    back = alerts.get(raised.id)
    assert (back.state, back.occurrences, back.resolved_itself) == ("open", 2, False)
    clock.set(NOW + DAY)
    timed_out(sql_url, clock() - MINUTE)
    [another] = alerts.evaluate()
    assert (another.period, another.id != raised.id) == ("2026-03-11", True)
    assert alerts.get(raised.id).state == "resolved"


def test_what_is_urgent_is_not_left_out(sql_url: str, clock: FakeClock) -> None:
    """
    By urgency the open ones come first, the most severe of them before newer ones.
    """
    urgent = Rule(name="urgent", kind="timeouts", threshold=1, severity="critical", each="")
    others = Rule(name="others", kind="timeouts", threshold=1, severity="info", each="user_id")
    alerts = Alerts(sql_url, [urgent], clock=clock)
    timed_out(sql_url, NOW - MINUTE)
    [critical] = alerts.evaluate()
    for number in range(5):
        timed_out(sql_url, NOW - MINUTE, user_id=f"u-{number}")
    clock.advance(60)
    newer = Alerts(sql_url, [urgent, others], clock=clock)
    newer.evaluate()
    newest = [alert.id for alert in alerts.list(limit=3)]

    first = [alert.id for alert in alerts.list(limit=3, by_urgency=True)]
    alerts.ack(critical.id)
    last = [alert.id for alert in alerts.list(by_urgency=True)]

    assert critical.id not in newest
    assert first == [critical.id, *newest[:2]]
    assert last[-1] == critical.id


def test_past_midnight(file_url: str, clock: FakeClock) -> None:
    """
    What goes on past the end of a period is news only after it has gone on for one.
    """
    alerts = Alerts(file_url, [TIMEOUTS], clock=clock)
    clock.set(datetime.fromisoformat("2026-03-10T23:55:00+00:00"))
    timed_out(file_url, clock() - MINUTE)
    [raised] = alerts.evaluate()

    for _ in range(23):
        clock.advance(3600)
        timed_out(file_url, clock() - MINUTE)
        assert alerts.evaluate() == []
    clock.advance(3700)
    timed_out(file_url, clock() - MINUTE)

    [reminder] = alerts.evaluate()
    assert (reminder.period, alerts.get(raised.id).state) == ("2026-03-11", "resolved")


def test_what_people_do(sql_url: str, clock: FakeClock) -> None:
    """
    Acknowledged, ignored and resolved leave who, when and why; the history has it all.
    """
    alerts = Alerts(sql_url, [TIMEOUTS], clock=clock)
    timed_out(sql_url, NOW - MINUTE)
    [raised] = alerts.evaluate()
    clock.advance(10)

    taken = alerts.ack(raised.id, by="ada", note="looking", version=1)
    assert (taken.state, taken.changed_by, taken.changed_at) == (
        "acknowledged", "ada", NOW + timedelta(seconds=10),
    )  # fmt: skip
    assert (taken.note, taken.version) == ("looking", 2)
    with pytest.raises(EditConflict, match="version 2"):
        alerts.ignore(raised.id, by="bob", version=1)
    assert alerts.get(raised.id) == taken
    assert alerts.ignore(raised.id, by="bob").note == "looking"
    assert alerts.list() == []
    assert [each.state for each in alerts.list(states=())] == ["ignored"]
    assert alerts.resolve(raised.id, by="ada", version=3).resolved_itself is False
    with pytest.raises(EditConflict, match="resolved"):
        alerts.ack(raised.id)
    assert alerts.evaluate() == []
    assert alerts.get(raised.id).state == "resolved"
    with shared_database(sql_url).reading() as connection:
        history = changes_of(connection, "alert", str(raised.id))
    assert [(each.changed_by, each.after and each.after["state"]) for each in history] == [
        ("ada", "resolved"), ("bob", "ignored"), ("ada", "acknowledged"),
    ]  # fmt: skip


def test_a_resolution_is_taken_back(sql_url: str, clock: FakeClock) -> None:
    """
    What a person resolved is open again, at its version, remembered, and told to nobody twice.
    """
    told = Told()
    alerts = Alerts(sql_url, [TIMEOUTS], [told], clock=clock)
    timed_out(sql_url, NOW - MINUTE)
    [raised] = alerts.evaluate()
    alerts.ack(raised.id, by="ada")
    resolved = alerts.resolve(raised.id, by="ada", note="over")

    with pytest.raises(EditConflict, match="version 3"):
        alerts.reopen(raised.id, by="bob", version=2)
    with pytest.raises(EditConflict, match="open it again first"):
        alerts.ignore(raised.id)
    again = alerts.reopen(raised.id, by="ada", version=resolved.version)

    assert (again.state, again.version, again.note) == ("open", 4, "over")
    assert alerts.evaluate() == []
    assert alerts.get(raised.id).state == "open"
    assert [alert.id for alert in told.alerts] == [raised.id]
    newest = alerts.history("alert", raised.id)[0]
    assert (newest.changed_by, newest.before, newest.after) == (
        "ada", {"state": "resolved", "note": "over"}, {"state": "open", "note": "over"},
    )  # fmt: skip
    clock.advance(3600)
    alerts.evaluate()
    assert alerts.get(raised.id).resolved_itself


def test_what_is_over_stays_resolved(file_url: str, clock: FakeClock) -> None:
    """
    Nobody opens what ended by itself, what was raised anew since, or what was erased.
    """
    alerts = Alerts(file_url, [TIMEOUTS], clock=clock)
    timed_out(file_url, NOW - MINUTE)
    [raised] = alerts.evaluate()
    clock.advance(3600)
    alerts.evaluate()
    with pytest.raises(EditConflict, match="by itself"):
        alerts.reopen(raised.id)

    alerts.resolve(raised.id)
    clock.advance(24 * 3600)
    timed_out(file_url, clock() - MINUTE)
    [later] = alerts.evaluate()
    with pytest.raises(EditConflict, match=f"alert {later.id} is about the same"):
        alerts.reopen(raised.id)

    alerts.forget(request_model="qwen-plus")
    with pytest.raises(EditConflict, match="erased"):
        alerts.reopen(later.id)
    assert [each.state for each in alerts.list(states=())] == ["resolved", "resolved"]


def test_what_was_ignored_stays_ignored(file_url: str, clock: FakeClock) -> None:
    """
    An ignored alert that ends and comes back in its period bothers nobody.
    """
    told = Told()
    alerts = Alerts(file_url, [TIMEOUTS], clock=clock)
    timed_out(file_url, NOW - MINUTE)
    [raised] = alerts.evaluate()
    alerts.ignore(raised.id)
    clock.advance(3600)
    alerts.evaluate()
    timed_out(file_url, clock() - MINUTE)

    Alerts(file_url, [TIMEOUTS], [told], clock=clock).evaluate()

    assert (alerts.get(raised.id).state, told.alerts) == ("ignored", [])


def test_a_late_look_ends_nothing(file_url: str, clock: FakeClock) -> None:
    """
    Who looked earlier does not end what has been seen since.
    """
    alerts = Alerts(file_url, [TIMEOUTS], clock=clock)
    timed_out(file_url, NOW - MINUTE)
    [raised] = alerts.evaluate()

    alerts.evaluate(NOW - HOUR)

    assert alerts.get(raised.id).state == "open"


def test_rules_that_are_gone(file_url: str, clock: FakeClock) -> None:
    """
    Alerts of a rule that was disabled or removed end by themselves, and stay to be read.
    """
    alerts = Alerts(file_url, clock=clock)
    for name in ("a", "b"):
        alerts.add_rule(Rule(name=name, kind="timeouts", threshold=1))
    timed_out(file_url, NOW - MINUTE)
    assert len(alerts.evaluate()) == 2
    alerts.edit_rule("a", enabled=False)
    alerts.remove_rule("b")
    clock.advance(1)

    assert alerts.evaluate() == []

    assert [each.state for each in alerts.list(states=())] == ["resolved", "resolved"]
    with pytest.raises(NotFound):
        alerts.rule("b")


def test_rules_as_rows(sql_url: str, clock: FakeClock) -> None:
    """
    Rules are added, edited at the version that was seen, and removed; all is remembered.
    """
    alerts = Alerts(sql_url, clock=clock)
    added = alerts.add_rule(
        Rule(name="cost of 部门", kind="cost_spike", where={"model": "m"}), by="a"
    )
    assert (added.version, added.where, added.threshold) == (1, {"request_model": ["m"]}, 3.0)
    assert alerts.rule(added.id or 0) == added

    edited = alerts.edit_rule("cost of 部门", threshold=5, quiet="22:00-08:00", by="b", version=1)

    assert (edited.version, edited.threshold, edited.updated_by) == (2, 5.0, "b")
    assert alerts.rules() == [edited]
    with pytest.raises(EditConflict):
        alerts.edit_rule("cost of 部门", threshold=6, version=1)
    with pytest.raises(AlreadyThere):
        alerts.add_rule(Rule(name="cost of 部门", kind="timeouts"))
    with pytest.raises(InvalidValue, match="threshold"):
        alerts.edit_rule("cost of 部门", threshold=0.5)
    with pytest.raises(InvalidValue, match="field"):
        alerts.edit_rule("cost of 部门", kind="timeouts")
    other = alerts.add_rule(Rule(name="other", kind="timeouts"))
    with pytest.raises(AlreadyThere):
        alerts.edit_rule(other.id or 0, name="cost of 部门")
    assert alerts.rule("cost of 部门") == edited
    alerts.remove_rule("cost of 部门", by="c", version=2)
    with shared_database(sql_url).reading() as connection:
        history = changes_of(connection, "alert_rule", str(added.id))
    assert [each.changed_by for each in history] == ["c", "b", "a"]
    assert (history[0].after, history[-1].before) == (None, None)


def test_defaults(sql_url: str, clock: FakeClock) -> None:
    """
    A fresh ledger gets every kind of rule, once, and nothing to complain about.
    """
    alerts = Alerts(sql_url, clock=clock)
    from ai_ledger.alerts.rule import KINDS

    added = alerts.add_default_rules(by="ada")

    assert {rule.kind for rule in added} == set(KINDS)
    assert alerts.add_default_rules() == []
    write(sql_url, [call() for _ in range(5)])
    assert alerts.evaluate() == []


def test_rules_given_in_code(file_url: str, clock: FakeClock) -> None:
    """
    Rules of the program are kept in the store, follow the program, and are the only ones.
    """
    Alerts(file_url, clock=clock).add_rule(Rule(name="of people", kind="timeouts", threshold=1))
    timed_out(file_url, NOW - MINUTE)

    first = Alerts(file_url, [TIMEOUTS], clock=clock).evaluate()
    Alerts(file_url, [TIMEOUTS], clock=clock).evaluate()

    assert [each.rule for each in first] == ["time-outs"]
    stored = Alerts(file_url).rule("time-outs")
    assert stored.version == 1
    loud = Rule(name="time-outs", kind="timeouts", threshold=9)
    Alerts(file_url, [loud], clock=clock).evaluate()
    assert (Alerts(file_url).rule("time-outs").threshold, len(Alerts(file_url).rules())) == (9, 2)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("kind", {"kind": "noise"}),
        ("name", {"name": ""}),
        ("name", {"name": "a\nb"}),
        ("name", {"name": "x" * 256}),
        ("threshold", {"threshold": 0}),
        ("threshold", {"threshold": -1}),
        ("threshold", {"threshold": float("nan")}),
        ("threshold", {"threshold": 1.5}),
        ("threshold", {"threshold": True}),
        ("window_s", {"window_s": 0}),
        ("window_s", {"window_s": 10**9}),
        ("window_s", {"kind": "cost_spike", "window_s": 2 * 86_400}),
        ("window_s", {"kind": "silence", "window_s": 60, "past_days": 30}),
        ("min_calls", {"min_calls": -1}),
        ("past_days", {"past_days": 0}),
        ("severity", {"severity": "loud"}),
        ("per", {"per": "year"}),
        ("quiet", {"quiet": "25:00-08:00"}),
        ("quiet", {"quiet": "08:00-08:00"}),
        ("quiet", {"quiet": "at night"}),
        ("tz", {"tz": "Mars/Olympus"}),
        ("tz", {"tz": 5}),
        ("field", {"where": {"colour": "red"}}),
        ("where", {"where": "model=m"}),
        ("function", {"where": {"function": {"regex": "(a+)+$"}}}),
        ("cost", {"where": {"cost": {"below": "cheap"}}}),
        ("field", {"each": "error_message"}),
        ("at_least", {"at_least": 5}),
        ("at_least", {"kind": "cost_spike", "at_least": -1}),
        ("budget", {"budget": "b"}),
        ("where", {"kind": "budget_threshold", "where": {"model": "m"}}),
        ("org_id", {"kind": "undelivered", "org_id": "acme"}),
        ("enabled", {"enabled": "yes"}),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(file_url: str, field: str, fields: dict[str, object]) -> None:
    """
    What a rule cannot say is refused by name, from code and from the store, and not written.
    """
    bad = Rule(**{"name": "r", "kind": "failure_rate", **fields})  # type: ignore[arg-type]
    alerts = Alerts(file_url)

    with pytest.raises(InvalidValue, match=f"^{field}="):
        alerts.add_rule(bad)
    with pytest.raises(InvalidValue, match=f"^{field}="):
        Alerts(file_url, [bad])

    assert alerts.rules() == []


def test_bad_questions(file_url: str) -> None:
    """
    Bad numbers, notes and moments are refused before anything is asked or written.
    """
    alerts = Alerts(file_url)

    for bad in (0, -1, True, "1", 2**63):
        with pytest.raises(InvalidValue):
            alerts.get(bad)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        alerts.ack(7)
    for limit in (0, 1001):
        with pytest.raises(InvalidValue):
            alerts.list(limit=limit)
    with pytest.raises(InvalidValue):
        alerts.evaluate(datetime(2026, 1, 1))
    with pytest.raises(InvalidValue):
        alerts.start(every_s=0)
    with pytest.raises(InvalidValue):
        alerts.ack(1, note="x" * 5000)
    for wrong in (
        lambda: alerts.list(states=["gone"]),  # type: ignore[list-item]
        lambda: alerts.list(limit=1.5),  # type: ignore[arg-type]
        lambda: alerts.list(since="today"),  # type: ignore[arg-type]
        lambda: alerts.evaluate("now"),  # type: ignore[arg-type]
        lambda: alerts.start("often"),  # type: ignore[arg-type]
        lambda: alerts.rule(True),
        lambda: alerts.rule(2**70),
        lambda: alerts.add_rule(TIMEOUTS, by=5),  # type: ignore[arg-type]
        lambda: alerts.add_rule(Rule(name="r", kind="timeouts", threshold=10**400)),
    ):
        with pytest.raises(InvalidValue):
            wrong()
    assert alerts.rules() == []
    assert alerts.list(states="open") == []  # type: ignore[arg-type]


LOOK = """
import sys
from datetime import datetime
from ai_ledger.alerts import Alerts, Callback
from ai_ledger.testing import FakeClock

url, now, rounds = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
told = Callback(lambda alert: print("told", alert.id, flush=True), name="one")
for _ in range(int(rounds)):
    with Alerts(url, channels=[told], clock=FakeClock(datetime.fromisoformat(now))) as alerts:
        for alert in alerts.evaluate():
            print("raised", alert.id, flush=True)
"""


def test_many_processes_at_once(sql_url: str, clock: FakeClock) -> None:
    """
    Processes that look at the same moment raise one alert for each value, and tell it once.
    """
    alerts = Alerts(sql_url, clock=clock)
    for name in ("a", "b"):
        alerts.add_rule(Rule(name=name, kind="timeouts", threshold=1))
    write(sql_url, [failed(status="timeout", request_model=f"m-{n}") for n in range(10)])
    alerts.close()
    program = [sys.executable, "-W", "ignore", "-c", LOOK, sql_url, NOW.isoformat(), "3"]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=100) for process in running]

    assert [process.returncode for process in running] == [0] * 4, said
    lines = sorted(line for out, _ in said for line in out.splitlines())
    ids = sorted(each.id for each in alerts.list())
    assert len(ids) == 20
    assert lines == sorted(f"{word} {each}" for word in ("raised", "told") for each in ids)
    assert {each.occurrences for each in alerts.list()} == {1}


def test_the_table_refuses_a_second_one(sql_url: str, clock: FakeClock) -> None:
    """
    Even without any other care, the unique key lets one alert in for each period.
    """
    alerts = Alerts(sql_url, [TIMEOUTS], clock=clock)
    timed_out(sql_url, NOW - MINUTE)
    alerts.evaluate()

    def again(connection: sa.Connection) -> None:
        row = dict(connection.execute(sa.select(alerts_table)).mappings().one())
        del row["id"]
        connection.execute(sa.insert(alerts_table).values(**row))

    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        shared_database(sql_url).writing(again)


def test_the_thread(file_url: str) -> None:
    """
    Started alerts look by themselves until they are stopped; a store that is away is no end.
    """
    looked = threading.Event()
    with Ledger(file_url) as ledger:
        alerts = Alerts(ledger, [TIMEOUTS], [lambda alert: looked.set()])
        ledger.record("m", status="timeout")
        ledger.flush()
        alerts.start(every_s=1)
        alerts.start(every_s=1)
        threads = [each for each in threading.enumerate() if each.name == "ai-ledger-alerts"]
        assert len(threads) == 1
        assert looked.wait(60)
        alerts.stop()
        alerts.stop()
        threads[0].join(30)
        assert not threads[0].is_alive()
        alerts.close()


def test_the_thread_outlives_trouble(file_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    A look that fails is logged once, and the next one comes.
    """
    times = 0
    often = threading.Event()

    def broken() -> datetime:
        nonlocal times
        times += 1
        if times >= 3:
            often.set()
        raise RuntimeError("no time")

    alerts = Alerts(file_url, [TIMEOUTS], clock=broken)
    with caplog.at_level("WARNING", "ai_ledger.alerts"):
        alerts.start(every_s=1)
        assert often.wait(60)
        alerts.close()

    assert len([each for each in caplog.records if "no time" in each.message]) == 1


FORK = """
import os, sys, threading
from ai_ledger import Ledger
from ai_ledger.alerts import Alerts, Rule

ledger = Ledger(sys.argv[1])
rule = Rule(name="r", kind="timeouts", threshold=1)
alerts = Alerts(ledger, [rule])
ledger.record("m", status="timeout")
ledger.flush()
alerts.start(every_s=1)
assert len(alerts.list(states=())) <= 1
pid = os.fork()
if pid == 0:
    assert "ai-ledger-alerts" not in [each.name for each in threading.enumerate()]
    looked = threading.Event()
    mine = Alerts(ledger, [rule], [lambda alert: looked.set()])
    mine.start(every_s=1)
    good = looked.wait(60) and len(alerts.list(states=())) == 1
    alerts.stop()
    mine.close()
    os._exit(0 if good else 9)
_, status = os.waitpid(pid, 0)
alerts.close()
ledger.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork(sql_url: str) -> None:
    """
    A forked child has no thread of its parent's, and can start its own.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, sql_url],
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


FORKS = """
import os, signal, sys, threading
from ai_ledger.alerts import Alerts, Rule
from ai_ledger.records import utc_now

url = sys.argv[1]
main = threading.get_ident()
inside, forked = threading.Event(), threading.Event()

def clock():
    # Called by the thread before its transaction, and again in the midst of it.
    calls.append(1)
    if len(calls) == 2 and threading.get_ident() != main:
        inside.set()
        forked.wait(2)
    return utc_now()

calls = []
Alerts(url).rules()
rule = Rule(name="r", kind="timeouts", threshold=1)
looking = threading.Thread(target=Alerts(url, [rule], clock=clock).evaluate)
looking.start()
assert inside.wait(60)
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    Alerts(url, [Rule(name="other", kind="timeouts", threshold=1)]).evaluate()
    os._exit(0)
forked.set()
looking.join()
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
names = sorted(rule.name for rule in Alerts(url).rules())
sys.exit(0 if (status, names) == (0, ["other", "r"]) else f"{status} {names}")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_a_thread_looks(sql_url: str) -> None:
    """
    A child that is forked while its parent is in the middle of a look can look itself.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, sql_url],
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_the_core_is_enough_to_import() -> None:
    """
    The names can be imported without what the store needs.
    """
    code = (
        "import sys; from ai_ledger.alerts import Alerts, Log, Rule, Webhook; "
        "print([each for each in ('sqlalchemy', 'httpx', 'pydantic') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
