"""What each kind of rule notices, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.alerts.support import DAY, HOUR, MINUTE, NOW, call, failed, write

from ai_ledger import Ledger
from ai_ledger.alerts import Alert, Alerts, Rule
from ai_ledger.database.tables.budgets import accounts, budgets
from ai_ledger.errors import CircuitOpen
from ai_ledger.policies.breaker import Breaker
from ai_ledger.query import Between, Contains, Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.terms import Terms
from ai_ledger.testing import FakeClock

Records = list[CallRecord]


def found(url: str, rule: Rule, now: Any = NOW) -> list[Alert]:
    """What *rule* raises for the ledger of *url*."""
    with Alerts(url, [rule], clock=FakeClock(now)) as alerts:
        return sorted(alerts.evaluate(), key=lambda alert: (alert.whose or "", alert.subject))


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """An SQLite ledger, where the database does not matter."""
    return f"sqlite:///{tmp_path}/ledger.db"


def rule(kind: Any, **fields: Any) -> Rule:
    return Rule(name="r", kind=kind, **fields)


@pytest.mark.parametrize(
    ("of_rule", "calls", "value"),
    [
        pytest.param(
            rule("failure_rate"),
            [call() for _ in range(15)] + [failed() for _ in range(4)] + [failed(status="timeout")],
            0.25,
            id="failures and time-outs among those sent",
        ),
        pytest.param(
            rule("failure_rate"), [call() for _ in range(17)] + [failed() for _ in range(3)], None,
            id="fewer failures than the share",
        ),
        pytest.param(
            rule("failure_rate"), [failed() for _ in range(19)], None, id="too few calls to tell"
        ),
        pytest.param(
            rule("failure_rate"),
            [failed() for _ in range(10)] + [failed(status="blocked") for _ in range(30)],
            None,
            id="what was never sent is no call here",
        ),
        pytest.param(
            rule("failure_rate"), [failed(16 * MINUTE) for _ in range(30)], None,
            id="before the window",
        ),
        pytest.param(
            rule("failure_rate", min_calls=3, where={"model": "m"}),
            [call() for _ in range(30)] + [failed(request_model="m") for _ in range(3)],
            1.0,
            id="only the calls that are meant",
        ),
        pytest.param(
            rule("timeouts"), [failed(status="timeout") for _ in range(5)], 5, id="time-outs"
        ),
        pytest.param(
            rule("timeouts"), [failed() for _ in range(9)], None, id="failures are no time-outs"
        ),
        pytest.param(
            rule("breaker_open"), [failed(status="circuit_open")], 1, id="a call met a circuit"
        ),
        pytest.param(rule("breaker_open"), [failed()], None, id="a failure is no open circuit"),
        pytest.param(
            rule("latency", min_calls=3),
            [call(2 * DAY) for _ in range(3)] + [call(duration_ms=4000.0) for _ in range(3)],
            pytest.approx(4.0, rel=0.1),
            id="four times as slow",
        ),
        pytest.param(
            rule("latency", min_calls=3),
            [call(2 * DAY) for _ in range(3)] + [call(duration_ms=1500.0) for _ in range(3)],
            None,
            id="a bit slower",
        ),
        pytest.param(
            rule("latency", min_calls=3), [call(duration_ms=9000.0) for _ in range(9)], None,
            id="slow, and nothing to compare with",
        ),
        pytest.param(
            rule("cost_spike", min_calls=1),
            [call(number * DAY + HOUR) for number in (1, 2, 3, 4)] + [call(cost=Decimal("0.05"))],
            pytest.approx(5.0),
            id="five times the usual cost",
        ),
        pytest.param(
            rule("cost_spike", min_calls=1),
            [call(number * DAY + HOUR) for number in (1, 2, 3, 4)] + [call(cost=Decimal("0.02"))],
            None,
            id="twice the usual cost",
        ),
        pytest.param(
            rule("cost_spike", min_calls=1),
            [call(number * DAY + HOUR) for number in (1, 2)] + [call(cost=Decimal(5))],
            None,
            id="too few days to say what is usual",
        ),
        pytest.param(
            rule("cost_spike", min_calls=1, at_least=Decimal("0.1")),
            [call(number * DAY + HOUR) for number in (1, 2, 3, 4)] + [call(cost=Decimal("0.05"))],
            None,
            id="a spike of next to nothing",
        ),
        pytest.param(
            rule("cost_spike", min_calls=1, window_s=3600),
            [call(number * DAY + 30 * MINUTE) for number in (1, 2, 3)]
            + [call(number * DAY + 12 * HOUR, cost=Decimal(9)) for number in (1, 2, 3)]
            + [call(cost=Decimal("0.04"))],
            pytest.approx(4.0),
            id="an hour is compared with the same hour of other days",
        ),
        pytest.param(
            rule("cost_spike", min_calls=1),
            [call(number * DAY + HOUR) for number in (1, 2, 3, 4)]
            + [call(cost=Decimal(9), currency="USD")],
            None,
            id="currencies are not added to each other",
        ),
        pytest.param(
            rule("unpriced"), [call(cost=None, currency=None, price_id=None)], 1, id="no price"
        ),
        pytest.param(rule("unpriced"), [call(), failed()], None, id="priced, or failed for free"),
        pytest.param(
            rule("unpriced"), [failed(status="timeout")], None, id="no price mends a time-out"
        ),
        pytest.param(
            rule("silence"), [call(DAY * number - HOUR) for number in range(2, 9)], 1,
            id="ran each day, and not today",
        ),
        pytest.param(
            rule("silence"), [call(DAY * number - HOUR) for number in range(1, 9)], None,
            id="runs today as well",
        ),
        pytest.param(
            rule("silence"), [call(DAY * number - HOUR) for number in (2, 3, 5, 6, 7, 8)], None,
            id="did not run every day",
        ),
        pytest.param(
            rule("silence", threshold=0.8),
            [call(DAY * number - HOUR) for number in (2, 3, 5, 6, 7, 8)],
            1,
            id="ran on most days",
        ),
        pytest.param(
            rule("silence"), [call(DAY * number - HOUR) for number in range(4, 9)], 3,
            id="silent for three days is still silent",
        ),
        pytest.param(
            rule("silence"), [call(DAY * number - HOUR) for number in range(6, 9)], None,
            id="silent for most of the week is gone for good",
        ),
    ],
)  # fmt: skip
def test_rules(file_url: str, of_rule: Rule, calls: Records, value: Any) -> None:
    """
    A rule fires when its condition holds, with the value found, and not otherwise.
    """
    write(file_url, calls)

    alerts = found(file_url, of_rule)

    assert [alert.value for alert in alerts] == ([] if value is None else [value])
    assert all(alert.text and alert.state == "open" for alert in alerts)


def test_on_each_database(sql_url: str) -> None:
    """
    All kinds answer the same on the three databases.
    """
    calls = [
        *(call(number * DAY + HOUR) for number in range(1, 8)),
        *(call(number * DAY + HOUR, function="nightly") for number in range(1, 8)),
        *(call(cost=Decimal("0.5"), duration_ms=9000.0) for _ in range(3)),
        *(failed(status=status) for status in ("failed", "timeout", "circuit_open")),
        call(request_model="house", cost=None, currency=None, price_id=None),
    ]
    write(sql_url, calls)
    rules = [
        Rule(name="1", kind="failure_rate", min_calls=3, threshold=0.4),
        Rule(name="2", kind="timeouts", threshold=1),
        Rule(name="3", kind="breaker_open"),
        Rule(name="4", kind="latency", min_calls=3, each="provider"),
        Rule(name="5", kind="cost_spike", min_calls=1),
        Rule(name="6", kind="unpriced"),
        Rule(name="7", kind="silence"),
        Rule(name="8", kind="budget_threshold"),
    ]
    with Alerts(sql_url, rules, clock=FakeClock(NOW)) as alerts:
        raised = {alert.rule: alert for alert in alerts.evaluate()}

        assert {name: alert.whose for name, alert in raised.items()} == {
            "1": "qwen-plus", "2": "qwen-plus", "3": "dashscope", "4": "dashscope",
            "5": None, "6": "house", "7": "nightly",
        }  # fmt: skip
        assert raised["5"].subject == "CNY"
        assert alerts.evaluate() == []
        assert alerts.get(raised["6"].id) == raised["6"]


def test_the_calls_behind(file_url: str) -> None:
    """
    An alert names its newest calls, and the filter that finds all of them.
    """
    bad = [failed(timedelta(seconds=number)) for number in range(1, 31)]
    write(file_url, [call(), *bad])

    [alert] = found(file_url, rule("failure_rate"))

    assert alert.calls.ids == tuple(each.id for each in bad[:20])
    sink = SQLSink(file_url)
    query = Query.build(
        scope=None, since=alert.calls.since, until=alert.calls.until, where=alert.calls.where
    )
    assert len(sink.calls(query)) == 30
    sink.close()


def test_each_value_for_itself(file_url: str) -> None:
    """
    One model in trouble is not hidden by another one that is well.
    """
    write(
        file_url,
        [call() for _ in range(100)]
        + [failed(request_model="m") for _ in range(30)]
        + [failed(request_model=None) for _ in range(20)],
    )

    assert [alert.whose for alert in found(file_url, rule("failure_rate"))] == [None, "m"]
    assert found(file_url, rule("failure_rate", each="", threshold=0.5)) == []


def test_each_organisation_owns_its_alert(file_url: str) -> None:
    """
    What is found for an organisation is that one's to see.
    """
    write(file_url, [failed(org_id="globex") for _ in range(20)])

    [alert] = found(file_url, rule("failure_rate", each="org_id"))
    with Alerts(file_url) as alerts:
        assert (alert.org_id, alert.whose) == ("globex", "globex")
        assert alerts.scoped("globex").list() == [alert]
        assert alerts.scoped("acme").list() == []


@pytest.mark.parametrize(
    ("where", "hits"),
    [
        ({"duration_ms": Between(at_least=500)}, True),
        ({"duration_ms": Between(below=500)}, False),
        ({"function": Contains("naly")}, True),
        ({"function": Contains("nope")}, False),
        ({"cost": Decimal("0.01")}, True),
        ({"cost": Between(at_least=Decimal("0.02"))}, False),
        ({"user_id": ["u-1", None]}, True),
        ({"tags.plan": None}, True),
        ({"tags.plan": "pro"}, False),
    ],
)
def test_filters_survive_the_store(file_url: str, where: dict[str, Any], hits: bool) -> None:
    """
    Every form of a filter means the same when the rule comes back from the store.
    """
    write(file_url, [call(status="timeout")])
    with Alerts(file_url, clock=FakeClock(NOW)) as alerts:
        alerts.add_rule(rule("timeouts", threshold=1, where=where))

        assert bool(alerts.evaluate()) is hits


def open_breaker(key: str) -> Breaker:
    breaker = Breaker(min_calls=1, failure_rate=1.0)
    bad = failed(status="timeout", provider=key)
    breaker.settle(bad)
    with pytest.raises(CircuitOpen):
        breaker.check(bad, None)
    return breaker


def test_a_circuit_of_this_process(file_url: str) -> None:
    """
    A circuit that opened is told of before any call has met it.
    """
    breaker = open_breaker("deepseek")

    [alert] = found(file_url, rule("breaker_open"))
    [together] = found(file_url, rule("breaker_open", each="", where={}, severity="critical"))

    assert (alert.whose, alert.field) == ("deepseek", "provider")
    assert breaker.name in alert.text
    assert together.whose is None
    assert found(file_url, Rule(name="of acme", kind="breaker_open", org_id="acme")) == []


class Away:
    """A sink that is away."""

    durable = True

    def write(self, records: object) -> None:
        raise ConnectionError("away")


def test_records_that_wait(tmp_path: Path) -> None:
    """
    Records that wait for longer than allowed are told of, by host; young ones are not.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger(url, sinks=[Away()], exit_timeout=0.1) as ledger:
        ledger.record("m", started_at=NOW)  # long ago, by this machine's clock
        with Alerts(ledger, [rule("undelivered")]) as alerts:
            [alert] = alerts.evaluate()
            assert (alert.subject, alert.value, alert.field) == ("waiting", 1, "host")
        with Alerts(ledger, [Rule(name="2", kind="undelivered", threshold=2)]) as alerts:
            assert alerts.evaluate() == []
        ledger.close(0.1)


