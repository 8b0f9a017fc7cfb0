"""Who is told: once each, again after a failure, and not in quiet hours."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.alerts.support import DAY, MINUTE, NOW, Told, failed, write

from ai_ledger.alerts import Alerts, Log, Rule
from ai_ledger.alerts.outbox import MAX_ATTEMPTS
from ai_ledger.alerts.quiet import QuietHours
from ai_ledger.errors import ConfigurationError
from ai_ledger.testing import FakeClock

TIMEOUTS = Rule(name="time-outs", kind="timeouts", threshold=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger with a call that timed out just now."""
    found = f"sqlite:///{tmp_path}/ledger.db"
    write(found, [failed(status="timeout")])
    return found


def test_each_channel_once(sql_url: str, clock: FakeClock) -> None:
    """
    Every channel is told of an alert once, whoever raised it, also one that comes later.
    """
    write(sql_url, [failed(status="timeout")])
    first, second = Told("first"), Told("second")
    Alerts(sql_url, [TIMEOUTS], [first], clock=clock).evaluate()

    for _ in range(2):
        alerts = Alerts(sql_url, [TIMEOUTS], [first, second], clock=clock)
        alerts.evaluate()

    assert (len(first.alerts), len(second.alerts)) == (1, 1)
    deliveries = alerts.deliveries(first.alerts[0].id)
    assert [(each.channel, each.state, each.attempts) for each in deliveries] == [
        ("first", "sent", 1), ("second", "sent", 1),
    ]  # fmt: skip


def test_told_again_after_a_failure(sql_url: str, clock: FakeClock) -> None:
    """
    A channel that fails is told later, with growing pauses; the others are told at once.
    """
    write(sql_url, [failed(status="timeout")])
    flaky, steady = Told("flaky", failures=2), Told("steady")
    alerts = Alerts(sql_url, [TIMEOUTS], [flaky, steady], clock=clock)

    [raised] = alerts.evaluate()

    assert (flaky.alerts, len(steady.alerts)) == ([], 1)
    [waiting, _] = alerts.deliveries(raised.id)
    assert (waiting.state, waiting.next_at) == ("waiting", NOW + MINUTE)
    assert "RuntimeError" in (waiting.last_error or "")
    assert "abcdef0123456789" not in (waiting.last_error or "")
    alerts.evaluate()
    clock.advance(61)
    alerts.evaluate()
    assert flaky.failures == 0
    clock.advance(301)
    alerts.evaluate()
    assert (len(flaky.alerts), len(steady.alerts)) == (1, 1)


def test_given_up(url: str, clock: FakeClock) -> None:
    """
    After ten hours of failures a channel is given up, and the alert says so.
    """
    never = Told("never", failures=99)
    alerts = Alerts(url, [TIMEOUTS], [never], clock=clock)
    [raised] = alerts.evaluate()

    for _ in range(40):
        clock.advance(3600)
        write(url, [failed(NOW - clock() + MINUTE, status="timeout")])
        alerts.evaluate()

    [delivery] = alerts.deliveries(raised.id)
    assert (delivery.state, delivery.attempts) == ("failed", MAX_ATTEMPTS)


def test_taken_up_before_it_was_told(url: str, clock: FakeClock) -> None:
    """
    What somebody is about already is told to nobody.
    """
    told = Told()
    [raised] = Alerts(url, [TIMEOUTS], clock=clock).evaluate()
    Alerts(url).ack(raised.id)

    Alerts(url, [TIMEOUTS], [told], clock=clock).evaluate()

    assert told.alerts == []


def test_over_before_it_was_told(url: str, clock: FakeClock) -> None:
    """
    What ended by itself is told as over, but not days later.
    """
    Alerts(url, [TIMEOUTS], clock=clock).evaluate()
    clock.advance(3600)
    told, late = Told("told"), Told("late")
    Alerts(url, [TIMEOUTS], [told], clock=clock).evaluate()
    clock.advance(2 * 86_400)
    Alerts(url, [TIMEOUTS], [late], clock=clock).evaluate()

    assert [each.state for each in told.alerts] == ["resolved"]
    assert late.alerts == []


def test_a_process_that_died_over_it(url: str, clock: FakeClock) -> None:
    """
    What one process took on and never finished, another does after a while.
    """

    class Killed:
        name = "told"

        def send(self, alert: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Alerts(url, [TIMEOUTS], [Killed()], clock=clock).evaluate()
    told = Told()
    alerts = Alerts(url, [TIMEOUTS], [told], clock=clock)
    alerts.evaluate()
    assert told.alerts == []
    clock.advance(301)

    alerts.evaluate()

    assert len(told.alerts) == 1


def test_the_log(url: str, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """
    A line at the level of the severity, without anything that is no letter.
    """
    loud = Rule(name="t", kind="timeouts", threshold=1, severity="critical")
    write(url, [failed(status="timeout", request_model="m\nERROR x\x1b[31m")])

    with caplog.at_level(logging.INFO, "ai_ledger.alerts"):
        Alerts(url, [loud], [Log()], clock=clock).evaluate()

    assert {each.levelno for each in caplog.records} == {logging.CRITICAL}
    assert len(caplog.records) == 2
    assert all(each.message.isprintable() for each in caplog.records)


@pytest.mark.parametrize(
    "channels", [[7], [None], [Told], [Told("a"), Told("a")], [Log(), Log()]]
)  # fmt: skip
def test_channels_that_cannot_be(url: str, channels: list[object]) -> None:
    """
    What cannot be told, and two of one name, are refused at once.
    """
    with pytest.raises(ConfigurationError, match="channels"):
        Alerts(url, channels=channels)  # type: ignore[arg-type]


def test_quiet_hours(url: str, clock: FakeClock) -> None:
    """
    In quiet hours the alert is there, and nobody is told before they end.
    """
    told = Told()
    quiet = Rule(name="q", kind="timeouts", threshold=1, quiet="11:00-13:30", tz="UTC")
    alerts = Alerts(url, [quiet], [told], clock=clock)

    [raised] = alerts.evaluate()
    clock.set(NOW + timedelta(minutes=89))
    alerts.evaluate()
    assert (raised.send_after, told.alerts) == (NOW + timedelta(minutes=90), [])
    clock.set(NOW + timedelta(minutes=90))
    alerts.evaluate()

    assert len(told.alerts) == 1


@pytest.mark.parametrize(
    ("hours", "tz", "now", "over"),
    [
        pytest.param("22:00-08:00", "UTC", "2026-03-10T21:59:59", None, id="just before"),
        pytest.param("22:00-08:00", "UTC", "2026-03-10T22:00", "2026-03-11T08:00", id="begins"),
        pytest.param("22:00-08:00", "UTC", "2026-03-11T07:59:30", "2026-03-11T08:00", id="after 0"),
        pytest.param("22:00-08:00", "UTC", "2026-03-11T08:00", None, id="the end is not quiet"),
        pytest.param("12:00-13:00", "UTC", "2026-03-11T12:30", "2026-03-11T13:00", id="at noon"),
        pytest.param(
            "22:00-08:00", "Asia/Shanghai", "2026-03-10T14:00", "2026-03-11T00:00", id="in Shanghai"
        ),
        pytest.param(
            "22:00-08:00", "Asia/Kolkata", "2026-03-10T16:30", "2026-03-11T02:30", id="half hours"
        ),
        pytest.param(
            "22:00-08:00", "Europe/Berlin", "2026-03-28T22:00", "2026-03-29T06:00",
            id="a short night",
        ),
        pytest.param(
            "22:00-08:00", "Europe/Berlin", "2026-10-24T21:00", "2026-10-25T07:00",
            id="a long night",
        ),
        pytest.param(
            "22:00-02:30", "Europe/Berlin", "2026-03-29T00:30", "2026-03-29T01:00",
            id="an end that the clock skips",
        ),
        pytest.param(
            "22:00-02:30", "Europe/Berlin", "2026-10-24T23:00", "2026-10-25T00:30",
            id="an end that it strikes twice: the first",
        ),
        pytest.param(
            "22:00-02:30", "Europe/Berlin", "2026-10-25T01:10", "2026-10-25T01:30",
            id="and it is quiet again until the second",
        ),
    ],
)  # fmt: skip
def test_when_they_are_over(hours: str, tz: str, now: str, over: str | None) -> None:
    """
    By the clock on the wall, over midnight and over changes of the clock.
    """
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    expected = moment if over is None else datetime.fromisoformat(over).replace(tzinfo=UTC)

    assert QuietHours(hours, tz).over(moment) == expected
    assert timedelta(0) <= expected - moment < DAY