def budget(
    url: str, terms: Terms, rows: list[tuple[str, str, int]], *, active: bool = True
) -> None:
    """A budget with accounts: (whose, period, used)."""

    def work(connection: sa.Connection) -> None:
        known = connection.execute(
            sa.select(budgets.c.id).where(budgets.c.name == terms.name)
        ).scalar()
        values = {"terms": terms.to_json(), "active": active, "updated_at": NOW}
        if known is None:
            key = connection.execute(
                sa.insert(budgets).values(name=terms.name, version=1, created_at=NOW, **values)
            ).inserted_primary_key
            assert key is not None
            known = key[0]
        else:
            connection.execute(sa.update(budgets).where(budgets.c.id == known).values(**values))
        connection.execute(sa.delete(accounts).where(accounts.c.budget_id == known))
        for whose, period, used in rows:
            connection.execute(
                sa.insert(accounts).values(
                    budget_id=known, scope=whose, period=period, used=used, reserved=0,
                    forgotten=0, calls=1, uncounted=0, updated_at=NOW,
                )
            )  # fmt: skip

    shared_database(url).writing(work)


FIFTY = Terms(name="users", unit="CNY", limit=50 * 10**9, each="user_id", per="month")


def test_budgets(sql_url: str) -> None:
    """
    Each account of a budget that has passed the share in its present period.
    """
    budget(
        sql_url,
        FIFTY,
        [
            ("u-1", "2026-03", 40 * 10**9),
            ("u-2", "2026-03", 40 * 10**9 - 1),
            ("u-3", "2026-02", 99 * 10**9),
            ("u-4", "2026-03", 60 * 10**9),
        ],
    )

    first, second = found(sql_url, rule("budget_threshold"))

    assert (first.whose, first.subject, first.value) == ("u-1", "users", 0.8)
    assert (second.whose, second.value, second.field) == ("u-4", 1.2, "user_id")
    assert "40 CNY of 50 CNY" in first.text
    assert first.calls.where == {"user_id": ["u-1"]}
    over = Rule(name="over", kind="budget_threshold", threshold=1.0)
    assert [alert.whose for alert in found(sql_url, over)] == ["u-4"]


def test_a_budget_that_was_raised(file_url: str) -> None:
    """
    A budget with a higher limit is told of anew when that is used up as well.
    """
    budget(file_url, FIFTY, [("u-1", "2026-03", 45 * 10**9)])
    [first] = found(file_url, rule("budget_threshold"))
    larger = Terms(name="users", unit="CNY", limit=100 * 10**9, each="user_id", per="month")
    budget(file_url, larger, [("u-1", "2026-03", 45 * 10**9)])
    assert found(file_url, rule("budget_threshold"), NOW + HOUR) == []
    with Alerts(file_url) as alerts:
        assert alerts.get(first.id).state == "resolved"
    budget(file_url, larger, [("u-1", "2026-03", 95 * 10**9)])

    [second] = found(file_url, rule("budget_threshold"), NOW + 2 * HOUR)

    assert second.id != first.id


@pytest.mark.parametrize(
    ("of_rule", "terms", "active", "org", "hits"),
    [
        pytest.param({"budget": "b"}, {}, True, None, True, id="by name"),
        pytest.param({"budget": "other"}, {}, True, None, False, id="another one"),
        pytest.param({}, {}, False, None, False, id="not in force"),
        pytest.param({"org_id": "acme"}, {}, True, None, False, id="everybody's is nobody's"),
        pytest.param({}, {"each": "org_id"}, True, "acme", True, id="of each organisation"),
        pytest.param({"org_id": "acme"}, {"each": "org_id"}, True, "acme", True, id="its own"),
        pytest.param({"org_id": "acm"}, {"each": "org_id"}, True, None, False, id="not its own"),
        pytest.param(
            {"org_id": "acme"}, {"where": {"org_id": ("acme",)}}, True, "acme", True,
            id="filtered to it",
        ),
    ],
)  # fmt: skip
def test_whose_budget(
    file_url: str, of_rule: Any, terms: Any, active: bool, org: str | None, hits: bool
) -> None:
    """
    An organisation's rule sees its own accounts alone, and its alerts are its own.
    """
    whose = "acme" if "each" in terms else ""
    tokens = Terms(name="b", unit="tokens", limit=100, per="total", **terms)
    budget(file_url, tokens, [(whose, "total", 100)], active=active)

    alerts = found(file_url, rule("budget_threshold", **of_rule))

    assert [alert.org_id for alert in alerts] == ([org] if hits else [])


def test_an_organisations_rule_sees_its_own_calls(file_url: str) -> None:
    """
    A rule of one organisation counts no call of another, whatever its filter says.
    """
    write(file_url, [failed(org_id="globex") for _ in range(40)])
    where: Callable[[str], Rule] = lambda org: rule(  # noqa: E731
        "failure_rate", org_id=org, where={"org_id": ["globex", "acme"]}
    )

    assert found(file_url, where("acme")) == []
    assert len(found(file_url, where("globex"))) == 1


def test_hostile_names(file_url: str) -> None:
    """
    What calls are named stays one line of letters in an alert's text.
    """
    write(file_url, [failed(request_model="m\r\nCRITICAL \x1b]0;x\u2028\u202e") for _ in range(20)])

    [alert] = found(file_url, rule("failure_rate"))

    assert alert.text.isprintable()
